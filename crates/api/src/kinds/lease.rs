//! Leases.

use super::Hooks;
use super::field::{entry, maybe_int, root};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "coordination.k8s.io/v1 Lease",
    default: |lease| {
        if let Some(lease) = root(lease) {
            entry(lease, "spec");
        }
    },
    validate,
    ..Hooks::NONE
};

fn validate(lease: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("spec");
    if let Some(seconds) = maybe_int(lease, "/spec/leaseDurationSeconds")
        && seconds <= 0
    {
        let path = path.child("leaseDurationSeconds");
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(transitions) = maybe_int(lease, "/spec/leaseTransitions")
        && transitions < 0
    {
        errors.push(FieldError::invalid(
            &path.child("leaseTransitions"),
            transitions,
            "must be greater than or equal to 0",
        ));
    }
}
