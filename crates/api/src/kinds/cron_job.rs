//! CronJobs. Their schedule is judged by its form only; when it fires is its controller's affair.

use super::field::{default, default_text, entry, present, spec, text};
use super::names::{not_negative, one_of};
use super::{Hooks, job, template};
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
            template::fill(job);
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
        schedule => {
            if let Some(why) = fault(schedule) {
                errors.push(FieldError::invalid(&path.child("schedule"), schedule, &why));
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

/// What is wrong with the form of a time zone's name. Which zones there are is not known here: that
/// is the controller's affair.
fn zone_fault(zone: &str) -> Option<String> {
    if zone.is_empty() {
        return Some("timeZone must be nil or non-empty string".to_owned());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let good = |part: &str| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.chars().all(allowed)
    };
    if !zone.split('/').all(good) {
        return Some(format!("unknown time zone {zone}"));
    }
    zone.eq_ignore_ascii_case("local").then(|| {
        "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
            .to_owned()
    })
}

/// What is wrong with a schedule of five fields or one of the `@` words.
fn fault(schedule: &str) -> Option<String> {
    if let Some(every) = schedule.strip_prefix('@') {
        let known = matches!(
            every,
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly"
        ) || every.starts_with("every ");
        return (!known).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        return Some("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!(
            "expected exactly 5 fields, found {}: {fields:?}",
            fields.len()
        ));
    }
    let ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
    fields
        .iter()
        .zip(ranges)
        .find(|(field, range)| !field.split(',').all(|part| part_fits(part, *range)))
        .map(|(field, (low, high))| format!("{field} is not between {low} and {high}"))
}

/// `*`, `?`, a number, a range, or one of them with a step; months and days also by name.
fn part_fits(part: &str, (low, high): (u32, u32)) -> bool {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, step.parse::<u32>().is_ok_and(|step| step > 0)),
        None => (part, true),
    };
    let value = |text: &str| -> Option<u32> {
        const NAMES: [&str; 19] = [
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
            "sun", "mon", "tue", "wed", "thu", "fri", "sat",
        ];
        let named = NAMES
            .iter()
            .position(|name| text.eq_ignore_ascii_case(name));
        match named {
            Some(month @ 0..12) if high == 12 => u32::try_from(month + 1).ok(),
            Some(day @ 12..) if high == 7 => u32::try_from(day - 12).ok(),
            _ => text.parse().ok(),
        }
        .filter(|value| (low..=high).contains(value))
    };
    step && match range.split_once('-') {
        _ if matches!(range, "*" | "?") => true,
        Some((from, to)) => {
            matches!((value(from), value(to)), (Some(from), Some(to)) if from <= to)
        }
        None => value(range).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::{fault, zone_fault};

    #[test]
    fn time_zones() {
        for good in ["UTC", "Etc/GMT+5", "America/Argentina/Buenos_Aires"] {
            assert_eq!(zone_fault(good), None, "{good}");
        }
        for bad in [
            "",
            "local",
            "/UTC",
            "UTC/",
            "../x",
            "-a",
            "a b",
            "far-too-long-a-name",
        ] {
            assert!(zone_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "*/5 1-3 1,15 jan MON",
            "@daily",
            "@every 1h",
            "0 0 * * 7",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in [
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "@never",
            "TZ=UTC * * * * *",
            "5-3 * * * *",
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
