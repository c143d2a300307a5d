//! The decider: what of a node's garbage goes now.

use std::path::PathBuf;

use images::Digest;
use jiff::{SignedDuration, Timestamp};

use super::thresholds::part;
use super::{Disk, Thresholds};

/// Something that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) what: What,
    pub(crate) kind: Kind,
    /// Bytes that it takes; 0 where nobody has counted.
    pub(crate) size: u64,
    /// When the agent first knew of it.
    pub(crate) first_seen: Timestamp,
    /// When it was last needed, if it ever was.
    pub(crate) last_used: Option<Timestamp>,
    /// Somebody needs it now, or a pod of this node names it.
    pub(crate) in_use: bool,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A file or directory.
    Path(PathBuf),
    /// What is kept of an image.
    Content(Digest),
}

/// Why it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of an instance that ended: it was to be removed then.
    Dead,
    /// Of a pod that is not this node's, or not any more.
    Orphan,
    /// Content to which no image's name leads.
    Dangling,
    /// Content of an image, or its manifest.
    Image,
}

/// One removal, and what it is to free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remove {
    pub(crate) what: What,
    pub(crate) size: u64,
}

/// What is to go now, in this order.
///
/// First what nobody has needed for as long as its kind is kept; then, where images take too much or the disk has too
/// little room, those that were used longest ago, and of these those that were seen first, until enough is free.
pub(crate) fn select(
    items: &[Item],
    disk: &Disk,
    thresholds: &Thresholds,
    now: Timestamp,
) -> Vec<Remove> {
    let age = |since: Timestamp| now.duration_since(since);
    let unused = items.iter().filter(|item| !item.in_use);
    let (old, mut others): (Vec<_>, Vec<_>) = unused.partition(|item| {
        age(item
            .last_used
            .unwrap_or(item.first_seen)
            .max(item.first_seen))
            >= kept_for(item.kind, thresholds)
    });
    let mut freed: u64 = old.iter().map(|item| item.size).sum();
    let mut plan: Vec<_> = old.into_iter().map(remove).collect();
    let wanted = match thresholds.is_met(disk) {
        true => u64::MAX,
        false => excess(items, disk, thresholds),
    };
    others.retain(|item| {
        matches!(item.kind, Kind::Image | Kind::Dangling)
            && item.last_used.is_none_or(|at| at < now)
            && age(item.first_seen) >= thresholds.min_age
    });
    others.sort_by(|a, b| {
        let by_use = (a.last_used, a.first_seen).cmp(&(b.last_used, b.first_seen));
        by_use.then_with(|| a.what.cmp(&b.what))
    });
    for item in others {
        if freed >= wanted {
            break;
        }
        freed = freed.saturating_add(item.size);
        plan.push(remove(item));
    }
    plan
}

/// How many bytes of images are to go, so that they take no more than the low threshold; none below the high one.
pub(crate) fn excess(items: &[Item], disk: &Disk, thresholds: &Thresholds) -> u64 {
    let taken = items
        .iter()
        .filter(|item| matches!(item.kind, Kind::Image | Kind::Dangling))
        .fold(0_u64, |sum, item| sum.saturating_add(item.size));
    let could_have = taken.saturating_add(disk.available);
    if taken == 0 || taken < part(could_have, thresholds.high) {
        return 0;
    }
    taken.saturating_sub(part(could_have, thresholds.low))
}

fn kept_for(kind: Kind, thresholds: &Thresholds) -> SignedDuration {
    match kind {
        Kind::Dead => SignedDuration::ZERO,
        Kind::Orphan => thresholds.orphan,
        Kind::Dangling => thresholds.dangling,
        Kind::Image => thresholds.unused,
    }
}

fn remove(item: &Item) -> Remove {
    Remove {
        what: item.what.clone(),
        size: item.size,
    }
}
