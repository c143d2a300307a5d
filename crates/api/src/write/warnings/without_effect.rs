//! What a pod may say and nothing comes of, for its guests are WebAssembly modules.
//!
//! What would give a guest something is refused by its node instead, and what takes rights away that it has not got holds
//! by itself.

use serde_json::Value;

use crate::kinds::field::present;
use crate::status::FieldPath;

/// Which values of a field its writer is told of.
#[derive(Clone, Copy)]
enum When {
    /// Any that says something.
    Set,
    True,
    False,
    Is(&'static str),
}

impl When {
    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Set => value.as_array().is_none_or(|list| !list.is_empty()),
            Self::True => value == true,
            Self::False => value == false,
            Self::Is(text) => value == text,
        }
    }
}

/// A field, as a pointer, and why nothing comes of it.
type Row = (&'static str, When, &'static str);

const LABELS: &str = "guests are kept apart by their runtime, which knows no labels";
const PRIVILEGES: &str = "there are no privileges that a guest could gain";
const PROCESSES: &str = "each module is a process of its own, which no other one sees";
const SYSTEM_CALLS: &str = "guests make no system calls";
const USERS: &str = "guests have no users and no groups";

/// Fields of a pod's spec, sorted.
const OF_POD: [Row; 12] = [
    // The other is what holds without it.
    ("/hostUsers", When::False, USERS),
    (
        "/securityContext/appArmorProfile/type",
        When::Is("Localhost"),
        SYSTEM_CALLS,
    ),
    ("/securityContext/fsGroup", When::Set, USERS),
    ("/securityContext/fsGroupChangePolicy", When::Set, USERS),
    ("/securityContext/runAsGroup", When::Set, USERS),
    ("/securityContext/runAsUser", When::Set, USERS),
    ("/securityContext/seLinuxChangePolicy", When::Set, LABELS),
    ("/securityContext/seLinuxOptions", When::Set, LABELS),
    (
        "/securityContext/seccompProfile/type",
        When::Is("Localhost"),
        SYSTEM_CALLS,
    ),
    ("/securityContext/supplementalGroups", When::Set, USERS),
    (
        "/securityContext/supplementalGroupsPolicy",
        When::Set,
        USERS,
    ),
    ("/shareProcessNamespace", When::True, PROCESSES),
];

/// Fields of a container, sorted.
const OF_CONTAINER: [Row; 6] = [
    (
        "/securityContext/allowPrivilegeEscalation",
        When::True,
        PRIVILEGES,
    ),
    (
        "/securityContext/appArmorProfile/type",
        When::Is("Localhost"),
        SYSTEM_CALLS,
    ),
    ("/securityContext/runAsGroup", When::Set, USERS),
    ("/securityContext/runAsUser", When::Set, USERS),
    ("/securityContext/seLinuxOptions", When::Set, LABELS),
    (
        "/securityContext/seccompProfile/type",
        When::Is("Localhost"),
        SYSTEM_CALLS,
    ),
];

/// Tells of a pod's own fields.
pub(super) fn of_pod(spec: &Value, at: &FieldPath, told: &mut Vec<String>) {
    tell(spec, &OF_POD, at, told);
}

/// Tells of a container's fields.
pub(super) fn of_container(container: &Value, at: &FieldPath, told: &mut Vec<String>) {
    tell(container, &OF_CONTAINER, at, told);
}

fn tell(value: &Value, rows: &[Row], at: &FieldPath, told: &mut Vec<String>) {
    for (pointer, when, why) in rows {
        if present(value, pointer).is_some_and(|value| when.holds(value)) {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            told.push(format!("{}: has no effect: {why}", at.child(&field)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_tables_are_sorted() {
        assert!(OF_POD.is_sorted_by(|a, b| a.0 < b.0));
        assert!(OF_CONTAINER.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn what_says_something_is_told_of() {
        let mut told = Vec::new();
        let spec = json!({
            "hostUsers": false,
            "shareProcessNamespace": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 0, "supplementalGroups": [],
                "seccompProfile": {"type": "RuntimeDefault"}, "seLinuxOptions": null,
            },
        });
        of_pod(&spec, &FieldPath::new("spec"), &mut told);
        let container = json!({"securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "Localhost"},
        }});
        let at = FieldPath::new("spec").child("containers").index(1);
        of_container(&container, &at, &mut told);
        of_pod(
            &json!({"hostUsers": true, "shareProcessNamespace": false}),
            &FieldPath::new("spec"),
            &mut told,
        );
        assert_eq!(
            told,
            [
                "spec.hostUsers: has no effect: guests have no users and no groups",
                "spec.securityContext.runAsUser: has no effect: guests have no users and no groups",
                "spec.containers[1].securityContext.seccompProfile.type: has no effect: guests make no system calls",
            ]
        );
    }
}
