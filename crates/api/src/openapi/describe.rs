//! What kinds and fields are for, in the few words that `kubectl explain` shows. Only what a reader
//! is likely to ask for is described.

mod others;
mod pod;

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
        _ => {
            let path = format!("{owner}.{name}");
            match look_up(pod::FIELDS, &path) {
                "" => look_up(others::FIELDS, &path),
                known => known,
            }
        }
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
        "APIService",
        "Says who serves a version of a group of the API.",
    ),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn the_tables_are_sorted_and_describe_what_there_is() {
        for table in [KINDS, pod::FIELDS, others::FIELDS] {
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
        for (path, _) in pod::FIELDS.iter().chain(others::FIELDS) {
            let (owner, name) = path.split_once('.').expect("Type.field");
            assert!(
                known(owner).iter().any(|ty| ty.field(name).is_some()),
                "{path}"
            );
        }
    }
}
