//! What is known of a pod on this node: the durable half of the decider's input.

use std::collections::BTreeMap;

use api::resources::Quantities;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde::{Deserialize, Serialize};

use super::backoff::{Backoff, missing_delay, pull_delay};
use super::container::{Cause, Container, Image, Live, Stage, Stopping};
use super::hooks::{HookKind, PostStart};
use super::probe::{Found, Heard, ProbeKind};
use super::problem::{Problem, Step, failed, missing};
use super::renewal::Renewal;
use super::resize::{Change, Resize, Resources};
use super::{Action, Observation, PodView as _, Sandbox, Verdict};

/// All that the node knows of one pod.
///
/// It changes in two ways only: [`Observed::begin`] when an action is taken up, [`Observed::observe`] when something was
/// learned. What has to outlive the agent is serialised; the rest is found anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// When the agent first saw the pod.
    pub start_time: Option<Timestamp>,
    /// The pod's address and directory.
    pub sandbox: Sandbox,
    /// By which handler its containers are run: its class may be another by now, or gone.
    #[serde(default)]
    pub handler: Option<String>,
    /// What its class costs beyond its containers, where its own object did not say so when it came.
    #[serde(default, skip_serializing_if = "Quantities::is_empty")]
    pub overhead: Quantities,
    /// The volumes, all together.
    #[serde(skip)]
    pub volumes: Step,
    /// When what they show is to be made anew.
    #[serde(skip)]
    pub renewal: Renewal,
    /// How often all of its containers were started anew, together.
    #[serde(default)]
    pub round: u32,
    /// Each container of which anything is known, by name.
    pub containers: BTreeMap<String, Container>,
    /// What the node has set aside for each container that can be resized.
    #[serde(default)]
    pub allocated: Resources,
    /// What becomes of the wish for something else.
    #[serde(skip)]
    pub resize: Resize,
    /// Why the pod as a whole has failed, if it has.
    pub verdict: Option<Verdict>,
    /// When its deletion was seen, by this node's clock: the API server's may go wrong, and knows whole seconds only.
    #[serde(default)]
    pub deletion: Option<Deletion>,
    /// The object is gone from the API (deleted by force), so nothing is to be reported any more.
    #[serde(skip)]
    pub gone: bool,
    /// The agent is ending, and each pod has this long.
    #[serde(skip)]
    pub shutdown: Option<SignedDuration>,
    /// The pod's refusal has been announced.
    #[serde(skip)]
    pub refused: bool,
    /// The API has it that the pod is ready, so that connections may still come to it.
    #[serde(skip)]
    pub held_ready: bool,
    /// The Pod object's removal is under way.
    #[serde(skip)]
    pub deleting: bool,
    /// What was created for the pod is being given back.
    #[serde(skip)]
    pub released: bool,
}

/// A pod's deletion, as this node has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When it was seen first, or seen to leave less time.
    pub since: Timestamp,
    /// How long the containers have from then on.
    pub grace: SignedDuration,
}

impl Deletion {
    /// Until when the containers may take to end.
    pub fn deadline(&self) -> Timestamp {
        later(self.since, self.grace)
    }
}

impl Observed {
    /// Notes that an action was taken up, so that it is not planned twice.
    pub fn begin(&mut self, action: &Action, now: Timestamp) {
        match action {
            Action::PrepareSandbox => {
                // A pod that was away for a moment is here again.
                self.released = false;
                self.sandbox.begin();
            }
            Action::MountVolumes => {
                self.renewal.begin(false);
                self.volumes = match std::mem::take(&mut self.volumes) {
                    Step::Failed(problem) => Step::Doing(Some(problem)),
                    _ => Step::Doing(None),
                };
            }
            Action::RenewVolumes => self.renewal.begin(true),
            Action::EnsureImage { container, image } => {
                let c = self.container(container);
                if c.sought != *image {
                    c.sought.clone_from(image);
                    (c.image, c.problem) = (Image::Unknown, None);
                }
                c.image = match std::mem::take(&mut c.image) {
                    Image::Failed(problem, announced) => Image::Pulling(Some((problem, announced))),
                    _ => Image::Pulling(None),
                };
            }
            Action::AnnounceImageBackOff { container, .. } => {
                if let Image::Failed(_, announced) = &mut self.container(container).image {
                    *announced = true;
                }
            }
            Action::AnnounceBackOff {
                container, until, ..
            } => self.container(container).backing_off = Some(*until),
            Action::StartContainer { container, .. } => {
                let resources = self.allocated.get(container).cloned();
                let c = self.container(container);
                c.live = Live::Starting;
                c.resources = resources;
            }
            Action::AskRoom => self.resize.asking = true,
            Action::ResizeContainer { container, .. } => {
                let c = self.container(container);
                c.change = Change::Doing(c.change.failure().cloned());
            }
            Action::CompleteResize { .. } => self.resize.progress = None,
            Action::BeginStop {
                container,
                cause,
                by,
                ..
            } => {
                if let Live::Running { stopping, .. } = &mut self.container(container).live {
                    match stopping {
                        Some(stopping) => stopping.by = *by,
                        None => {
                            *stopping = Some(Stopping {
                                cause: *cause,
                                since: now,
                                by: *by,
                                stage: Stage::Begun,
                            })
                        }
                    }
                }
            }
            Action::StopContainer {
                container, until, ..
            } => self.stage(container, Stage::Told(*until)),
            Action::KillContainer { container } => self.stage(container, Stage::Killed),
            Action::RunHook {
                container, kind, ..
            } => match kind {
                HookKind::PostStart => self.container(container).post_start = PostStart::Runs,
                HookKind::PreStop => self.stage(container, Stage::Leaves),
            },
            Action::RestartAll { container } => {
                self.round += 1;
                let others = self.containers.iter_mut().filter(|(n, _)| *n != container);
                for (_, c) in others {
                    if let (Live::Idle, Some(ended)) = (&c.live, &mut c.ended) {
                        ended.cause = Some(Cause::Round);
                    }
                }
            }
            Action::Probe {
                container,
                kind,
                terms,
                ..
            } => self.container(container).probes.begin(*kind, *terms),
            Action::RemoveContainer { container, .. } => {
                if let Some(ended) = &mut self.container(container).ended {
                    ended.removed = true;
                }
            }
            Action::Fail { reason, message } => {
                self.verdict = Some(Verdict::new(reason, message.clone()));
            }
            Action::Refuse { .. } => self.refused = true,
            Action::Release => self.released = true,
            Action::DeletePod => self.deleting = true,
            Action::Event { .. } | Action::Requeue(_) | Action::Forget => {}
        }
        if self.start_time.is_none() {
            self.start_time = Some(now);
        }
    }

    /// Takes in the pod's object as it is at `now`; says whether that has to be remembered over a restart.
    pub fn sees(&mut self, pod: &Pod, now: Timestamp) -> bool {
        self.renewal.sees(pod);
        self.wishes(pod);
        let Some(asked) = pod.deletion_grace() else {
            return false;
        };
        // Who is evicted has no more time for being deleted, too.
        let given = self.verdict.as_ref().and_then(|verdict| verdict.grace);
        let grace = given.map_or(asked, |given| given.min(asked));
        let is_known = self.deletion.is_some_and(|d| d.grace <= grace);
        if !is_known {
            self.deletion = Some(Deletion { since: now, grace });
        }
        !is_known
    }

    /// Takes in something learned at `now`.
    pub fn observe(&mut self, observation: Observation, now: Timestamp) {
        match observation {
            Observation::Class(handler, overhead) => {
                (self.handler, self.overhead) = (Some(handler), overhead);
            }
            Observation::SandboxReady(ip) => self.sandbox = Sandbox::Ready(ip),
            Observation::SandboxFailed(message) => self.sandbox.failed(message, now),
            Observation::VolumesReady(due) => {
                self.volumes = Step::Ready;
                self.renewal.done(due);
            }
            Observation::VolumesStale(volumes) => self.renewal.stale(volumes),
            Observation::VolumesNotRenewed { unmade, retry, due } => {
                self.renewal.failed(&unmade, retry, due, now);
            }
            Observation::VolumesFailed(message) => {
                self.volumes_failed("FailedMount", message, missing_delay, now)
            }
            Observation::VolumeImageFailed(reason, message) => {
                self.volumes_failed(&reason, message, pull_delay, now)
            }
            Observation::ImageReady { container, image } => {
                if self.awaits(&container, &image) {
                    self.container(&container).image = Image::Present;
                }
            }
            Observation::ImageFailed {
                container,
                image,
                reason,
                message,
            } => {
                if self.awaits(&container, &image) {
                    self.image_failed(&container, reason, message, now);
                }
            }
            Observation::Started {
                container,
                image,
                image_id,
            } => self.started(&container, image, image_id, now),
            Observation::StartFailed(container, reason, message) => {
                let c = self.container(&container);
                // Its image is looked at for each start.
                (c.live, c.image) = (Live::Idle, Image::Unknown);
                c.problem = Some(missing(c.problem.as_ref(), &reason, message, now));
            }
            Observation::Ended {
                container,
                exit_code,
                reason,
                message,
            } => (self.container(&container)).end(exit_code, reason, message, now),
            Observation::Probed {
                container,
                attempt,
                kind,
                found,
            } => {
                self.probed(&container, attempt, kind, found, now);
            }
            Observation::Hooked {
                container,
                attempt,
                kind,
                error,
            } => self.hooked(&container, attempt, kind, error),
            Observation::Room {
                wanted,
                generation,
                refused,
            } => self.room(wanted, generation, refused, now),
            Observation::Resized {
                container,
                attempt,
                resources,
                error,
            } => self.resized(&container, attempt, resources, error, now),
            Observation::Released => {
                self.released = true;
                self.sandbox = Sandbox::Released(self.sandbox.ip());
                self.no_volumes();
            }
            Observation::Evicted { message, disrupted } => self.evicted(message, disrupted, now),
            Observation::DeleteFailed => self.deleting = false,
            Observation::AgentRestarted => self.agent_restarted(now),
        }
    }

    /// Takes in what a probe of a container's instance has found.
    pub fn probed(
        &mut self,
        container: &str,
        attempt: u32,
        kind: ProbeKind,
        found: Found,
        now: Timestamp,
    ) -> Heard {
        let c = self.containers.get_mut(container);
        c.map_or(Heard::TooLate, |c| c.probed(attempt, kind, found, now))
    }

    /// What is known of a container of that name.
    pub fn get(&self, container: &str) -> Option<&Container> {
        self.containers.get(container)
    }

    /// Whether a container's next start waits for this image: another may be asked for by now.
    pub fn awaits(&self, container: &str, image: &str) -> bool {
        let c = self.get(container);
        c.is_some_and(|c| c.sought == image && matches!(c.image, Image::Pulling(_)))
    }

    /// Whether an instance of any container is alive or about to be.
    pub fn any_live(&self) -> bool {
        self.containers.values().any(|c| c.live != Live::Idle)
    }

    /// What can be told from the API alone, for a pod whose directory was lost.
    pub fn from_status(status: &PodStatus) -> Self {
        let mut observed = Self {
            start_time: status.start_time.as_ref().map(|t| t.0),
            ..Self::default()
        };
        if let Some(ip) = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()) {
            observed.sandbox = Sandbox::Ready(ip);
        }
        let all = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten();
        for s in all {
            if let Some(resources) = &s.resources {
                let resources = resources.clone();
                observed.allocated.insert(s.name.clone(), resources);
            }
            observed
                .containers
                .insert(s.name.clone(), Container::from_status(s));
        }
        if let (Some("Failed"), Some(reason)) = (status.phase.as_deref(), &status.reason) {
            let message = status.message.clone().unwrap_or_default();
            observed.verdict = Some(Verdict {
                turned_away: observed.containers.is_empty(),
                ..Verdict::new(reason, message)
            });
        }
        observed
    }

    fn volumes_failed(
        &mut self,
        reason: &str,
        message: String,
        delay: fn(u32) -> SignedDuration,
        now: Timestamp,
    ) {
        let before = match &self.volumes {
            Step::Doing(before) => before.as_ref(),
            _ => None,
        };
        self.volumes = Step::Failed(failed(before, reason, message, delay, now));
    }

    fn no_volumes(&mut self) {
        self.volumes = Step::Absent;
        self.renewal.over();
    }

    fn container(&mut self, name: &str) -> &mut Container {
        self.containers.entry(name.to_owned()).or_default()
    }

    fn hooked(&mut self, container: &str, of: u32, kind: HookKind, error: Option<String>) {
        let c = self.container(container);
        let Live::Running {
            attempt, stopping, ..
        } = &mut c.live
        else {
            return;
        };
        if *attempt != of {
            return;
        }
        match (kind, stopping, error) {
            (HookKind::PostStart, _, None) => c.post_start = PostStart::Done,
            (HookKind::PostStart, _, Some(why)) => c.post_start = PostStart::Failed(why),
            (HookKind::PreStop, Some(stopping), _) if stopping.stage == Stage::Leaves => {
                stopping.stage = Stage::Waits;
            }
            (HookKind::PreStop, ..) => {}
        }
    }

    fn stage(&mut self, container: &str, stage: Stage) {
        if let Live::Running {
            stopping: Some(stopping),
            ..
        } = &mut self.container(container).live
        {
            stopping.stage = stage;
        }
    }

    fn started(&mut self, container: &str, image: String, image_id: String, now: Timestamp) {
        let round = self.round;
        let c = self.container(container);
        if c.ended.as_ref().is_some_and(|e| !e.is_of(Some(&image))) {
            c.backoff = None;
        }
        if let Some(ended) = c.ended.as_ref().filter(|e| e.is_own_end()) {
            c.backoff = Some(Backoff::next(c.backoff.as_ref(), ended.finished_at, now));
        }
        c.image = Image::Unknown;
        let attempt = c.starts;
        c.live = Live::Running {
            attempt,
            started_at: now,
            image,
            image_id,
            stopping: None,
        };
        c.starts += 1;
        c.round = round;
        c.post_start = PostStart::Open;
        c.raised = true;
        c.problem = None;
        c.backing_off = None;
    }

    fn image_failed(&mut self, container: &str, reason: String, message: String, now: Timestamp) {
        let c = self.container(container);
        let failures = match &c.image {
            Image::Pulling(Some((p, _))) | Image::Failed(p, _) => p.failures + 1,
            _ => 1,
        };
        let retry_at = later(now, pull_delay(failures));
        c.problem = None;
        c.image = Image::Failed(
            Problem {
                reason,
                message,
                failures,
                at: now,
                retry_at,
            },
            false,
        );
    }

    fn agent_restarted(&mut self, now: Timestamp) {
        if matches!(self.sandbox, Sandbox::Preparing(_) | Sandbox::Failed(_)) {
            self.sandbox = Sandbox::Absent;
        }
        self.no_volumes();
        self.deleting = false;
        for c in self.containers.values_mut() {
            match &c.live {
                Live::Idle => {}
                Live::Starting => c.live = Live::Idle,
                Live::Running { .. } => {
                    // What containerd says of a container that was lost with its node.
                    let message =
                        "the node's agent ended while the container was running".to_owned();
                    c.end(255, "Unknown".to_owned(), Some(message), now);
                    if let Some(ended) = &mut c.ended {
                        ended.cause = Some(Cause::Agent);
                    }
                }
            }
        }
    }
}

pub(super) fn later(now: Timestamp, delay: SignedDuration) -> Timestamp {
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}
