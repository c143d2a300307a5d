//! Pods that have a say in where others go.

use super::*;

fn term(key: &str) -> Value {
    json!({ "topologyKey": key, "labelSelector": { "matchLabels": { "app": "web" } } })
}

fn required(kind: &str, key: &str) -> Value {
    json!({ "affinity": { kind: { "requiredDuringSchedulingIgnoredDuringExecution": [term(key)] } } })
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_pod_away_leaves_and_it_comes() {
    let cluster = Cluster::start();
    for node in ["a", "b"] {
        cluster.node(node, "4").await;
    }
    let apart = || required("podAntiAffinity", "kubernetes.io/hostname");
    cluster.pod("one", "1", apart()).await;
    let (one, _) = cluster.placed_within("one", SECOND).await;
    cluster.pod("two", "1", apart()).await;
    let (two, _) = cluster.placed_within("two", SECOND).await;
    assert_ne!(one, two);
    cluster.pod("three", "1", apart()).await;
    tokio::time::sleep(SECOND).await;
    let refused = |whose: &str| {
        format!(
            "0/2 nodes are available: 2 node(s) didn't {whose} anti-affinity rules. preemption: "
        )
    };
    let (status, reason, message) = cluster.condition("three").await.unwrap();
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "Unschedulable")
    );
    assert!(message.starts_with(&refused("match pod")), "{message}");
    cluster.delete("one").await;
    let (three, _) = cluster.placed_within("three", 15 * SECOND).await;
    assert_eq!(three, one);
    // One that has no such rule may not come near those that have, either.
    cluster.pod("four", "1", json!({})).await;
    tokio::time::sleep(SECOND).await;
    let (_, _, message) = cluster.condition("four").await.unwrap();
    assert!(
        message.starts_with(&refused("satisfy existing pods")),
        "{message}"
    );
    cluster.delete("three").await;
    let (four, _) = cluster.placed_within("four", 15 * SECOND).await;
    assert_eq!(four, one);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_those_it_needs() {
    let cluster = Cluster::start();
    for (node, zone) in [("a", "z1"), ("b", "z2"), ("c", "z2")] {
        cluster.node(node, "4").await;
        let labels = json!({ "metadata": { "labels": { "zone": zone } } });
        cluster.patch_node(node, labels).await;
    }
    let selector = json!({ "matchLabels": { "team": "db" } });
    let needed = json!({ "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": "zone", "labelSelector": selector, "namespaceSelector": { "matchLabels": { "kind": "data" } } },
    ] } } });
    cluster.pod("web", "1", needed).await;
    tokio::time::sleep(SECOND).await;
    let (_, _, message) = cluster.condition("web").await.unwrap();
    assert!(
        message.starts_with("0/3 nodes are available: 3 node(s) didn't match pod affinity rules."),
        "{message}"
    );
    let db: Pod = serde_json::from_value(json!({
        "metadata": { "name": "db", "namespace": "storage", "labels": { "team": "db" } },
        "spec": { "nodeName": "b", "containers": [{ "name": "c" }] },
    }))
    .unwrap();
    cluster.pods().create(&db).await.unwrap();
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(cluster.place("web").await, "", "its namespace is not meant");
    let namespace = json!({ "metadata": { "name": "storage", "labels": { "kind": "data" } } });
    let namespace: Namespace = serde_json::from_value(namespace).unwrap();
    let namespaces = cluster.client.of::<Namespace>();
    namespaces.create(&namespace).await.unwrap();
    let (web, _) = cluster.placed_within("web", 15 * SECOND).await;
    assert!(["b", "c"].contains(&web.as_str()), "{web}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_lie_evenly() {
    let cluster = Cluster::start();
    for (node, zone) in [("a", "z1"), ("b", "z2"), ("c", "z3")] {
        cluster.node(node, "40").await;
        let labels = json!({ "metadata": { "labels": { "zone": zone } } });
        cluster.patch_node(node, labels).await;
    }
    // So that the scores alone would have all of them on one node.
    for node in ["b", "c"] {
        let taint = json!({ "spec": { "taints": [{ "key": "k", "effect": "PreferNoSchedule" }] } });
        cluster.patch_node(node, taint).await;
    }
    let mut places = BTreeMap::<String, usize>::new();
    for number in 0..9 {
        let spread = json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "app": "web" } } }] });
        let name = format!("web-{number}");
        cluster.pod(&name, "1", spread).await;
        let (place, _) = cluster.placed_within(&name, SECOND).await;
        *places.entry(place).or_default() += 1;
    }
    assert_eq!(places.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    cluster.stop().await;
}

/// Where there were the fewest there is nothing any more.
#[tokio::test(start_paused = true)]
async fn a_node_that_goes_helps_those_who_had_to_wait_for_it() {
    let cluster = Cluster::start();
    for (node, zone) in [("a", "z1"), ("b", "z2")] {
        cluster.node(node, "4").await;
        let labels = json!({ "metadata": { "labels": { "zone": zone } } });
        cluster.patch_node(node, labels).await;
    }
    let cordoned = json!({ "spec": { "unschedulable": true } });
    cluster.patch_node("b", cordoned).await;
    let even = || {
        json!({ "topologySpreadConstraints": [{
            "topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "app": "web" } },
        }] })
    };
    cluster.pod("one", "1", even()).await;
    cluster.placed_within("one", SECOND).await;
    cluster.pod("two", "1", even()).await;
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(cluster.place("two").await, "");
    let nodes = cluster.client.of::<Node>();
    nodes
        .delete("", "b", &DeleteOptions::default())
        .await
        .unwrap();
    let (node, took) = cluster.placed_within("two", SECOND).await;
    assert!(node == "a" && took <= 20 * MS, "{took:?}");
    cluster.stop().await;
}

/// Who is its kind's first needs nobody near.
#[tokio::test(start_paused = true)]
async fn a_pod_that_leaves_makes_another_the_first() {
    let cluster = Cluster::start();
    for (node, zone, cpu) in [("a", "z1", "1"), ("b", "z2", "4")] {
        cluster.node(node, cpu).await;
        let labels = json!({ "metadata": { "labels": { "zone": zone } } });
        cluster.patch_node(node, labels).await;
    }
    let at_a = json!({ "nodeSelector": { "zone": "z1" } });
    cluster.pod("one", "1", at_a).await;
    cluster.placed_within("one", SECOND).await;
    cluster
        .pod("two", "2", required("podAffinity", "zone"))
        .await;
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(cluster.place("two").await, "");
    cluster.delete("one").await;
    let (node, _) = cluster.placed_within("two", SECOND).await;
    assert_eq!(node, "b");
    cluster.stop().await;
}
