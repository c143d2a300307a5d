//! In which order containers are started, and what becomes of those that run.

use k8s_openapi::api::core::v1::Container as ContainerSpec;

use super::phase::restarts;
use super::problem::{PULL_FAILED, backs_off_at, is_backing_off};
use super::sync::Plan;
use super::{Action, Backoff, Container, Image, Live, PodView as _, Role, probe};

impl Plan<'_> {
    /// Brings the pod nearer to where all its containers run: init containers one after the other, then the rest at once.
    pub(super) fn run(&mut self) {
        let sandbox = self.sandbox();
        let volumes = self.volumes();
        if !(sandbox && volumes) {
            return;
        }
        for (role, spec) in self.pod.all_containers() {
            let fresh = Container::default();
            let c = self.observed.get(&spec.name).unwrap_or(&fresh);
            if role == Role::Init && is_done(c) {
                continue;
            }
            match &c.live {
                Live::Idle => self.raise(role, spec, c),
                Live::Starting | Live::Running { .. } => self.tend(spec, c),
            }
            if role == Role::Init {
                return;
            }
        }
    }

    /// Looks after an instance that is alive, and ends it where it is not to stay.
    fn tend(&mut self, spec: &ContainerSpec, c: &Container) {
        match &c.live {
            Live::Idle | Live::Starting => {}
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
        }
    }

    /// Starts a container of which nothing is alive, if that is to be.
    fn raise(&mut self, role: Role, spec: &ContainerSpec, c: &Container) {
        let Some(ended) = &c.ended else {
            return self.bring_up(spec, c);
        };
        if !restarts(self.pod, role, ended) {
            return;
        }
        let until =
            Backoff::until(c.backoff.as_ref(), ended.finished_at).filter(|_| ended.is_own_end());
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
}

/// Whether an init container has done its work.
fn is_done(c: &Container) -> bool {
    c.live == Live::Idle && c.ended.as_ref().is_some_and(|e| e.exit_code == 0)
}
