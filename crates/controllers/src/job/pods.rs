//! Which pods a job needs, and which it has too many of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::count::Tally;
use super::end::{finished_at, since};
use super::retries;
use super::{
    FINALIZER, INDEX, INDEX_FAILURES, asked_index, completions, index_of, is_indexed,
    replaces_failed_only,
};
use crate::owner::{self, controller_ref, to_value};
use crate::plan::{Plan, Write};
use crate::pods::{from_template, is_active, is_finished, phase, removal_rank};

/// Delay before the first replacement of a failed pod; it doubles up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Most pods that one reconciliation makes or removes.
const BURST: usize = 500;

/// What is to become of a job's pods.
#[derive(Default)]
pub(super) struct Changes<'a> {
    pub(super) creates: Vec<Write>,
    pub(super) removes: Vec<&'a Arc<Pod>>,
}

/// Chooses which pods to make or which surplus ones to end, never both at once.
pub(super) fn manage<'a>(
    job: &Job,
    spec: &JobSpec,
    all: &[&'a Arc<Pod>],
    active: &[&'a Arc<Pod>],
    tally: &Tally,
    now: Timestamp,
    plan: &mut Plan,
) -> Changes<'a> {
    let mut changes = Changes::default();
    if spec.suspend == Some(true) {
        changes.removes = active.iter().copied().take(BURST).collect();
        return changes;
    }
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let wanted = match spec.completions {
        Some(_) => (completions(spec) as usize)
            .saturating_sub(tally.succeeded() + tally.given_up.len())
            .min(parallelism),
        // Once one has succeeded no more are made; those that run may go on.
        None if tally.succeeded() > 0 => active.len(),
        None => parallelism,
    };
    changes.removes = surplus(spec, active, tally, wanted);
    if !changes.removes.is_empty() {
        return changes;
    }
    let terminating = all.iter().filter(|p| !is_active(p) && !is_finished(p));
    let waited_for = match replaces_failed_only(spec) {
        true => terminating.count(),
        false => 0,
    };
    let missing = wanted.saturating_sub(active.len() + waited_for).min(BURST);
    if missing == 0 {
        return changes;
    }
    if retries::limit(spec).is_none()
        && let Some(wait) = common_backoff(all, now)
    {
        plan.again(wait);
        return changes;
    }
    changes.creates = match is_indexed(spec) {
        true => free_indexes(spec, all, tally, now, plan)
            .take(missing)
            .map(|index| create(job, spec, Some(index), tally))
            .collect(),
        false => (0..missing)
            .map(|_| create(job, spec, None, tally))
            .collect(),
    };
    changes
}

/// The indexes that want a pod and may have one now.
fn free_indexes(
    spec: &JobSpec,
    all: &[&Arc<Pod>],
    tally: &Tally,
    now: Timestamp,
    plan: &mut Plan,
) -> impl Iterator<Item = u32> {
    let holds = |p: &Pod| is_active(p) || (replaces_failed_only(spec) && !is_finished(p));
    let taken: BTreeSet<u32> = all
        .iter()
        .filter(|p| holds(p))
        .filter_map(|p| index_of(p))
        .collect();
    // An index that waits for its next attempt holds up no other.
    let mut waiting = BTreeSet::new();
    for (index, retry) in &tally.retries {
        if let Some(wait) = retry.wait(now) {
            plan.again(wait);
            waiting.insert(*index);
        }
    }
    (0..completions(spec)).filter(move |index| {
        tally.is_open(*index) && !taken.contains(index) && !waiting.contains(index)
    })
}

/// The active pods that are too many: of indexes that are done, twice there or no longer asked
/// for, and then those that are furthest from an end.
fn surplus<'a>(
    spec: &JobSpec,
    active: &[&'a Arc<Pod>],
    tally: &Tally,
    wanted: usize,
) -> Vec<&'a Arc<Pod>> {
    let mut ranked = active.to_vec();
    ranked.sort_by_cached_key(|pod| removal_rank(pod, 0));
    let mut removes = Vec::new();
    if is_indexed(spec) {
        let mut seen = BTreeSet::new();
        // From the other end, so that of two the one that is further along stays.
        let mut kept = Vec::new();
        for pod in ranked.into_iter().rev() {
            let asked = asked_index(spec, pod).filter(|i| tally.is_open(*i));
            match asked.is_some_and(|i| seen.insert(i)) {
                true => kept.push(pod),
                false => removes.push(pod),
            }
        }
        kept.reverse();
        ranked = kept;
    }
    let too_many = ranked.len().saturating_sub(wanted);
    removes.extend(ranked.into_iter().take(too_many));
    removes.truncate(BURST);
    removes
}

/// How long to wait before failed pods are replaced: by the failures since the last success.
fn common_backoff(all: &[&Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let ends = |how: &'static str| {
        all.iter()
            .filter(move |p| phase(p) == how)
            .filter_map(|p| finished_at(p))
    };
    let success = ends("Succeeded").max();
    let failures: Vec<Timestamp> = ends("Failed")
        .filter(|at| success.is_none_or(|s| *at > s))
        .collect();
    let last = failures.iter().max()?;
    backoff(
        u32::try_from(failures.len()).unwrap_or(u32::MAX),
        *last,
        now,
    )
}

/// How long to wait after so many failures, the last of them at `last`.
pub(super) fn backoff(failures: u32, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let doublings = failures.saturating_sub(1).min(16);
    let delay = (BACKOFF * 2u32.pow(doublings)).min(MAX_BACKOFF);
    let left = delay.saturating_sub(since(last, now));
    (!left.is_zero()).then_some(left)
}

fn create(job: &Job, spec: &JobSpec, index: Option<u32>, tally: &Tally) -> Write {
    let owner::Named { namespace, name } = owner::named(job);
    let prefix = match index {
        Some(index) => format!("{name}-{index}-"),
        None => format!("{name}-"),
    };
    let mut pod = from_template(&spec.template, namespace, &prefix, controller_ref(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if finalizers.iter().all(|f| f != FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    if let Some(index) = index {
        let meta = &mut pod.metadata;
        for map in [&mut meta.labels, &mut meta.annotations] {
            map.get_or_insert_default()
                .insert(INDEX.into(), index.to_string());
        }
        if retries::limit(spec).is_some() {
            let failures = tally.retries.get(&index).map_or(0, |retry| retry.failures);
            meta.annotations
                .get_or_insert_default()
                .insert(INDEX_FAILURES.into(), failures.to_string());
        }
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
    let init = spec.init_containers.iter_mut().flatten();
    for container in init.chain(&mut spec.containers) {
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
