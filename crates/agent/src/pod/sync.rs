//! The decider: what to do next for a pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};

use super::phase::{phase, restarts};
use super::{
    Backoff, Container, Host, Image, Live, Observed, PodView as _, ProbeKind, Problem, Sandbox,
    Step, Terms, probe, refusal,
};

/// A failed pull is shown as `ErrImagePull` for so long before it becomes `ImagePullBackOff`.
const SHOWN_FAILURE: SignedDuration = SignedDuration::from_secs(2);

/// The reason of a pull that may succeed later.
const PULL_FAILED: &str = "ErrImagePull";

fn backs_off_at(pull: &Problem) -> Timestamp {
    pull.at.checked_add(SHOWN_FAILURE).unwrap_or(pull.retry_at)
}

/// Whether a failed pull is shown as one that waits for the next try.
pub(super) fn is_backing_off(pull: &Problem, now: Timestamp) -> bool {
    pull.reason == PULL_FAILED && backs_off_at(pull) <= now
}

/// What a container has whose pod was deleted by force, as the kubelet gives it.
const FORCED: SignedDuration = SignedDuration::from_secs(2);

/// One thing to do for a pod. The driver may carry out all actions of a plan at the same time.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Give the pod an address and a directory.
    PrepareSandbox,
    /// Make all its volumes.
    MountVolumes,
    /// Make anew what of its volumes is due, or shows what the pod was.
    RenewVolumes,
    /// Have a container's module on this node, as its pull policy says.
    EnsureImage {
        /// The container's name.
        container: String,
    },
    /// Say that the next pull waits.
    AnnounceImageBackOff {
        /// The container's name.
        container: String,
        /// Its image.
        image: String,
    },
    /// Say that the next start waits.
    AnnounceBackOff {
        /// The container's name.
        container: String,
        /// When it will be started.
        until: Timestamp,
    },
    /// Make a writable root and start an instance.
    StartContainer {
        /// The container's name.
        container: String,
        /// Which instance, from 0.
        attempt: u32,
    },
    /// Tell a container to end; called again if it has less time than it was told.
    StopContainer {
        /// The container's name.
        container: String,
        /// How long it has.
        grace: SignedDuration,
        /// When that is over.
        deadline: Timestamp,
        /// The event's message.
        why: String,
        /// It is to be started again with another image.
        changed: bool,
    },
    /// Its time is over.
    KillContainer {
        /// The container's name.
        container: String,
    },
    /// Ask a running container how it is.
    Probe {
        /// The container's name.
        container: String,
        /// Which instance, from 0.
        attempt: u32,
        /// What it is asked for.
        kind: ProbeKind,
        /// By what the results are judged, and when the next one is due.
        terms: Terms,
        /// It may still be starting: somebody to listen is waited for, rather than for the next probe.
        awaits: bool,
    },
    /// Remove what an ended instance leaves behind, except the logs that can still be asked for.
    RemoveContainer {
        /// The container's name.
        container: String,
        /// Which instance.
        attempt: u32,
    },
    /// The pod as a whole has failed.
    Fail {
        /// `status.reason`.
        reason: String,
        /// `status.message`.
        message: String,
    },
    /// Say once that the pod asks for something that carob does not have.
    Refuse {
        /// Which field, and why.
        message: String,
    },
    /// Give back volumes and address.
    Release,
    /// Report the last status and remove the Pod object.
    DeletePod,
    /// Remove the pod's directory, with its logs: nobody can ask for it any more.
    Forget,
    /// Record an event on the pod.
    Event {
        /// Normal or Warning.
        kind: EventKind,
        /// CamelCase.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// Look again then, if nothing happens before.
    Requeue(Timestamp),
}

/// An event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// As expected.
    Normal,
    /// Not as expected.
    Warning,
}

/// What is to be done for a pod now.
///
/// Carrying the plan out means [`Observed::begin`] for each action, then doing it. Applied to what that leaves, `sync`
/// returns nothing but the same `Requeue`: it never asks twice.
pub fn sync(pod: &Pod, observed: &Observed, host: &Host, now: Timestamp) -> Vec<Action> {
    let mut plan = Plan {
        pod,
        observed,
        now,
        actions: Vec::new(),
        again: None,
    };
    plan.remove_ended();
    if observed.gone {
        plan.end(FORCED, None);
        if plan.at_rest() {
            plan.release();
            if observed.sandbox_idle() {
                plan.push(Action::Forget);
            }
        }
    } else if let Some(grace) = pod.deletion_grace() {
        plan.end(grace, observed.deletion.map(|d| d.deadline()));
        if plan.at_rest() {
            plan.release();
            // Whoever waits for the object to be gone may take what the pod had.
            if observed.sandbox_idle() && !observed.deleting {
                plan.push(Action::DeletePod);
            }
        }
    } else if let Some(grace) = observed.shutdown {
        plan.end(grace.min(pod.grace()), None);
    } else if matches!(phase(pod, observed), "Succeeded" | "Failed") {
        plan.end(pod.grace(), None);
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

struct Plan<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    now: Timestamp,
    actions: Vec<Action>,
    again: Option<Timestamp>,
}

impl Plan<'_> {
    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn again_at(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |a| a.min(at)));
    }

    fn finish(mut self) -> Vec<Action> {
        if let Some(at) = self.again {
            self.actions.push(Action::Requeue(at));
        }
        self.actions
    }

    fn run(&mut self) {
        let sandbox = self.sandbox();
        let volumes = self.volumes();
        if !(sandbox && volumes) {
            return;
        }
        for c in self.pod.init_containers() {
            let done = self.observed.get(&c.name).is_some_and(|o| {
                o.live == Live::Idle && o.ended.as_ref().is_some_and(|e| e.exit_code == 0)
            });
            if !done {
                return self.advance(c, true);
            }
        }
        for c in self.pod.containers() {
            self.advance(c, false);
        }
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
        self.end(self.pod.grace(), None);
        if self.at_rest() {
            self.release();
        }
        true
    }

    fn sandbox(&mut self) -> bool {
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

    fn renew(&mut self) {
        match self.observed.renewal.at(self.now) {
            Some(at) if at <= self.now => self.push(Action::RenewVolumes),
            Some(at) => self.again_at(at),
            None => {}
        }
    }

    fn volumes(&mut self) -> bool {
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

    /// Brings one container nearer to where it should be.
    fn advance(&mut self, spec: &ContainerSpec, init: bool) {
        let fresh = Container::default();
        let c = self.observed.get(&spec.name).unwrap_or(&fresh);
        match &c.live {
            Live::Starting => {}
            Live::Running {
                stop_by: Some(by),
                killed,
                ..
            } => {
                self.watch_end(&spec.name, *by, *killed);
                self.probe(spec, c, true);
            }
            Live::Running { image, .. } => {
                if Some(image) != spec.image.as_ref() {
                    let why = format!(
                        "Container {} definition changed, will be restarted",
                        spec.name
                    );
                    self.stop(&spec.name, self.pod.grace(), None, why, true);
                    self.probe(spec, c, true);
                } else if let Some(kind) = c.probes.condemned() {
                    let (grace, why) = probe::sentence(self.pod, spec, kind);
                    self.stop(&spec.name, grace, None, why, false);
                    self.probe(spec, c, true);
                } else {
                    self.probe(spec, c, false);
                }
            }
            Live::Idle => {
                let Some(ended) = &c.ended else {
                    return self.bring_up(spec, c);
                };
                if !restarts(self.pod, init, ended) {
                    return;
                }
                let until = Backoff::until(c.backoff.as_ref(), ended.finished_at)
                    .filter(|_| ended.is_own_end());
                match until.filter(|u| *u > self.now) {
                    None => self.bring_up(spec, c),
                    Some(until) => {
                        if c.backing_off.is_none() {
                            self.push(Action::AnnounceBackOff {
                                container: spec.name.clone(),
                                until,
                            });
                        }
                        self.again_at(until);
                    }
                }
            }
        }
    }

    /// Gets the image, then starts.
    fn bring_up(&mut self, spec: &ContainerSpec, c: &Container) {
        if let Some(problem) = c.problem.as_ref().filter(|p| p.retry_at > self.now) {
            return self.again_at(problem.retry_at);
        }
        let container = spec.name.clone();
        match &c.image {
            Image::Pulling(_) => {}
            Image::Unknown => self.push(Action::EnsureImage { container }),
            Image::Present(_) => self.push(Action::StartContainer {
                container,
                attempt: c.starts,
            }),
            Image::Failed(p, _) if p.retry_at <= self.now => {
                self.push(Action::EnsureImage { container })
            }
            Image::Failed(p, announced) => {
                self.again_at(p.retry_at);
                let shown = is_backing_off(p, self.now);
                match (*announced || p.reason != PULL_FAILED, shown) {
                    (true, _) => {}
                    (false, false) => self.again_at(backs_off_at(p)),
                    (false, true) => {
                        let image = spec.image.clone().unwrap_or_default();
                        self.push(Action::AnnounceImageBackOff { container, image });
                    }
                }
            }
        }
    }

    /// Tells everything that runs to end. What guests do then may need the API: they keep what is renewed for them.
    fn end(&mut self, grace: SignedDuration, deadline: Option<Timestamp>) {
        let names: Vec<String> = self.observed.containers.keys().cloned().collect();
        for name in names {
            let why = format!("Stopping container {name}");
            self.stop(&name, grace, deadline, why, false);
            if let (Some(spec), Some(c)) = (self.pod.container(&name), self.observed.get(&name))
                && !self.observed.gone
            {
                self.probe(spec, c, true);
            }
        }
        if self.observed.any_live() && !self.observed.gone {
            self.renew();
        }
    }

    fn stop(
        &mut self,
        name: &str,
        grace: SignedDuration,
        deadline: Option<Timestamp>,
        why: String,
        changed: bool,
    ) {
        let Some(Live::Running {
            stop_by, killed, ..
        }) = self.observed.get(name).map(|c| &c.live)
        else {
            return;
        };
        let full = self.now.checked_add(grace).unwrap_or(Timestamp::MAX);
        let deadline = deadline.map_or(full, |d| d.min(full));
        match stop_by {
            Some(by) if *by <= deadline => self.watch_end(name, *by, *killed),
            _ => {
                let grace = deadline.duration_since(self.now).max(SignedDuration::ZERO);
                self.push(Action::StopContainer {
                    container: name.to_owned(),
                    grace,
                    deadline,
                    why,
                    changed,
                });
                self.again_at(deadline);
            }
        }
    }

    fn probe(&mut self, spec: &ContainerSpec, c: &Container, ending: bool) {
        let (actions, again) = probe::due(self.pod, spec, c, ending, self.now);
        self.actions.extend(actions);
        if let Some(at) = again {
            self.again_at(at);
        }
    }

    fn watch_end(&mut self, name: &str, by: Timestamp, killed: bool) {
        if killed {
            return;
        }
        if by <= self.now {
            self.push(Action::KillContainer {
                container: name.to_owned(),
            });
        } else {
            self.again_at(by);
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
        if !self.observed.released && !self.observed.sandbox_idle() {
            self.push(Action::Release);
        }
    }
}

impl Observed {
    fn sandbox_idle(&self) -> bool {
        matches!(self.sandbox, Sandbox::Released(_))
    }
}
