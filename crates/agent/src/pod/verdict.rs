//! That a pod has failed as a whole, and what that means for its containers.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::{Deletion, Observed, PodView as _};

/// What an evicted pod's containers have, as the kubelet gives it.
const EVICTION_GRACE: SignedDuration = SignedDuration::from_secs(1);

/// Why a pod failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// How long its containers have to end, if that is not what its spec says.
    #[serde(default)]
    pub grace: Option<SignedDuration>,
    /// It ended for the node's sake, not for anything of its own.
    #[serde(default)]
    pub disrupted: bool,
    /// The node did not take it in: nothing of it was ever begun.
    #[serde(default)]
    pub turned_away: bool,
}

impl Verdict {
    /// One that leaves its containers the time that they ask for.
    pub fn new(reason: &str, message: String) -> Self {
        Self {
            reason: reason.to_owned(),
            message,
            grace: None,
            disrupted: false,
            turned_away: false,
        }
    }
}

impl Observed {
    /// Notes that the node does not take the pod in.
    pub fn turn_away(&mut self, reason: &str, message: String) {
        self.verdict = Some(Verdict {
            turned_away: true,
            ..Verdict::new(reason, message)
        });
    }

    /// The pod, or all of the node's together, have taken too much.
    pub(super) fn evicted(&mut self, message: String, disrupted: bool, now: Timestamp) {
        if self.verdict.is_some() {
            return;
        }
        self.verdict = Some(Verdict {
            grace: Some(EVICTION_GRACE),
            disrupted,
            ..Verdict::new("Evicted", message)
        });
        // One that is deleted already ends sooner now.
        let soon = Deletion {
            since: now,
            grace: EVICTION_GRACE,
        };
        if let Some(deletion) = &mut self.deletion
            && soon.deadline() < deletion.deadline()
        {
            *deletion = soon;
        }
    }

    /// How long the containers of a pod that has come to its end have.
    pub(super) fn grace(&self, pod: &Pod) -> SignedDuration {
        let given = self.verdict.as_ref().and_then(|verdict| verdict.grace);
        given.map_or_else(|| pod.grace(), |given| given.min(pod.grace()))
    }
}
