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
    not_negative(errors, spec, "successfulJobsHistoryLimit", &path);
    not_negative(errors, spec, "failedJobsHistoryLimit", &path);
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
    use super::fault;

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
