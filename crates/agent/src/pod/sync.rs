//! The decider: what to do next for a pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};

use super::observed::later;
use super::phase::phase;
use super::problem::{PULL_FAILED, backs_off_at, is_backing_off};
use super::{
    Action, Cause, Container, EventKind, Host, Observed, PodView as _, Sandbox, Step, probe,
    refusal,
};

/// What is to be done for a pod now.
///
/// Carrying the plan out means [`Observed::begin`] for each action, then doing it. Applied to what that leaves, `sync`
/// returns nothing but the same `Requeue`: it never asks twice.
pub fn sync(pod: &Pod, observed: &Observed, host: &Host, now: Timestamp) -> Vec<Action> {
    let mut plan = Plan {
        pod,
        observed,
        now,
        round: observed.round,
        actions: Vec::new(),
        again: None,
    };
    plan.remove_ended();
    if observed.gone {
        plan.end(Cause::Pod, now);
        if plan.at_rest() {
            plan.release();
            if observed.sandbox.is_released() {
                plan.push(Action::Forget);
            }
        }
    } else if let Some(grace) = pod.deletion_grace() {
        let full = later(now, grace);
        let by = observed.deletion.map_or(full, |d| d.deadline().min(full));
        plan.end(Cause::Pod, by);
        if plan.at_rest() {
            plan.release();
            // Whoever waits for the object to be gone may take what the pod had.
            if observed.sandbox.is_released() && !observed.deleting {
                plan.push(Action::DeletePod);
            }
        }
    } else if let Some(grace) = observed.shutdown {
        plan.end(Cause::Agent, later(now, grace.min(pod.grace())));
    } else if matches!(phase(pod, observed), "Succeeded" | "Failed") {
        plan.end(Cause::Pod, later(now, observed.grace(pod)));
        if plan.at_rest() {
            plan.release();
        }
    } else if plan.past_deadline() {
        // It has failed, even where it was never run.
    } else if let Some(message) = refusal(pod, host) {
        if !observed.refused {
            plan.push(Action::Refuse { message });
        }
    } else {
        plan.run();
    }
    plan.finish()
}

/// What was found to be done so far.
pub(super) struct Plan<'a> {
    pub(super) pod: &'a Pod,
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    /// The round of the pod that is under way.
    pub(super) round: u32,
    actions: Vec<Action>,
    again: Option<Timestamp>,
}

impl Plan<'_> {
    pub(super) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn again_at(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |a| a.min(at)));
    }

    fn finish(mut self) -> Vec<Action> {
        if let Some(at) = self.again {
            self.actions.push(Action::Requeue(at));
        }
        self.actions
    }

    fn past_deadline(&mut self) -> bool {
        let spec = self.pod.pod_spec();
        let (Some(secs), Some(start)) = (
            spec.and_then(|s| s.active_deadline_seconds),
            self.observed.start_time,
        ) else {
            return false;
        };
        let Ok(deadline) = start.checked_add(SignedDuration::from_secs(secs)) else {
            return false;
        };
        if self.now < deadline {
            self.again_at(deadline);
            return false;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.push(Action::Event {
            kind: EventKind::Normal,
            reason: "DeadlineExceeded",
            message: message.clone(),
        });
        self.push(Action::Fail {
            reason: "DeadlineExceeded".to_owned(),
            message,
        });
        self.end(Cause::Pod, later(self.now, self.pod.grace()));
        if self.at_rest() {
            self.release();
        }
        true
    }

    pub(super) fn sandbox(&mut self) -> bool {
        match &self.observed.sandbox {
            Sandbox::Ready(_) => return true,
            Sandbox::Preparing(_) => {}
            Sandbox::Failed(p) if p.retry_at > self.now => self.again_at(p.retry_at),
            Sandbox::Absent | Sandbox::Failed(_) | Sandbox::Released(_) => {
                self.push(Action::PrepareSandbox)
            }
        }
        false
    }

    pub(super) fn renew(&mut self) {
        match self.observed.renewal.at(self.now) {
            Some(at) if at <= self.now => self.push(Action::RenewVolumes),
            Some(at) => self.again_at(at),
            None => {}
        }
    }

    pub(super) fn volumes(&mut self) -> bool {
        match &self.observed.volumes {
            Step::Ready => {
                self.renew();
                return true;
            }
            Step::Doing(_) => {}
            Step::Failed(p) if p.retry_at > self.now => {
                self.again_at(p.retry_at);
                if p.reason == PULL_FAILED && !is_backing_off(p, self.now) {
                    self.again_at(backs_off_at(p));
                }
            }
            Step::Absent | Step::Failed(_) => self.push(Action::MountVolumes),
        }
        false
    }

    pub(super) fn probe(&mut self, spec: &ContainerSpec, c: &Container, ending: bool) {
        let (actions, again) = probe::due(self.pod, spec, c, ending, self.now);
        self.actions.extend(actions);
        if let Some(at) = again {
            self.again_at(at);
        }
    }

    fn remove_ended(&mut self) {
        for (name, c) in &self.observed.containers {
            if let Some(ended) = c.ended.as_ref().filter(|e| !e.removed) {
                self.actions.push(Action::RemoveContainer {
                    container: name.clone(),
                    attempt: ended.attempt,
                });
            }
        }
    }

    /// Nothing of the pod runs, and nothing that was ordered could still come to life.
    fn at_rest(&self) -> bool {
        !self.observed.any_live()
            && !matches!(self.observed.volumes, Step::Doing(_))
            && !self.observed.renewal.is_doing()
            && !matches!(self.observed.sandbox, Sandbox::Preparing(_))
    }

    fn release(&mut self) {
        if !self.observed.released && !self.observed.sandbox.is_released() {
            self.push(Action::Release);
        }
    }
}
