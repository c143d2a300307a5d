//! Deployments.

use super::field::{default, default_text, entry, int, maybe_int, present, spec, text};
use super::names::{not_negative, one_of};
use super::{Hooks, template};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "apps/v1 Deployment",
    default: fill,
    prepare,
    validate,
};

fn fill(deployment: &mut Value) {
    let Some(spec) = spec(deployment) else { return };
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    template::fill(spec);
    let Some(strategy) = entry(spec, "strategy") else {
        return;
    };
    default_text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = entry(strategy, "rollingUpdate")
    {
        default(rolling, "maxUnavailable", "25%");
        default(rolling, "maxSurge", "25%");
    }
}

fn prepare(deployment: &mut Value, old: Option<&Value>, _context: &Context) {
    if old.is_none() {
        deployment["status"] = json!({});
    }
}

fn validate(deployment: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &deployment["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    not_negative(errors, spec, "replicas", &path);
    template::validate_selector(spec, &path, "deployment", errors);
    template::validate_match(spec, &path, errors);
    template::validate_always(
        &spec["template"],
        &path.child("template"),
        "ReplicaSet",
        errors,
    );
    strategy(&spec["strategy"], &path.child("strategy"), errors);
    not_negative(errors, spec, "minReadySeconds", &path);
    not_negative(errors, spec, "revisionHistoryLimit", &path);
    if let Some(deadline) = maybe_int(spec, "/progressDeadlineSeconds") {
        not_negative(errors, spec, "progressDeadlineSeconds", &path);
        if deadline <= int(spec, "/minReadySeconds") {
            errors.push(FieldError::invalid(
                &path.child("progressDeadlineSeconds"),
                deadline,
                "must be greater than minReadySeconds",
            ));
        }
    }
    if let Some(old) = old {
        template::immutable(spec, &old["spec"], "selector", &path, errors);
    }
}

fn strategy(strategy: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    one_of(
        errors,
        strategy,
        "type",
        path,
        &["Recreate", "RollingUpdate"],
    );
    let rolling = present(strategy, "/rollingUpdate");
    match (text(strategy, "/type"), rolling) {
        ("Recreate", Some(_)) => errors.push(FieldError::forbidden(
            &path.child("rollingUpdate"),
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            let unavailable = template::share(rolling, "maxUnavailable", &path, errors);
            let surge = template::amount(rolling, "maxSurge", &path, errors);
            if unavailable == Some(0) && surge == Some(0) {
                errors.push(FieldError::invalid(
                    &path.child("maxUnavailable"),
                    rolling["maxUnavailable"].clone(),
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
        }
        _ => {}
    }
}
