//! What can be learned about a pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::resources::Quantities;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;

use super::{Found, HookKind, ProbeKind, Resources, Why};

/// Something learned about a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// What the pod's class says: by what its containers are run and, to a pod that no API has told it, what that costs. The
    /// sandbox comes next, with which it is remembered.
    Class(String, Quantities),
    /// The sandbox is there.
    SandboxReady(IpAddr),
    /// The sandbox could not be made.
    SandboxFailed(String),
    /// All volumes are there, and none of them has to be made anew before then.
    VolumesReady(Option<Timestamp>),
    /// Some volumes could not be made anew; what was there stays.
    VolumesNotRenewed {
        /// Which.
        unmade: BTreeSet<String>,
        /// Whether to try that again after a while. Else they lack what will be heard of when it comes.
        retry: bool,
        /// When the first of all others is due, or of those that failed before they were.
        due: Option<Timestamp>,
    },
    /// What these volumes show has changed since it was read.
    VolumesStale(BTreeSet<String>),
    /// A volume could not be made.
    VolumesFailed(String),
    /// The image that a volume is made of cannot be had: reason and message.
    VolumeImageFailed(String, String),
    /// A container's image is there.
    ImageReady {
        /// The container's name.
        container: String,
        /// Which image, as its spec names it.
        image: String,
    },
    /// A container's image cannot be had.
    ImageFailed {
        /// The container's name.
        container: String,
        /// Which image, as its spec names it.
        image: String,
        /// Kubernetes' reason.
        reason: String,
        /// For people.
        message: String,
    },
    /// A container was started.
    Started {
        /// The container's name.
        container: String,
        /// From which image, as its spec named it.
        image: String,
        /// What that was resolved to.
        image_id: String,
    },
    /// A container could not be started: reason and message.
    StartFailed(String, String, String),
    /// A hook of a container's instance was run.
    Hooked {
        /// Its name.
        container: String,
        /// Which instance, from 0.
        attempt: u32,
        /// Which hook.
        kind: HookKind,
        /// By what it failed, if it did.
        error: Option<String>,
    },
    /// A container's instance ended.
    Ended {
        /// Its name.
        container: String,
        /// Exit code.
        exit_code: i32,
        /// Kubernetes' reason.
        reason: String,
        /// The termination message.
        message: Option<String>,
    },
    /// A probe was made.
    Probed {
        /// The container's name.
        container: String,
        /// Which instance of it was probed.
        attempt: u32,
        /// What it was asked for.
        kind: ProbeKind,
        /// The result.
        found: Found,
    },
    /// The node's judgement of a wish for other resources.
    Room {
        /// What was wished for.
        wanted: Resources,
        /// The pod's generation then.
        generation: i64,
        /// Why it was not taken, if it was not.
        refused: Option<(Why, String)>,
    },
    /// What became of the change of a container's resources.
    Resized {
        /// Its name.
        container: String,
        /// Which instance, from 0.
        attempt: u32,
        /// What it was to have.
        resources: ResourceRequirements,
        /// Why it has what it had, if it does.
        error: Option<String>,
    },
    /// The pod, or all of the node's together, have taken too much of something.
    Evicted {
        /// Of what, for people.
        message: String,
        /// It may have kept to its own limits.
        disrupted: bool,
    },
    /// All that was made for the pod has been given back.
    Released,
    /// The Pod object could not be removed; it has to be tried again.
    DeleteFailed,
    /// The agent was started anew: what ran is lost.
    AgentRestarted,
}

impl Observation {
    /// Whether the agent must remember it over a restart.
    pub fn is_durable(&self) -> bool {
        matches!(
            self,
            Self::SandboxReady(_)
                | Self::Started { .. }
                | Self::Ended { .. }
                | Self::Room { refused: None, .. }
                | Self::Evicted { .. }
                | Self::Released
                | Self::AgentRestarted
        )
    }
}
