//! Jobs. A job's pods carry its uid as a label, and its selector asks for that label.

use super::field::{
    absent, default, default_text, entry, flag, int, map, maybe_int, present, root, same, spec,
    text,
};
use super::names::{not_negative, one_of};
use super::{Hooks, template};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Map, Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "batch/v1 Job",
    default: fill,
    prepare,
    validate,
};

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
/// The same two as clients before 1.27 know them.
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

fn fill(job: &mut Value) {
    let Some(spec) = spec(job) else { return };
    // Without either number a job is one pod; parallelism alone makes a work queue.
    if absent(spec, "completions") && absent(spec, "parallelism") {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let unlimited = !absent(spec, "backoffLimitPerIndex");
    default(
        spec,
        "backoffLimit",
        if unlimited { i64::from(i32::MAX) } else { 6 },
    );
    default_text(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let policy = if absent(spec, "podFailurePolicy") {
        "TerminatingOrFailed"
    } else {
        "Failed"
    };
    default_text(spec, "podReplacementPolicy", policy);
    template::fill(spec);
}

fn prepare(job: &mut Value, old: Option<&Value>, context: &Context) {
    if old.is_some() {
        return;
    }
    job["status"] = json!({});
    if !flag(job, "/spec/manualSelector") {
        let name = text(job, "/metadata/name").to_owned();
        if let Some(spec) = spec(job) {
            generate_selector(spec, &name, &context.uid);
        }
    }
    // A job without labels takes those of its template.
    let labels = map(job, "/spec/template/metadata/labels").cloned();
    if let Some(labels) = labels.filter(|labels| !labels.is_empty())
        && let Some(metadata) = root(job).and_then(|job| entry(job, "metadata"))
        && entry(metadata, "labels").is_some_and(|held| held.is_empty())
    {
        metadata.insert("labels".to_owned(), labels.into());
    }
}

fn generate_selector(spec: &mut Map<String, Value>, name: &str, uid: &str) {
    if let Some(labels) = entry(spec, "template")
        .and_then(|template| entry(template, "metadata"))
        .and_then(|metadata| entry(metadata, "labels"))
    {
        for (key, value) in [(UID, uid), (OLD_UID, uid), (NAME, name), (OLD_NAME, name)] {
            labels.entry(key).or_insert_with(|| value.into());
        }
    }
    if let Some(labels) =
        entry(spec, "selector").and_then(|selector| entry(selector, "matchLabels"))
    {
        labels.entry(UID).or_insert_with(|| uid.into());
    }
}

fn validate(job: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &job["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    if old.is_none() && !flag(spec, "/manualSelector") {
        generated_selector(job, &path, errors);
    }
    validate_spec(spec, &path, errors);
    if present(spec, "/selector").is_none() {
        errors.push(FieldError::required(&path.child("selector"), ""));
    } else {
        template::label_selector(&spec["selector"], &path.child("selector"), errors);
    }
    template::validate_match(spec, &path, errors);
    if let Some(old) = old {
        update(spec, old, &path, errors);
    }
}

fn generated_selector(job: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let selector = &job["spec"]["selector"];
    let expected = job.pointer("/metadata/uid");
    let labels = map(selector, "/matchLabels");
    let own = labels.is_some_and(|labels| labels.len() == 1 && labels.get(UID) == expected)
        && present(selector, "/matchExpressions").is_none();
    // The uid is not known before the object has its metadata.
    if expected.is_some() && !own {
        errors.push(FieldError::invalid(
            &path.child("selector"),
            selector.clone(),
            "`selector` not auto-generated",
        ));
    }
}

/// Judges a job's spec, also as part of a CronJob, where selector and labels are not made yet.
pub(super) fn validate_spec(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(errors, spec, field, path);
    }
    let modes = ["NonIndexed", "Indexed"];
    one_of(errors, spec, "completionMode", path, &modes);
    if text(spec, "/completionMode") == "Indexed" {
        indexed(spec, path, errors);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if present(spec, &format!("/{field}")).is_some() {
                errors.push(FieldError::invalid(
                    &path.child(field),
                    spec[field].clone(),
                    "requires indexed completion mode",
                ));
            }
        }
    }
    let policies = ["Failed", "TerminatingOrFailed"];
    one_of(errors, spec, "podReplacementPolicy", path, &policies);
    let template_path = path.child("template");
    template::validate(&spec["template"], &template_path, errors);
    let policy_path = template_path.child("spec").child("restartPolicy");
    match text(spec, "/template/spec/restartPolicy") {
        "Never" => {}
        "OnFailure" if present(spec, "/podFailurePolicy").is_some() => {
            errors.push(FieldError::invalid(
                &policy_path,
                "OnFailure",
                "only \"Never\" is supported when podFailurePolicy is specified",
            ));
        }
        "OnFailure" => {}
        "Always" | "" => errors.push(FieldError::required(
            &policy_path,
            "valid values: \"OnFailure\", \"Never\"",
        )),
        // The template's own rules have refused any other.
        _ => {}
    }
}

fn indexed(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(completions) = maybe_int(spec, "/completions") else {
        errors.push(FieldError::required(
            &path.child("completions"),
            "when completion mode is Indexed",
        ));
        return;
    };
    let parallelism = int(spec, "/parallelism");
    if parallelism > 100_000 {
        errors.push(FieldError::invalid(
            &path.child("parallelism"),
            parallelism,
            "must be less than or equal to 100000 when completion mode is Indexed",
        ));
    }
    let per_index = present(spec, "/backoffLimitPerIndex").is_some();
    if per_index && completions > 100_000 && present(spec, "/maxFailedIndexes").is_none() {
        errors.push(FieldError::required(
            &path.child("maxFailedIndexes"),
            "must be specified when completions is above 100000",
        ));
    }
}

fn update(spec: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let old_spec = &old["spec"];
    // An indexed job may be stretched or shrunk together with its parallelism.
    let elastic = text(spec, "/completionMode") == "Indexed"
        && maybe_int(spec, "/completions") == maybe_int(spec, "/parallelism");
    if !elastic {
        template::immutable(spec, old_spec, "completions", path, errors);
    }
    template::immutable(spec, old_spec, "selector", path, errors);
    template_update(spec, old, path, errors);
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        template::immutable(spec, old_spec, field, path, errors);
    }
}

/// The template is fixed, but for where its pods may run while the job has not begun.
fn template_update(spec: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut template = spec["template"].clone();
    let old_template = &old["spec"]["template"];
    let waiting = flag(old, "/spec/suspend") && present(old, "/status/startTime").is_none();
    if waiting && let Some(held) = template.get_mut("spec").and_then(Value::as_object_mut) {
        for field in ["affinity", "nodeSelector", "tolerations", "schedulingGates"] {
            match old_template["spec"].get(field) {
                Some(value) => held.insert(field.to_owned(), value.clone()),
                None => held.remove(field),
            };
        }
    }
    if !same(Some(&template), Some(old_template)) {
        errors.push(FieldError::invalid(
            &path.child("template"),
            spec["template"].clone(),
            "field is immutable",
        ));
    }
}
