//! PersistentVolumes. Different from a stock API server: no `pv-protection` finalizer is added
//! while no controller would take it away.

use super::Hooks;
use super::field::{child, default, default_text, map, spec};
use super::names::one_of;
use super::persistent_volume_claim::access_modes;
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 PersistentVolume",
    default: fill,
    prepare,
    validate,
};

fn fill(volume: &mut Value) {
    let Some(spec) = spec(volume) else { return };
    default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    default_text(spec, "volumeMode", "Filesystem");
    if let Some(path) = child(spec, "hostPath") {
        default(path, "type", "");
    }
}

fn prepare(volume: &mut Value, old: Option<&Value>, context: &Context) {
    if old.is_none() {
        let now = crate::time::format(context.now);
        volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
    }
}

fn validate(volume: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &volume["spec"];
    let path = FieldPath::new("spec");
    access_modes(spec, "", &path, errors);
    if map(spec, "/capacity").is_none_or(serde_json::Map::is_empty) {
        errors.push(FieldError::required(&path.child("capacity"), ""));
    } else if !map(spec, "/capacity").is_some_and(|held| held.contains_key("storage")) {
        let path = path.child("capacity");
        errors.push(FieldError::not_supported(
            &path,
            spec["capacity"].clone(),
            &["storage"],
        ));
    }
    let policies = ["Delete", "Recycle", "Retain"];
    one_of(
        errors,
        spec,
        "persistentVolumeReclaimPolicy",
        &path,
        &policies,
    );
    one_of(errors, spec, "volumeMode", &path, &["Block", "Filesystem"]);
}
