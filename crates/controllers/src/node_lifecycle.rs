//! Nodes: what follows from a heartbeat that stays away, and from conditions that keep pods away.

#[cfg(test)]
mod tests;

use std::time::Duration;

use client::Key;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::json;

use crate::owner::{self, target};
use crate::plan::{Plan, Target, Write};
use crate::view::View;

/// A node whose lease is older than this is not ready.
///
/// A lease is renewed each second, and a renewal that hangs, because the server it went to is gone,
/// is given up after two: a node that is well is silent for 3 s at times, and never for 4.
pub(crate) const HEARTBEAT_LIMIT: Duration = Duration::from_secs(4);
/// How old a lease counts when a leader first sees it. That leader was elected because the one
/// before was silent for a second at least, and what was renewed before that is the least that it
/// sees. So a machine that takes the leader with it is found missing within 5 s, election and
/// start of the next leader included, and a renewal that hung on it has still time to come.
const AGE_AT_FIRST_SIGHT: SignedDuration = SignedDuration::from_secs(1);
/// How long a node that nobody ever heard of may take for its first heartbeat.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(20);
/// How old a pod is at least that ends because its node is not there: what Kubernetes waits for before it
/// believes that a node is gone.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Where the nodes' heartbeats are.
pub(crate) const LEASES: &str = "kube-node-lease";

/// The taints and effects that tell schedulers of an unreachable node.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The conditions that keep new pods away while they are `True`, and the taint of each.
const PRESSURES: [(&str, &str); 3] = [
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];

/// When nodes were last heard of, by this controller's own clock: as in Kubernetes a renewed lease is a heartbeat, and so is
/// a Ready condition that the node has written anew.
///
/// Clocks of machines differ, so the age of a heartbeat is how long *we* have not seen it move,
/// never the difference between our clock and the time that is written in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heartbeats {
    seen: std::collections::BTreeMap<String, (Said, Timestamp)>,
}

/// The times that a node has written into its lease, and into its condition.
type Said = (Option<MicroTime>, Option<Time>);

impl Heartbeats {
    /// When `node` was last heard of, as far as this leader has seen.
    pub(crate) fn observe(&mut self, node: &str, view: &View, now: Timestamp) -> Timestamp {
        let lease = view.leases.get(&Key::new(LEASES, node));
        let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.clone());
        let object = view.nodes.get(&Key::new("", node));
        let written = object.and_then(|node| ready(node)?.last_heartbeat_time.clone());
        let said = (renewed, written);
        let at = match self.seen.get(node) {
            Some((before, at)) if *before == said => *at,
            Some(_) => now,
            None => now - AGE_AT_FIRST_SIGHT,
        };
        self.seen.insert(node.to_owned(), (said, at));
        at
    }

    /// Forgets a node that is gone.
    pub(crate) fn forget(&mut self, node: &str) {
        self.seen.remove(node);
    }
}

/// Brings the node at `key` up to date: its readiness and the taints that follow from it. `heartbeat` is when it was last heard of.
pub(crate) fn reconcile(key: &Key, view: &View, heartbeat: Timestamp, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(node) = view.nodes.get(key) else {
        return plan;
    };
    if owner::is_deleting(&**node) {
        return plan;
    }
    judge(node, view, heartbeat, now, &mut plan);
    plan
}

fn judge(node: &Node, view: &View, heartbeat: Timestamp, now: Timestamp, plan: &mut Plan) {
    let limit = match ready(node) {
        Some(_) => HEARTBEAT_LIMIT,
        None => FIRST_HEARTBEAT,
    };
    let silent = Duration::try_from(now.duration_since(heartbeat)).unwrap_or_default();
    if silent < limit {
        plan.again(limit - silent);
    } else {
        lose(node, view, now, plan);
    }
    // One write of the node at a time: the taints follow from the condition once it is in view.
    if plan.writes.iter().all(|w| !writes_node(w)) {
        taint(node, now, plan);
    }
}

fn writes_node(write: &Write) -> bool {
    matches!(write, Write::Status { target, .. } if target.kind == "Node")
}

/// Marks a silent node's condition `Unknown` and its pods as not ready.
fn lose(node: &Node, view: &View, now: Timestamp, plan: &mut Plan) {
    if ready(node).is_none_or(|c| c.status != "Unknown") {
        let mut status = node.status.clone().unwrap_or_default();
        let conditions = status.conditions.get_or_insert_default();
        if conditions.iter().all(|c| c.type_ != "Ready") {
            conditions.push(NodeCondition {
                type_: "Ready".into(),
                ..NodeCondition::default()
            });
        }
        for condition in conditions.iter_mut().filter(|c| c.status != "Unknown") {
            condition.status = "Unknown".into();
            condition.reason = Some("NodeStatusUnknown".into());
            condition.message = Some("Kubelet stopped posting node status.".into());
            condition.last_transition_time = Some(Time(now));
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        plan.note(
            "NodeNotReady",
            format!("Node {name} status is now: NodeNotReady"),
        );
        plan.writes
            .push(Write::status(node, node.status.as_ref(), &status));
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    for (_, pod) in view.pods.iter().filter(|(_, pod)| is_on(pod, name)) {
        if crate::pods::is_ready(pod) {
            plan.writes.push(not_ready(pod, now));
        }
    }
}

fn not_ready(pod: &Pod, now: Timestamp) -> Write {
    let mut status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.iter_mut().flatten();
    for condition in conditions.filter(|c| c.type_ == "Ready") {
        condition.status = "False".into();
        condition.last_transition_time = Some(Time(now));
    }
    Write::status(pod, pod.status.as_ref(), &status)
}

/// Sets the taints that a node's conditions call for, and takes away those they no longer do.
fn taint(node: &Node, now: Timestamp, plan: &mut Plan) {
    let status = ready(node).map_or("False", |c| c.status.as_str());
    let lost = status == "Unknown";
    let not_ready = !lost && status != "True";
    let old = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.clone())
        .unwrap_or_default();
    let mut taints = old.clone();
    let of_readiness = [(UNREACHABLE, lost), (NOT_READY, not_ready)]
        .map(|(key, wanted)| (key, &["NoSchedule", "NoExecute"][..], wanted));
    let of_pressure = PRESSURES.map(|(kind, key)| {
        let is_pressed = condition(node, kind).is_some_and(|c| c.status == "True");
        (key, &["NoSchedule"][..], is_pressed)
    });
    for (key, effects, wanted) in of_readiness.into_iter().chain(of_pressure) {
        for &effect in effects {
            let at = taints
                .iter()
                .position(|t| t.key == key && t.effect == effect);
            match (at, wanted) {
                (None, true) => taints.push(k8s_openapi::api::core::v1::Taint {
                    key: key.into(),
                    effect: effect.into(),
                    value: None,
                    time_added: (effect == "NoExecute").then_some(Time(now)),
                }),
                (Some(at), false) => {
                    taints.remove(at);
                }
                _ => {}
            }
        }
    }
    if taints != old {
        let patch = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        });
        plan.writes.push(Write::Patch {
            target: target(node),
            patch,
        });
    }
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    condition(node, "Ready")
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

fn is_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node)
}

/// Ends pods whose node is gone for good: nobody is left to report their end.
///
/// A pod younger than [`QUARANTINE`] may be ahead of its node; and who makes pods for a node that never was, and
/// makes them anew when they end, does so no more often than that.
pub(crate) fn reconcile_pod(key: &Key, view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(pod) = view.pods.get(key) else {
        return plan;
    };
    let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) else {
        return plan;
    };
    let node = Key::new("", node);
    if view.nodes.get(&node).is_none() {
        let age = owner::created(&**pod).map_or(QUARANTINE, |made| {
            now.duration_since(made).try_into().unwrap_or_default()
        });
        if age < QUARANTINE {
            plan.again(QUARANTINE - age);
            return plan;
        }
        let node = Target {
            api_version: "v1".into(),
            kind: "Node".into(),
            key: node,
            uid: String::new(),
        };
        plan.writes.push(Write::Delete {
            target: target(&**pod),
            force: true,
            foreground: false,
            unless: vec![node],
        });
    }
    plan
}
