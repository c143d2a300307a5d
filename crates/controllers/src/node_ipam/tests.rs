//! Address ranges of nodes.

use client::Key;
use serde_json::json;

use super::reconcile;
use crate::simulation::Simulation;

fn range(sim: &Simulation, node: &str) -> String {
    let node = sim.load("Node", &Key::new("", node)).expect("the node");
    node["spec"]["podCIDR"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn each_node_gets_the_lowest_free_range() {
    let mut sim = Simulation::new(1);
    let node = |name: &str, spec| {
        json!({"apiVersion": "v1", "kind": "Node",
                                         "metadata": {"name": name}, "spec": spec})
    };
    sim.create(node("a", json!({})));
    sim.create(node("b", json!({"podCIDR": "10.128.0.0/18"})));
    sim.create(node("c", json!({})));
    let plan = reconcile(&sim.view);
    sim.apply(&plan);
    assert_eq!(range(&sim, "a"), "10.128.64.0/18");
    assert_eq!(range(&sim, "c"), "10.128.128.0/18");
    assert!(reconcile(&sim.view).is_empty());
    sim.delete("Node", &Key::new("", "b"), true);
    sim.create(node("d", json!({})));
    let plan = reconcile(&sim.view);
    sim.apply(&plan);
    assert_eq!(range(&sim, "d"), "10.128.0.0/18");
}

#[test]
fn more_nodes_than_ranges_are_told_of() {
    let mut sim = Simulation::new(1);
    for n in 0..513 {
        let name = format!("node-{n:03}");
        sim.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
    }
    let plan = reconcile(&sim.view);
    assert_eq!((plan.writes.len(), plan.events.len()), (512, 1));
    sim.apply(&plan);
    assert_eq!(range(&sim, "node-511"), "10.255.192.0/18");
    assert_eq!(range(&sim, "node-512"), "");
}
