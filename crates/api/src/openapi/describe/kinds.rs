//! What kinds, and some of the types in them, are.

/// By name. Sorted.
pub(super) static ALL: &[(&str, &str)] = &[
    (
        "APIService",
        "Says who serves a version of a group of the API.",
    ),
    ("Binding", "Gives a pod to a node."),
    ("CSIDriver", "A driver of storage, and what it can do."),
    ("CSINode", "The drivers of storage on a node."),
    (
        "CSIStorageCapacity",
        "How much room a driver of storage has in a part of the cluster.",
    ),
    (
        "CertificateSigningRequest",
        "Asks a signer for a certificate.",
    ),
    (
        "ClusterRole",
        "Rights in every namespace, and on what is in none.",
    ),
    (
        "ClusterRoleBinding",
        "Gives users and accounts a role in the whole cluster.",
    ),
    (
        "ComponentStatus",
        "How a part of the control plane is. Deprecated; carob lists none.",
    ),
    (
        "ConfigMap",
        "Configuration that modules read as environment variables or files.",
    ),
    (
        "Container",
        "One WebAssembly module of a pod, run as a process.",
    ),
    (
        "ControllerRevision",
        "A template as it once was, to go back to.",
    ),
    ("CronJob", "Starts a job again and again, by a schedule."),
    (
        "CustomResourceDefinition",
        "Describes a kind of objects that the API does not have yet.",
    ),
    ("DaemonSet", "Keeps one pod on every node that fits."),
    (
        "Deployment",
        "Keeps a number of equal pods running and changes them to a new template step by step.",
    ),
    ("DeviceClass", "Devices of one sort, to choose from."),
    ("EndpointSlice", "A part of the addresses behind a service."),
    (
        "Endpoints",
        "The addresses behind a service. EndpointSlices have taken their place.",
    ),
    ("Event", "Something that happened to an object."),
    ("FlowSchema", "Says which requests have which priority."),
    ("HTTPIngressPath", "A path, and what serves it."),
    (
        "HorizontalPodAutoscaler",
        "Says by which measures something gets more or fewer pods.",
    ),
    ("IPAddress", "An address that a service has."),
    (
        "Ingress",
        "Rules by which HTTP from outside reaches services.",
    ),
    ("IngressBackend", "What requests are sent to."),
    ("IngressClass", "Who serves the ingresses of a class."),
    ("IngressRule", "A host, and which of its paths lead where."),
    ("Job", "Runs pods until enough of them have succeeded."),
    (
        "LabelSelector",
        "Chooses objects by their labels; all conditions must hold.",
    ),
    (
        "Lease",
        "A claim that must be renewed: a node's heartbeat, a leader's office.",
    ),
    (
        "LimitRange",
        "What containers, pods and claims of a namespace may ask for, and do if they say nothing.",
    ),
    (
        "LocalSubjectAccessReview",
        "Asks whether a user may do something in a namespace.",
    ),
    (
        "MutatingAdmissionPolicy",
        "Expressions that change objects before they are stored.",
    ),
    (
        "MutatingAdmissionPolicyBinding",
        "To which requests a MutatingAdmissionPolicy applies.",
    ),
    (
        "MutatingWebhookConfiguration",
        "Servers that may change objects before they are stored.",
    ),
    ("Namespace", "A space of names for other objects."),
    ("NetworkPolicy", "Which connections pods may take and make."),
    ("Node", "A machine, or a part of one, that runs pods."),
    ("NodeMetrics", "What a node used of its machine, lately."),
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
    (
        "PodDisruptionBudget",
        "How many of some pods may be evicted at a time.",
    ),
    ("PodMetrics", "What a pod's containers used, lately."),
    ("PodSpec", "What a pod consists of and where it may run."),
    (
        "PodTemplate",
        "What pods are made from, as an object of its own.",
    ),
    ("PodTemplateSpec", "What pods are made from."),
    ("PriorityClass", "How important the pods of a class are."),
    (
        "PriorityLevelConfiguration",
        "How many requests of a priority are served at a time.",
    ),
    (
        "ReplicaSet",
        "Keeps a number of equal pods running. Deployments make these.",
    ),
    (
        "ReplicationController",
        "Keeps a number of equal pods running. ReplicaSets have taken its place.",
    ),
    ("ResourceClaim", "Asks for devices."),
    (
        "ResourceClaimTemplate",
        "What claims of pods are made from.",
    ),
    (
        "ResourceQuota",
        "How much the objects of a namespace may take together.",
    ),
    (
        "ResourceRequirements",
        "What a container asks for and may use.",
    ),
    ("ResourceSlice", "Some of the devices that a driver has."),
    ("Role", "Rights in a namespace."),
    (
        "RoleBinding",
        "Gives users and accounts a role in a namespace.",
    ),
    ("RuntimeClass", "By what the pods of a class are run."),
    ("Secret", "Configuration that is not for everybody's eyes."),
    (
        "SelfSubjectAccessReview",
        "Asks whether one may do something oneself.",
    ),
    ("SelfSubjectReview", "Asks who one is."),
    (
        "SelfSubjectRulesReview",
        "Asks what one may do in a namespace.",
    ),
    (
        "Service",
        "A name and an address for a changing set of pods.",
    ),
    ("ServiceAccount", "Who pods are when they talk to the API."),
    (
        "ServiceCIDR",
        "A range from which services get their addresses.",
    ),
    (
        "StatefulSet",
        "Keeps pods with names and storage of their own.",
    ),
    ("StorageClass", "How volumes of a class are made."),
    (
        "SubjectAccessReview",
        "Asks whether a user may do something.",
    ),
    ("TokenReview", "Asks whose token this is."),
    (
        "ValidatingAdmissionPolicy",
        "Expressions that objects must satisfy to be stored.",
    ),
    (
        "ValidatingAdmissionPolicyBinding",
        "To which requests a ValidatingAdmissionPolicy applies, and what follows from a fault.",
    ),
    (
        "ValidatingWebhookConfiguration",
        "Servers that are asked whether objects may be stored.",
    ),
    ("Volume", "A directory that a pod's containers can mount."),
    (
        "VolumeAttachment",
        "That a volume is, or is to be, attached to a node.",
    ),
    (
        "VolumeAttributesClass",
        "Properties of volumes that can be changed later.",
    ),
];
