//! What the ended pods of a job amount to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::retries::{self, Attempt, Retry};
use super::{asked_index, completions, has_finalizer, is_indexed, replaces_failed_only};
use crate::indexes::Indexes;
use crate::owner;
use crate::pods::{is_finished, phase};
use crate::replica_set::some_if;
use crate::view::View;

/// The counts of a job's status on their way from one picture to the next.
pub(super) struct Tally {
    /// Settled: their finalizers are gone.
    succeeded: i32,
    failed: i32,
    /// Taken up, but their finalizers are there still.
    new_succeeded: Vec<String>,
    new_failed: Vec<String>,
    /// Indexed jobs: the indexes that are done.
    pub(super) done: Indexes,
    /// Indexes that failed more often than one may.
    pub(super) given_up: Indexes,
    /// Indexes that failed and are to be tried again, whose last pods wait for their replacement.
    pub(super) retries: BTreeMap<u32, Retry>,
    indexed: bool,
    /// Uids of the pods whose end is known and that nothing waits for.
    ended: BTreeSet<String>,
}

impl Tally {
    /// Moves ended pods on their way: those in `uncountedTerminatedPods` whose finalizer is gone
    /// become counts, new ones come in.
    pub(super) fn count(
        spec: &JobSpec,
        all: &[&Arc<Pod>],
        view: &View,
        status: &JobStatus,
    ) -> Tally {
        let held: BTreeSet<&str> = all
            .iter()
            .filter(|p| has_finalizer(p))
            .map(|p| owner::uid(&***p))
            .collect();
        let before = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let settle = |uids: Option<Vec<String>>, total: Option<i32>| -> (Vec<String>, i32) {
            let (kept, gone): (Vec<_>, Vec<_>) = uids
                .unwrap_or_default()
                .into_iter()
                .partition(|uid| held.contains(uid.as_str()));
            let gone = i32::try_from(gone.len()).unwrap_or(i32::MAX);
            (kept, total.unwrap_or(0).saturating_add(gone))
        };
        let (new_succeeded, succeeded) = settle(before.succeeded, status.succeeded);
        let (new_failed, failed) = settle(before.failed, status.failed);
        let known = |indexes: &Option<String>| {
            Indexes::parse(indexes.as_deref().unwrap_or_default(), completions(spec))
        };
        let ended = all.iter().filter(|p| ended(spec, p, view));
        let mut tally = Tally {
            succeeded,
            failed,
            new_succeeded,
            new_failed,
            done: known(&status.completed_indexes),
            given_up: known(&status.failed_indexes),
            retries: BTreeMap::new(),
            indexed: is_indexed(spec),
            ended: ended.map(|p| owner::uid(&***p).to_owned()).collect(),
        };
        let (succeeded, others): (Vec<&Pod>, Vec<&Pod>) = all
            .iter()
            .map(|pod| &***pod)
            .filter(|pod| has_finalizer(pod))
            .partition(|pod| phase(pod) == "Succeeded");
        for pod in succeeded {
            tally.take_up(spec, pod);
        }
        if let Some(limit) = retries::limit(spec) {
            tally.judge_indexes(spec, limit, all);
        }
        for pod in others {
            if tally.has_ended(pod) {
                tally.take_up(spec, pod);
            }
        }
        tally
    }

    /// Finds the indexes that have failed for good, and those that are to be tried again.
    fn judge_indexes(&mut self, spec: &JobSpec, limit: u32, all: &[&Arc<Pod>]) {
        let newest = Attempt::newest(
            spec,
            all,
            |index| self.is_open(index),
            |pod| self.has_ended(pod),
        );
        for (index, attempt) in newest {
            if attempt.exceeds(limit) {
                self.given_up.insert(index);
            } else if attempt.failed {
                self.ended.remove(owner::uid(attempt.pod));
                self.retries.insert(index, attempt.retry());
            }
        }
    }

    /// Takes up also what has not ended: the job has failed.
    pub(super) fn count_rest(&mut self, spec: &JobSpec, all: &[&Arc<Pod>]) {
        for pod in all.iter().filter(|pod| has_finalizer(pod)) {
            self.take_up(spec, pod);
        }
    }

    fn take_up(&mut self, spec: &JobSpec, pod: &Pod) {
        let uid = owner::uid(pod).to_owned();
        // A pod that was counted as failed when its deletion began may succeed yet.
        if self.new_failed.contains(&uid) || self.new_succeeded.contains(&uid) {
            return;
        }
        let index = asked_index(spec, pod);
        if self.indexed && index.is_none() {
            // Of an index that the job no longer has.
            return;
        }
        match phase(pod) {
            // An index that is done is counted by being done; its pod needs no count.
            "Succeeded" if self.indexed => {
                if let Some(index) = index.filter(|i| !self.given_up.contains(*i)) {
                    self.done.insert(index);
                }
            }
            "Succeeded" => self.new_succeeded.push(uid),
            _ => self.new_failed.push(uid),
        }
    }

    /// Whether an index is neither done nor given up.
    pub(super) fn is_open(&self, index: u32) -> bool {
        !self.done.contains(index) && !self.given_up.contains(index)
    }

    pub(super) fn has_ended(&self, pod: &Pod) -> bool {
        self.ended.contains(owner::uid(pod))
    }

    /// Successes, settled or not.
    pub(super) fn succeeded(&self) -> usize {
        match self.indexed {
            true => self.done.len(),
            false => positive(self.succeeded) + self.new_succeeded.len(),
        }
    }

    /// Failures, settled or not.
    pub(super) fn failed(&self) -> usize {
        positive(self.failed) + self.new_failed.len() + self.retries.len()
    }

    /// Puts the counts into `status`.
    pub(super) fn report(&self, spec: &JobSpec, status: &mut JobStatus) {
        let listed = |uids: &[String]| (!uids.is_empty()).then(|| uids.to_vec());
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: listed(&self.new_succeeded),
            failed: listed(&self.new_failed),
        });
        status.failed = some_if(positive(self.failed));
        if is_indexed(spec) {
            status.succeeded = some_if(self.done.len());
            status.completed_indexes = (!self.done.is_empty()).then(|| self.done.to_string());
            status.failed_indexes = (!self.given_up.is_empty()).then(|| self.given_up.to_string());
        } else {
            status.succeeded = some_if(positive(self.succeeded));
        }
    }
}

fn positive(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}

/// Finished, or being deleted: such a pod counts as failed at once and is replaced, unless the job
/// says that only failed pods are. Then its node reports its end, if there is one to do so.
fn ended(spec: &JobSpec, pod: &Pod, view: &View) -> bool {
    if is_finished(pod) {
        return true;
    }
    let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
    let unheard = || node.is_none_or(|n| view.nodes.get(&client::Key::new("", n)).is_none());
    owner::is_deleting(pod) && (!replaces_failed_only(spec) || unheard())
}
