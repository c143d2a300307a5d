//! CSIDrivers: what a storage driver can do, and what it wants to be told.

use super::field::{items, maybe_flag, maybe_int, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "storage.k8s.io/v1 CSIDriver",
    validate,
    ..Hooks::NONE
};

fn validate(driver: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &driver["spec"];
    let path = FieldPath::new("spec");
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    names::one_of(errors, spec, "fsGroupPolicy", &path, &policies);
    token_requests(spec, &path.child("tokenRequests"), errors);
    for mode in items(spec, "/volumeLifecycleModes") {
        let mode = text(mode, "");
        let modes = ["Persistent", "Ephemeral"];
        if !modes.contains(&mode) {
            let path = path.child("volumeLifecycleModes");
            errors.push(FieldError::not_supported(&path, mode, &modes));
        }
    }
    let period = maybe_int(spec, "/nodeAllocatableUpdatePeriodSeconds");
    if let Some(seconds) = period.filter(|seconds| *seconds < 10) {
        errors.push(FieldError::invalid(
            &path.child("nodeAllocatableUpdatePeriodSeconds"),
            seconds,
            "must be greater than or equal to 10 seconds",
        ));
    }
    if let Some(old) = old {
        update(spec, &old["spec"], &path, errors);
    }
}

/// What is left out means what its default says.
fn update(spec: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let attached = |spec: &Value| maybe_flag(spec, "/attachRequired").unwrap_or(true);
    if attached(spec) != attached(old) {
        // The name of this field as Kubernetes tells it.
        let path = path.child("attachedRequired");
        errors.push(FieldError::invalid(
            &path,
            attached(spec),
            "field is immutable",
        ));
    }
    let modes = |spec: &Value| match items(spec, "/volumeLifecycleModes") {
        [] => vec!["Persistent".into()],
        modes => modes.to_vec(),
    };
    if modes(spec) != modes(old) {
        let path = path.child("volumeLifecycleModes");
        errors.push(FieldError::invalid(
            &path,
            modes(spec),
            "field is immutable",
        ));
    }
}

/// For each audience one token, and at most one for no audience in particular.
fn token_requests(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, request) in items(spec, "/tokenRequests").iter().enumerate() {
        let path = list.index(index);
        let audience = text(request, "/audience");
        if !seen.insert(audience) {
            errors.push(FieldError::duplicate(&path.child("audience"), audience));
            continue;
        }
        let Some(seconds) = maybe_int(request, "/expirationSeconds") else {
            continue;
        };
        let why = if seconds < 600 {
            "may not specify a duration less than 10 minutes"
        } else if seconds > 1 << 32 {
            "may not specify a duration larger than 2^32 seconds"
        } else {
            continue;
        };
        let path = path.child("expirationSeconds");
        errors.push(FieldError::invalid(&path, seconds, why));
    }
}
