//! Failures counted by index, where a job has a `backoffLimitPerIndex`.
//!
//! Every pod carries how often its index had failed before it. The last failed pod of an index
//! keeps its finalizer until its replacement is there and carries the count on: were it let go,
//! deleting it would make the index begin anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;

use super::end::finished_at;
use super::pods::backoff;
use super::{INDEX_FAILURES, asked_index, has_finalizer, is_indexed};

/// How often one index may fail and be tried again; `None` where only all failures together count.
pub(super) fn limit(spec: &JobSpec) -> Option<u32> {
    let limit = spec.backoff_limit_per_index.filter(|_| is_indexed(spec))?;
    Some(limit.max(0).unsigned_abs())
}

/// The newest pod of an index that is neither done nor given up.
pub(super) struct Attempt<'a> {
    pub(super) pod: &'a Pod,
    /// Failures of the index before this pod.
    failures: u32,
    /// Has failed, so that the next attempt is due.
    pub(super) failed: bool,
}

impl<'a> Attempt<'a> {
    /// The newest attempt of each index for which `counts` holds. Pods that were let go are no
    /// attempts: they were surplus.
    pub(super) fn newest(
        spec: &JobSpec,
        all: &[&'a Arc<Pod>],
        counts: impl Fn(u32) -> bool,
        failed: impl Fn(&Pod) -> bool,
    ) -> BTreeMap<u32, Attempt<'a>> {
        let mut newest: BTreeMap<u32, Attempt<'a>> = BTreeMap::new();
        for pod in all.iter().filter(|pod| has_finalizer(pod)) {
            let Some(index) = asked_index(spec, pod).filter(|index| counts(*index)) else {
                continue;
            };
            let attempt = Attempt {
                pod,
                failures: failures_before(pod),
                failed: failed(pod),
            };
            // Of two equal ones, that which runs is the newer.
            let rank = |a: &Attempt<'_>| (a.failures, !a.failed);
            if newest.get(&index).is_none_or(|n| rank(n) < rank(&attempt)) {
                newest.insert(index, attempt);
            }
        }
        newest
    }

    /// Whether this was the last attempt.
    pub(super) fn exceeds(&self, limit: u32) -> bool {
        self.failed && self.failures >= limit
    }

    pub(super) fn retry(&self) -> Retry {
        Retry {
            failures: self.failures.saturating_add(1),
            last: finished_at(self.pod),
        }
    }
}

/// What the next pod of an index that has failed must know.
pub(super) struct Retry {
    /// Failures of the index so far.
    pub(super) failures: u32,
    last: Option<Timestamp>,
}

impl Retry {
    /// How long the index has to wait.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Duration> {
        backoff(self.failures, self.last?, now)
    }
}

fn failures_before(pod: &Pod) -> u32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|a| a.get(INDEX_FAILURES)?.parse().ok())
        .unwrap_or(0)
}
