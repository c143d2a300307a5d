//! DaemonSets.

use super::field::{default, default_text, entry, int, map, root, same, spec};
use super::names::{not_negative, one_of};
use super::{Hooks, template};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "apps/v1 DaemonSet",
    default: fill,
    prepare,
    validate,
};

/// Counts the template's changes; older clients read it.
const GENERATION: &str = "deprecated.daemonset.template.generation";

fn fill(set: &mut Value) {
    let Some(spec) = spec(set) else { return };
    default(spec, "revisionHistoryLimit", 10);
    template::fill(spec);
    let Some(strategy) = entry(spec, "updateStrategy") else {
        return;
    };
    default_text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = entry(strategy, "rollingUpdate")
    {
        default(rolling, "maxUnavailable", 1);
        default(rolling, "maxSurge", 0);
    }
}

fn prepare(set: &mut Value, old: Option<&Value>, _context: &Context) {
    let generation = match old {
        None => 1,
        Some(old) => {
            let held = map(old, "/metadata/annotations")
                .and_then(|held| held.get(GENERATION)?.as_str()?.parse::<i64>().ok())
                .unwrap_or(1);
            let changed = !same(set.pointer("/spec/template"), old.pointer("/spec/template"));
            held + i64::from(changed)
        }
    };
    if let Some(annotations) = root(set)
        .and_then(|set| entry(set, "metadata"))
        .and_then(|metadata| entry(metadata, "annotations"))
    {
        annotations.insert(GENERATION.to_owned(), generation.to_string().into());
    }
    if old.is_none() {
        set["status"] = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0,
            "desiredNumberScheduled": 0, "numberReady": 0});
    }
}

fn validate(set: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &set["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    template::validate_selector(spec, &path, "daemonset", errors);
    template::validate_match(spec, &path, errors);
    template::validate_always(
        &spec["template"],
        &path.child("template"),
        "DaemonSet",
        errors,
    );
    not_negative(errors, spec, "minReadySeconds", &path);
    strategy(
        &spec["updateStrategy"],
        &path.child("updateStrategy"),
        errors,
    );
    not_negative(errors, spec, "revisionHistoryLimit", &path);
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
        &["OnDelete", "RollingUpdate"],
    );
    let rolling = &strategy["rollingUpdate"];
    if !rolling.is_object() {
        return;
    }
    let path = path.child("rollingUpdate");
    template::share(rolling, "maxUnavailable", &path, errors);
    template::share(rolling, "maxSurge", &path, errors);
    let zero = |field: &str| match &rolling[field] {
        Value::String(text) => text == "0%",
        _ => int(rolling, &format!("/{field}")) == 0,
    };
    match (zero("maxUnavailable"), zero("maxSurge")) {
        (true, true) => errors.push(FieldError::required(
            &path.child("maxUnavailable"),
            "cannot be 0 when maxSurge is 0",
        )),
        (false, false) => errors.push(FieldError::invalid(
            &path.child("maxSurge"),
            rolling["maxSurge"].clone(),
            "may not be set when maxUnavailable is non-zero",
        )),
        _ => {}
    }
}
