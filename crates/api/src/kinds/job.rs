//! Jobs. A job's pods carry its uid as a label, and its selector asks for that label.

mod policies;
mod status;

use super::field::{
    absent, child, children, default, default_text, entry, flag, int, items, map, maybe_int,
    present, restore, root, same, spec, text,
};
use super::names::{not_negative, one_of};
use super::{Hooks, names, template};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Map, Value, json};

pub(super) use status::validate as validate_status;

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
    fill_template(spec);
}

/// Fills what a job's spec and that in a CronJob's template have in common.
pub(super) fn fill_template(spec: &mut Map<String, Value>) {
    if let Some(policy) = child(spec, "podFailurePolicy") {
        for rule in children(policy, "rules") {
            for pattern in children(rule, "onPodConditions") {
                default_text(pattern, "status", "True");
            }
        }
    }
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
    if old.is_none() {
        if !flag(spec, "/manualSelector") {
            generated_selector(job, &path, errors);
        }
        host_names(job, errors);
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

/// The pods of an indexed job have its name and their index as host name.
fn host_names(job: &Value, errors: &mut Vec<FieldError>) {
    let completions = int(job, "/spec/completions");
    if text(job, "/spec/completionMode") != "Indexed" || completions <= 0 {
        return;
    }
    let name = text(job, "/metadata/name");
    let longest = format!("{name}-{}", completions - 1);
    if !names::dns_label(&longest).is_empty() {
        errors.push(FieldError::invalid(
            &FieldPath::new("metadata").child("name"),
            name,
            &format!("will not able to create pod with invalid DNS label: {longest}"),
        ));
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
    ranges(spec, path, errors);
    if present(spec, "/podFailurePolicy").is_some() {
        policies::failure(spec, &path.child("podFailurePolicy"), errors);
    }
    if present(spec, "/successPolicy").is_some() {
        policies::success(spec, &path.child("successPolicy"), errors);
    }
    let replacements: &[&str] = if present(spec, "/podFailurePolicy").is_some() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    one_of(errors, spec, "podReplacementPolicy", path, replacements);
    let template_path = path.child("template");
    template::validate(&spec["template"], &template_path, errors);
    restart_policy(spec, &template_path, errors);
}

fn ranges(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
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
    if present(spec, "/maxFailedIndexes").is_some()
        && present(spec, "/backoffLimitPerIndex").is_none()
    {
        errors.push(FieldError::required(
            &path.child("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        ));
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str) {
        let path = path.child("managedBy");
        names::domain_prefixed_path(manager, &path, errors);
        if manager.len() > 63 {
            errors.push(FieldError::too_long(&path, 63));
        }
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
}

fn restart_policy(spec: &Value, template: &FieldPath, errors: &mut Vec<FieldError>) {
    let policy_path = template.child("spec").child("restartPolicy");
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

/// How many indexes a job may have before each must be cheap to keep.
const SOFT_LIMIT: i64 = 100_000;
/// Of pods at once, or failed indexes, where there are more.
const MANY_LIMIT: i64 = 10_000;

fn indexed(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(completions) = maybe_int(spec, "/completions") else {
        errors.push(FieldError::required(
            &path.child("completions"),
            "when completion mode is Indexed",
        ));
        return;
    };
    let parallelism = int(spec, "/parallelism");
    let failed = maybe_int(spec, "/maxFailedIndexes");
    let many = completions > SOFT_LIMIT && present(spec, "/backoffLimitPerIndex").is_some();
    if many && failed.is_none() {
        errors.push(FieldError::required(
            &path.child("maxFailedIndexes"),
            &format!("must be specified when completions is above {SOFT_LIMIT}"),
        ));
    }
    let failed = failed.unwrap_or_default();
    let with_many = format!(
        "{MANY_LIMIT} when completions are above {SOFT_LIMIT} and used with backoff limit per index"
    );
    for (wrong, field, value, most) in [
        (
            parallelism > SOFT_LIMIT,
            "parallelism",
            parallelism,
            format!("{SOFT_LIMIT} when completion mode is Indexed"),
        ),
        (
            failed > completions,
            "maxFailedIndexes",
            failed,
            "completions".to_owned(),
        ),
        (
            failed > SOFT_LIMIT,
            "maxFailedIndexes",
            failed,
            SOFT_LIMIT.to_string(),
        ),
        (
            many && parallelism > MANY_LIMIT,
            "parallelism",
            parallelism,
            with_many.clone(),
        ),
        (
            many && failed > MANY_LIMIT,
            "maxFailedIndexes",
            failed,
            with_many,
        ),
    ] {
        if wrong {
            let why = format!("must be less than or equal to {most}");
            errors.push(FieldError::invalid(&path.child(field), value, &why));
        }
    }
}

fn update(spec: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let old_spec = &old["spec"];
    let completions = maybe_int(spec, "/completions");
    if text(spec, "/completionMode") != "Indexed" {
        template::immutable(spec, old_spec, "completions", path, errors);
    } else if let Some(completions) = completions
        && Some(completions) != maybe_int(old_spec, "/completions")
        && completions != int(spec, "/parallelism")
    {
        // An indexed job may be stretched or shrunk together with its parallelism.
        errors.push(FieldError::invalid(
            &path.child("completions"),
            completions,
            &format!(
                "can only be modified in tandem with {}",
                path.child("parallelism")
            ),
        ));
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

/// The template is fixed, but for where its pods may run, what they are labelled with and what they
/// may use while the job has not begun.
fn template_update(spec: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut template = spec["template"].clone();
    let old_template = &old["spec"]["template"];
    let waiting = flag(old, "/spec/suspend") && present(old, "/status/startTime").is_none();
    if waiting {
        let spec = ["affinity", "nodeSelector", "tolerations", "schedulingGates"];
        for (part, fields) in [
            ("metadata", ["annotations", "labels"].as_slice()),
            ("spec", &spec),
        ] {
            let Some(held) = template.get_mut(part).and_then(Value::as_object_mut) else {
                continue;
            };
            for field in fields {
                restore(held, &old_template[part], field);
            }
        }
        let own = template.pointer_mut("/spec/containers");
        let own = own.and_then(Value::as_array_mut).into_iter().flatten();
        for (own, old) in own.zip(items(old_template, "/spec/containers")) {
            if let Some(own) = own.as_object_mut() {
                restore(own, old, "resources");
            }
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
