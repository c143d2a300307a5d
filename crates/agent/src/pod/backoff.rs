//! Kubernetes' waiting times: for containers that keep ending, for images that cannot be had, for what is missing.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::{Container, PodView as _};

/// The first wait of a crash loop and of an image that cannot be pulled.
const FIRST: SignedDuration = SignedDuration::from_secs(10);
/// The longest wait of both.
const LONGEST: SignedDuration = SignedDuration::from_secs(300);
/// A container that ran this long has left its crash loop.
const FORGIVEN: SignedDuration = SignedDuration::from_secs(600);
/// The first wait for a missing object (a ConfigMap, a Secret, a key).
const FIRST_MISSING: SignedDuration = SignedDuration::from_millis(500);
/// The longest wait for a missing object: somebody may be watching the pod, having just created it.
const LONGEST_MISSING: SignedDuration = SignedDuration::from_secs(10);

/// How a container's restarts are spaced: 10 s, doubling up to 5 min, forgotten once it ran for 10 min.
///
/// As in client-go's `flowcontrol.Backoff`: the first restart is immediate, each one sets what the next has to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// What has to lie between the container's end and its next start.
    pub delay: SignedDuration,
    /// When the delay was last raised, that is, the last restart.
    pub since: Timestamp,
}

impl Backoff {
    /// When a container that ended at `finished` may start again; `None` if at once.
    pub fn until(this: Option<&Self>, finished: Timestamp) -> Option<Timestamp> {
        let this = this.filter(|b| !b.expired(finished))?;
        finished.checked_add(this.delay).ok()
    }

    /// What holds after a restart at `now` of a container that ended at `finished`.
    pub fn next(this: Option<&Self>, finished: Timestamp, now: Timestamp) -> Self {
        let delay = match this.filter(|b| !b.expired(finished)) {
            None => FIRST,
            Some(b) => doubled(b.delay, LONGEST),
        };
        Self { delay, since: now }
    }

    fn expired(&self, finished: Timestamp) -> bool {
        finished.duration_since(self.since) > FORGIVEN
    }
}

/// The wait after the `failures`-th failed pull in a row, or the `failures`-th failed start.
pub(super) fn pull_delay(failures: u32) -> SignedDuration {
    exponential(FIRST, LONGEST, failures)
}

/// The wait after the `failures`-th look at an object that is not there.
pub(super) fn missing_delay(failures: u32) -> SignedDuration {
    exponential(FIRST_MISSING, LONGEST_MISSING, failures)
}

fn exponential(first: SignedDuration, longest: SignedDuration, failures: u32) -> SignedDuration {
    let mut delay = first;
    for _ in 1..failures.max(1) {
        if delay >= longest {
            break;
        }
        delay = doubled(delay, longest);
    }
    delay
}

fn doubled(delay: SignedDuration, longest: SignedDuration) -> SignedDuration {
    delay.saturating_add(delay).min(longest)
}

/// `back-off 10s restarting failed container=x pod=y_ns(uid)`: the kubelet's words for a crash loop.
pub(super) fn crash_loop_message(pod: &Pod, container: &str, c: &Container) -> String {
    let delay = c.backoff.as_ref().map_or(SignedDuration::ZERO, |b| b.delay);
    format!(
        "back-off {} restarting failed container={container} pod={}",
        go_duration(delay),
        pod.label()
    )
}

/// A duration of whole seconds as Go prints it (`10s`, `1m20s`, `5m0s`), since users' tools match on it.
pub fn go_duration(d: SignedDuration) -> String {
    let s = d.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn a_crash_loop_doubles_to_five_minutes_and_is_forgiven_after_ten() {
        let mut backoff: Option<Backoff> = None;
        let mut finished = at(1000);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let start = Backoff::until(backoff.as_ref(), finished).unwrap_or(finished);
            waits.push(start.duration_since(finished).as_secs());
            backoff = Some(Backoff::next(backoff.as_ref(), finished, start));
            finished = start + SignedDuration::from_secs(1);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);

        let late = backoff.as_ref().unwrap().since + SignedDuration::from_secs(601);
        assert_eq!(Backoff::until(backoff.as_ref(), late), None);
        assert_eq!(Backoff::next(backoff.as_ref(), late, late).delay, FIRST);
    }

    #[test]
    fn pulls_and_missing_objects_wait_longer_each_time() {
        let secs: Vec<_> = (1..8).map(|n| pull_delay(n).as_secs()).collect();
        assert_eq!(secs, [10, 20, 40, 80, 160, 300, 300]);
        let millis: Vec<_> = (1..8).map(|n| missing_delay(n).as_millis()).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 10000, 10000]);
        assert_eq!(pull_delay(u32::MAX), LONGEST);
    }

    #[test]
    fn durations_read_as_in_go() {
        for (secs, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")] {
            assert_eq!(go_duration(SignedDuration::from_secs(secs)), text);
        }
    }
}
