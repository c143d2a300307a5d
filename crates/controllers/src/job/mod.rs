//! Job: run pods to completion.
//!
//! Every pod carries a finalizer until its end has been counted, so that none is counted twice or
//! lost, whoever deletes it meanwhile: its uid goes into `uncountedTerminatedPods`, then its
//! finalizer goes, then the uid turns into a count. (The algorithm is Kubernetes' "job tracking
//! with finalizers".) The status is therefore always the first write of a plan.

mod count;
mod end;
mod pods;
mod retries;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::owner::{self, target};
use crate::plan::{Plan, Write};
use crate::pods::{is_active, is_finished, is_ready, without_finalizer};
use crate::replica_set::some_if;
use crate::view::View;
use count::Tally;
use end::Verdict;
use pods::Changes;

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// On a pod: how often its index had failed before it.
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// The value of `spec.managedBy` that means this controller.
const OURSELVES: &str = "kubernetes.io/job-controller";

/// Brings the pods and the status of the job at `key` up to date.
pub(crate) fn reconcile(key: &Key, view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    match view.jobs.get(key) {
        Some(job) if !owner::is_deleting(&**job) => run(job, view, now, &mut plan),
        _ => release_orphans(key, view, &mut plan),
    }
    plan
}

/// A job that is gone, or going, has nobody left to count its pods. Those of a namesake that came
/// since are left alone.
fn release_orphans(key: &Key, view: &View, plan: &mut Plan) {
    let going = view.jobs.get(key).map(|job| owner::uid(&**job));
    for pod in view.pods.owned_by_name("Job", key) {
        let of = job_uid(pod);
        if has_finalizer(pod) && (going.is_none() || of.is_none() || of == going) {
            plan.writes.push(release(pod));
        }
    }
}

fn run(job: &Job, view: &View, now: Timestamp, plan: &mut Plan) {
    let Some(spec) = job.spec.as_ref() else {
        return;
    };
    if spec.managed_by.as_deref().is_some_and(|m| m != OURSELVES) {
        return;
    }
    release_namesakes(job, view, plan);
    let old = job.status.clone().unwrap_or_default();
    if let Some(ended) = end::ended_at(&old) {
        end::after(job, spec, ended, view, now, plan);
        return;
    }
    if let Some(field) = unsupported(spec) {
        hold(job, old, field, now, plan);
        return;
    }
    let all: Vec<&Arc<Pod>> = view.pods.owned_by(job).collect();
    let active: Vec<&Arc<Pod>> = all.iter().copied().filter(|p| is_active(p)).collect();
    let mut status = old.clone();
    if spec.suspend != Some(true) {
        end::resume(&mut status, now, plan);
        status.start_time.get_or_insert(Time(now));
    }
    let mut tally = Tally::count(spec, &all, view, &status);
    let mut changes = Changes::default();
    let mut verdict = end::verdict(spec, &status, &tally, &all, now, plan);
    if verdict.is_none() {
        changes = pods::manage(job, spec, &all, &active, &tally, now, plan);
        let left = active.len() + changes.creates.len() - changes.removes.len();
        verdict = end::success(spec, &tally, left);
    } else {
        changes.removes.clone_from(&active);
    }
    match &verdict {
        // What still runs when the job has failed counts as failed: nobody waits for its outcome.
        Some(verdict) if !verdict.success => tally.count_rest(spec, &all),
        Some(_) => {}
        None if spec.suspend == Some(true) => end::suspend(&mut status, now, plan),
        None => {}
    }
    tally.report(spec, &mut status);
    report_pods(&all, &active, &changes, &mut status);
    if let Some(verdict) = &verdict {
        end::conclude(spec, &mut status, verdict, &all, now, plan);
    }
    write(job, old, status, &all, &tally, verdict, changes, plan);
}

/// Pods of a job that had this name before, or that were taken from this one, must be let go by
/// somebody.
fn release_namesakes(job: &Job, view: &View, plan: &mut Plan) {
    let uid = owner::uid(job);
    for pod in view.pods.owned_by_name("Job", &owner::key_of(job)) {
        if job_uid(pod) != Some(uid) && has_finalizer(pod) {
            plan.writes.push(release(pod));
        }
    }
}

/// A field of the spec that asks for what is not there yet.
fn unsupported(spec: &JobSpec) -> Option<&'static str> {
    [
        ("podFailurePolicy", spec.pod_failure_policy.is_some()),
        ("successPolicy", spec.success_policy.is_some()),
    ]
    .into_iter()
    .find_map(|(field, asked)| asked.then_some(field))
}

/// Says why a job does not run, where `kubectl get` and `describe` show it.
fn hold(job: &Job, mut status: JobStatus, field: &str, now: Timestamp, plan: &mut Plan) {
    let message = format!("spec.{field} is not supported yet");
    if end::set(&mut status, "Suspended", true, "Unsupported", &message, now) {
        plan.warn("Unsupported", message);
        push_status(job, &status, plan);
    }
}

/// The numbers of pods as they are once the plan is carried out.
fn report_pods(
    all: &[&Arc<Pod>],
    active: &[&Arc<Pod>],
    changes: &Changes<'_>,
    status: &mut JobStatus,
) {
    let count = |pods: &[&Arc<Pod>], of: fn(&Pod) -> bool| pods.iter().filter(|p| of(p)).count();
    let (removes, creates) = (&changes.removes, &changes.creates);
    status.active = some_if(active.len() + creates.len() - removes.len());
    status.ready = Some((count(active, is_ready) - count(removes, is_ready)) as i32);
    let terminating = count(all, |p| owner::is_deleting(p) && !is_finished(p));
    status.terminating = Some((terminating + removes.len()) as i32);
}

#[expect(
    clippy::too_many_arguments,
    reason = "the one place where all that was decided becomes writes, in the order that counts"
)]
fn write(
    job: &Job,
    old: JobStatus,
    status: JobStatus,
    all: &[&Arc<Pod>],
    tally: &Tally,
    verdict: Option<Verdict>,
    changes: Changes<'_>,
    plan: &mut Plan,
) {
    if status != old {
        push_status(job, &status, plan);
    }
    // Only what the status above has taken up may go; a surplus pod goes uncounted, so that
    // ending it is no failure.
    for pod in all.iter().filter(|pod| has_finalizer(pod)) {
        let surplus = || {
            changes
                .removes
                .iter()
                .any(|p| owner::uid(&***p) == owner::uid(&***pod))
        };
        if verdict.is_some() || tally.has_ended(pod) || surplus() {
            plan.writes.push(release(pod));
        }
    }
    for pod in changes.removes {
        plan.writes.push(Write::delete(target(&**pod)));
    }
    plan.writes.extend(changes.creates);
}

fn push_status(job: &Job, status: &JobStatus, plan: &mut Plan) {
    let write = Write::status(job, job.status.as_ref(), status);
    plan.writes.push(write);
}

fn release(pod: &Pod) -> Write {
    Write::Patch {
        target: target(pod),
        patch: without_finalizer(&pod.metadata, FINALIZER),
    }
}

fn has_finalizer(pod: &Pod) -> bool {
    let mut finalizers = pod.metadata.finalizers.iter().flatten();
    finalizers.any(|f| f == FINALIZER)
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// How many indexes there are.
fn completions(spec: &JobSpec) -> u32 {
    spec.completions.unwrap_or(0).max(0).unsigned_abs()
}

fn index_of(pod: &Pod) -> Option<u32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// The index of a pod, if the job has such an index.
fn asked_index(spec: &JobSpec, pod: &Pod) -> Option<u32> {
    index_of(pod).filter(|index| *index < completions(spec))
}

/// Whether a pod is replaced only when it has failed, not already when its deletion begins.
fn replaces_failed_only(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

fn job_uid(pod: &Pod) -> Option<&str> {
    let job = owner::controller_of(&pod.metadata).filter(|o| o.kind == "Job")?;
    Some(&job.uid)
}

/// The name of the job to which an object still owes its count although that job no longer
/// controls it, as when it was deleted without its pods.
pub(crate) fn counted_for(meta: &ObjectMeta) -> Option<&str> {
    let counted = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
    let name = meta.labels.as_ref()?.get(JOB_NAME)?;
    let controlled = owner::controller_of(meta).is_some_and(|o| o.kind == "Job");
    (counted && !controlled).then_some(name)
}
