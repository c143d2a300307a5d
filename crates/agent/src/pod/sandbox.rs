//! A pod's network identity.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::problem::{Problem, missing};

/// The pod's network identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Sandbox {
    /// Not asked for yet.
    #[default]
    Absent,
    /// Being made; what went wrong before, if anything.
    Preparing(Option<Problem>),
    /// There, with this address. After an agent's restart the pod keeps it.
    Ready(IpAddr),
    /// The last try failed.
    Failed(Problem),
    /// Given back; the address is still part of the status.
    Released(Option<IpAddr>),
}

impl Sandbox {
    /// A new try begins.
    pub(super) fn begin(&mut self) {
        *self = match std::mem::take(self) {
            Self::Failed(problem) => Self::Preparing(Some(problem)),
            _ => Self::Preparing(None),
        };
    }

    /// The try has failed.
    pub(super) fn failed(&mut self, message: String, now: Timestamp) {
        let before = match self {
            Self::Preparing(before) => before.as_ref(),
            _ => None,
        };
        let problem = missing(before, "FailedCreatePodSandBox", message, now);
        *self = Self::Failed(problem);
    }

    /// Whether it has been given back.
    pub(crate) fn is_released(&self) -> bool {
        matches!(self, Self::Released(_))
    }

    /// The pod's address, also after its end.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ready(ip) => Some(*ip),
            Self::Released(ip) => *ip,
            Self::Absent | Self::Preparing(_) | Self::Failed(_) => None,
        }
    }
}
