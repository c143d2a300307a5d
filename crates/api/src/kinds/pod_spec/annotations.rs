//! Annotations that say something of a pod's spec (`ValidatePodSpecificAnnotations`).

use super::CONTAINERS;
use crate::kinds::field::{items, text};
use crate::static_pods::MIRROR;
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value};

/// Before a container's name: its AppArmor profile, as it was said before there was a field.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Judges those of a pod, or of a template of pods, with this spec.
pub(in crate::kinds) fn annotations(
    annotations: Option<&Map<String, Value>>,
    spec: &Value,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for (key, value) in annotations.into_iter().flatten() {
        let value = text(value, "");
        if key == MIRROR && text(spec, "/nodeName").is_empty() {
            let why = "must set spec.nodeName if mirror pod annotation is set";
            errors.push(FieldError::invalid(&path.key(key), value, why));
        }
        if let Some(container) = key.strip_prefix(APP_ARMOR) {
            app_armor(container, value, spec, &path.key(key), errors);
        }
    }
}

/// Judges what became of those that may not change once the pod is there (`ValidatePodSpecificAnnotationUpdates`).
pub(in crate::kinds) fn annotation_updates(
    new: Option<&Map<String, Value>>,
    old: Option<&Map<String, Value>>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let get = |held: Option<&Map<String, Value>>, key: &str| held.and_then(|h| h.get(key)).cloned();
    let mut refuse = |key: &str, done: &str| {
        let what = match key {
            MIRROR => "mirror pod annotation",
            _ if key.starts_with(APP_ARMOR) => "AppArmor annotations",
            _ => return,
        };
        errors.push(FieldError::forbidden(
            &path.key(key),
            &format!("may not {done} {what}"),
        ));
    };
    for (key, value) in old.into_iter().flatten() {
        if get(new, key).as_ref() != Some(value) {
            refuse(key, "remove or update");
        }
    }
    for key in new.into_iter().flatten().map(|(key, _)| key) {
        if get(old, key).is_none() {
            refuse(key, "add");
        }
    }
}

fn app_armor(
    container: &str,
    profile: &str,
    spec: &Value,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let known = CONTAINERS.iter().any(|list| {
        let mut held = items(spec, &format!("/{list}")).iter();
        held.any(|held| text(held, "/name") == container)
    });
    if !known {
        errors.push(FieldError::invalid(path, container, "container not found"));
    }
    let standard = matches!(profile, "" | "runtime/default" | "unconfined");
    if !standard && !profile.starts_with("localhost/") {
        let why = format!("invalid AppArmor profile name: {profile:?}");
        errors.push(FieldError::invalid(path, profile, &why));
    }
}
