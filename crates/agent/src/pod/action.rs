//! What can be done for a pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ResourceRequirements;

use super::{Cause, HookKind, ProbeKind, Terms};

/// One thing to do for a pod. The driver may carry out all actions of a plan at the same time.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Give the pod an address and a directory.
    PrepareSandbox,
    /// Make all its volumes.
    MountVolumes,
    /// Make anew what of its volumes is due, shows what the pod was, or is [stale](super::Observation::VolumesStale).
    RenewVolumes,
    /// Have a container's module on this node, as its pull policy says.
    EnsureImage {
        /// The container's name.
        container: String,
        /// Its image.
        image: String,
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
    /// Begin to end a container, and say so.
    BeginStop {
        /// The container's name.
        container: String,
        /// What for.
        cause: Cause,
        /// When its grace period is over.
        by: Timestamp,
        /// The event's message; none where it only has less time than before.
        message: Option<String>,
    },
    /// Run a hook of a container, and say how that went.
    RunHook {
        /// The container's name.
        container: String,
        /// Which instance, from 0.
        attempt: u32,
        /// Which hook.
        kind: HookKind,
        /// How long it has; for as long as the instance runs where nothing is said.
        within: Option<SignedDuration>,
    },
    /// Tell a container to end; told again if it has less time than it was told.
    StopContainer {
        /// The container's name.
        container: String,
        /// How long it has.
        grace: SignedDuration,
        /// When that is over.
        until: Timestamp,
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
    /// Start all containers anew, from the first one on, as soon as all have ended.
    RestartAll {
        /// The container that asks for it.
        container: String,
    },
    /// Ask the node for other resources: those that the pod's spec says.
    AskRoom,
    /// Change what a running container may use.
    ResizeContainer {
        /// The container's name.
        container: String,
        /// Which instance, from 0.
        attempt: u32,
        /// What it is to have.
        resources: ResourceRequirements,
    },
    /// Say that all containers have what the pod's spec said in that generation.
    CompleteResize {
        /// The pod's generation.
        generation: i64,
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
