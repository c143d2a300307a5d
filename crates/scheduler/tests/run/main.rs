//! The whole scheduler against a simulated cluster, in simulated time.

mod churn;
mod claims;
mod neighbours;
mod preempting;

use std::{collections::BTreeMap, time::Duration};

use client::{Access, Client, DeleteOptions, ListOptions, Patch, simulated::Simulated};
use http::Method;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct Cluster {
    server: Simulated,
    client: Client,
    shutdown: CancellationToken,
    scheduler: JoinHandle<()>,
}

impl Cluster {
    fn start() -> Self {
        let server = Simulated::new();
        let client = server.client("test");
        let shutdown = CancellationToken::new();
        let run = scheduler::run(server.client("kube-scheduler"), shutdown.clone());
        Cluster {
            scheduler: tokio::spawn(run),
            server,
            client,
            shutdown,
        }
    }

    fn pods(&self) -> Access<Pod> {
        self.client.of()
    }

    async fn node(&self, name: &str, cpu: &str) {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
            "status": {
                "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": "110" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }))
        .unwrap();
        self.client.of::<Node>().create(&node).await.unwrap();
    }

    async fn pod(&self, name: &str, cpu: &str, more: Value) {
        self.pod_of(name, "web", cpu, more).await;
    }

    async fn pod_of(&self, name: &str, app: &str, cpu: &str, more: Value) {
        let mut spec = json!({
            "schedulerName": "default-scheduler",
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }],
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
            "spec": spec,
            "status": { "phase": "Pending" },
        }))
        .unwrap();
        self.pods().create(&pod).await.unwrap();
    }

    async fn patch_node(&self, name: &str, patch: Value) {
        let nodes = self.client.of::<Node>();
        nodes
            .patch("", name, &Patch::Merge(patch), None)
            .await
            .unwrap();
    }

    async fn delete(&self, name: &str) {
        let options = DeleteOptions::default();
        self.pods().delete("default", name, &options).await.unwrap();
    }

    /// Where a pod is; empty if nowhere.
    async fn place(&self, name: &str) -> String {
        let pod = self.pods().get("default", name).await.unwrap();
        pod.spec.and_then(|spec| spec.node_name).unwrap_or_default()
    }

    /// How long it takes until a pod is placed.
    async fn placed_within(&self, name: &str, limit: Duration) -> (String, Duration) {
        let began = Instant::now();
        while began.elapsed() < limit {
            let node = self.place(name).await;
            if !node.is_empty() {
                return (node, began.elapsed());
            }
            tokio::time::sleep(MS).await;
        }
        panic!(
            "{name} is not placed within {limit:?}: {:?}",
            self.condition(name).await
        );
    }

    async fn condition(&self, name: &str) -> Option<(String, String, String)> {
        let pod = self.pods().get("default", name).await.unwrap();
        let conditions = pod.status?.conditions?;
        let one = conditions
            .into_iter()
            .find(|one| one.type_ == "PodScheduled")?;
        Some((
            one.status,
            one.reason.unwrap_or_default(),
            one.message.unwrap_or_default(),
        ))
    }

    async fn events(&self, reason: &str) -> Vec<String> {
        let list = self
            .client
            .of::<Event>()
            .list(&ListOptions::default())
            .await;
        let events = list.unwrap().items.into_iter();
        events
            .filter(|event| event.reason.as_deref() == Some(reason))
            .map(|event| event.message.unwrap_or_default())
            .collect()
    }

    fn bindings(&self) -> usize {
        let requests = self.server.requests();
        requests
            .iter()
            .filter(|line| line.contains("/binding"))
            .count()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.scheduler.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pods_are_spread_bound_and_told_of() {
    let cluster = Cluster::start();
    for name in ["n1", "n2", "n3"] {
        cluster.node(name, "4").await;
    }
    for number in 0..30 {
        cluster.pod(&format!("p{number}"), "100m", json!({})).await;
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..30 {
        let (node, _) = cluster.placed_within(&format!("p{number}"), SECOND).await;
        *counts.entry(node).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10, 10, 10]);
    assert_eq!(cluster.bindings(), 30, "each is bound once");
    tokio::time::sleep(SECOND).await;
    let events = cluster.events("Scheduled").await;
    assert_eq!(events.len(), 30);
    assert!(
        events[0].starts_with("Successfully assigned default/p"),
        "{}",
        events[0]
    );
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_fits_nowhere_says_so_and_goes_as_soon_as_it_fits() {
    let cluster = Cluster::start();
    cluster.node("n1", "1").await;
    cluster.pod("first", "600m", json!({})).await;
    cluster.placed_within("first", SECOND).await;
    cluster.pod("second", "600m", json!({})).await;
    tokio::time::sleep(3 * SECOND).await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are \
                   available: 1 No preemption victims found for incoming pod.";
    let expected = (
        "False".to_owned(),
        "Unschedulable".to_owned(),
        message.to_owned(),
    );
    assert_eq!(cluster.condition("second").await, Some(expected));
    assert_eq!(cluster.events("FailedScheduling").await, [message]);
    assert_eq!(cluster.place("second").await, "");

    cluster.delete("first").await;
    let (_, took) = cluster.placed_within("second", SECOND).await;
    assert!(took <= 20 * MS, "{took:?}");
    cluster.pod("third", "600m", json!({})).await;
    tokio::time::sleep(100 * MS).await;
    cluster.node("n2", "1").await;
    let (node, took) = cluster.placed_within("third", SECOND).await;
    assert!(node == "n2" && took <= 20 * MS, "{took:?}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_what_helps_moves_a_pod() {
    let cluster = Cluster::start();
    cluster.node("n1", "1").await;
    cluster
        .patch_node("n1", json!({ "spec": { "unschedulable": true } }))
        .await;
    cluster.pod("p", "100m", json!({})).await;
    tokio::time::sleep(20 * SECOND).await;
    // Each try that fails writes or counts up an event.
    let tries = |cluster: &Cluster| {
        let requests = cluster.server.requests();
        let events = requests.iter().filter(|line| line.contains("/events"));
        events.count()
    };
    assert_eq!(tries(&cluster), 1);
    cluster
        .patch_node("n1", json!({ "metadata": { "labels": { "a": "b" } } }))
        .await;
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(tries(&cluster), 1);
    cluster
        .patch_node("n1", json!({ "spec": { "unschedulable": null } }))
        .await;
    let (_, took) = cluster.placed_within("p", SECOND).await;
    assert!(took <= 20 * MS, "{took:?}");
    let status = cluster.condition("p").await.unwrap().0;
    assert_eq!(status, "True");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_bindings_are_tried_again() {
    let cluster = Cluster::start();
    cluster.node("n1", "1").await;
    cluster
        .server
        .refuse(&Method::POST, "/refused/binding", 500);
    cluster.server.lose(&Method::POST, "/lost/binding");
    cluster
        .server
        .lose_answer(&Method::POST, "/unanswered/binding");
    for name in ["refused", "lost", "unanswered"] {
        cluster.pod(name, "300m", json!({})).await;
        let (_, took) = cluster.placed_within(name, 5 * SECOND).await;
        match name {
            "unanswered" => assert!(took < SECOND, "{took:?}"),
            _ => assert!(took >= SECOND && took <= 1100 * MS, "{name}: {took:?}"),
        }
    }
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(cluster.bindings(), 5, "what was bound is not bound again");
    // The room that failed bindings had taken is free again.
    cluster.pod("last", "100m", json!({})).await;
    cluster.placed_within("last", SECOND).await;
    cluster.pod("too much", "100m", json!({})).await;
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(cluster.place("too much").await, "");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn assumed_pods_take_room_before_they_are_seen_there() {
    let cluster = Cluster::start();
    cluster.node("n1", "1").await;
    cluster.node("n2", "1").await;
    // Bindings are slow: all decisions are made before the first is seen.
    cluster.server.set_latency(SECOND);
    let creations = (0..4).map(|number| {
        let name = format!("p{number}");
        let cluster = &cluster;
        async move { cluster.pod(&name, "600m", json!({})).await }
    });
    futures::future::join_all(creations).await;
    tokio::time::sleep(20 * SECOND).await;
    let mut nodes = Vec::new();
    for number in 0..4 {
        nodes.push(cluster.place(&format!("p{number}")).await);
    }
    nodes.sort();
    assert_eq!(nodes, ["", "", "n1", "n2"]);
    assert_eq!(cluster.bindings(), 2);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn others_pods_and_gated_ones_are_left_alone() {
    let cluster = Cluster::start();
    cluster.node("n1", "4").await;
    cluster
        .pod("other", "1", json!({ "schedulerName": "mine" }))
        .await;
    cluster
        .pod(
            "gated",
            "1",
            json!({ "schedulingGates": [{ "name": "quota" }] }),
        )
        .await;
    let claims = json!({ "resourceClaims": [{ "name": "gpu", "resourceClaimName": "g" }] });
    cluster.pod("claiming", "1", claims).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(cluster.condition("other").await, None);
    let (_, reason, message) = cluster.condition("gated").await.unwrap();
    assert_eq!(reason, "SchedulingGated");
    assert!(message.contains("[quota]"), "{message}");
    let (_, reason, message) = cluster.condition("claiming").await.unwrap();
    assert_eq!(reason, "Unschedulable");
    assert!(message.contains("spec.resourceClaims"), "{message}");
    assert_eq!(cluster.events("FailedScheduling").await, [message]);

    let ungate = Patch::Merge(json!({ "spec": { "schedulingGates": [] } }));
    cluster
        .pods()
        .patch("default", "gated", &ungate, None)
        .await
        .unwrap();
    let (_, took) = cluster.placed_within("gated", SECOND).await;
    assert!(took <= 20 * MS, "{took:?}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namesake_is_another_pod() {
    let cluster = Cluster::start();
    cluster.node("n1", "1").await;
    cluster.pod("p", "800m", json!({})).await;
    cluster.placed_within("p", SECOND).await;
    // Deleted and made anew faster than anyone looks.
    cluster.delete("p").await;
    cluster.pod("p", "900m", json!({})).await;
    cluster.placed_within("p", SECOND).await;
    assert_eq!(cluster.bindings(), 2);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ended_pods_take_no_room() {
    let cluster = Cluster::start();
    cluster.node("n1", "1").await;
    cluster.pod("job", "800m", json!({})).await;
    cluster.placed_within("job", SECOND).await;
    cluster.pod("next", "800m", json!({})).await;
    tokio::time::sleep(SECOND).await;
    let ended = Patch::Merge(json!({ "status": { "phase": "Succeeded" } }));
    cluster
        .pods()
        .patch("default", "job", &ended, Some("status"))
        .await
        .unwrap();
    let (_, took) = cluster.placed_within("next", SECOND).await;
    assert!(took <= 20 * MS, "{took:?}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_scheduler_counts_what_is_there() {
    let cluster = Cluster::start();
    cluster.node("n1", "1").await;
    cluster.pod("p", "800m", json!({})).await;
    cluster.placed_within("p", SECOND).await;
    cluster.shutdown.cancel();
    cluster.pod("q", "800m", json!({})).await;
    let shutdown = CancellationToken::new();
    let run = scheduler::run(cluster.server.client("kube-scheduler"), shutdown.clone());
    let second = tokio::spawn(run);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(cluster.place("q").await, "");
    cluster.delete("p").await;
    cluster.placed_within("q", SECOND).await;
    shutdown.cancel();
    second.await.unwrap();
    cluster.stop().await;
}
