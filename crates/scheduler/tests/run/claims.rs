//! Pods whose claims have no volumes yet.

use client::Patch;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use serde_json::{Value, json};

use crate::{Cluster, MS, SECOND};

/// Claims and their volumes, as the binder and a provisioner treat them.
impl Cluster {
    async fn merge<K: client::Kind>(&self, namespace: &str, name: &str, patch: Value) {
        let patch = Patch::Merge(patch);
        let all = self.client.of::<K>();
        all.patch(namespace, name, &patch, None).await.unwrap();
    }

    async fn make<K: client::Kind>(&self, object: Value) {
        let object: K = serde_json::from_value(object).unwrap();
        self.client.of::<K>().create(&object).await.unwrap();
        // So that everybody has seen it before what comes next.
        tokio::time::sleep(MS).await;
    }

    async fn claim(&self, name: &str) {
        self.make::<PersistentVolumeClaim>(json!({
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "later",
                "resources": { "requests": { "storage": "1Gi" } } },
        }))
        .await;
    }

    async fn class(&self) {
        self.make::<StorageClass>(json!({
            "metadata": { "name": "later" }, "provisioner": "example.com/p",
            "volumeBindingMode": "WaitForFirstConsumer",
        }))
        .await;
    }

    async fn volume(&self, name: &str) {
        self.make::<PersistentVolume>(json!({
            "metadata": { "name": name },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "later",
                "capacity": { "storage": "1Gi" }, "hostPath": { "path": "/x" } },
            "status": { "phase": "Available" },
        }))
        .await;
    }

    async fn with_claim(&self, pod: &str, claim: &str) {
        let volume = json!({ "name": "v", "persistentVolumeClaim": { "claimName": claim } });
        self.pod(pod, "100m", json!({ "volumes": [volume] })).await;
    }

    async fn selected(&self, claim: &str) -> Option<String> {
        let claims = self.client.of::<PersistentVolumeClaim>();
        let claim = claims.get("default", claim).await.unwrap();
        let annotations = claim.metadata.annotations.unwrap_or_default();
        annotations
            .get("volume.kubernetes.io/selected-node")
            .cloned()
    }

    async fn bound(&self, claim: &str, volume: &str) {
        let done = json!({ "pv.kubernetes.io/bind-completed": "yes" });
        let patch =
            json!({ "metadata": { "annotations": done }, "spec": { "volumeName": volume } });
        self.merge::<PersistentVolumeClaim>("default", claim, patch)
            .await;
        let claims = self.client.of::<PersistentVolumeClaim>();
        let patch = Patch::Merge(json!({ "status": { "phase": "Bound" } }));
        let told = claims.patch("default", claim, &patch, Some("status"));
        told.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_s_volume_is_made_before_its_pod_is_bound() {
    let cluster = Cluster::start();
    cluster.node("n1", "4").await;
    cluster.with_claim("p", "data").await;
    tokio::time::sleep(SECOND).await;
    let message = "0/1 nodes are available: persistentvolumeclaim \"data\" not found.";
    assert_eq!(cluster.events("FailedScheduling").await, [message]);
    cluster.class().await;
    cluster.claim("data").await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(cluster.selected("data").await.as_deref(), Some("n1"));
    assert_eq!(cluster.bindings(), 0, "it waits for its claim");
    // It counts there meanwhile.
    cluster.pod("other", "3950m", json!({})).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(cluster.place("other").await, "");
    cluster.volume("made").await;
    cluster.bound("data", "made").await;
    let (node, took) = cluster.placed_within("p", SECOND).await;
    assert!(node == "n1" && took <= 20 * MS, "{took:?}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_free_volume_is_set_aside_for_one_claim() {
    let cluster = Cluster::start();
    cluster.class().await;
    cluster.node("n1", "4").await;
    cluster.volume("disk").await;
    for name in ["a", "b"] {
        cluster.claim(name).await;
        cluster.with_claim(name, name).await;
    }
    tokio::time::sleep(SECOND).await;
    let volumes = cluster.client.of::<PersistentVolume>();
    let disk = volumes.get("", "disk").await.unwrap();
    let of = disk.spec.and_then(|spec| spec.claim_ref).unwrap();
    let first = of.name.unwrap();
    let second = if first == "a" { "b" } else { "a" };
    assert_eq!(cluster.selected(&first).await, None);
    assert_eq!(
        cluster.selected(second).await.as_deref(),
        Some("n1"),
        "it is made one"
    );
    cluster.bound(&first, "disk").await;
    cluster.placed_within(&first, SECOND).await;
    assert_eq!(cluster.place(second).await, "");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_made_is_asked_for_elsewhere() {
    let cluster = Cluster::start();
    cluster.class().await;
    cluster.node("n1", "4").await;
    cluster.claim("data").await;
    cluster.with_claim("p", "data").await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(cluster.selected("data").await.as_deref(), Some("n1"));
    cluster.node("n2", "4").await;
    cluster
        .patch_node("n1", json!({ "spec": { "unschedulable": true } }))
        .await;
    let taken_back = json!({ "metadata": { "annotations":
        { "volume.kubernetes.io/selected-node": null } } });
    cluster
        .merge::<PersistentVolumeClaim>("default", "data", taken_back)
        .await;
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(cluster.selected("data").await.as_deref(), Some("n2"));
    let why = "running PreBind plugin \"VolumeBinding\": provisioning failed for PVC \"data\"";
    assert_eq!(cluster.events("FailedScheduling").await, [why]);
    // Nobody makes it: after ten minutes it is said, and tried again.
    tokio::time::sleep(620 * SECOND).await;
    let why =
        "running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded";
    let events = cluster.events("FailedScheduling").await;
    assert!(events.iter().any(|event| event == why), "{events:?}");
    // The pod goes, and what was decided for it.
    cluster.delete("p").await;
    cluster.volume("late").await;
    cluster.bound("data", "late").await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(cluster.bindings(), 0);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_selected_before_may_be_taken_back() {
    let cluster = Cluster::start();
    cluster.class().await;
    cluster.node("n1", "4").await;
    cluster.claim("data").await;
    let select = |node: Value| json!({ "metadata": { "annotations": { "volume.kubernetes.io/selected-node": node } } });
    cluster
        .merge::<PersistentVolumeClaim>("default", "data", select(json!("n1")))
        .await;
    tokio::time::sleep(SECOND).await;
    cluster.with_claim("p", "data").await;
    tokio::time::sleep(SECOND).await;
    cluster.node("n2", "4").await;
    cluster
        .patch_node("n1", json!({ "spec": { "unschedulable": true } }))
        .await;
    cluster
        .merge::<PersistentVolumeClaim>("default", "data", select(Value::Null))
        .await;
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(cluster.selected("data").await.as_deref(), Some("n2"));
    cluster.stop().await;
}
