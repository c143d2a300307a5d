//! Cordoned nodes take no pods but those that tolerate it.

use super::{Filter, Plugin, PreFilter, Rejection, taint_toleration::tolerates};
use crate::{
    node::Taint,
    pod::Pod,
    snapshot::{Event, NodeState, Snapshot},
};

pub(super) struct NodeUnschedulable;

const NAME: &str = "NodeUnschedulable";

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            value: String::new(),
            effect: "NoSchedule".to_owned(),
        };
        if tolerates(pod, &cordon) {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(NotCordoned))
    }

    fn helps(&self, _: &Pod, event: &Event<'_>) -> bool {
        matches!(event, Event::Node(state) if !state.node.unschedulable)
    }
}

struct NotCordoned;

impl Filter for NotCordoned {
    fn check(&self, node: &NodeState) -> Result<(), Rejection> {
        if node.node.unschedulable {
            return Err(Rejection::unresolvable(NAME, "node(s) were unschedulable"));
        }
        Ok(())
    }
}
