//! A pod that names its node goes there.

use super::{Filter, Plugin, PreFilter, Rejection};
use crate::{
    pod::Pod,
    snapshot::{Event, NodeState, Snapshot},
};

pub(super) struct NodeName;

const NAME: &str = "NodeName";

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        if pod.node_name.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(Named(&pod.node_name)))
    }

    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        matches!(event, Event::Node(state) if state.node.name == pod.node_name)
    }
}

struct Named<'a>(&'a str);

impl Filter for Named<'_> {
    fn check(&self, node: &NodeState) -> Result<(), Rejection> {
        if node.node.name == self.0 {
            return Ok(());
        }
        let reason = "node(s) didn't match the requested node name";
        Err(Rejection::unresolvable(NAME, reason))
    }
}
