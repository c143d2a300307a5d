//! Lifecycle hooks: what a container is asked to do after its start, and before it is told to end.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, LifecycleHandler};

use super::sync::Plan;
use super::{Action, Cause, Container, Live, Stopping};

/// When a hook is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// Right after the start. Until it is done the container is not shown to run, and whatever comes after it waits.
    PostStart,
    /// Before the container is told to end, as part of its grace period.
    PreStop,
}

impl HookKind {
    /// The container's hook of this kind.
    pub fn of(self, spec: &ContainerSpec) -> Option<&LifecycleHandler> {
        let lifecycle = spec.lifecycle.as_ref()?;
        match self {
            Self::PostStart => lifecycle.post_start.as_ref(),
            Self::PreStop => lifecycle.pre_stop.as_ref(),
        }
    }
}

/// As events name it.
impl std::fmt::Display for HookKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PostStart => "PostStart",
            Self::PreStop => "PreStop",
        })
    }
}

/// How far the first hook of an instance is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PostStart {
    /// It was not run.
    #[default]
    Open,
    /// It is being run.
    Runs,
    /// It was.
    Done,
    /// It was, and failed by this.
    Failed(String),
}

impl Container {
    /// Whether it runs and has been prepared for whatever waits for it.
    pub(super) fn is_up(&self, spec: &ContainerSpec) -> bool {
        let is_prepared =
            HookKind::PostStart.of(spec).is_none() || self.post_start == PostStart::Done;
        is_prepared && matches!(self.live, Live::Running { .. })
    }
}

impl Plan<'_> {
    /// Runs the first hook of an instance, if it has one and it was not run.
    pub(super) fn prepare(&mut self, spec: &ContainerSpec, c: &Container) {
        let Live::Running { attempt, .. } = c.live else {
            return;
        };
        if c.post_start == PostStart::Open && HookKind::PostStart.of(spec).is_some() {
            self.push(Action::RunHook {
                container: spec.name.clone(),
                attempt,
                kind: HookKind::PostStart,
                within: None,
            });
        }
    }

    /// Runs the last hook of an instance that is to end, if it has one and there is time for it; whether it has.
    pub(super) fn take_leave(
        &mut self,
        spec: &ContainerSpec,
        attempt: u32,
        stopping: Stopping,
    ) -> bool {
        // When all of a pod starts anew, nothing is left that would have to be told.
        let wanted = stopping.cause != Cause::Round && HookKind::PreStop.of(spec).is_some();
        let left = stopping.by.duration_since(self.now);
        if !wanted || left <= SignedDuration::ZERO {
            return false;
        }
        self.push(Action::RunHook {
            container: spec.name.clone(),
            attempt,
            kind: HookKind::PreStop,
            within: Some(left),
        });
        true
    }
}
