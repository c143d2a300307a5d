//! A claim that is one pod's alone (`ReadWriteOncePod`) lets no second one in, wherever the first is.

use super::{Filter, Plugin, PreFilter, Rejection};
use crate::{
    pod::Pod,
    snapshot::{Event, NodeState, Snapshot},
};

pub(super) struct VolumeRestrictions;

const NAME: &str = "VolumeRestrictions";

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> PreFilter<'a> {
        let is_taken = pod.claims.iter().any(|named| {
            let claim = snapshot.storage.claim(&named.claim);
            let modes = claim.map(|claim| api::storage::modes_of_claim(claim));
            let is_alone = modes.is_some_and(|modes| modes.iter().any(|m| m == "ReadWriteOncePod"));
            is_alone && snapshot.is_used_by_another(&named.claim, pod)
        });
        match is_taken {
            true => PreFilter::Filter(Box::new(Taken)),
            false => PreFilter::Skip,
        }
    }

    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::Unused(claim) => pod.uses(claim),
            _ => false,
        }
    }
}

struct Taken;

impl Filter for Taken {
    fn check(&self, _: &NodeState) -> Result<(), Rejection> {
        let reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
        Err(Rejection {
            unresolvable: false,
            ..Rejection::unresolvable(NAME, reason)
        })
    }
}
