//! A pod rather goes where CPU and memory would be used up evenly.

use super::{MAX_SCORE, Plugin, Score, proportion};
use crate::{
    pod::Pod,
    snapshot::{NodeState, Snapshot},
};

pub(super) struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn pre_score<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Option<Box<dyn Score + 'a>> {
        let asked = &pod.requests.asked;
        // A pod that asks for neither changes the balance nowhere.
        if asked.milli_cpu == 0 && asked.memory == 0 {
            return None;
        }
        Some(Box::new(Balance(pod)))
    }
}

struct Balance<'a>(&'a Pod);

impl Score for Balance<'_> {
    /// The less the two shares in use differ, the better.
    fn score(&self, node: &NodeState) -> i64 {
        let (has, used) = (&node.node.allocatable, &node.requested);
        let asked = &self.0.requests.asked;
        let cpu = share(has.milli_cpu, used.milli_cpu, asked.milli_cpu);
        let memory = share(has.memory, used.memory, asked.memory);
        match (cpu, memory) {
            // The standard deviation of two numbers is half of what they differ by.
            (Some(cpu), Some(memory)) => MAX_SCORE - (cpu - memory).abs() / 2,
            _ => MAX_SCORE,
        }
    }
}

/// Out of [`MAX_SCORE`]; `None` if the node has nothing of it.
fn share(has: i64, used: i64, more: i64) -> Option<i64> {
    if has <= 0 {
        return None;
    }
    let used = used.saturating_add(more).clamp(0, has);
    Some(proportion(used, has, MAX_SCORE))
}
