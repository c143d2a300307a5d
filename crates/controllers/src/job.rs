//! Job: run pods to completion.
//!
//! Every pod carries a finalizer until its end has been counted, so that none is counted twice or
//! lost, whoever deletes it meanwhile: its uid goes into `uncountedTerminatedPods`, then its
//! finalizer goes, then the uid turns into a count. (The algorithm is Kubernetes' "job tracking
//! with finalizers".)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::indexes::Indexes;
use crate::owner::{self, controller_ref, target, to_value};
use crate::plan::{Plan, Write};
use crate::pods;
use crate::replica_set::some_if;
use crate::view::View;

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Delay before the first replacement of a failed pod; it doubles up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Most pods that one reconciliation makes.
const BURST: usize = 500;

/// Brings the pods and the status of the job at `key` up to date.
pub(crate) fn reconcile(key: &Key, view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    match view.jobs.get(key) {
        Some(job) if !owner::is_deleting(&**job) => run(job, view, now, &mut plan),
        _ => release_orphans(key, view, &mut plan),
    }
    plan
}

/// A job that is gone, or going, has nobody left to count its pods.
fn release_orphans(key: &Key, view: &View, plan: &mut Plan) {
    for pod in view.pods.in_namespace(&key.namespace) {
        let ours = owner::controller_of(&pod.metadata)
            .is_some_and(|o| o.kind == "Job" && o.name == key.name)
            && owner::controller_of(&pod.metadata).is_none_or(|o| {
                view.jobs
                    .get(key)
                    .is_none_or(|job| owner::uid(&**job) == o.uid)
            });
        if ours && has_finalizer(pod) {
            plan.writes.push(release(pod));
        }
    }
}

fn run(job: &Job, view: &View, now: Timestamp, plan: &mut Plan) {
    let Some(spec) = job.spec.as_ref() else {
        return;
    };
    let old = job.status.clone().unwrap_or_default();
    if let Some(ended) = ended_at(&old) {
        after_end(job, spec, ended, view, now, plan);
        return;
    }
    let all: Vec<&Arc<Pod>> = view.pods.owned_by(owner::uid(job)).collect();
    let mut status = old.clone();
    if status.start_time.is_none() && spec.suspend != Some(true) {
        status.start_time = Some(Time(now));
    }
    let counted = count(spec, &all, &mut status);
    let verdict = judge(spec, &status, &counted, restarts(spec, &all), now, plan);
    let active: Vec<&Arc<Pod>> = all.iter().copied().filter(|p| pods::is_active(p)).collect();
    let mut creates = Vec::new();
    let mut removes: Vec<&Arc<Pod>> = Vec::new();
    match &verdict {
        Verdict::GoOn if spec.suspend == Some(true) => removes.clone_from(&active),
        Verdict::GoOn => manage(
            job,
            spec,
            &all,
            &active,
            &counted,
            now,
            &mut creates,
            &mut removes,
            plan,
        ),
        Verdict::Complete | Verdict::Failed(..) => removes.clone_from(&active),
    }
    let left = active.len() - removes.len() + creates.len();
    finish(&mut status, &verdict, left, &all, now, plan);
    status.active = some_if(left);
    status.ready = Some(active.iter().filter(|p| pods::is_ready(p)).count() as i32);
    status.terminating = Some(
        all.iter()
            .filter(|p| owner::is_deleting(&****p) && !pods::is_finished(p))
            .count() as i32,
    );
    if status != old {
        plan.writes.push(Write::Status {
            object: to_value(&Job {
                status: Some(status),
                ..job.clone()
            }),
        });
    }
    // Only what the status above has taken up may go.
    for pod in all
        .iter()
        .filter(|pod| has_finalizer(pod) && has_ended(pod))
    {
        plan.writes.push(release(pod));
    }
    for pod in removes {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        plan.note("SuccessfulDelete", format!("Deleted pod: {name}"));
        plan.writes.push(Write::delete(target(&**pod)));
    }
    plan.writes.append(&mut creates);
}

/// What the pods that ended amount to.
struct Counted {
    succeeded: usize,
    failed: usize,
    /// Indexed jobs: the indexes that are done.
    done: Indexes,
    /// When the newest failure was, for the back-off.
    last_failure: Option<Timestamp>,
}

/// Moves ended pods through `uncountedTerminatedPods` into the counts of `status`.
fn count(spec: &JobSpec, all: &[&Arc<Pod>], status: &mut JobStatus) -> Counted {
    let indexed = is_indexed(spec);
    let held: BTreeSet<&str> = all
        .iter()
        .filter(|p| has_finalizer(p))
        .map(|p| owner::uid(&***p))
        .collect();
    let uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    let mut done = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
    let settle = |uids: Option<Vec<String>>, total: &mut Option<i32>| -> Vec<String> {
        let (kept, gone): (Vec<_>, Vec<_>) = uids
            .unwrap_or_default()
            .into_iter()
            .partition(|uid| held.contains(uid.as_str()));
        if !gone.is_empty() {
            *total = Some(total.unwrap_or(0) + gone.len() as i32);
        }
        kept
    };
    // An index that succeeded is in `done`; its pods need no count of their own.
    let mut succeeded = settle(uncounted.succeeded, &mut status.succeeded);
    let mut failed = settle(uncounted.failed, &mut status.failed);
    for pod in all.iter().filter(|p| has_finalizer(p) && has_ended(p)) {
        let uid = owner::uid(&***pod).to_owned();
        if pods::phase(pod) == "Succeeded" {
            if indexed {
                done.extend(index_of(pod));
            } else if !succeeded.contains(&uid) {
                succeeded.push(uid);
            }
        } else if !failed.contains(&uid) {
            failed.push(uid);
        }
    }
    if indexed {
        status.succeeded = some_if(done.len());
        status.completed_indexes = (!done.is_empty()).then(|| done.to_string());
    }
    let last_failure = all
        .iter()
        .filter(|p| pods::phase(p) == "Failed")
        .filter_map(|p| finished_at(p))
        .max();
    let counted = Counted {
        succeeded: status.succeeded.unwrap_or(0) as usize + succeeded.len(),
        failed: status.failed.unwrap_or(0) as usize + failed.len(),
        done,
        last_failure,
    };
    if !succeeded.is_empty() || !failed.is_empty() {
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: (!succeeded.is_empty()).then_some(succeeded),
            failed: (!failed.is_empty()).then_some(failed),
        });
    } else {
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods::default());
    }
    counted
}

enum Verdict {
    GoOn,
    Complete,
    Failed(&'static str, String),
}

fn judge(
    spec: &JobSpec,
    status: &JobStatus,
    counted: &Counted,
    restarts: usize,
    now: Timestamp,
    plan: &mut Plan,
) -> Verdict {
    let limit = spec.backoff_limit.unwrap_or(6).max(0) as usize;
    // With OnFailure a container that starts again is the retry; Kubernetes fails such a job when
    // the restarts reach the limit.
    let restarted_too_often = restarts > 0 && restarts >= limit;
    if counted.failed > limit || restarted_too_often {
        return Verdict::Failed(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit".into(),
        );
    }
    if let (Some(seconds), Some(Time(start))) = (spec.active_deadline_seconds, &status.start_time) {
        let left = Duration::from_secs(seconds.max(0) as u64).saturating_sub(since(*start, now));
        if left.is_zero() {
            return Verdict::Failed(
                "DeadlineExceeded",
                "Job was active longer than specified deadline".into(),
            );
        }
        plan.again(left);
    }
    let enough = match spec.completions {
        Some(completions) => counted.succeeded >= completions.max(0) as usize,
        // Without a number any success means that the work queue is empty; all must end.
        None => counted.succeeded > 0 && status.active.unwrap_or(0) == 0,
    };
    if enough {
        Verdict::Complete
    } else {
        Verdict::GoOn
    }
}

/// Restarts of containers in place, where the template's policy is `OnFailure`.
fn restarts(spec: &JobSpec, all: &[&Arc<Pod>]) -> usize {
    let policy = spec
        .template
        .spec
        .as_ref()
        .and_then(|s| s.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return 0;
    }
    let statuses = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        let both = status
            .init_container_statuses
            .into_iter()
            .chain(status.container_statuses);
        both.flatten()
            .map(|c| c.restart_count.max(0) as usize)
            .sum::<usize>()
    };
    all.iter()
        .filter(|p| matches!(pods::phase(p), "Running" | "Pending"))
        .map(|p| statuses(p))
        .sum()
}

/// Chooses which pods to make and which surplus ones to end.
#[expect(
    clippy::too_many_arguments,
    reason = "the two outputs are lists that the caller orders among other writes"
)]
fn manage<'a>(
    job: &Job,
    spec: &JobSpec,
    all: &[&'a Arc<Pod>],
    active: &[&'a Arc<Pod>],
    counted: &Counted,
    now: Timestamp,
    creates: &mut Vec<Write>,
    removes: &mut Vec<&'a Arc<Pod>>,
    plan: &mut Plan,
) {
    let parallelism = spec.parallelism.unwrap_or(1).max(0) as usize;
    let wanted = match spec.completions {
        Some(completions) => (completions.max(0) as usize)
            .saturating_sub(counted.succeeded)
            .min(parallelism),
        None if counted.succeeded > 0 => active.len().min(parallelism),
        None => parallelism,
    };
    if active.len() > wanted {
        let mut surplus: Vec<&Arc<Pod>> = active.to_vec();
        surplus.sort_by_cached_key(|pod| pods::removal_rank(pod, 0));
        removes.extend(surplus.into_iter().take(active.len() - wanted));
        return;
    }
    let missing = (wanted - active.len()).min(BURST);
    if missing == 0 {
        return;
    }
    if let Some(wait) = backoff(counted, now) {
        plan.again(wait);
        return;
    }
    if !is_indexed(spec) {
        creates.extend((0..missing).map(|_| create(job, spec, None)));
        return;
    }
    let completions = spec.completions.unwrap_or(0).max(0) as u32;
    // A pod on its way out still holds its index, or two would run at once.
    let taken: BTreeMap<u32, ()> = all
        .iter()
        .filter(|p| !pods::is_finished(p))
        .filter_map(|p| index_of(p))
        .map(|index| (index, ()))
        .collect();
    let free = (0..completions).filter(|i| !counted.done.contains(*i) && !taken.contains_key(i));
    creates.extend(
        free.take(missing)
            .map(|index| create(job, spec, Some(index))),
    );
}

/// How long to wait before a failed pod is replaced.
fn backoff(counted: &Counted, now: Timestamp) -> Option<Duration> {
    let last = counted.last_failure?;
    let doublings = u32::try_from(counted.failed.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(16);
    let delay = (BACKOFF * 2u32.pow(doublings)).min(MAX_BACKOFF);
    let left = delay.saturating_sub(since(last, now));
    (!left.is_zero()).then_some(left)
}

fn create(job: &Job, spec: &JobSpec, index: Option<u32>) -> Write {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let prefix = match index {
        Some(index) => format!("{name}-{index}-"),
        None => format!("{name}-"),
    };
    let mut pod = pods::from_template(&spec.template, namespace, &prefix, controller_ref(job));
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(FINALIZER.to_owned());
    if let Some(index) = index {
        pod.metadata
            .labels
            .get_or_insert_default()
            .insert(INDEX.into(), index.to_string());
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(INDEX.into(), index.to_string());
        give_index(&mut pod, &format!("{name}-{index}"));
    }
    Write::Create {
        namespace: namespace.to_owned(),
        object: to_value(&pod),
    }
}

/// Lets every container read its index, and gives the pod its stable host name.
fn give_index(pod: &mut Pod, hostname: &str) {
    let Some(spec) = pod.spec.as_mut() else {
        return;
    };
    spec.hostname.get_or_insert_with(|| hostname.to_owned());
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers)
    {
        let env = container.env.get_or_insert_default();
        if env.iter().all(|e| e.name != "JOB_COMPLETION_INDEX") {
            env.push(EnvVar {
                name: "JOB_COMPLETION_INDEX".into(),
                value: None,
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        api_version: Some("v1".into()),
                        field_path: format!("metadata.labels['{INDEX}']"),
                    }),
                    ..EnvVarSource::default()
                }),
            });
        }
    }
}

/// Sets the conditions that tell the end: first that it is decided, then, once no pod runs and
/// every end is counted, that it is reached.
fn finish(
    status: &mut JobStatus,
    verdict: &Verdict,
    left: usize,
    all: &[&Arc<Pod>],
    now: Timestamp,
    plan: &mut Plan,
) {
    let (target, end, reason, message) = match verdict {
        Verdict::GoOn => return,
        Verdict::Complete => (
            "SuccessCriteriaMet",
            "Complete",
            "CompletionsReached",
            "Reached expected number of succeeded pods".to_owned(),
        ),
        Verdict::Failed(reason, message) => ("FailureTarget", "Failed", *reason, message.clone()),
    };
    let condition = |type_: &str| JobCondition {
        type_: type_.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.clone()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().all(|c| c.type_ != target) {
        conditions.push(condition(target));
    }
    let settled = status
        .uncounted_terminated_pods
        .as_ref()
        .is_none_or(|u| u.succeeded.is_none() && u.failed.is_none());
    let running = all.iter().any(|p| !pods::is_finished(p));
    if left == 0 && settled && !running {
        conditions.push(condition(end));
        if end == "Complete" {
            status.completion_time = Some(Time(now));
            plan.note("Completed", "Job completed");
        } else {
            plan.warn(reason_of(verdict), message);
        }
    }
}

fn reason_of(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Failed(reason, _) => reason,
        Verdict::GoOn | Verdict::Complete => "Completed",
    }
}

/// An ended job lets its pods go and, if it has a time to live, goes itself when that is over.
fn after_end(
    job: &Job,
    spec: &JobSpec,
    ended: Timestamp,
    view: &View,
    now: Timestamp,
    plan: &mut Plan,
) {
    for pod in view.pods.owned_by(owner::uid(job)) {
        if has_finalizer(pod) && has_ended(pod) {
            plan.writes.push(release(pod));
        }
    }
    let Some(ttl) = spec.ttl_seconds_after_finished else {
        return;
    };
    let left = Duration::from_secs(ttl.max(0) as u64).saturating_sub(since(ended, now));
    if left.is_zero() {
        plan.writes.push(Write::delete(target(job)));
    } else {
        plan.again(left);
    }
}

fn ended_at(status: &JobStatus) -> Option<Timestamp> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let end = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    end.last_transition_time.as_ref().map(|Time(t)| *t)
}

fn release(pod: &Pod) -> Write {
    Write::Patch {
        target: target(pod),
        subresource: None,
        patch: pods::without_finalizer(&pod.metadata, FINALIZER),
    }
}

fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == FINALIZER)
}

/// Finished, or deleted before it could finish: its node reports an end before it lets go, so a
/// pod that was never placed is the only one for which no end will come.
fn has_ended(pod: &Pod) -> bool {
    let placed = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    pods::is_finished(pod) || (owner::is_deleting(pod) && !placed)
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn index_of(pod: &Pod) -> Option<u32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    statuses
        .iter()
        .filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .map(|Time(t)| *t)
        .max()
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// Which job a pod belongs to, for the driver: also one whose job is gone.
pub(crate) fn job_of(pod: &Pod) -> Option<Key> {
    let namespace = pod.metadata.namespace.as_deref()?;
    let by_owner = owner::controller_of(&pod.metadata)
        .filter(|o| o.kind == "Job")
        .map(|o| o.name.as_str());
    let by_label = || {
        pod.metadata
            .labels
            .as_ref()?
            .get(JOB_NAME)
            .map(String::as_str)
    };
    Some(Key::new(namespace, by_owner.or_else(by_label)?))
}
