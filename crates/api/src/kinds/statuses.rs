//! Rules of statuses. Whoever has the right to write one is trusted to know what it says, but not to
//! say what cannot be: counts below nothing, more ready pods than pods, an end that is undone.
//! A status that is written as it was is not judged again.

use super::field::{int, items, map, maybe_int, present, text};
use super::names::not_negative;
use super::{job, quantities};
use crate::resource::Resource;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

/// Judges the status of an object; given are the next object and the stored one.
type Rule = fn(&Value, &Value, &mut Vec<FieldError>);

/// Every kind whose status is judged, sorted by apiVersion and kind.
static ALL: &[(&str, Rule)] = &[
    ("apps/v1 DaemonSet", |new, old, errors| {
        DAEMON_SET.judge(new, old, errors);
    }),
    ("apps/v1 Deployment", |new, old, errors| {
        DEPLOYMENT.judge(new, old, errors);
    }),
    ("apps/v1 ReplicaSet", |new, old, errors| {
        REPLICA_SET.judge(new, old, errors);
    }),
    ("apps/v1 StatefulSet", |new, old, errors| {
        STATEFUL_SET.judge(new, old, errors);
    }),
    ("batch/v1 Job", job::validate_status),
    ("policy/v1 PodDisruptionBudget", |new, old, errors| {
        BUDGET.judge(new, old, errors);
    }),
    ("v1 Namespace", |new, _, errors| phase(new, errors)),
    ("v1 Node", |new, _, errors| node(new, errors)),
    ("v1 ReplicationController", |new, old, errors| {
        REPLICA_SET.judge(new, old, errors);
    }),
];

/// Judges what an update made of the status of `old`.
pub(crate) fn validate(
    resource: &Resource,
    new: &Value,
    old: &Value,
    errors: &mut Vec<FieldError>,
) {
    if new["status"] == old["status"] {
        return;
    }
    let kind = format!("{} {}", resource.api_version, resource.kind);
    if let Ok(at) = ALL.binary_search_by(|(name, _)| (*name).cmp(kind.as_str())) {
        (ALL[at].1)(new, old, errors);
    }
}

/// What the counts of a status have to do with each other.
struct Counts {
    /// None of these is below 0.
    fields: &'static [&'static str],
    /// None of these is above `replicas`.
    parts: &'static [&'static str],
    /// What is said where more are available than ready.
    beyond_ready: &'static str,
}

/// `ValidateDeploymentStatus`.
const DEPLOYMENT: Counts = Counts {
    fields: &[
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ],
    parts: &["updatedReplicas", "readyReplicas", "availableReplicas"],
    beyond_ready: "cannot be greater than readyReplicas",
};

/// `ValidateReplicaSetStatus`, which is that of replication controllers too.
const REPLICA_SET: Counts = Counts {
    fields: &[
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ],
    parts: &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    beyond_ready: "cannot be greater than readyReplicas",
};

/// `ValidateStatefulSetStatus`.
const STATEFUL_SET: Counts = Counts {
    fields: &[
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ],
    parts: &[
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ],
    beyond_ready: "cannot be greater than status.readyReplicas",
};

/// `validateDaemonSetStatus`.
const DAEMON_SET: Counts = Counts {
    fields: &[
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ],
    parts: &[],
    beyond_ready: "",
};

/// `ValidatePodDisruptionBudgetStatusUpdate`.
const BUDGET: Counts = Counts {
    fields: &[
        "disruptionsAllowed",
        "currentHealthy",
        "desiredHealthy",
        "expectedPods",
    ],
    parts: &[],
    beyond_ready: "",
};

impl Counts {
    fn judge(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let path = FieldPath::new("status");
        let status = &new["status"];
        for field in self.fields {
            not_negative(errors, status, field, &path);
        }
        let count = |field: &str| int(status, &format!("/{field}"));
        for field in self.parts {
            let part = count(field);
            if part > count("replicas") {
                let why = "cannot be greater than status.replicas";
                errors.push(FieldError::invalid(&path.child(field), part, why));
            }
        }
        let available = count("availableReplicas");
        if !self.beyond_ready.is_empty() && available > count("readyReplicas") {
            let path = path.child("availableReplicas");
            errors.push(FieldError::invalid(&path, available, self.beyond_ready));
        }
        if self.fields.contains(&"collisionCount") {
            let collisions = count("collisionCount");
            let before = maybe_int(old, "/status/collisionCount");
            if before.is_some_and(|before| collisions < before) {
                let path = path.child("collisionCount");
                let why = "cannot be decremented";
                errors.push(FieldError::invalid(&path, collisions, why));
            }
        }
    }
}

/// `ValidateNamespaceStatusUpdate`; the field's name is as Kubernetes tells it.
fn phase(namespace: &Value, errors: &mut Vec<FieldError>) {
    let deleting = present(namespace, "/metadata/deletionTimestamp").is_some();
    let (only, why) = if deleting {
        let why = "may only be 'Terminating' if `deletionTimestamp` is not empty";
        ("Terminating", why)
    } else {
        let why = "may only be 'Active' if `deletionTimestamp` is empty";
        ("Active", why)
    };
    let phase = text(namespace, "/status/phase");
    if phase != only {
        let path = FieldPath::new("status").child("Phase");
        errors.push(FieldError::invalid(&path, phase, why));
    }
}

/// What `ValidateNodeUpdate` says of the status.
fn node(node: &Value, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("status");
    let mut seen = BTreeSet::new();
    for (index, address) in items(node, "/status/addresses").iter().enumerate() {
        if !seen.insert((text(address, "/type"), text(address, "/address"))) {
            let path = path.child("addresses").index(index);
            errors.push(FieldError::duplicate(&path, address.clone()));
        }
    }
    for list in ["capacity", "allocatable"] {
        for (name, amount) in map(node, &format!("/status/{list}")).into_iter().flatten() {
            quantities::amount(name, amount, &path.child(list).child(name), errors);
        }
    }
}
