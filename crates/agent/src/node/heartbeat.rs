//! The node's Lease, renewed each second.

use std::time::Duration;

use client::{Client, Informer, Key, Patch};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::Clock;

const NAMESPACE: &str = "kube-node-lease";
const EVERY: Duration = Duration::from_secs(1);
/// A renewal that takes longer is given up for the next one, which may find another server.
const LIMIT: Duration = Duration::from_secs(2);
/// After one that failed the next is made this early.
const AGAIN: Duration = Duration::from_millis(250);
/// For so long after a heartbeat nobody takes a node for lost: servers wait for longer.
const HEARD_FOR: Duration = Duration::from_secs(3);
/// After so many seconds without renewal the node counts as dead.
const SECONDS: i32 = 5;

/// Renews the Lease of `node` for ever: drop it. It shares nothing with the pods' work but the runtime's threads, on
/// which no guest runs. `heard` says when the last renewal that came
/// through was begun: servers have heard of the node no earlier.
pub(crate) async fn heartbeat(
    client: Client,
    node: String,
    clock: Clock,
    nodes: Informer<Node>,
    heard: watch::Sender<Option<Instant>>,
) {
    let client = client.with_timeout(LIMIT);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tick.tick().await;
        let begun = Instant::now();
        let renewed = tokio::time::timeout(LIMIT, renew(&client, &node, clock, &nodes)).await;
        let error = match renewed {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", LIMIT.as_secs())),
        };
        match &error {
            Some(error) if !failing => {
                tracing::warn!(node, error, "the node's lease could not be renewed")
            }
            None if failing => tracing::info!(node, "the node's lease is renewed again"),
            _ => {}
        }
        failing = error.is_some();
        if failing {
            tick.reset_after(AGAIN);
        } else {
            heard.send_replace(Some(begun));
        }
    }
}

/// Waits until the API hears the node's heartbeats, where it does not.
///
/// To whoever misses those, a node that was cut off is still lost: what it says of itself and its pods before the first of
/// them would be put down to its last days, and be taken back.
pub(crate) async fn until_heard(heard: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let last = *heard.borrow_and_update();
        if last.is_some_and(|at| at.elapsed() < HEARD_FOR) {
            return;
        }
        // Whose sender is gone ends just now.
        if heard.changed().await.is_err() {
            return;
        }
    }
}

async fn renew(
    client: &Client,
    node: &str,
    clock: Clock,
    nodes: &Informer<Node>,
) -> Result<(), client::Error> {
    let leases = client.of::<Lease>();
    let now = MicroTime(clock.now());
    let patch = Patch::Merge(
        json!({"spec": {"renewTime": now, "holderIdentity": node, "leaseDurationSeconds": SECONDS}}),
    );
    match leases.patch(NAMESPACE, node, &patch, None).await {
        Err(error) if error.is_not_found() => {}
        other => return other.map(drop),
    }
    // Owned by the Node, so that it goes with it; until the Node is there, there is nothing to own it.
    nodes.synced().await;
    let Some(uid) = nodes
        .get(&Key::new("", node))
        .and_then(|n| n.metadata.uid.clone())
    else {
        return Ok(());
    };
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": node, "namespace": NAMESPACE,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}],
        },
        "spec": {"holderIdentity": node, "leaseDurationSeconds": SECONDS, "renewTime": now},
    });
    let lease: Lease =
        serde_json::from_value(lease).map_err(|e| client::Error::decode("the lease", e))?;
    leases.create(&lease).await.map(drop)
}
