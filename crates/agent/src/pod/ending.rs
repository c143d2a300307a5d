//! How containers are ended.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container as ContainerSpec;

use super::observed::later;
use super::sync::Plan;
use super::{Action, Cause, Live, PodView as _, Role, Stage, Stopping};

/// What a container has at least once it was told to end, as the kubelet gives it: also where its time was over before
/// its turn came, and where its pod was deleted by force.
pub(crate) const LEAST_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// How long a container's end waits for the cluster to hear that the pod is not ready any more. It is part of its grace
/// period, so that an end that cannot be told of takes no longer.
const TELL: SignedDuration = SignedDuration::from_secs(1);

impl Plan<'_> {
    /// Ends everything that runs, sidecars when all others and the sidecars after them have ended. What guests do then may
    /// need the API: they keep what is renewed for them.
    pub(super) fn end(&mut self, cause: Cause, by: Timestamp) {
        let pod = self.pod;
        for (role, spec) in pod.all_containers() {
            let name = &spec.name;
            let has_turn = role != Role::Sidecar || self.has_turn(name);
            self.stop(
                spec,
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
        spec: &ContainerSpec,
        cause: Cause,
        by: Timestamp,
        why: String,
        has_turn: bool,
    ) {
        let c = self.observed.get(&spec.name);
        let Some(Live::Running {
            stopping, attempt, ..
        }) = c.map(|c| &c.live)
        else {
            return;
        };
        let mut next = stopping.unwrap_or(Stopping {
            cause,
            since: self.now,
            by,
            stage: Stage::Begun,
        });
        if stopping.is_none() || by < next.by {
            next.by = by;
            self.push(Action::BeginStop {
                container: spec.name.clone(),
                cause,
                by,
                message: stopping.is_none().then_some(why),
            });
        }
        self.go_on(spec, *attempt, next, has_turn);
    }

    /// Takes the next step to an instance's end.
    pub(super) fn go_on(
        &mut self,
        spec: &ContainerSpec,
        attempt: u32,
        stopping: Stopping,
        has_turn: bool,
    ) {
        let by = stopping.by;
        let is_late = by <= self.now;
        let told_by = later(stopping.since, TELL).min(by);
        match stopping.stage {
            Stage::Begun if self.has_endpoints() && told_by > self.now => self.again_at(told_by),
            Stage::Begun if self.take_leave(spec, attempt, stopping) => self.again_at(by),
            Stage::Begun | Stage::Waits if has_turn || is_late => self.tell(spec, by, None),
            // A hook that takes longer is left to itself.
            Stage::Leaves if is_late => self.tell(spec, by, None),
            Stage::Begun | Stage::Leaves | Stage::Waits => self.again_at(by),
            Stage::Told(until) if until <= self.now => self.push(Action::KillContainer {
                container: spec.name.clone(),
            }),
            Stage::Told(until) => self.tell(spec, by, Some(until)),
            Stage::Killed => {}
        }
    }

    /// Whether connections may still come to the pod that its end would cut off. Of its deletion the API has told itself,
    /// and who is evicted would go on taking what others need.
    fn has_endpoints(&self) -> bool {
        let is_known = self.observed.gone || self.pod.deletion_grace().is_some();
        let verdict = self.observed.verdict.as_ref();
        let is_evicted = verdict.is_some_and(|verdict| verdict.grace.is_some());
        self.observed.held_ready && !is_known && !is_evicted
    }

    /// Tells a container to end, unless it was told to be gone by then.
    fn tell(&mut self, spec: &ContainerSpec, by: Timestamp, told: Option<Timestamp>) {
        let until = by.max(later(self.now, LEAST_GRACE));
        if let Some(told) = told.filter(|told| *told <= until) {
            return self.again_at(told);
        }
        self.push(Action::StopContainer {
            container: spec.name.clone(),
            grace: until.duration_since(self.now),
            until,
        });
        self.again_at(until);
    }
}
