//! What is known of one container: how it runs, how it ended.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as ContainerSpec, ContainerState, ContainerStatus, ResourceRequirements,
};
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::hooks::PostStart;
use super::probe::Probes;
use super::problem::Problem;
use super::resize::Change;

/// One container, over all its instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// How many instances were started.
    pub starts: u32,
    /// What is alive of it now.
    #[serde(default)]
    pub live: Live,
    /// The instance that ended last.
    pub ended: Option<Ended>,
    /// The one that ended before that.
    pub before: Option<Ended>,
    /// How its restarts are spaced.
    pub backoff: Option<Backoff>,
    /// The round of the pod, as [`Observed::round`](super::Observed::round) counts them, in which the last instance was started.
    #[serde(default)]
    pub round: u32,
    /// It was this agent that started it.
    #[serde(skip)]
    pub raised: bool,
    /// Until when its restart waits, once that has been announced.
    #[serde(skip)]
    pub backing_off: Option<Timestamp>,
    /// The spec's `image` that was looked for last: what `image` and `problem` are of.
    #[serde(skip)]
    pub sought: String,
    /// Its module.
    #[serde(skip)]
    pub image: Image,
    /// Why it could not be started the last time.
    #[serde(skip)]
    pub problem: Option<Problem>,
    /// How far the first hook of the last instance is.
    #[serde(skip)]
    pub post_start: PostStart,
    /// What probes have found of the instance that is alive.
    #[serde(skip)]
    pub probes: Probes,
    /// What the last instance was started with, or changed to since; nothing where that is its spec's.
    #[serde(skip)]
    pub resources: Option<ResourceRequirements>,
    /// How it is being changed.
    #[serde(skip)]
    pub change: Change,
}

/// The state of a container's present instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Live {
    /// There is none.
    #[default]
    Idle,
    /// The start was ordered.
    Starting,
    /// It runs.
    Running {
        /// Which instance, from 0.
        attempt: u32,
        /// When it was started.
        started_at: Timestamp,
        /// The spec's `image` with which it was started.
        image: String,
        /// What that was resolved to.
        image_id: String,
        /// How it is being ended, if it is.
        #[serde(default)]
        stopping: Option<Stopping>,
    },
}

/// How an instance is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// What for.
    pub cause: Cause,
    /// When that was begun.
    #[serde(skip)]
    pub since: Timestamp,
    /// When its grace period is over.
    pub by: Timestamp,
    /// How far that is.
    pub stage: Stage,
}

/// Why an instance was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Its pod ends.
    Pod,
    /// The node's agent does, which is no fault of its own.
    Agent,
    /// Its spec has another image now.
    Changed,
    /// A probe has failed.
    Unhealthy,
    /// Its first hook has failed.
    Unprepared,
    /// All containers of its pod are started anew.
    Round,
    /// It is to have other resources, which it takes at its start only.
    Resized,
}

/// How far the end of an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing was done yet.
    Begun,
    /// Its last hook is being run.
    Leaves,
    /// That was done, and others may have to end before it.
    Waits,
    /// It was told to, and may take until then.
    Told(Timestamp),
    /// It was not given more time.
    Killed,
}

/// An instance that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which instance, from 0.
    pub attempt: u32,
    /// The spec's `image` with which it was started; empty where an earlier agent has noted it.
    #[serde(default)]
    pub image: String,
    /// What that was resolved to.
    pub image_id: String,
    /// Exit code, as a shell would see it.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, ….
    pub reason: String,
    /// The termination message.
    pub message: Option<String>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Why it was ended, or is started again, where that was not its own doing.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// Its writable root is gone.
    pub removed: bool,
}

impl Ended {
    /// Whether it was of this image, as far as that is known.
    pub(super) fn is_of(&self, image: Option<&str>) -> bool {
        self.image.is_empty() || image == Some(&self.image)
    }

    /// Whether it was its own fault, so that its restart waits the longer the more often it comes to that.
    pub fn is_own_end(&self) -> bool {
        !matches!(
            self.cause,
            Some(Cause::Agent | Cause::Changed | Cause::Round | Cause::Resized)
        )
    }
}

/// A container's module on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Image {
    /// Not looked at for the coming start.
    #[default]
    Unknown,
    /// Being looked for; what went wrong before, if anything.
    Pulling(Option<(Problem, bool)>),
    /// Ready to be started.
    Present,
    /// Cannot be had; the flag says that the wait for the next try has been announced.
    Failed(Problem, bool),
}

impl Container {
    /// `status.containerStatuses[].restartCount`.
    pub fn restart_count(&self) -> i32 {
        i32::try_from(self.starts.saturating_sub(1)).unwrap_or(i32::MAX)
    }

    /// Its module, if that is the one that its spec names now.
    pub(super) fn image_of(&self, spec: &ContainerSpec) -> &Image {
        match self.has_sought(spec) {
            true => &self.image,
            false => &Image::Unknown,
        }
    }

    /// Whether what was looked for last is what its spec names now.
    pub(super) fn has_sought(&self, spec: &ContainerSpec) -> bool {
        spec.image.as_deref().unwrap_or_default() == self.sought
    }

    pub(super) fn end(
        &mut self,
        exit_code: i32,
        reason: String,
        message: Option<String>,
        now: Timestamp,
    ) {
        let Live::Running {
            attempt,
            started_at,
            image,
            image_id,
            stopping,
        } = std::mem::take(&mut self.live)
        else {
            return;
        };
        self.probes = Probes::default();
        self.change = Change::None;
        self.before = self.ended.take();
        self.ended = Some(Ended {
            attempt,
            image,
            image_id,
            exit_code,
            reason,
            message: message.filter(|m| !m.is_empty()),
            started_at,
            finished_at: now,
            cause: stopping.map(|s| s.cause),
            removed: false,
        });
    }

    pub(super) fn from_status(status: &ContainerStatus) -> Self {
        let last = |state: &Option<ContainerState>, attempt| {
            let t = state.as_ref()?.terminated.as_ref()?;
            let finished_at = t.finished_at.as_ref()?.0;
            Some(Ended {
                attempt,
                image: status.image.clone(),
                image_id: status.image_id.clone(),
                exit_code: t.exit_code,
                reason: t.reason.clone().unwrap_or_default(),
                message: t.message.clone(),
                started_at: t.started_at.as_ref().map_or(finished_at, |s| s.0),
                finished_at,
                cause: None,
                removed: true,
            })
        };
        let restarts = u32::try_from(status.restart_count).unwrap_or(0);
        let state = status.state.as_ref();
        let mut this = Self::default();
        if let Some(running) = state.and_then(|s| s.running.as_ref()) {
            this.starts = restarts.saturating_add(1);
            this.ended = last(&status.last_state, restarts.saturating_sub(1));
            this.live = Live::Running {
                attempt: restarts,
                started_at: running
                    .started_at
                    .as_ref()
                    .map_or(Timestamp::UNIX_EPOCH, |t| t.0),
                image: status.image.clone(),
                image_id: status.image_id.clone(),
                stopping: None,
            };
        } else if state.is_some_and(|s| s.terminated.is_some()) {
            this.starts = restarts.saturating_add(1);
            this.ended = last(&status.state, restarts);
            this.before = last(&status.last_state, restarts.saturating_sub(1));
        } else if let Some(ended) = last(&status.last_state, restarts) {
            this.starts = restarts.saturating_add(1);
            this.ended = Some(ended);
        }
        this
    }
}
