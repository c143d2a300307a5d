//! A pod goes only where what it asks for is left, and rather where more is left.

use std::borrow::Cow;

use api::resources::Resources;

use super::{Filter, MAX_SCORE, Plugin, PreFilter, Rejection, Score, proportion};
use crate::{
    pod::Pod,
    snapshot::{Event, NodeState, Snapshot},
};

pub(super) struct NodeResourcesFit;

const NAME: &str = "NodeResourcesFit";

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Filter(Box::new(Fit(pod)))
    }

    fn pre_score<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Fit(pod)))
    }

    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        event
            .node()
            .is_some_and(|state| Fit(pod).check(state).is_ok())
    }
}

struct Fit<'a>(&'a Pod);

impl Filter for Fit<'_> {
    fn check(&self, node: &NodeState) -> Result<(), Rejection> {
        let asked = &self.0.requests.asked;
        let has = &node.node.allocatable;
        if fits(asked, has, &node.requested) {
            return Ok(());
        }
        Err(Rejection {
            plugin: NAME,
            reasons: lacking(asked, has, &node.requested),
            // Not even an empty node would do.
            unresolvable: !fits(asked, has, &Resources::default()),
        })
    }
}

/// Whether `asked` is left. Kept apart from [`lacking`] because it allocates nothing.
fn fits(asked: &Resources, has: &Resources, used: &Resources) -> bool {
    let left = |asked: i64, has: i64, used: i64| asked <= 0 || asked <= has.saturating_sub(used);
    left(asked.pods, has.pods, used.pods)
        && left(asked.milli_cpu, has.milli_cpu, used.milli_cpu)
        && left(asked.memory, has.memory, used.memory)
        && left(
            asked.ephemeral_storage,
            has.ephemeral_storage,
            used.ephemeral_storage,
        )
        && asked.scalars.iter().all(|(name, asked)| {
            let of = |amounts: &Resources| amounts.scalars.get(name).copied().unwrap_or(0);
            left(*asked, of(has), of(used))
        })
}

fn lacking(asked: &Resources, has: &Resources, used: &Resources) -> Vec<Cow<'static, str>> {
    let lacks = |asked: i64, has: i64, used: i64| asked > 0 && asked > has.saturating_sub(used);
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    if lacks(asked.pods, has.pods, used.pods) {
        reasons.push("Too many pods".into());
    }
    if lacks(asked.milli_cpu, has.milli_cpu, used.milli_cpu) {
        reasons.push("Insufficient cpu".into());
    }
    if lacks(asked.memory, has.memory, used.memory) {
        reasons.push("Insufficient memory".into());
    }
    if lacks(
        asked.ephemeral_storage,
        has.ephemeral_storage,
        used.ephemeral_storage,
    ) {
        reasons.push("Insufficient ephemeral-storage".into());
    }
    for (name, asked) in &asked.scalars {
        let of = |amounts: &Resources| amounts.scalars.get(name).copied().unwrap_or(0);
        if lacks(*asked, of(has), of(used)) {
            reasons.push(format!("Insufficient {name}").into());
        }
    }
    reasons
}

impl Score for Fit<'_> {
    /// The mean share of CPU and memory that would be left.
    fn score(&self, node: &NodeState) -> i64 {
        let has = &node.node.allocatable;
        let more = self.0.requests.scored;
        let shares = [
            share_left(has.milli_cpu, node.scored.milli_cpu, more.milli_cpu),
            share_left(has.memory, node.scored.memory, more.memory),
        ];
        let (sum, count) = shares
            .into_iter()
            .flatten()
            .fold((0, 0), |(sum, count), share| (sum + share, count + 1));
        if count == 0 { 0 } else { sum / count }
    }
}

/// Out of [`MAX_SCORE`]; `None` if the node has nothing of it.
fn share_left(has: i64, used: i64, more: i64) -> Option<i64> {
    if has <= 0 {
        return None;
    }
    let left = has.saturating_sub(used).saturating_sub(more);
    Some(proportion(left.max(0), has, MAX_SCORE))
}
