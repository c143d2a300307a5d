//! The Node object, its heartbeats, and what waits for them.

use std::collections::BTreeSet;
use std::time::Duration;

use client::Patch;
use http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::bench::Bench;

#[tokio::test(start_paused = true)]
async fn the_node_says_what_it_is_and_that_it_lives() {
    let mut b = Bench::new().await;
    let node = serde_json::to_value(b.client.of::<Node>().get("", "n1").await.unwrap()).unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(node["metadata"]["labels"]["zone"], "a");
    assert_eq!(node["status"]["allocatable"]["pods"], "16000");
    assert_eq!(node["status"]["addresses"][0]["address"], "127.0.0.1");
    let renewed = async || {
        let lease = b
            .client
            .of::<Lease>()
            .find("kube-node-lease", "n1")
            .await
            .unwrap();
        lease.and_then(|l| l.spec?.renew_time)
    };
    b.until("a lease", async |_| renewed().await.is_some())
        .await;
    let before = renewed().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(renewed().await > before);
    // Somebody else (the controller that misses heartbeats) says that the node is not ready: it says so itself again.
    let unknown = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}});
    b.client
        .of::<Node>()
        .patch("", "n1", &Patch::Strategic(unknown), Some("status"))
        .await
        .unwrap();
    b.until("ready again", async |b| b.node_ready().await).await;
    let heartbeats = async || {
        let node = b.client.of::<Node>().get("", "n1").await.unwrap();
        let all = node.status.and_then(|s| s.conditions).unwrap_or_default();
        let times = all.into_iter().map(|c| c.last_heartbeat_time);
        let version = node.metadata.resource_version;
        (times.collect::<BTreeSet<_>>(), version)
    };
    // Nothing changes, which is said once in five minutes.
    tokio::time::sleep(Duration::from_secs(301)).await;
    let said = heartbeats().await;
    assert_eq!(said.0.len(), 1, "{said:?}");
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(heartbeats().await, said);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(heartbeats().await.0 > said.0);
    // Nothing may be placed on a node whose agent has ended.
    b.stop().await;
    assert!(!b.node_ready().await);
}

/// Whoever misses its heartbeats takes back what it says of its pods: it says nothing before they are heard.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_is_heard_of_before_its_pods_are() {
    let b = Bench::new().await;
    b.create(
        "web",
        json!({"containers": [{"name": "main", "args": ["sleep 1h"]}]}),
    )
    .await;
    b.until_phase("web", "Running").await;
    b.until_ready("web", "True").await;
    for _ in 0..30 {
        b.server.refuse(&Method::PATCH, "/leases/n1", 503);
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let lost = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let lost = Patch::Strategic(lost);
    let (pods, nodes) = (b.client.of::<Pod>(), b.client.of::<Node>());
    pods.patch("default", "web", &lost, Some("status"))
        .await
        .unwrap();
    nodes.patch("", "n1", &lost, Some("status")).await.unwrap();
    let before = b.server.requests().len();
    b.until("the node is ready again", async |b| b.node_ready().await)
        .await;
    b.until_ready("web", "True").await;
    let mut said = b.server.requests().split_off(before);
    said.retain(|request| request.starts_with("PATCH "));
    let heard = said.iter().take_while(|said| said.contains("/leases/n1?"));
    // Those that were refused, and the one that came through.
    assert!(heard.count() > 1, "{said:?}");
}
