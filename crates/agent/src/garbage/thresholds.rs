//! When there is too little room on a disk.

use jiff::{SignedDuration, Timestamp};

use crate::eviction::{EvictionHard, Signals};

/// The room on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that it has.
    pub capacity: u64,
    /// Bytes that are left for whoever is not root.
    pub available: u64,
    /// Inodes that it has; 0 where the file system has no fixed number of them.
    pub inodes: u64,
    /// Inodes that are left.
    pub inodes_free: u64,
}

/// What a node keeps, and how much room it leaves.
///
/// The numbers are Kubernetes', but for two things, beside those that [`EvictionHard`] has. A disk is mostly shared.
/// [`Thresholds::high`] and [`Thresholds::low`] are shares of what images could have, which is what they take and what
/// nobody has taken. And Kubernetes keeps unused images for ever where there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thresholds {
    /// From this percentage on unused images go,
    pub(crate) high: u64,
    /// until images take no more than this one.
    pub(crate) low: u64,
    /// No image that was first seen more recently goes for lack of room.
    pub(crate) min_age: SignedDuration,
    /// What nobody has used for so long goes however much room there is.
    pub(crate) unused: SignedDuration,
    /// The same, for content to which no image's name leads any more: each build under the same name leaves some.
    pub(crate) dangling: SignedDuration,
    /// How long after it was found the directory of a pod that is not this node's goes.
    pub(crate) orphan: SignedDuration,
    /// What is left when there is pressure.
    pub(crate) hard: EvictionHard,
    /// How long pressure is told after it was last there, so that pods do not come and go with it.
    pub(crate) transition: SignedDuration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            high: 85,
            low: 80,
            min_age: SignedDuration::from_secs(2 * 60),
            unused: SignedDuration::from_secs(7 * 24 * 3600),
            dangling: SignedDuration::from_secs(3600),
            orphan: SignedDuration::from_secs(2 * 60),
            hard: EvictionHard::default(),
            transition: SignedDuration::from_secs(5 * 60),
        }
    }
}

impl Thresholds {
    /// Whether the disk has too little room.
    pub(crate) fn is_met(&self, disk: &Disk) -> bool {
        let signals = Signals {
            disk: Some(*disk),
            ..Signals::default()
        };
        !self.hard.met(&signals).is_empty()
    }
}

/// Hundredths of an amount.
pub(super) fn part(of: u64, percent: u64) -> u64 {
    let part = u128::from(of) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Whether the node is under a pressure, which it is for a while after it was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pressure {
    last_met: Option<Timestamp>,
}

impl Pressure {
    /// Takes in a look at the disk, and says whether the node is under pressure.
    pub(crate) fn observe(
        &mut self,
        is_met: bool,
        thresholds: &Thresholds,
        now: Timestamp,
    ) -> bool {
        // A clock that was ahead tells nothing about how long that is ago: at most from now on.
        self.last_met = match is_met {
            true => Some(now),
            false => self.last_met.map(|last| last.min(now)),
        };
        self.last_met
            .is_some_and(|last| now.duration_since(last) < thresholds.transition)
    }
}
