//! Fields of pods and of what they consist of.

/// By type and field. Sorted.
pub(super) static FIELDS: &[(&str, &str)] = &[
    (
        "ConfigMapProjection.items",
        "Which keys become which files; all if none is named.",
    ),
    (
        "ConfigMapProjection.optional",
        "Whether the pod starts without it.",
    ),
    (
        "ConfigMapVolumeSource.items",
        "Which keys become which files; all, under their own names, if not given.",
    ),
    ("ConfigMapVolumeSource.name", "The ConfigMap's name."),
    (
        "ConfigMapVolumeSource.optional",
        "If true, the pod starts although the ConfigMap is missing.",
    ),
    (
        "Container.args",
        "Arguments; `$(NAME)` stands for an environment variable's value.",
    ),
    (
        "Container.command",
        "The whole start of argv. Without it argv begins with the module's name.",
    ),
    ("Container.env", "Environment variables."),
    (
        "Container.envFrom",
        "ConfigMaps and Secrets of which every key becomes an environment variable.",
    ),
    (
        "Container.image",
        "The module: NAME[:TAG] or NAME@DIGEST in the cluster's registry, a reference to another registry, or file:///PATH where that is allowed.",
    ),
    (
        "Container.imagePullPolicy",
        "When to look for the image: Always, IfNotPresent or Never.",
    ),
    (
        "Container.lifecycle",
        "What is done right after the start and before the end. carob's nodes do not start such containers yet.",
    ),
    (
        "Container.livenessProbe",
        "When it fails, the container is started again.",
    ),
    ("Container.name", "The container's name, unique in the pod."),
    ("Container.ports", "Ports that the container listens on."),
    (
        "Container.readinessProbe",
        "While it fails, services send nothing here.",
    ),
    (
        "Container.resizePolicy",
        "What happens to the container when its resources are changed while it runs, for each resource.",
    ),
    (
        "Container.resources",
        "CPU and memory: what is asked for, and the limit.",
    ),
    (
        "Container.restartPolicy",
        "Always makes an init container a sidecar.",
    ),
    (
        "Container.securityContext",
        "With which rights the module runs. A module has only those that it was given anyway; privileged ones are refused.",
    ),
    (
        "Container.startupProbe",
        "The other probes wait until it succeeds.",
    ),
    (
        "Container.stdin",
        "Whether the container can be attached to.",
    ),
    (
        "Container.stdinOnce",
        "Whether the input ends when the first who attached to it leaves.",
    ),
    (
        "Container.terminationMessagePath",
        "The file whose contents become the termination message.",
    ),
    (
        "Container.terminationMessagePolicy",
        "Whether the end of the log stands in for a message that was not written: File or FallbackToLogsOnError.",
    ),
    (
        "Container.tty",
        "Whether its input and output are a terminal. carob's nodes do not start such containers yet.",
    ),
    ("Container.volumeMounts", "Where the pod's volumes appear."),
    ("Container.workingDir", "Where relative paths start."),
    (
        "ContainerPort.containerPort",
        "The port's number in the pod.",
    ),
    ("ContainerPort.hostPort", "The port's number on the node."),
    (
        "ContainerPort.name",
        "A name that services and probes can use.",
    ),
    ("ContainerPort.protocol", "TCP, UDP or SCTP."),
    ("ContainerResizePolicy.resourceName", "cpu or memory."),
    (
        "ContainerResizePolicy.restartPolicy",
        "NotRequired, or RestartContainer.",
    ),
    ("DownwardAPIProjection.items", "The files."),
    ("DownwardAPIVolumeFile.fieldRef", "A field of the pod."),
    ("DownwardAPIVolumeFile.mode", "The file's permissions."),
    ("DownwardAPIVolumeFile.path", "The file, within the volume."),
    (
        "DownwardAPIVolumeFile.resourceFieldRef",
        "What a container asks for or may use.",
    ),
    (
        "EmptyDirVolumeSource.medium",
        "Memory, or empty for the node's disk.",
    ),
    ("EmptyDirVolumeSource.sizeLimit", "How much it may hold."),
    ("EnvVar.name", "The variable's name."),
    (
        "EnvVar.value",
        "Its value; `$(NAME)` stands for a variable defined before.",
    ),
    ("EnvVar.valueFrom", "Where to take the value from instead."),
    ("HostPathVolumeSource.path", "The path on the node."),
    ("KeyToPath.key", "The key."),
    ("KeyToPath.mode", "The file's permissions."),
    ("KeyToPath.path", "The file, within the volume."),
    (
        "PodSchedulingGate.name",
        "The gate's name, unique in the pod.",
    ),
    ("PodSpec.activeDeadlineSeconds", "How long the pod may run."),
    (
        "PodSpec.affinity",
        "Which nodes, and neighbours of which pods, to seek or avoid.",
    ),
    (
        "PodSpec.automountServiceAccountToken",
        "Whether a token of the service account is put into the containers. Above the account's own word.",
    ),
    ("PodSpec.containers", "The modules; at least one."),
    (
        "PodSpec.dnsPolicy",
        "Where names are looked up: ClusterFirst, ClusterFirstWithHostNet, Default or None.",
    ),
    (
        "PodSpec.enableServiceLinks",
        "Whether the namespace's services stand in the environment.",
    ),
    (
        "PodSpec.hostAliases",
        "More lines for the pod's hosts file.",
    ),
    (
        "PodSpec.hostNetwork",
        "Whether the pod uses the node's own network. carob's nodes do not start such pods.",
    ),
    (
        "PodSpec.hostname",
        "The pod's host name; its own name if not given.",
    ),
    (
        "PodSpec.imagePullSecrets",
        "Secrets with the passwords of registries.",
    ),
    (
        "PodSpec.initContainers",
        "Modules that run before the others, one after the other; each must succeed.",
    ),
    (
        "PodSpec.nodeName",
        "The node that the pod runs on; set by the scheduler.",
    ),
    ("PodSpec.nodeSelector", "Labels that the node must have."),
    (
        "PodSpec.overhead",
        "What running the pod costs beside its containers, by its runtime class.",
    ),
    (
        "PodSpec.preemptionPolicy",
        "Whether the pod may displace others of lower priority: PreemptLowerPriority or Never. Follows from its class.",
    ),
    (
        "PodSpec.priority",
        "The higher, the sooner it gets its place. Follows from its class and cannot be chosen.",
    ),
    ("PodSpec.priorityClassName", "How important the pod is."),
    (
        "PodSpec.readinessGates",
        "Further conditions that must hold before the pod counts as ready.",
    ),
    (
        "PodSpec.restartPolicy",
        "When a container that ended is started again: Always, OnFailure (if it failed) or Never.",
    ),
    ("PodSpec.schedulerName", "Who chooses the node."),
    (
        "PodSpec.schedulingGates",
        "While there is any, the pod is given to no node. They can only be taken away.",
    ),
    (
        "PodSpec.securityContext",
        "With which rights all of its modules run, unless they say otherwise.",
    ),
    (
        "PodSpec.serviceAccount",
        "The old name of serviceAccountName.",
    ),
    (
        "PodSpec.serviceAccountName",
        "Who the pod is when it talks to the API.",
    ),
    (
        "PodSpec.subdomain",
        "Makes the pod's full name hostname.subdomain.namespace.svc.",
    ),
    (
        "PodSpec.terminationGracePeriodSeconds",
        "How long the pod may take to end when it is deleted.",
    ),
    (
        "PodSpec.tolerations",
        "Taints of nodes that do not keep the pod away.",
    ),
    (
        "PodSpec.topologySpreadConstraints",
        "How evenly equal pods are spread.",
    ),
    (
        "PodSpec.volumes",
        "Directories for the containers to mount.",
    ),
    (
        "PodStatus.conditions",
        "Whether the pod is scheduled, initialized and ready.",
    ),
    ("PodStatus.containerStatuses", "What each container does."),
    ("PodStatus.hostIP", "The node's address."),
    (
        "PodStatus.message",
        "Why the pod is in this state, for people.",
    ),
    (
        "PodStatus.phase",
        "Pending, Running, Succeeded, Failed or Unknown.",
    ),
    ("PodStatus.podIP", "The pod's address."),
    ("PodStatus.qosClass", "Guaranteed, Burstable or BestEffort."),
    (
        "PodStatus.reason",
        "Why the pod is in this state, in one word.",
    ),
    ("PodStatus.startTime", "When the node took the pod up."),
    (
        "ProjectedVolumeSource.defaultMode",
        "Permissions of files that have none of their own.",
    ),
    (
        "ProjectedVolumeSource.sources",
        "What is put together into one directory.",
    ),
    (
        "ResourceRequirements.claims",
        "Which of the pod's claims of devices the container uses. carob's nodes do not start such containers yet.",
    ),
    (
        "ResourceRequirements.limits",
        "The most that the container may use.",
    ),
    (
        "ResourceRequirements.requests",
        "What is set aside for the container on its node.",
    ),
    (
        "SecretProjection.items",
        "Which keys become which files; all if none is named.",
    ),
    (
        "SecretProjection.optional",
        "Whether the pod starts without it.",
    ),
    (
        "ServiceAccountTokenProjection.audience",
        "For whom the token is meant; the API if nobody is named.",
    ),
    (
        "ServiceAccountTokenProjection.expirationSeconds",
        "How long a token is good for, at least 600.",
    ),
    (
        "ServiceAccountTokenProjection.path",
        "The file, within the volume.",
    ),
    (
        "Toleration.effect",
        "The effect tolerated: NoSchedule, PreferNoSchedule or NoExecute; any if empty.",
    ),
    ("Toleration.key", "The taint's key; any if empty."),
    ("Toleration.operator", "Equal or Exists."),
    (
        "Toleration.tolerationSeconds",
        "How long a NoExecute taint is borne.",
    ),
    ("Toleration.value", "The taint's value."),
    ("Volume.configMap", "Files from a ConfigMap."),
    ("Volume.downwardAPI", "Files with fields of the pod itself."),
    (
        "Volume.emptyDir",
        "A directory that begins empty and lives as long as the pod.",
    ),
    ("Volume.hostPath", "A directory or file of the node."),
    ("Volume.image", "The files of an image, read-only."),
    ("Volume.name", "The volume's name, unique in the pod."),
    (
        "Volume.persistentVolumeClaim",
        "Storage that outlives the pod.",
    ),
    (
        "Volume.projected",
        "Files from several sources in one directory.",
    ),
    ("Volume.secret", "Files from a Secret."),
    (
        "VolumeMount.mountPath",
        "Where the volume appears in the container.",
    ),
    ("VolumeMount.name", "The volume's name."),
    (
        "VolumeMount.readOnly",
        "If true, the container cannot write to it.",
    ),
    ("VolumeMount.subPath", "The part of the volume to mount."),
    ("VolumeProjection.configMap", "Files from a ConfigMap."),
    (
        "VolumeProjection.downwardAPI",
        "Files with fields of the pod itself.",
    ),
    ("VolumeProjection.secret", "Files from a Secret."),
    (
        "VolumeProjection.serviceAccountToken",
        "A file with a token of the pod's service account, renewed before it ends.",
    ),
];
