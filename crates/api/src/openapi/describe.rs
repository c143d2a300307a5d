//! What kinds and fields are for, in the few words that `kubectl explain` shows. Only what a reader
//! is likely to ask for is described.

/// What a type is.
pub(super) fn kind(name: &str) -> &'static str {
    look_up(KINDS, name)
}

/// What a field of a type is for.
pub(super) fn field(owner: &str, name: &str) -> &'static str {
    match name {
        "metadata" => "Name, labels and the rest of what every object has.",
        "spec" => "What is wanted.",
        "status" => "What is, as observed. Written by the system.",
        _ => look_up(FIELDS, &format!("{owner}.{name}")),
    }
}

fn look_up(table: &[(&'static str, &'static str)], name: &str) -> &'static str {
    table
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .map_or("", |at| table[at].1)
}

/// Sorted.
static KINDS: &[(&str, &str)] = &[
    (
        "ConfigMap",
        "Configuration that modules read as environment variables or files.",
    ),
    (
        "Container",
        "One WebAssembly module of a pod, run as a process.",
    ),
    ("CronJob", "Starts a job again and again, by a schedule."),
    ("DaemonSet", "Keeps one pod on every node that fits."),
    (
        "Deployment",
        "Keeps a number of equal pods running and changes them to a new template step by step.",
    ),
    ("EndpointSlice", "A part of the addresses behind a service."),
    ("Event", "Something that happened to an object."),
    (
        "Ingress",
        "Rules by which HTTP from outside reaches services.",
    ),
    ("Job", "Runs pods until enough of them have succeeded."),
    (
        "LabelSelector",
        "Chooses objects by their labels; all conditions must hold.",
    ),
    (
        "Lease",
        "A claim that must be renewed: a node's heartbeat, a leader's office.",
    ),
    ("Namespace", "A space of names for other objects."),
    ("NetworkPolicy", "Which connections pods may take and make."),
    ("Node", "A machine, or a part of one, that runs pods."),
    ("ObjectMeta", "What every object has."),
    ("PersistentVolume", "Storage that outlives pods."),
    (
        "PersistentVolumeClaim",
        "A request for storage that outlives pods.",
    ),
    (
        "Pod",
        "WebAssembly modules that run together on one node, with one address and shared volumes.",
    ),
    ("PodSpec", "What a pod consists of and where it may run."),
    ("PodTemplateSpec", "What pods are made from."),
    (
        "ReplicaSet",
        "Keeps a number of equal pods running. Deployments make these.",
    ),
    (
        "ResourceRequirements",
        "What a container asks for and may use.",
    ),
    ("Secret", "Configuration that is not for everybody's eyes."),
    (
        "Service",
        "A name and an address for a changing set of pods.",
    ),
    ("ServiceAccount", "Who pods are when they talk to the API."),
    (
        "StatefulSet",
        "Keeps pods with names and storage of their own.",
    ),
    ("StorageClass", "How volumes of a class are made."),
    ("Volume", "A directory that a pod's containers can mount."),
];

/// `Type.field`, sorted.
static FIELDS: &[(&str, &str)] = &[
    (
        "ConfigMap.binaryData",
        "Values that are not UTF-8, in base64.",
    ),
    ("ConfigMap.data", "Values by key."),
    (
        "ConfigMap.immutable",
        "If true, the data can never change again.",
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
        "Container.resources",
        "CPU and memory: what is asked for, and the limit.",
    ),
    (
        "Container.restartPolicy",
        "Always makes an init container a sidecar.",
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
        "Container.terminationMessagePath",
        "The file whose contents become the termination message.",
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
    (
        "CronJobSpec.concurrencyPolicy",
        "What happens if the job before still runs: Allow, Forbid or Replace.",
    ),
    ("CronJobSpec.jobTemplate", "The job to start."),
    (
        "CronJobSpec.schedule",
        "Minute, hour, day of month, month, day of week.",
    ),
    ("CronJobSpec.suspend", "If true, nothing is started."),
    ("CronJobSpec.timeZone", "The schedule's time zone."),
    (
        "DeploymentSpec.minReadySeconds",
        "How long a pod must be ready to count as available.",
    ),
    (
        "DeploymentSpec.paused",
        "If true, a new template is not rolled out.",
    ),
    (
        "DeploymentSpec.progressDeadlineSeconds",
        "How long a rollout may stand still before it counts as failed.",
    ),
    ("DeploymentSpec.replicas", "How many pods there should be."),
    (
        "DeploymentSpec.revisionHistoryLimit",
        "How many old ReplicaSets are kept, to go back to.",
    ),
    (
        "DeploymentSpec.selector",
        "Finds the pods; must match the template's labels and cannot change.",
    ),
    (
        "DeploymentSpec.strategy",
        "How old pods are replaced by new ones.",
    ),
    ("DeploymentSpec.template", "What the pods are made from."),
    (
        "DeploymentStrategy.rollingUpdate",
        "How many pods may be missing or too many meanwhile.",
    ),
    ("DeploymentStrategy.type", "RollingUpdate or Recreate."),
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
    (
        "JobSpec.activeDeadlineSeconds",
        "How long the job may take altogether.",
    ),
    (
        "JobSpec.backoffLimit",
        "How many failures make the job fail.",
    ),
    (
        "JobSpec.completionMode",
        "NonIndexed, or Indexed: each completion has a number, in JOB_COMPLETION_INDEX.",
    ),
    ("JobSpec.completions", "How many pods must succeed."),
    ("JobSpec.parallelism", "How many pods may run at once."),
    ("JobSpec.selector", "Finds the pods; made by the system."),
    ("JobSpec.suspend", "If true, no pods run."),
    (
        "JobSpec.template",
        "What the pods are made from; restartPolicy must be Never or OnFailure.",
    ),
    (
        "JobSpec.ttlSecondsAfterFinished",
        "When a finished job is deleted.",
    ),
    (
        "LabelSelector.matchExpressions",
        "Conditions with In, NotIn, Exists or DoesNotExist.",
    ),
    (
        "LabelSelector.matchLabels",
        "Labels that must have exactly these values.",
    ),
    (
        "ObjectMeta.annotations",
        "Further data for tools; not for selecting.",
    ),
    (
        "ObjectMeta.creationTimestamp",
        "When the object was created.",
    ),
    (
        "ObjectMeta.deletionGracePeriodSeconds",
        "How long the object may take to end.",
    ),
    (
        "ObjectMeta.deletionTimestamp",
        "When the object is to be gone. Set by a deletion.",
    ),
    (
        "ObjectMeta.finalizers",
        "Who must agree before the object goes.",
    ),
    (
        "ObjectMeta.generateName",
        "The start of a name to which the server adds five random characters.",
    ),
    (
        "ObjectMeta.generation",
        "Counts the changes of what is wanted.",
    ),
    ("ObjectMeta.labels", "Words by which objects are selected."),
    ("ObjectMeta.managedFields", "Who set which field."),
    (
        "ObjectMeta.name",
        "The object's name, unique among those of its kind in its namespace.",
    ),
    (
        "ObjectMeta.namespace",
        "The namespace that the object lives in.",
    ),
    (
        "ObjectMeta.ownerReferences",
        "Objects without which this one is deleted.",
    ),
    (
        "ObjectMeta.resourceVersion",
        "The revision of the last change. Given with a write, it must be the current one.",
    ),
    (
        "ObjectMeta.uid",
        "Tells the object from others that had its name.",
    ),
    ("PodSpec.activeDeadlineSeconds", "How long the pod may run."),
    (
        "PodSpec.affinity",
        "Which nodes, and neighbours of which pods, to seek or avoid.",
    ),
    ("PodSpec.containers", "The modules; at least one."),
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
    ("PodSpec.priorityClassName", "How important the pod is."),
    (
        "PodSpec.restartPolicy",
        "What happens when a container ends: Always, OnFailure or Never start it again.",
    ),
    ("PodSpec.schedulerName", "Who chooses the node."),
    (
        "PodSpec.serviceAccountName",
        "Who the pod is when it talks to the API.",
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
    ("ReplicaSetSpec.replicas", "How many pods there should be."),
    (
        "ReplicaSetSpec.selector",
        "Finds the pods; must match the template's labels and cannot change.",
    ),
    ("ReplicaSetSpec.template", "What the pods are made from."),
    (
        "ResourceRequirements.limits",
        "The most that the container may use.",
    ),
    (
        "ResourceRequirements.requests",
        "What is set aside for the container on its node.",
    ),
    (
        "RollingUpdateDeployment.maxSurge",
        "How many pods there may be too many: a number or a percentage.",
    ),
    (
        "RollingUpdateDeployment.maxUnavailable",
        "How many pods may be missing: a number or a percentage.",
    ),
    ("Secret.data", "Values by key, in base64."),
    (
        "Secret.immutable",
        "If true, the data can never change again.",
    ),
    (
        "Secret.stringData",
        "Values by key as plain text, for writing only; they become part of `data`.",
    ),
    ("Secret.type", "What the secret is for."),
    ("ServicePort.nodePort", "The port's number on every node."),
    (
        "ServicePort.port",
        "The port's number at the service's address.",
    ),
    (
        "ServicePort.targetPort",
        "The port's number or name in the pods.",
    ),
    (
        "ServiceSpec.clusterIP",
        "The service's address in the cluster; None for a service without one.",
    ),
    ("ServiceSpec.ports", "The ports that the service has."),
    (
        "ServiceSpec.selector",
        "Labels of the pods behind the service.",
    ),
    (
        "ServiceSpec.type",
        "ClusterIP, NodePort, LoadBalancer or ExternalName.",
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
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn the_tables_are_sorted_and_describe_what_there_is() {
        for table in [KINDS, FIELDS] {
            for pair in table.windows(2) {
                assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
            }
        }
        let known = |name: &str| {
            schema::all()
                .filter(|ty| ty.short_name() == name)
                .collect::<Vec<_>>()
        };
        for (name, _) in KINDS {
            assert!(!known(name).is_empty(), "{name}");
        }
        for (path, _) in FIELDS {
            let (owner, name) = path.split_once('.').expect("Type.field");
            assert!(
                known(owner).iter().any(|ty| ty.field(name).is_some()),
                "{path}"
            );
        }
    }
}
