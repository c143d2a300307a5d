//! StatefulSets.

use super::field::{children, default, default_text, entry, present, same, spec, text};
use super::names::{not_negative, one_of};
use super::{Hooks, names, persistent_volume_claim, template};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "apps/v1 StatefulSet",
    default: fill,
    prepare,
    validate,
};

fn fill(set: &mut Value) {
    let Some(spec) = spec(set) else { return };
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default_text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(policy) = entry(spec, "persistentVolumeClaimRetentionPolicy") {
        default_text(policy, "whenDeleted", "Retain");
        default_text(policy, "whenScaled", "Retain");
    }
    template::fill(spec);
    if let Some(strategy) = entry(spec, "updateStrategy") {
        default_text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = entry(strategy, "rollingUpdate")
        {
            default(rolling, "partition", 0);
        }
    }
    for claim in children(spec, "volumeClaimTemplates") {
        default_text(claim, "apiVersion", "v1");
        default_text(claim, "kind", "PersistentVolumeClaim");
        persistent_volume_claim::fill_claim(claim);
        if let Some(status) = entry(claim, "status") {
            default_text(status, "phase", "Pending");
        }
    }
}

fn prepare(set: &mut Value, old: Option<&Value>, _context: &Context) {
    if old.is_none() {
        set["status"] = json!({"replicas": 0, "availableReplicas": 0});
    }
}

fn validate(set: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &set["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    if old.is_none() {
        host_names(text(set, "/metadata/name"), errors);
    }
    let policy = text(spec, "/podManagementPolicy");
    if !matches!(policy, "" | "OrderedReady" | "Parallel") {
        errors.push(FieldError::invalid(
            &path.child("podManagementPolicy"),
            policy,
            "must be 'OrderedReady' or 'Parallel'",
        ));
    }
    strategy(
        &spec["updateStrategy"],
        &path.child("updateStrategy"),
        errors,
    );
    if let Some(ordinals) = present(spec, "/ordinals") {
        not_negative(errors, ordinals, "start", &path.child("ordinals"));
    }
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        not_negative(errors, spec, field, &path);
    }
    let policy = &spec["persistentVolumeClaimRetentionPolicy"];
    let policy_path = path.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        one_of(errors, policy, field, &policy_path, &["Retain", "Delete"]);
    }
    template::validate_selector(spec, &path, "statefulset", errors);
    template::validate_match(spec, &path, errors);
    template::validate_always(
        &spec["template"],
        &path.child("template"),
        "StatefulSet",
        errors,
    );
    if let Some(old) = old {
        only_mutable(spec, &old["spec"], &path, errors);
    }
}

/// The pods of a set have its name and a number as host name. A name that no object may have is
/// told with the metadata.
fn host_names(name: &str, errors: &mut Vec<FieldError>) {
    if names::dns_subdomain(name).is_empty() {
        let path = FieldPath::new("metadata").child("name");
        names::check(errors, &path, name, names::dns_label);
    }
}

fn strategy(strategy: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let rolling = present(strategy, "/rollingUpdate");
    let path_of_rolling = path.child("rollingUpdate");
    match (text(strategy, "/type"), rolling) {
        ("RollingUpdate", Some(rolling)) => {
            not_negative(errors, rolling, "partition", &path_of_rolling);
            let most = template::share(rolling, "maxUnavailable", &path_of_rolling, errors);
            if most == Some(0) {
                errors.push(FieldError::invalid(
                    &path_of_rolling.child("maxUnavailable"),
                    rolling["maxUnavailable"].clone(),
                    "cannot be 0",
                ));
            }
        }
        ("OnDelete", Some(rolling)) => errors.push(FieldError::invalid(
            &path_of_rolling,
            rolling.clone(),
            "only allowed for updateStrategy 'RollingUpdate'",
        )),
        ("" | "RollingUpdate" | "OnDelete", _) => {}
        _ => errors.push(FieldError::invalid(
            path,
            strategy.clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        )),
    }
}

const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn only_mutable(new: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(held) = spec.as_object_mut() {
            held.retain(|field, _| !MUTABLE.contains(&field.as_str()));
        }
        spec
    };
    if !same(Some(&fixed(new)), Some(&fixed(old))) {
        errors.push(FieldError::forbidden(
            path,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
             'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
             'minReadySeconds' are forbidden",
        ));
    }
}
