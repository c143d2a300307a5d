//! Nodes that fall silent, and pods of nodes that are gone.

use std::time::Duration;

use client::Key;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{HEARTBEAT_LIMIT, Heartbeats, reconcile, reconcile_pod};
use crate::simulation::{Simulation, epoch};
use crate::{View, Write};

fn begin() -> (Simulation, Key) {
    let mut sim = Simulation::new(1);
    let key = sim.create(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"},
        "status": {"conditions": [{"type": "Ready", "status": "True"},
                                  {"type": "MemoryPressure", "status": "False"}]}}),
    );
    let pod = sim.create(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "pod", "namespace": "ns"},
        "spec": {"nodeName": "node", "containers": []}}));
    sim.phase(&pod, "Running");
    (sim, key)
}

fn node(sim: &Simulation) -> Value {
    sim.load("Node", &Key::new("", "node")).expect("the node")
}

fn taints(sim: &Simulation) -> Vec<String> {
    let taints = node(sim)["spec"]["taints"].as_array().cloned();
    let text = |t: &Value, field: &str| t[field].as_str().unwrap_or_default().to_owned();
    taints
        .unwrap_or_default()
        .iter()
        .map(|t| format!("{}:{}", text(t, "key"), text(t, "effect")))
        .collect()
}

/// Looks at a node that was heard of `silent` ago until nothing is left to do.
fn look(sim: &mut Simulation, key: &Key, silent: Duration) -> Option<Duration> {
    let heard = sim.now - SignedDuration::try_from(silent).expect("short");
    for _ in 0..5 {
        let plan = reconcile(key, &sim.view, heard, sim.now);
        if plan.writes.is_empty() {
            return plan.again_after;
        }
        sim.apply(&plan);
    }
    panic!("no fixed point");
}

#[test]
fn a_node_that_is_heard_of_is_left_alone_and_looked_at_in_time() {
    let (mut sim, key) = begin();
    let again = look(&mut sim, &key, Duration::from_secs(1));
    assert_eq!(again, Some(HEARTBEAT_LIMIT - Duration::from_secs(1)));
    assert!(taints(&sim).is_empty() && sim.events.is_empty());
}

#[test]
fn a_silent_node_is_unknown_tainted_and_its_pods_are_not_ready() {
    let (mut sim, key) = begin();
    assert_eq!(look(&mut sim, &key, HEARTBEAT_LIMIT), None);
    for condition in node(&sim)["status"]["conditions"]
        .as_array()
        .expect("conditions")
    {
        assert_eq!(condition["status"], "Unknown");
        assert_eq!(condition["reason"], "NodeStatusUnknown");
        assert_eq!(condition["message"], "Kubelet stopped posting node status.");
    }
    assert_eq!(
        taints(&sim),
        [
            "node.kubernetes.io/unreachable:NoSchedule",
            "node.kubernetes.io/unreachable:NoExecute"
        ]
    );
    let pod = sim.load("Pod", &Key::new("ns", "pod")).expect("the pod");
    assert_eq!(pod["status"]["conditions"][0]["status"], "False");
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(
        sim.events,
        ["NodeNotReady Node node status is now: NodeNotReady"]
    );
}

#[test]
fn taints_follow_the_condition_when_the_node_comes_back() {
    let (mut sim, key) = begin();
    look(&mut sim, &key, HEARTBEAT_LIMIT);
    // Its heart beats again, but it has not said how it is.
    look(&mut sim, &key, Duration::ZERO);
    assert_eq!(taints(&sim)[0], "node.kubernetes.io/unreachable:NoSchedule");
    for (status, taint) in [
        ("False", Some("node.kubernetes.io/not-ready:NoSchedule")),
        ("True", None),
    ] {
        sim.change("Node", &key, |n| {
            n["status"]["conditions"][0]["status"] = status.into()
        });
        look(&mut sim, &key, Duration::ZERO);
        assert_eq!(taints(&sim).first().map(String::as_str), taint, "{status}");
    }
    // And is lost again.
    look(&mut sim, &key, HEARTBEAT_LIMIT);
    assert_eq!(taints(&sim).len(), 2);
    assert_eq!(sim.events.len(), 2);
}

#[test]
fn pressure_keeps_pods_away_while_it_is_told() {
    for (kind, taint) in [
        (
            "DiskPressure",
            "node.kubernetes.io/disk-pressure:NoSchedule",
        ),
        (
            "MemoryPressure",
            "node.kubernetes.io/memory-pressure:NoSchedule",
        ),
        ("PIDPressure", "node.kubernetes.io/pid-pressure:NoSchedule"),
    ] {
        let (mut sim, key) = begin();
        for (status, wanted) in [("False", None), ("True", Some(taint)), ("False", None)] {
            sim.change("Node", &key, |n| {
                n["status"]["conditions"] = json!([
                    {"type": "Ready", "status": "True"}, {"type": kind, "status": status},
                ])
            });
            look(&mut sim, &key, Duration::ZERO);
            assert_eq!(
                taints(&sim).first().map(String::as_str),
                wanted,
                "{kind} {status}"
            );
            assert!(taints(&sim).len() < 2, "{kind} {status}");
        }
    }
}

#[test]
fn a_node_that_is_lost_may_have_room_again() {
    let (mut sim, key) = begin();
    sim.change("Node", &key, |n| {
        n["status"]["conditions"] = json!([
            {"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"},
        ])
    });
    look(&mut sim, &key, Duration::ZERO);
    assert_eq!(taints(&sim).len(), 1);
    look(&mut sim, &key, HEARTBEAT_LIMIT);
    assert_eq!(
        taints(&sim),
        [
            "node.kubernetes.io/unreachable:NoSchedule",
            "node.kubernetes.io/unreachable:NoExecute"
        ]
    );
}

#[test]
fn other_taints_stay() {
    let (mut sim, key) = begin();
    sim.change("Node", &key, |n| {
        n["spec"]["taints"] = json!([{"key": "mine", "effect": "NoSchedule"}])
    });
    look(&mut sim, &key, HEARTBEAT_LIMIT);
    assert_eq!(
        (taints(&sim).len(), taints(&sim).remove(0)),
        (3, "mine:NoSchedule".into())
    );
}

#[test]
fn silence_is_measured_by_our_own_clock() {
    let lease = |renewed: &str| {
        let mut view = View::default();
        let key = Key::new(super::LEASES, "node");
        let lease = json!({"metadata": {"name": "node", "namespace": super::LEASES},
                           "spec": {"renewTime": renewed}});
        let lease = serde_json::from_value(lease).expect("a lease");
        view.leases.set(&key, Some(std::sync::Arc::new(lease)));
        view
    };
    let after = |seconds| epoch() + SignedDuration::from_secs(seconds);
    let mut heartbeats = Heartbeats::default();
    // A node whose clock is years behind is heard of all the same.
    let (first, second) = (
        lease("2001-01-01T00:00:00.000000Z"),
        lease("2001-01-01T00:00:01.000000Z"),
    );
    // At first sight it has been silent for as long as an election takes at least.
    assert_eq!(heartbeats.observe("node", &first, after(0)), after(-1));
    assert_eq!(heartbeats.observe("node", &first, after(3)), after(-1));
    assert_eq!(heartbeats.observe("node", &second, after(5)), after(5));
    // It says itself how it is, before its lease is renewed again.
    let mut written = second;
    let node = json!({"metadata": {"name": "node"}, "status": {"conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2001-01-01T00:00:02Z"},
    ]}});
    let node = serde_json::from_value(node).expect("a node");
    written
        .nodes
        .set(&Key::new("", "node"), Some(std::sync::Arc::new(node)));
    assert_eq!(heartbeats.observe("node", &written, after(7)), after(7));
    assert_eq!(heartbeats.observe("node", &written, after(8)), after(7));
    heartbeats.forget("node");
    assert_eq!(heartbeats.observe("node", &written, after(9)), after(8));
}

#[test]
fn a_pod_goes_when_the_api_confirms_that_its_node_is_gone() {
    let (mut sim, key) = begin();
    let pod = Key::new("ns", "pod");
    assert!(reconcile_pod(&pod, &sim.view, sim.now).is_empty());
    sim.delete("Node", &key, true);
    sim.pass(39);
    let plan = reconcile_pod(&pod, &sim.view, sim.now);
    assert!(plan.is_empty(), "its node may be yet to come");
    assert_eq!(plan.again_after, Some(Duration::from_secs(1)));
    sim.pass(1);
    let plan = reconcile_pod(&pod, &sim.view, sim.now);
    let Write::Delete { force, unless, .. } = &plan.writes[0] else {
        panic!("{plan:?}")
    };
    assert!(*force && unless[0].kind == "Node" && unless[0].uid.is_empty());
    sim.apply(&plan);
    assert!(sim.pods().is_empty());
}
