//! When what volumes show is to be made anew while the pod runs: tokens before they end, labels and objects when they
//! change.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::PodView as _;
use super::backoff::pull_delay;
use super::observed::later;
use crate::volumes;

/// What is known of the term of a pod's volumes. The agent finds it anew after its restart: it makes all volumes again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Renewal {
    /// When the first of them is due, or the next try after one that failed, whichever comes first.
    due: Option<Timestamp>,
    /// It is under way.
    doing: bool,
    /// How many tries in a row have failed.
    failures: u32,
    /// A hash of the labels and annotations, if a volume follows them.
    follows: Option<u64>,
    /// These have changed since the volumes were begun.
    relabelled: bool,
    /// Volumes that show an object which has changed since they were begun.
    stale: BTreeSet<String>,
    /// Such that are being made anew, or that could not be and are tried again with whatever is due next.
    behind: BTreeSet<String>,
}

impl Renewal {
    /// When to begin; `None` if that is not to be yet, or never.
    pub(super) fn at(&self, now: Timestamp) -> Option<Timestamp> {
        match self.doing {
            true => None,
            false if self.relabelled || !self.stale.is_empty() => Some(now),
            false => self.due,
        }
    }

    /// Whether it is under way.
    pub(super) fn is_doing(&self) -> bool {
        self.doing
    }

    /// Takes in the pod's object.
    pub(super) fn sees(&mut self, pod: &Pod) {
        let follows = volumes::follow_metadata(pod.volumes()).then(|| {
            let mut hasher = DefaultHasher::new();
            (&pod.metadata.labels, &pod.metadata.annotations).hash(&mut hasher);
            hasher.finish()
        });
        self.relabelled |= follows != self.follows;
        self.follows = follows;
    }

    /// What these volumes show has changed.
    pub(super) fn stale(&mut self, volumes: BTreeSet<String>) {
        self.stale.extend(volumes);
    }

    /// The volumes that are made anew because what they show has changed.
    pub fn behind(&self) -> &BTreeSet<String> {
        &self.behind
    }

    /// All volumes, or those that are due or stale, are being made of the pod as it was seen last, and of objects that
    /// are read from now on.
    pub(super) fn begin(&mut self, doing: bool) {
        self.doing = doing;
        self.relabelled = false;
        self.behind.append(&mut self.stale);
        if !doing {
            self.behind.clear();
        }
    }

    /// They have been made, and the first is due then.
    pub(super) fn done(&mut self, due: Option<Timestamp>) {
        self.doing = false;
        self.failures = 0;
        self.behind.clear();
        self.due = due;
    }

    /// Some could not be made: what they showed stays. That is tried again, where it helps to `retry`, and by then
    /// whatever else is `due`.
    pub(super) fn failed(
        &mut self,
        unmade: &BTreeSet<String>,
        retry: bool,
        due: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.doing = false;
        self.behind.retain(|volume| unmade.contains(volume));
        self.failures = match retry {
            true => self.failures.saturating_add(1),
            false => 0,
        };
        let again = retry.then(|| later(now, pull_delay(self.failures)));
        self.due = again.into_iter().chain(due).min();
    }

    /// There are no volumes any more.
    pub(super) fn over(&mut self) {
        *self = Self {
            follows: self.follows,
            ..Self::default()
        };
    }
}
