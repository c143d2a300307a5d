//! A pod that wants ports of its node goes only where they are free.

use std::borrow::Cow;

use super::{Filter, Plugin, PreFilter, Rejection};
use crate::{
    pod::Pod,
    snapshot::{Event, NodeState, Snapshot},
};

pub(super) struct NodePorts;

const NAME: &str = "NodePorts";

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        match pod.host_ports.is_empty() {
            true => PreFilter::Skip,
            false => PreFilter::Filter(Box::new(Free(pod))),
        }
    }

    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        event
            .node()
            .is_some_and(|state| Free(pod).check(state).is_ok())
    }
}

struct Free<'a>(&'a Pod);

impl Filter for Free<'_> {
    fn check(&self, node: &NodeState) -> Result<(), Rejection> {
        if node.host_ports.has_free(&self.0.host_ports) {
            return Ok(());
        }
        let reason = "node(s) didn't have free ports for the requested pod ports";
        Err(Rejection {
            plugin: NAME,
            reasons: vec![Cow::Borrowed(reason)],
            // Without its other pods the node would do.
            unresolvable: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::node::Node;

    fn pod(name: &str, ports: Value) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "ports": ports}]}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn ports_are_taken_and_given_back() {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(Arc::new(Node {
            name: "n".to_owned(),
            ..Node::default()
        }));
        let placed = pod(
            "placed",
            json!([{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"}]),
        );
        snapshot.place(placed.clone(), "n");
        let free = |snapshot: &Snapshot, port: &Value| {
            let pod = pod("new", json!([port]));
            Free(&pod).check(&snapshot.nodes()[0]).is_ok()
        };
        for (port, is_free) in [
            (json!({"containerPort": 80}), true),
            (json!({"containerPort": 1, "hostPort": 81}), true),
            (json!({"containerPort": 1, "hostPort": 80}), false),
            (
                json!({"containerPort": 1, "hostPort": 80, "hostIP": "192.0.2.1"}),
                false,
            ),
            (
                json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"}),
                true,
            ),
            (
                json!({"containerPort": 1, "hostPort": 53, "protocol": "UDP"}),
                false,
            ),
            (
                json!({"containerPort": 1, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"}),
                false,
            ),
            (
                json!({"containerPort": 1, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.2"}),
                true,
            ),
        ] {
            assert_eq!(free(&snapshot, &port), is_free, "{port}");
        }
        // Bound by hand beside it: the port is free when both are gone.
        let twin = pod("twin", json!([{"containerPort": 1, "hostPort": 80}]));
        snapshot.place(twin.clone(), "n");
        let port = json!({"containerPort": 1, "hostPort": 80});
        snapshot.remove_pod(&placed.key());
        assert!(!free(&snapshot, &port));
        snapshot.remove_pod(&twin.key());
        assert!(free(&snapshot, &port));
    }
}
