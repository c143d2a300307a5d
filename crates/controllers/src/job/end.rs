//! How a job ends, and the conditions that tell of it.
//!
//! An end is first decided (`SuccessCriteriaMet` or `FailureTarget`) and, once no pod runs and
//! every end is counted, reached (`Complete` or `Failed`). What is decided is never changed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::count::Tally;
use super::{completions, has_finalizer, release};
use crate::owner::{self, target};
use crate::plan::{Plan, Write};
use crate::pods::{is_finished, phase};
use crate::view::View;

/// What a job has come to.
pub(super) struct Verdict {
    pub(super) success: bool,
    reason: String,
    message: String,
}

impl Verdict {
    fn failure(reason: &str, message: &str) -> Option<Verdict> {
        Some(Verdict {
            success: false,
            reason: reason.into(),
            message: message.into(),
        })
    }

    /// What was decided before.
    fn read(status: &JobStatus) -> Option<Verdict> {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let decided = conditions.iter().find(|c| {
            matches!(c.type_.as_str(), "SuccessCriteriaMet" | "FailureTarget") && c.status == "True"
        })?;
        Some(Verdict {
            success: decided.type_ == "SuccessCriteriaMet",
            reason: decided.reason.clone().unwrap_or_default(),
            message: decided.message.clone().unwrap_or_default(),
        })
    }
}

/// Whether the job is decided: before, or by failing now.
pub(super) fn verdict(
    spec: &JobSpec,
    status: &JobStatus,
    tally: &Tally,
    all: &[&Arc<Pod>],
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Verdict> {
    if let Some(decided) = Verdict::read(status) {
        return Some(decided);
    }
    let limit = usize::try_from(spec.backoff_limit.unwrap_or(6)).unwrap_or(0);
    let restarts = restarts(spec, all);
    if tally.failed() > limit || (restarts > 0 && restarts >= limit) {
        return Verdict::failure(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }
    if let Some(failure) = failed_indexes(spec, tally) {
        return Some(failure);
    }
    if spec.suspend == Some(true) {
        // A suspended job's clock stands still.
        return None;
    }
    let (Some(seconds), Some(Time(start))) = (spec.active_deadline_seconds, &status.start_time)
    else {
        return None;
    };
    let left = seconds_of(seconds).saturating_sub(since(*start, now));
    if left.is_zero() {
        return Verdict::failure(
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        );
    }
    plan.again(left);
    None
}

/// A job with failed indexes runs all others first, unless too many have failed.
fn failed_indexes(spec: &JobSpec, tally: &Tally) -> Option<Verdict> {
    let failed = tally.given_up.len();
    let most = spec.max_failed_indexes.map(i64::from);
    if most.is_some_and(|most| failed as i64 > most) {
        return Verdict::failure(
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
        );
    }
    let all_ended = failed + tally.done.len() >= completions(spec) as usize;
    if failed > 0 && all_ended {
        return Verdict::failure("FailedIndexes", "Job has failed indexes");
    }
    None
}

/// Whether enough has succeeded, with `left` pods active after this look.
pub(super) fn success(spec: &JobSpec, tally: &Tally, left: usize) -> Option<Verdict> {
    let enough = match spec.completions {
        Some(completions) => tally.succeeded() >= usize::try_from(completions).unwrap_or(0),
        // Without a number any success means that the work queue is empty; all must end.
        None => tally.succeeded() > 0,
    };
    (enough && left == 0).then(|| Verdict {
        success: true,
        reason: "CompletionsReached".into(),
        message: "Reached expected number of succeeded pods".into(),
    })
}

/// Restarts of containers in place, which are the retries where the template's policy is
/// `OnFailure`; they fail the job when they reach the limit.
fn restarts(spec: &JobSpec, all: &[&Arc<Pod>]) -> usize {
    let template = spec.template.spec.as_ref();
    if template.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
        return 0;
    }
    let live = all
        .iter()
        .filter(|p| matches!(phase(p), "Running" | "Pending"));
    live.filter_map(|pod| pod.status.as_ref())
        .flat_map(|s| [&s.init_container_statuses, &s.container_statuses])
        .flatten()
        .flatten()
        .map(|c| usize::try_from(c.restart_count).unwrap_or(0))
        .sum()
}

/// Notes what is decided and, once it is so, that the end is reached.
pub(super) fn conclude(
    spec: &JobSpec,
    status: &mut JobStatus,
    verdict: &Verdict,
    all: &[&Arc<Pod>],
    now: Timestamp,
    plan: &mut Plan,
) {
    let Verdict {
        success,
        reason,
        message,
    } = verdict;
    let (decided, reached) = match success {
        true => ("SuccessCriteriaMet", "Complete"),
        false => ("FailureTarget", "Failed"),
    };
    set(status, decided, true, reason, message, now);
    let uncounted = status.uncounted_terminated_pods.as_ref();
    let settled = uncounted.is_none_or(|u| u.succeeded.is_none() && u.failed.is_none());
    let held = all.iter().any(|p| has_finalizer(p) || !is_finished(p));
    if !settled || held {
        return;
    }
    set(status, reached, true, reason, message, now);
    if !success {
        plan.warn(known_reason(reason), message.clone());
        return;
    }
    status.completion_time = Some(Time(now));
    if spec
        .completions
        .is_some_and(|wanted| status.succeeded.unwrap_or(0) > wanted)
    {
        let message = "Too many succeeded pods running after completion count reached";
        plan.warn("TooManySucceededPods", message);
    }
    plan.note("Completed", "Job completed");
}

fn known_reason(reason: &str) -> &'static str {
    match reason {
        "DeadlineExceeded" => "DeadlineExceeded",
        "FailedIndexes" => "FailedIndexes",
        "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
        _ => "BackoffLimitExceeded",
    }
}

/// Says that the job is suspended.
pub(super) fn suspend(status: &mut JobStatus, now: Timestamp, plan: &mut Plan) {
    if set(
        status,
        "Suspended",
        true,
        "JobSuspended",
        "Job suspended",
        now,
    ) {
        plan.note("Suspended", "Job suspended");
    }
}

/// Says that the job is not suspended any more; its deadline counts from here.
pub(super) fn resume(status: &mut JobStatus, now: Timestamp, plan: &mut Plan) {
    let suspended = status.conditions.iter().flatten();
    if !suspended.clone().any(|c| c.type_ == "Suspended") {
        return;
    }
    if set(status, "Suspended", false, "JobResumed", "Job resumed", now) {
        status.start_time = Some(Time(now));
        plan.note("Resumed", "Job resumed");
    }
}

/// Sets a condition; whether that changed whether it holds.
pub(super) fn set(
    status: &mut JobStatus,
    type_: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let value = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().position(|c| c.type_ == type_);
    if old.is_some_and(|at| conditions[at].status == value) {
        return false;
    }
    let condition = JobCondition {
        type_: type_.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match old {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    true
}

/// An ended job lets its pods go and, if it has a time to live, goes itself when that is over.
pub(super) fn after(
    job: &Job,
    spec: &JobSpec,
    ended: Timestamp,
    view: &View,
    now: Timestamp,
    plan: &mut Plan,
) {
    for pod in view.pods.owned_by(job) {
        if has_finalizer(pod) {
            plan.writes.push(release(pod));
        }
    }
    let Some(ttl) = spec.ttl_seconds_after_finished else {
        return;
    };
    let left = seconds_of(ttl.into()).saturating_sub(since(ended, now));
    if left.is_zero() {
        plan.writes.push(Write::delete(target(job)));
    } else {
        plan.again(left);
    }
}

/// When the job ended, if it has.
pub(super) fn ended_at(status: &JobStatus) -> Option<Timestamp> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let end = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    // Without a time it ended so long ago that nobody knows when.
    let at = end.last_transition_time.as_ref().map(|Time(t)| *t);
    Some(at.unwrap_or(Timestamp::UNIX_EPOCH))
}

fn seconds_of(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

pub(super) fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// When a pod ended, as near as its status tells.
pub(super) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|s| s.container_statuses.as_deref());
    let by_containers = containers
        .unwrap_or_default()
        .iter()
        .filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .map(|Time(t)| *t)
        .max();
    let by_condition = || {
        let conditions = status.and_then(|s| s.conditions.as_deref());
        let unready = conditions.unwrap_or_default().iter();
        let mut unready = unready.filter(|c| c.type_ == "Ready" && c.status == "False");
        unready
            .next()?
            .last_transition_time
            .as_ref()
            .map(|Time(t)| *t)
    };
    by_containers
        .or_else(by_condition)
        .or_else(|| owner::created(pod))
}
