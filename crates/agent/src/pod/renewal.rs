//! When what volumes show is to be made anew while the pod runs: tokens before they end, labels when they change.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::PodView as _;
use super::backoff::pull_delay;
use crate::volumes;

/// What is known of the term of a pod's volumes. The agent finds it anew after its restart: it makes all volumes again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Renewal {
    /// When the first of them is due, or the next try after one that failed.
    due: Option<Timestamp>,
    /// It is under way.
    doing: bool,
    /// How many tries in a row have failed.
    failures: u32,
    /// A hash of the labels and annotations, if a volume follows them.
    follows: Option<u64>,
    /// These have changed since the volumes were begun.
    stale: bool,
}

impl Renewal {
    /// When to begin; `None` if that is not to be yet, or never.
    pub(super) fn at(&self, now: Timestamp) -> Option<Timestamp> {
        match self.doing {
            true => None,
            false if self.stale => Some(now),
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
        self.stale |= follows != self.follows;
        self.follows = follows;
    }

    /// All volumes, or those that are due, are being made of the pod as it was seen last.
    pub(super) fn begin(&mut self, doing: bool) {
        self.doing = doing;
        self.stale = false;
    }

    /// They have been made, and the first is due then.
    pub(super) fn done(&mut self, due: Option<Timestamp>) {
        self.doing = false;
        self.failures = 0;
        self.due = due;
    }

    /// They could not be made: what they showed stays, and is tried again.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.doing = false;
        self.failures = self.failures.saturating_add(1);
        self.due = now.checked_add(pull_delay(self.failures)).ok();
    }

    /// There are no volumes any more.
    pub(super) fn over(&mut self) {
        *self = Self {
            follows: self.follows,
            ..Self::default()
        };
    }
}
