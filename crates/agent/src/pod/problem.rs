//! Tries that failed, and when the next is due.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::backoff::missing_delay;
use super::observed::later;

/// A failed pull is shown as `ErrImagePull` for so long before it becomes `ImagePullBackOff`.
const SHOWN_FAILURE: SignedDuration = SignedDuration::from_secs(2);

/// The reason of a pull that may succeed later.
pub(super) const PULL_FAILED: &str = "ErrImagePull";

/// Something that has to be made once.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Step {
    /// Not begun.
    #[default]
    Absent,
    /// Begun; what went wrong before, if anything.
    Doing(Option<Problem>),
    /// Done.
    Ready,
    /// The last try failed.
    Failed(Problem),
}

impl Step {
    /// Why the last try failed, until one succeeds.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Failed(problem) | Self::Doing(Some(problem)) => Some(problem),
            Self::Absent | Self::Doing(None) | Self::Ready => None,
        }
    }
}

/// A failed try, and when the next one is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Kubernetes' CamelCase reason.
    pub reason: String,
    /// What went wrong, for people.
    pub message: String,
    /// How many tries in a row failed.
    pub failures: u32,
    /// When it failed last.
    pub at: Timestamp,
    /// When to try again.
    pub retry_at: Timestamp,
}

/// When a failed pull begins to be shown as one that waits.
pub(super) fn backs_off_at(pull: &Problem) -> Timestamp {
    pull.at.checked_add(SHOWN_FAILURE).unwrap_or(pull.retry_at)
}

/// Whether a failed pull is shown as one that waits for the next try.
pub(super) fn is_backing_off(pull: &Problem, now: Timestamp) -> bool {
    pull.reason == PULL_FAILED && backs_off_at(pull) <= now
}

pub(super) fn missing(
    before: Option<&Problem>,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Problem {
    failed(before, reason, message, missing_delay, now)
}

pub(super) fn failed(
    before: Option<&Problem>,
    reason: &str,
    message: String,
    delay: fn(u32) -> SignedDuration,
    now: Timestamp,
) -> Problem {
    let failures = before
        .filter(|p| p.reason == reason)
        .map_or(1, |p| p.failures.saturating_add(1));
    let retry_at = later(now, delay(failures));
    Problem {
        reason: reason.to_owned(),
        message,
        failures,
        at: now,
        retry_at,
    }
}
