//! In which order containers are started, and what becomes of those that run.

use k8s_openapi::api::core::v1::Container as ContainerSpec;

use super::observed::later;
use super::problem::{PULL_FAILED, backs_off_at, is_backing_off};
use super::restart::After;
use super::sync::Plan;
use super::{
    Action, Backoff, Cause, Container, HookKind, Image, Live, PodView as _, PostStart, Role, probe,
};

impl Plan<'_> {
    /// Brings the pod nearer to where all its containers run: init containers one after the other, sidecars in their turn
    /// among them, then the rest at once.
    pub(super) fn run(&mut self) {
        self.ask_room();
        let sandbox = self.sandbox();
        let volumes = self.volumes();
        if !(sandbox && volumes) {
            return;
        }
        // What is about to run would take itself to be of the new round: it is waited for.
        let mut all = self.observed.containers.values();
        let asks = self.asks_for_all();
        let is_early = asks.is_some() && all.any(|c| c.live == Live::Starting);
        if let Some(container) = asks.filter(|_| !is_early) {
            self.push(Action::RestartAll { container });
            self.round += 1;
        }
        let pod = self.pod;
        for (role, spec) in pod.all_containers() {
            if let Some(c) = self.observed.get(&spec.name) {
                self.tend(role, spec, c);
            }
        }
        self.complete_resize();
        let live = |c: &&Container| matches!(c.live, Live::Running { .. });
        let mut lives = self.observed.containers.values().filter(live);
        // A new round begins when nothing of the last one is left.
        if !is_early && !lives.any(|c| c.round < self.round) {
            self.raise_all();
        }
    }

    /// The container by whose rules all are to be started anew.
    fn asks_for_all(&self) -> Option<String> {
        let mut all = self.pod.all_containers();
        let asks = all.find(|(role, spec)| {
            let c = self.observed.get(&spec.name);
            let c = c.filter(|c| c.live == Live::Idle && c.round == self.round);
            c.and_then(|c| c.after(self.pod, *role, spec)) == Some(After::AllRestart)
        });
        asks.map(|(_, spec)| spec.name.clone())
    }

    /// Starts what of the pod may run now.
    fn raise_all(&mut self) {
        let pod = self.pod;
        let observed = self.observed;
        let known = |spec: &ContainerSpec| observed.get(&spec.name);
        // What was started before the last that was is waited for no more, even where it has to be started again.
        let round = self.round;
        let raised = |(_, spec): &(Role, &ContainerSpec)| {
            known(spec).is_some_and(|c| c.raised && c.round == round)
        };
        let all: Vec<(Role, &ContainerSpec)> = pod.all_containers().collect();
        let reached = all.iter().rposition(raised).unwrap_or(0);
        let fresh = Container::default();
        for (at, (role, spec)) in all.into_iter().enumerate() {
            let c = known(spec).unwrap_or(&fresh);
            let is_passed = at < reached;
            if role == Role::Init && (is_passed || self.is_done(c)) {
                continue;
            }
            let is_coming = match c.live {
                Live::Idle => self.raise(role, spec, c),
                Live::Starting => true,
                Live::Running { .. } => !c.is_up(spec),
            };
            let is_awaited = match role {
                Role::Init => true,
                Role::Sidecar => !is_passed && !c.is_started(spec),
                // What its first hook prepares, the next one may need.
                Role::Main => is_coming && HookKind::PostStart.of(spec).is_some(),
            };
            if is_awaited {
                return;
            }
        }
    }

    /// Whether an init container has done its work.
    fn is_done(&self, c: &Container) -> bool {
        let succeeded = c.ended.as_ref().is_some_and(|e| e.exit_code == 0);
        c.live == Live::Idle && succeeded && c.round == self.round
    }

    /// Looks after an instance that is alive, and ends it where it is not to stay.
    fn tend(&mut self, role: Role, spec: &ContainerSpec, c: &Container) {
        let Live::Running {
            attempt,
            image,
            stopping,
            ..
        } = &c.live
        else {
            return;
        };
        let name = &spec.name;
        if let Some(stopping) = stopping {
            return self.go_on(spec, *attempt, *stopping, true);
        }
        let who = probe::who(role);
        let ended = if c.round < self.round {
            let why = format!("{who} {name} will be restarted with all of its pod");
            Some((Cause::Round, self.pod.grace(), why))
        } else if Some(image) != spec.image.as_ref() && role != Role::Init {
            let why = format!("{who} {name} definition changed, will be restarted");
            Some((Cause::Changed, self.pod.grace(), why))
        } else if let PostStart::Failed(_) = c.post_start {
            let why = "FailedPostStartHook".to_owned();
            Some((Cause::Unprepared, self.pod.grace(), why))
        } else if let Some(kind) = c.probes.condemned() {
            let (grace, why) = probe::sentence(self.pod, role, spec, kind);
            Some((Cause::Unhealthy, grace, why))
        } else if self.restarts_to_resize(spec, c) {
            let why = format!("Container {name} resize requires restart");
            Some((Cause::Resized, self.pod.grace(), why))
        } else {
            None
        };
        if let Some((cause, grace, why)) = ended {
            return self.stop(spec, cause, later(self.now, grace), why, true);
        }
        self.prepare(spec, c);
        self.resize(spec, c, *attempt);
        self.probe(spec, c, false);
    }

    /// Starts a container of which nothing is alive, if that is to be; whether it is.
    fn raise(&mut self, role: Role, spec: &ContainerSpec, c: &Container) -> bool {
        let Some(ended) = &c.ended else {
            return self.bring_up(spec, c);
        };
        let is_of_this_round = c.round == self.round;
        let after = c.after(self.pod, role, spec);
        if is_of_this_round && after == Some(After::Stays) {
            return false;
        }
        // Of a round that is over, it is the one at fault that waits.
        let at_fault = is_of_this_round || after == Some(After::AllRestart);
        // Another image has not failed yet.
        let waits = at_fault && ended.is_own_end() && ended.is_of(spec.image.as_deref());
        let until = Backoff::until(c.backoff.as_ref(), ended.finished_at).filter(|_| waits);
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
                false
            }
        }
    }

    /// Gets the image, then starts; not where that has to wait.
    fn bring_up(&mut self, spec: &ContainerSpec, c: &Container) -> bool {
        // What kept another image from starting need not keep this one.
        let problem = c.problem.as_ref().filter(|_| c.has_sought(spec));
        if let Some(problem) = problem.filter(|p| p.retry_at > self.now) {
            self.again_at(problem.retry_at);
            return false;
        }
        let container = spec.name.clone();
        let image = spec.image.clone().unwrap_or_default();
        match c.image_of(spec) {
            Image::Pulling(_) => {}
            Image::Unknown => self.push(Action::EnsureImage { container, image }),
            Image::Present => self.push(Action::StartContainer {
                container,
                attempt: c.starts,
            }),
            Image::Failed(p, _) if p.retry_at <= self.now => {
                self.push(Action::EnsureImage { container, image })
            }
            Image::Failed(p, announced) => {
                self.again_at(p.retry_at);
                let shown = is_backing_off(p, self.now);
                match (*announced || p.reason != PULL_FAILED, shown) {
                    (true, _) => {}
                    (false, false) => self.again_at(backs_off_at(p)),
                    (false, true) => self.push(Action::AnnounceImageBackOff { container, image }),
                }
                return false;
            }
        }
        true
    }
}
