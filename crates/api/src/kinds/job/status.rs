//! Rules of a job's status (`ValidateJobStatusUpdate`). Most are asked only where what they speak of
//! has changed, so that a status from before them can still be written.

use super::policies::count_indexes;
use crate::kinds::field::{flag, int, items, maybe_int, present, same, text};
use crate::kinds::{names, omitted};
use crate::status::{FieldError, FieldPath};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// A condition whose end is for ever.
const TERMINAL: [&str; 3] = ["Failed", "Complete", "FailureTarget"];

struct Update<'a> {
    spec: &'a Value,
    new: &'a Value,
    old: &'a Value,
    path: FieldPath,
}

/// Judges the next status of a job against the stored one.
pub(in crate::kinds) fn validate(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let update = Update {
        spec: &new["spec"],
        new: &new["status"],
        old: &old["status"],
        path: FieldPath::new("status"),
    };
    update.counts(errors);
    update.uncounted(errors);
    update.conditions(errors);
    update.times(errors);
    update.end(errors);
    update.indexes(errors);
    update.counters(errors);
}

fn holds(status: &Value, condition: &str) -> bool {
    let mut held = items(status, "/conditions").iter();
    held.any(|held| text(held, "/type") == condition && text(held, "/status") == "True")
}

fn finished(status: &Value) -> bool {
    holds(status, "Complete") || holds(status, "Failed")
}

fn time(status: &Value, field: &str) -> Option<Timestamp> {
    text(status, &format!("/{field}")).parse().ok()
}

impl Update<'_> {
    fn changed(&self, field: &str) -> bool {
        !same(self.new.get(field), self.old.get(field))
    }

    /// Whether the condition holds now and did not, or the other way round.
    fn turned(&self, condition: &str) -> bool {
        holds(self.new, condition) != holds(self.old, condition)
    }

    fn ended(&self) -> bool {
        finished(self.new) != finished(self.old)
    }

    fn fault(&self, field: &str, why: &str, errors: &mut Vec<FieldError>) {
        let value = self.new.get(field).cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&self.path.child(field), value, why));
    }

    fn missing(&self, field: &str, why: &str, errors: &mut Vec<FieldError>) {
        errors.push(FieldError::required(&self.path.child(field), why));
    }

    fn counts(&self, errors: &mut Vec<FieldError>) {
        for field in ["active", "succeeded", "failed", "ready", "terminating"] {
            names::not_negative(errors, self.new, field, &self.path);
        }
    }

    /// The pods that have ended and are not counted yet: each once.
    fn uncounted(&self, errors: &mut Vec<FieldError>) {
        let path = self.path.child("uncountedTerminatedPods");
        let mut seen = BTreeSet::new();
        for list in ["succeeded", "failed"] {
            let uids = items(self.new, &format!("/uncountedTerminatedPods/{list}"));
            for (index, uid) in uids.iter().enumerate() {
                let path = path.child(list).index(index);
                let uid = text(uid, "");
                if uid.is_empty() {
                    errors.push(FieldError::invalid(&path, uid, "must not be empty"));
                } else if !seen.insert(uid) {
                    errors.push(FieldError::duplicate(&path, uid));
                }
            }
        }
    }

    /// What conditions go together, and which stay.
    fn conditions(&self, errors: &mut Vec<FieldError>) {
        let path = self.path.child("conditions");
        let is = |condition: &str| holds(self.new, condition);
        let was = |condition: &str| holds(self.old, condition);
        let turned = |condition: &str| self.turned(condition);
        let complete = is("Complete");
        let enough = is("SuccessCriteriaMet");
        for (wrong, why) in [
            (
                (turned("Complete") || turned("Failed")) && complete && is("Failed"),
                "cannot set Complete=True and Failed=true conditions",
            ),
            (
                (turned("Complete") || turned("FailureTarget")) && complete && is("FailureTarget"),
                "cannot set Complete=True and FailureTarget=true conditions",
            ),
            (
                turned("Failed") && is("Failed") && !is("FailureTarget"),
                "cannot set Failed=True condition without the FailureTarget=true condition",
            ),
            (
                turned("Complete") && complete && !enough,
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            ),
            (
                enough && is("Failed"),
                "cannot set SuccessCriteriaMet=True and Failed=true conditions",
            ),
            (
                enough && is("FailureTarget"),
                "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ),
            (
                present(self.spec, "/successPolicy").is_some() && !enough && complete,
                "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
            ),
            (
                was("SuccessCriteriaMet") && !enough,
                "cannot disable the SuccessCriteriaMet=True condition",
            ),
            (
                was("Complete") && !was("SuccessCriteriaMet") && enough,
                "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
            ),
        ] {
            if wrong {
                errors.push(omitted(&path, why));
            }
        }
        for condition in TERMINAL {
            if was(condition) && !is(condition) {
                let why = format!("cannot disable the terminal {condition}=True condition");
                errors.push(omitted(&path, &why));
            }
        }
    }

    fn times(&self, errors: &mut Vec<FieldError>) {
        let given = |status: &Value, field: &str| present(status, &format!("/{field}")).is_some();
        let (start, completion) = ("startTime", "completionTime");
        let complete = holds(self.new, "Complete");
        if self.turned("Complete") || self.changed(completion) {
            if given(self.new, completion) && !complete {
                let why = "cannot set completionTime when there is no Complete=True condition";
                self.fault(completion, why, errors);
            }
            if !given(self.new, completion) && complete {
                let why = "completionTime is required for Complete jobs";
                self.missing(completion, why, errors);
            }
        }
        if (self.changed(start) || self.changed(completion))
            && let (Some(start), Some(end)) = (time(self.new, start), time(self.new, completion))
            && end < start
        {
            let why = "completionTime cannot be set before startTime";
            self.fault(completion, why, errors);
        }
        if given(self.new, completion) && given(self.old, completion) && self.changed(completion) {
            self.fault(completion, "completionTime cannot be mutated", errors);
        }
        // A job that is resumed starts anew.
        let suspended = flag(self.spec, "/suspend") || holds(self.old, "Suspended");
        if given(self.old, start) && self.changed(start) && !suspended {
            let why = "startTime cannot be removed for unsuspended job";
            self.missing(start, why, errors);
        }
    }

    /// What a job that has ended has no more.
    fn end(&self, errors: &mut Vec<FieldError>) {
        let ended = |field: &str| finished(self.new) && (self.ended() || self.changed(field));
        for (field, why) in [
            ("active", "active>0 is invalid for finished job"),
            ("terminating", "terminating>0 is invalid for finished job"),
        ] {
            if ended(field) && int(self.new, &format!("/{field}")) > 0 {
                self.fault(field, why, errors);
            }
        }
        let none = flag(self.spec, "/suspend") && maybe_int(self.spec, "/completions") == Some(0);
        if ended("startTime") && present(self.new, "/startTime").is_none() && !none {
            self.missing(
                "startTime",
                "startTime is required for finished job",
                errors,
            );
        }
        let uncounted = "uncountedTerminatedPods";
        let left = ["succeeded", "failed"].iter();
        let mut left = left.map(|list| items(self.new, &format!("/{uncounted}/{list}")));
        if ended(uncounted) && left.any(|list| !list.is_empty()) {
            let why = "uncountedTerminatedPods needs to be empty for finished job";
            self.fault(uncounted, why, errors);
        }
        if (self.changed("ready") || self.changed("active"))
            && int(self.new, "/ready") > int(self.new, "/active")
        {
            self.fault("ready", "cannot set more ready pods than active", errors);
        }
    }

    fn indexes(&self, errors: &mut Vec<FieldError>) {
        let completions = maybe_int(self.spec, "/completions");
        let retried = present(self.spec, "/backoffLimitPerIndex").is_some();
        for (field, known) in [("completedIndexes", true), ("failedIndexes", retried)] {
            let Some(given) = self.new.get(field).and_then(Value::as_str) else {
                continue;
            };
            if let Some(completions) = completions.filter(|_| known && self.changed(field))
                && let Err(fault) = count_indexes(given, completions)
            {
                let why = format!("error parsing {field}: {fault}");
                self.fault(field, &why, errors);
            }
        }
        let completed = text(self.new, "/completedIndexes");
        if self.changed("completedIndexes")
            && !completed.is_empty()
            && text(self.spec, "/completionMode") != "Indexed"
        {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            self.fault("completedIndexes", why, errors);
        }
        let failed = present(self.new, "/failedIndexes").is_some();
        if self.changed("failedIndexes") && failed && !retried {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            self.fault("failedIndexes", why, errors);
        }
    }

    /// Counters that only grow.
    fn counters(&self, errors: &mut Vec<FieldError>) {
        let less = |field: &str| {
            let pointer = format!("/{field}");
            int(self.new, &pointer) < int(self.old, &pointer)
        };
        if less("failed") {
            self.fault("failed", "cannot decrease the failed counter", errors);
        }
        // An indexed job that was made smaller counts fewer.
        let pair = |field: &str| maybe_int(self.spec, &format!("/{field}"));
        let elastic = text(self.spec, "/completionMode") == "Indexed"
            && pair("completions") == pair("parallelism");
        if !elastic && less("succeeded") {
            self.fault("succeeded", "cannot decrease the succeeded counter", errors);
        }
    }
}
