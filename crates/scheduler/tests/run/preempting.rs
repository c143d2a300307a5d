//! Less important pods make room.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_less_important_goes_for_the_more_important() {
    let cluster = Cluster::start();
    for node in ["a", "b"] {
        cluster.node(node, "4").await;
    }
    for (name, priority) in [("lowest", 1), ("low", 2)] {
        cluster
            .pod(name, "3", json!({ "priority": priority }))
            .await;
        cluster.placed_within(name, SECOND).await;
    }
    let freed = cluster.place("lowest").await;
    cluster.pod("equal", "3", json!({ "priority": 1 })).await;
    tokio::time::sleep(SECOND).await;
    let (_, _, message) = cluster.condition("equal").await.unwrap();
    assert_eq!(
        message,
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
         2 No preemption victims found for incoming pod."
    );
    cluster.pod("high", "3", json!({ "priority": 100 })).await;
    let (node, _) = cluster.placed_within("high", 15 * SECOND).await;
    assert_eq!(node, freed);
    let high = cluster.pods().get("default", "high").await.unwrap();
    assert_eq!(
        high.status.unwrap().nominated_node_name,
        Some(freed.clone())
    );
    let gone = cluster.pods().get("default", "lowest").await.unwrap_err();
    assert!(gone.is_not_found(), "{gone}");
    let uid = high.metadata.uid.unwrap();
    let expected = format!("Preempted by pod {uid} on node {freed}");
    assert_eq!(cluster.events("Preempted").await, [expected]);
    assert_eq!(cluster.place("equal").await, "");
    assert_ne!(cluster.place("low").await, "");
    cluster.stop().await;
}

/// A scheduler that takes over knows what the one before it had set aside.
#[tokio::test(start_paused = true)]
async fn room_that_was_set_aside_stays_so() {
    let cluster = Cluster::start();
    cluster.node("a", "4").await;
    let nominated: Pod = serde_json::from_value(json!({
        "metadata": { "name": "first", "namespace": "default" },
        "spec": { "schedulerName": "default-scheduler", "priority": 5, "schedulingGates": [{ "name": "later" }],
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": "3" } } }] },
        "status": { "phase": "Pending", "nominatedNodeName": "a" },
    }))
    .unwrap();
    cluster.pods().create(&nominated).await.unwrap();
    tokio::time::sleep(SECOND).await;
    cluster.pod("lesser", "3", json!({ "priority": 1 })).await;
    cluster.pod("more", "1", json!({ "priority": 9 })).await;
    cluster.placed_within("more", SECOND).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(cluster.place("lesser").await, "");
    cluster.delete("first").await;
    cluster.placed_within("lesser", 15 * SECOND).await;
    cluster.stop().await;
}

/// Room that is not being made is not set aside, and nobody is told that it were.
#[tokio::test(start_paused = true)]
async fn room_that_does_not_suffice_is_given_back() {
    let cluster = Cluster::start();
    cluster.node("a", "4").await;
    let nominated: Pod = serde_json::from_value(json!({
        "metadata": { "name": "stuck", "namespace": "default" },
        "spec": { "schedulerName": "default-scheduler", "priority": 5,
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": "5" } } }] },
        "status": { "phase": "Pending", "nominatedNodeName": "a" },
    }))
    .unwrap();
    cluster.pods().create(&nominated).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let told = cluster.pods().get("default", "stuck").await.unwrap();
    assert_eq!(told.status.unwrap().nominated_node_name, None);
    cluster.pod("lesser", "4", json!({ "priority": 1 })).await;
    cluster.placed_within("lesser", SECOND).await;
    cluster.stop().await;
}

/// A cluster of one node, which two pods of low priority share.
async fn full() -> Cluster {
    let cluster = Cluster::start();
    cluster.node("a", "4").await;
    for name in ["low-1", "low-2"] {
        cluster.pod(name, "2", json!({ "priority": 1 })).await;
        cluster.placed_within(name, SECOND).await;
    }
    cluster
}

/// Whoever was to go and could not be told so is asked again.
#[tokio::test(start_paused = true)]
async fn room_that_could_not_be_made_is_made_later() {
    let cluster = full().await;
    cluster.server.refuse(&Method::PATCH, "/low-1/status", 500);
    cluster.server.refuse(&Method::DELETE, "/low-2", 500);
    cluster.pod("high", "4", json!({ "priority": 100 })).await;
    cluster.placed_within("high", 15 * SECOND).await;
    cluster.stop().await;
}

/// Who is on the way out is nobody's to take once more, though the API does not say yet that it goes.
#[tokio::test(start_paused = true)]
async fn nobody_goes_twice() {
    let cluster = full().await;
    for name in ["high-1", "high-2"] {
        cluster.pod(name, "2", json!({ "priority": 100 })).await;
    }
    for name in ["high-1", "high-2"] {
        cluster.placed_within(name, 15 * SECOND).await;
    }
    assert_eq!(cluster.events("Preempted").await.len(), 2);
    let asked = cluster.server.requests();
    let ended = asked.iter().filter(|line| line.starts_with("DELETE"));
    assert_eq!(ended.count(), 2);
    cluster.stop().await;
}
