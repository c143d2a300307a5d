//! How containers are ended.

use jiff::{SignedDuration, Timestamp};

use super::observed::later;
use super::sync::Plan;
use super::{Action, Cause, Live, PodView as _, Role, Stage};

/// What a container has at least once it was told to end, as the kubelet gives it: also where its time was over before
/// its turn came, and where its pod was deleted by force.
const LEAST_GRACE: SignedDuration = SignedDuration::from_secs(2);

impl Plan<'_> {
    /// Ends everything that runs, sidecars when all others and the sidecars after them have ended. What guests do then may
    /// need the API: they keep what is renewed for them.
    pub(super) fn end(&mut self, cause: Cause, by: Timestamp) {
        let pod = self.pod;
        for (role, spec) in pod.all_containers() {
            let name = &spec.name;
            let has_turn = role != Role::Sidecar || self.has_turn(name);
            self.stop(
                name,
                cause,
                by,
                format!("Stopping container {name}"),
                has_turn,
            );
            if let Some(c) = self.observed.get(name)
                && !self.observed.gone
            {
                self.probe(spec, c, true);
            }
        }
        if self.observed.any_live() && !self.observed.gone {
            self.renew();
        }
    }

    /// Whether all have ended that a sidecar serves to their end: the main containers, and the sidecars after it.
    fn has_turn(&self, sidecar: &str) -> bool {
        let after = self.pod.all_containers();
        let mut after = after.skip_while(|(_, spec)| spec.name != sidecar).skip(1);
        !after.any(|(role, spec)| {
            let c = self.observed.get(&spec.name);
            role != Role::Init && c.is_some_and(|c| c.live != Live::Idle)
        })
    }

    /// Ends a container, if it is not to be gone by then anyway; only once it has its turn, while time is left.
    pub(super) fn stop(
        &mut self,
        name: &str,
        cause: Cause,
        by: Timestamp,
        why: String,
        has_turn: bool,
    ) {
        let Some(Live::Running { stopping, .. }) = self.observed.get(name).map(|c| &c.live) else {
            return;
        };
        let known = stopping.filter(|s| s.by <= by);
        let (by, stage) = known.map_or_else(
            || (by, stopping.map_or(Stage::Waits, |s| s.stage)),
            |s| (s.by, s.stage),
        );
        if known.is_none() {
            self.push(Action::BeginStop {
                container: name.to_owned(),
                cause,
                by,
                message: stopping.is_none().then_some(why),
            });
        }
        self.go_on(name, by, stage, has_turn);
    }

    /// Takes the next step to a container's end.
    pub(super) fn go_on(&mut self, name: &str, by: Timestamp, stage: Stage, has_turn: bool) {
        let least = by.max(later(self.now, LEAST_GRACE));
        let told = match stage {
            Stage::Killed => return,
            Stage::Told(until) if until <= self.now => {
                return self.push(Action::KillContainer {
                    container: name.to_owned(),
                });
            }
            Stage::Told(until) => until,
            Stage::Waits if has_turn || by <= self.now => Timestamp::MAX,
            Stage::Waits => return self.again_at(by),
        };
        if least < told {
            self.push(Action::StopContainer {
                container: name.to_owned(),
                grace: least.duration_since(self.now),
                until: least,
            });
        }
        self.again_at(least.min(told));
    }
}
