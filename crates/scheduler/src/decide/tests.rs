//! Whole decisions, as tables.

mod effort;
mod preempting;
mod volumes;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};

use super::*;
use crate::{Event, node::Node};

fn node(name: &str, spec: Value) -> Arc<Node> {
    let mut labels = spec["labels"].clone();
    labels["kubernetes.io/hostname"] = name.into();
    let or = |field: &str, default: &str| spec.get(field).cloned().unwrap_or(default.into());
    let node: core::Node = serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "taints": spec.get("taints"), "unschedulable": spec.get("unschedulable") },
        "status": {
            "allocatable": {
                "cpu": or("cpu", "2"), "memory": or("memory", "4Gi"), "pods": or("pods", "10"),
                "ephemeral-storage": or("disk", "10Gi"), "example.com/gpu": or("gpu", "0"),
            },
            "conditions": [{ "type": "Ready", "status": or("ready", "True") }],
        },
    }))
    .unwrap();
    Arc::new(Node::from(node))
}

fn pod(name: &str, spec: Value) -> Pod {
    let pod: core::Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") },
        "spec": spec,
    }))
    .unwrap();
    Pod::from(pod)
}

fn asking(requests: Value) -> Value {
    json!({ "containers": [{ "name": "c", "resources": { "requests": requests } }] })
}

fn snapshot(nodes: &[(&str, Value)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, spec) in nodes {
        snapshot.set_node(node(name, spec.clone()));
    }
    snapshot
}

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(7)
}

fn decide(pod: &Pod, snapshot: &Snapshot) -> Decision {
    Scheduler::default().schedule(pod, &mut snapshot.clone(), &mut rng())
}

fn bound(pod: &Pod, snapshot: &Snapshot) -> String {
    match decide(pod, snapshot) {
        Decision::Bind { node, .. } => node,
        other => panic!("it waits: {other:?}"),
    }
}

fn waits(pod: &Pod, snapshot: &Snapshot) -> Unschedulable {
    match decide(pod, snapshot) {
        Decision::Wait(why) => why,
        other => panic!("it does not wait: {other:?}"),
    }
}

#[test]
fn no_nodes() {
    let why = waits(&pod("p", json!({})), &Snapshot::default());
    assert_eq!(why.message, "no nodes available to schedule pods");
    let (name, spec) = ("a", json!({}));
    let now = snapshot(&[(name, spec)]);
    let event = Event::Node(now.node("a").unwrap());
    assert!(Plugins::default().help(&why.plugins, &pod("p", json!({})), &event));
}

#[test]
fn what_each_plugin_refuses() {
    let gpu = asking(json!({ "example.com/gpu": "1" }));
    let affine = |key: &str, operator: &str, values: Value| {
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution":
            { "nodeSelectorTerms": [{ "matchExpressions":
                [{ "key": key, "operator": operator, "values": values }] }] } } } })
    };
    let tainted =
        |effect: &str| json!({ "taints": [{ "key": "k", "value": "v", "effect": effect }] });
    let tolerating = |toleration: Value| json!({ "tolerations": [toleration] });
    let cases = [
        // The pod, the node, and the reason or none, and whether taking pods away is no help.
        (json!({}), json!({}), "", false),
        (
            asking(json!({ "cpu": "3" })),
            json!({}),
            "Insufficient cpu",
            true,
        ),
        (
            asking(json!({ "memory": "5Gi" })),
            json!({}),
            "Insufficient memory",
            true,
        ),
        (
            asking(json!({ "ephemeral-storage": "11Gi" })),
            json!({}),
            "Insufficient ephemeral-storage",
            true,
        ),
        (gpu.clone(), json!({}), "Insufficient example.com/gpu", true),
        (gpu, json!({ "gpu": "1" }), "", false),
        (json!({}), json!({ "pods": "0" }), "Too many pods", true),
        (
            json!({}),
            json!({ "unschedulable": true }),
            "node(s) were unschedulable",
            true,
        ),
        (
            tolerating(json!({ "key": "node.kubernetes.io/unschedulable", "operator": "Exists" })),
            json!({ "unschedulable": true }),
            "",
            false,
        ),
        (
            json!({}),
            json!({ "ready": "Unknown" }),
            "node(s) had untolerated taint(s)",
            true,
        ),
        (
            json!({}),
            tainted("NoSchedule"),
            "node(s) had untolerated taint(s)",
            true,
        ),
        (
            json!({}),
            tainted("NoExecute"),
            "node(s) had untolerated taint(s)",
            true,
        ),
        (json!({}), tainted("PreferNoSchedule"), "", false),
        (
            tolerating(json!({ "operator": "Exists" })),
            tainted("NoSchedule"),
            "",
            false,
        ),
        (
            tolerating(json!({ "key": "k", "operator": "Exists" })),
            tainted("NoSchedule"),
            "",
            false,
        ),
        (
            tolerating(json!({ "key": "k", "value": "v" })),
            tainted("NoSchedule"),
            "",
            false,
        ),
        (
            tolerating(json!({ "key": "k", "value": "w" })),
            tainted("NoSchedule"),
            "node(s) had untolerated taint(s)",
            true,
        ),
        (
            tolerating(json!({ "key": "k", "value": "v", "effect": "NoExecute" })),
            tainted("NoSchedule"),
            "node(s) had untolerated taint(s)",
            true,
        ),
        (
            json!({ "nodeSelector": { "disk": "ssd" } }),
            json!({}),
            "node(s) didn't match Pod's node affinity/selector",
            true,
        ),
        (
            json!({ "nodeSelector": { "disk": "ssd" } }),
            json!({ "labels": { "disk": "ssd" } }),
            "",
            false,
        ),
        (
            affine("disk", "In", json!(["ssd", "nvme"])),
            json!({ "labels": { "disk": "nvme" } }),
            "",
            false,
        ),
        (
            affine("disk", "NotIn", json!(["ssd"])),
            json!({ "labels": { "disk": "ssd" } }),
            "node(s) didn't match Pod's node affinity/selector",
            true,
        ),
        (
            affine("disk", "NotIn", json!(["ssd"])),
            json!({}),
            "",
            false,
        ),
        (
            affine("disk", "Exists", json!(null)),
            json!({ "labels": { "disk": "" } }),
            "",
            false,
        ),
        (
            affine("disk", "DoesNotExist", json!(null)),
            json!({ "labels": { "disk": "" } }),
            "node(s) didn't match Pod's node affinity/selector",
            true,
        ),
        (
            affine("cores", "Gt", json!(["4"])),
            json!({ "labels": { "cores": "8" } }),
            "",
            false,
        ),
        (
            affine("cores", "Lt", json!(["4"])),
            json!({ "labels": { "cores": "8" } }),
            "node(s) didn't match Pod's node affinity/selector",
            true,
        ),
        (
            affine("cores", "Gt", json!(["4"])),
            json!({ "labels": { "cores": "many" } }),
            "node(s) didn't match Pod's node affinity/selector",
            true,
        ),
    ];
    for (pod_spec, node_spec, reason, unresolvable) in cases {
        let case = format!("{pod_spec} on {node_spec}");
        let pod = pod("p", pod_spec);
        let snapshot = snapshot(&[("a", node_spec)]);
        match decide(&pod, &snapshot) {
            Decision::Bind { node, .. } => assert_eq!((node.as_str(), reason), ("a", ""), "{case}"),
            Decision::Preempt { .. } => panic!("{case}: there is nobody to preempt"),
            Decision::Wait(why) => {
                let preemption = if unresolvable {
                    NOT_HELPFUL
                } else {
                    NO_VICTIMS
                };
                let expected = format!(
                    "0/1 nodes are available: 1 {reason}. \
                     preemption: 0/1 nodes are available: 1 {preemption}."
                );
                assert_eq!(why.message, expected, "{case}");
                assert_eq!(why.plugins.len(), 1, "{case}");
                // The same node again helps nothing, a node of its own would.
                let event = Event::Node(snapshot.node("a").unwrap());
                let plugins = Plugins::default();
                assert!(!plugins.help(&why.plugins, &pod, &event), "{case}");
            }
        }
    }
}

#[test]
fn reasons_are_counted_over_the_nodes() {
    let taint = json!({ "taints": [{ "key": "k", "effect": "NoSchedule" }] });
    let mut snapshot = snapshot(&[("a", json!({})), ("b", taint.clone()), ("c", taint)]);
    snapshot.place(
        Arc::new(pod("big", asking(json!({ "memory": "3Gi" })))),
        "a",
    );
    let wanting = pod("p", asking(json!({ "memory": "2Gi" })));
    let why = waits(&wanting, &snapshot);
    assert_eq!(
        why.message,
        "0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint(s). \
         preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, \
         2 Preemption is not helpful for scheduling."
    );
    assert_eq!(why.plugins, ["TaintToleration", "NodeResourcesFit"]);
    assert_eq!(why.condition, "Unschedulable");

    let several = pod("q", asking(json!({ "memory": "5Gi", "cpu": "3" })));
    let message = waits(&several, &snapshot).message;
    assert!(
        message.contains("1 Insufficient cpu, 1 Insufficient memory, 2 node(s)"),
        "{message}"
    );

    let mut urgent = wanting.clone();
    urgent.priority = 5;
    urgent.never_preempts = true;
    let message = waits(&urgent, &snapshot).message;
    assert!(
        message.ends_with("preemption: not eligible due to preemptionPolicy=Never."),
        "{message}"
    );
}

#[test]
fn a_node_may_be_named_by_a_field() {
    let named = |names: Value| {
        pod(
            "p",
            json!({ "affinity": { "nodeAffinity":
            { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": names }] },
            ] } } } }),
        )
    };
    let snapshot = snapshot(&[
        ("a", json!({})),
        ("b", json!({})),
        ("c", json!({ "unschedulable": true })),
    ]);
    assert_eq!(bound(&named(json!(["b"])), &snapshot), "b");
    assert_eq!(bound(&named(json!(["absent", "b", "c"])), &snapshot), "b");
    let why = waits(&named(json!(["c"])), &snapshot);
    assert!(
        why.message.starts_with(
            "0/3 nodes are available: 1 node(s) were unschedulable, \
             2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/3"
        ),
        "{}",
        why.message
    );
    assert_eq!(why.plugins, ["NodeUnschedulable", "NodeAffinity"]);
}

#[test]
fn what_is_held_back() {
    let snapshot = snapshot(&[("a", json!({}))]);
    let gated = pod(
        "p",
        json!({ "schedulingGates": [{ "name": "x" }, { "name": "y" }] }),
    );
    let why = waits(&gated, &snapshot);
    assert_eq!(why.condition, "SchedulingGated");
    assert_eq!(
        why.message,
        "Scheduling is blocked due to non-empty scheduling gates: [x y]"
    );
    let claiming = json!({ "resourceClaims": [{ "name": "gpu" }] });
    let why = waits(&pod("p", claiming), &snapshot);
    assert_eq!(
        why.message,
        "0/1 nodes are available: the pod uses resource claims (spec.resourceClaims), \
         which carob's scheduler does not support yet."
    );
    let event = Event::Node(snapshot.node("a").unwrap());
    assert!(!Plugins::default().help(&why.plugins, &gated, &event));
}

#[test]
fn preferences_decide() {
    let averse = json!({ "taints": [{ "key": "k", "effect": "PreferNoSchedule" }] });
    let ssd = json!({ "labels": { "disk": "ssd" } });
    let plain = pod("p", json!({}));
    assert_eq!(
        bound(
            &plain,
            &snapshot(&[("a", averse.clone()), ("b", json!({}))])
        ),
        "b"
    );
    let preferring = pod(
        "p",
        json!({ "affinity": { "nodeAffinity":
        { "preferredDuringSchedulingIgnoredDuringExecution": [
            { "weight": 10, "preference": { "matchExpressions":
                [{ "key": "disk", "operator": "In", "values": ["ssd"] }] } },
        ] } } }),
    );
    assert_eq!(
        bound(
            &preferring,
            &snapshot(&[("a", json!({})), ("b", ssd.clone())])
        ),
        "b"
    );
    // Taints weigh more than affinity.
    let both = snapshot(&[
        ("a", json!({})),
        ("b", {
            let mut both = ssd;
            both["taints"] = averse["taints"].clone();
            both
        }),
    ]);
    assert_eq!(bound(&preferring, &both), "a");
}

#[test]
fn the_emptier_and_the_better_balanced_node() {
    let mut snapshot = snapshot(&[("a", json!({})), ("b", json!({}))]);
    snapshot.place(
        Arc::new(pod("x", asking(json!({ "cpu": "1", "memory": "2Gi" })))),
        "a",
    );
    let next = pod("p", asking(json!({ "cpu": "100m", "memory": "100Mi" })));
    assert_eq!(bound(&next, &snapshot), "b");
    // Both are used by half, but a's memory is all that is used there.
    let mut snapshot = self::snapshot(&[("a", json!({})), ("b", json!({}))]);
    snapshot.place(
        Arc::new(pod("x", asking(json!({ "cpu": "0", "memory": "2Gi" })))),
        "a",
    );
    snapshot.place(
        Arc::new(pod("y", asking(json!({ "cpu": "500m", "memory": "1Gi" })))),
        "b",
    );
    let next = pod("p", asking(json!({ "memory": "1Gi", "cpu": "0" })));
    assert_eq!(bound(&next, &snapshot), "b");
}

/// Pods that ask for nothing spread, for they count as a little each, however little that is of
/// the machine.
#[test]
fn pods_spread_over_equal_nodes() {
    for size in [
        json!({}),
        json!({ "cpu": "512", "memory": "8Ti", "pods": "16000" }),
    ] {
        let mut snapshot = snapshot(&[("a", size.clone()), ("b", size.clone()), ("c", size)]);
        let mut rng = rng();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..9 {
            let spec = json!({ "containers": [{ "name": "c" }] });
            let pod = pod(&format!("p{number}"), spec);
            let Decision::Bind { node, .. } =
                Scheduler::default().schedule(&pod, &mut snapshot.clone(), &mut rng)
            else {
                panic!("{number} fits nowhere");
            };
            *counts.entry(node.clone()).or_default() += 1;
            snapshot.place(Arc::new(pod), &node);
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    }
}

#[test]
fn ties_are_broken_by_chance() {
    let snapshot = snapshot(&[("a", json!({})), ("b", json!({})), ("c", json!({}))]);
    let pod = pod("p", json!({}));
    let mut rng = rng();
    let mut chosen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        if let Decision::Bind { node, .. } =
            Scheduler::default().schedule(&pod, &mut snapshot.clone(), &mut rng)
        {
            chosen.insert(node);
        }
    }
    assert_eq!(chosen.len(), 3);
    assert_eq!(
        decide(&pod, &snapshot),
        decide(&pod, &snapshot),
        "the same seed, the same node"
    );
}
