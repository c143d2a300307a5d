//! Fields of what makes pods and configures them.

/// By type and field. Sorted.
pub(super) static FIELDS: &[(&str, &str)] = &[
    (
        "APIServiceSpec.caBundle",
        "The CA by which the server is known, PEM in base64.",
    ),
    ("APIServiceSpec.group", "The group that is served."),
    (
        "APIServiceSpec.groupPriorityMinimum",
        "Above which other groups clients prefer this one; at most 20000.",
    ),
    (
        "APIServiceSpec.insecureSkipTLSVerify",
        "Whether any certificate is believed.",
    ),
    (
        "APIServiceSpec.service",
        "Who serves it; the API server itself if nobody.",
    ),
    ("APIServiceSpec.version", "The version that is served."),
    (
        "APIServiceSpec.versionPriority",
        "The version's place within its group; at most 1000.",
    ),
    (
        "APIServiceStatus.conditions",
        "Available says whether it is served.",
    ),
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
        "CronJobSpec.concurrencyPolicy",
        "What happens if the job before still runs: Allow, Forbid or Replace.",
    ),
    (
        "CronJobSpec.failedJobsHistoryLimit",
        "How many failed jobs are kept.",
    ),
    ("CronJobSpec.jobTemplate", "The job to start."),
    (
        "CronJobSpec.schedule",
        "Minute, hour, day of month, month, day of week.",
    ),
    (
        "CronJobSpec.startingDeadlineSeconds",
        "How late a job may still be started.",
    ),
    (
        "CronJobSpec.successfulJobsHistoryLimit",
        "How many jobs that succeeded are kept.",
    ),
    ("CronJobSpec.suspend", "If true, nothing is started."),
    ("CronJobSpec.timeZone", "The schedule's time zone."),
    (
        "CrossVersionObjectReference.apiVersion",
        "The object's version of the API.",
    ),
    ("CrossVersionObjectReference.kind", "The object's kind."),
    ("CrossVersionObjectReference.name", "The object's name."),
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
        "HorizontalPodAutoscalerSpec.behavior",
        "How fast pods come and go.",
    ),
    (
        "HorizontalPodAutoscalerSpec.maxReplicas",
        "The most pods there may be.",
    ),
    (
        "HorizontalPodAutoscalerSpec.metrics",
        "What is measured, and what it should be.",
    ),
    (
        "HorizontalPodAutoscalerSpec.minReplicas",
        "The fewest pods there may be; 1 if not given.",
    ),
    (
        "HorizontalPodAutoscalerSpec.scaleTargetRef",
        "The object that has the pods.",
    ),
    (
        "HorizontalPodAutoscalerSpec.targetCPUUtilizationPercentage",
        "How much of the CPU that they ask for the pods should use, on average.",
    ),
    (
        "HorizontalPodAutoscalerStatus.conditions",
        "Whether it can measure and scale.",
    ),
    (
        "HorizontalPodAutoscalerStatus.currentReplicas",
        "How many pods there are.",
    ),
    (
        "HorizontalPodAutoscalerStatus.desiredReplicas",
        "How many pods there should be.",
    ),
    (
        "JobSpec.activeDeadlineSeconds",
        "How long the job may take altogether.",
    ),
    (
        "JobSpec.backoffLimit",
        "How many failures make the job fail.",
    ),
    (
        "JobSpec.backoffLimitPerIndex",
        "How many failures make an index fail, where each has a count of its own.",
    ),
    (
        "JobSpec.completionMode",
        "NonIndexed, or Indexed: each completion has a number, in JOB_COMPLETION_INDEX.",
    ),
    ("JobSpec.completions", "How many pods must succeed."),
    (
        "JobSpec.managedBy",
        "Who looks after the job; the system itself if nobody is named. Cannot change.",
    ),
    (
        "JobSpec.manualSelector",
        "If true, the selector is the author's own and none is made.",
    ),
    (
        "JobSpec.maxFailedIndexes",
        "How many indexes may fail before the job does.",
    ),
    ("JobSpec.parallelism", "How many pods may run at once."),
    (
        "JobSpec.podFailurePolicy",
        "What follows from failures of some sorts: exit codes, conditions of pods.",
    ),
    (
        "JobSpec.podReplacementPolicy",
        "When a new pod takes the place of one that ends: TerminatingOrFailed, or Failed.",
    ),
    ("JobSpec.selector", "Finds the pods; made by the system."),
    (
        "JobSpec.successPolicy",
        "Which indexes suffice for the job to succeed.",
    ),
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
        "LimitRangeItem.default",
        "The limit of containers that have none.",
    ),
    (
        "LimitRangeItem.defaultRequest",
        "What containers ask for that say nothing.",
    ),
    ("LimitRangeItem.max", "The most that may be asked for."),
    (
        "LimitRangeItem.maxLimitRequestRatio",
        "How many times what is asked for a limit may be.",
    ),
    ("LimitRangeItem.min", "The least that must be asked for."),
    (
        "LimitRangeItem.type",
        "What is limited: Container, Pod or PersistentVolumeClaim.",
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
    ("ReplicaSetSpec.replicas", "How many pods there should be."),
    (
        "ReplicaSetSpec.selector",
        "Finds the pods; must match the template's labels and cannot change.",
    ),
    ("ReplicaSetSpec.template", "What the pods are made from."),
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
    (
        "ServiceAccount.automountServiceAccountToken",
        "Whether pods get a token, unless they say otherwise.",
    ),
    (
        "ServiceAccount.imagePullSecrets",
        "By which pods of this account pull images, unless they name some.",
    ),
    (
        "ServiceAccount.secrets",
        "The Secrets that its pods may use, where that is enforced.",
    ),
];
