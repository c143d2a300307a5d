//! Claims: their volumes outlive pods, and are removed when they are deleted.

use client::{Kind, Patch};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::bench::Bench;

async fn make<K: Kind>(b: &Bench, object: Value) {
    let object: K = serde_json::from_value(object).unwrap();
    b.client.of::<K>().create(&object).await.unwrap();
}

async fn change<K: Kind>(b: &Bench, namespace: &str, name: &str, patch: Value) {
    let patch = Patch::Merge(patch);
    let all = b.client.of::<K>();
    all.patch(namespace, name, &patch, None).await.unwrap();
}

/// A volume on the disk of a node, and the claim `data`, which is not bound to it yet.
async fn made(b: &Bench) {
    make::<PersistentVolumeClaim>(
        b,
        json!({"metadata": {"name": "data", "namespace": "default"},
            "spec": {"volumeName": "pvc-data"}, "status": {"phase": "Pending"}}),
    )
    .await;
    let claims = b.client.of::<PersistentVolumeClaim>();
    let claim = claims.get("default", "data").await.unwrap();
    let uid = claim.metadata.uid.unwrap();
    for (name, node) in [("pvc-data", "n1"), ("pvc-far", "n2")] {
        make::<PersistentVolume>(
            b,
            json!({
                "metadata": {"name": name, "labels": {"carob.dev/node": node},
                    "finalizers": ["carob.dev/local-path", "kubernetes.io/pv-protection"]},
                "spec": {"local": {"path": name}, "persistentVolumeReclaimPolicy": "Delete",
                    "claimRef": {"namespace": "default", "name": "data", "uid": uid}},
            }),
        )
        .await;
    }
}

/// The same, where the claim is bound to it.
pub(crate) async fn bound(b: &Bench) {
    made(b).await;
    let claims = b.client.of::<PersistentVolumeClaim>();
    let bound = Patch::Merge(json!({"status": {"phase": "Bound"}}));
    let bound = claims.patch("default", "data", &bound, Some("status"));
    bound.await.unwrap();
}

async fn finalizers(b: &Bench, name: &str) -> Vec<String> {
    let volumes = b.client.of::<PersistentVolume>();
    let volume = volumes.get("", name).await.unwrap();
    volume.metadata.finalizers.unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_the_node_s_disk_is_made_kept_and_removed() {
    let b = Bench::new().await;
    made(&b).await;
    let mount = json!([{"name": "v", "mountPath": "/data"}]);
    let main = json!({"name": "main", "args": ["print done"], "volumeMounts": mount});
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "data"}});
    let spec = json!({"restartPolicy": "Never", "containers": [main], "volumes": [volume]});
    b.create("web", spec).await;
    let why = "FailedMount: Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: error processing PVC default/data: PVC is not bound";
    b.until("told", async |b| {
        b.events("web").await.iter().any(|event| event == why)
    })
    .await;
    let bound = json!({"status": {"phase": "Bound"}});
    let claims = b.client.of::<PersistentVolumeClaim>();
    let patch = Patch::Merge(bound);
    claims
        .patch("default", "data", &patch, Some("status"))
        .await
        .unwrap();
    b.until_phase("web", "Succeeded").await;
    let own = b.dir.path().join("agent/volumes");
    let (dir, far) = (own.join("pvc-data"), own.join("pvc-far"));
    assert!(dir.is_dir());
    std::fs::write(dir.join("precious"), "x").unwrap();
    std::fs::create_dir_all(&far).unwrap();
    b.begin_deletion("web", 0).await;
    b.until_phase("web", "gone").await;
    assert!(dir.join("precious").exists());

    // Deleted while it may be bound it stays.
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-11-21T10:00:00Z"}});
    for name in ["pvc-data", "pvc-far"] {
        change::<PersistentVolume>(&b, "", name, deleted.clone()).await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(dir.join("precious").exists());
    let free = json!({"metadata": {"finalizers": ["carob.dev/local-path"]}});
    for name in ["pvc-data", "pvc-far"] {
        change::<PersistentVolume>(&b, "", name, free.clone()).await;
    }
    b.until("let go", async |b| {
        finalizers(b, "pvc-data").await.is_empty()
    })
    .await;
    assert!(!dir.exists());
    // Nothing is done for other nodes.
    assert_eq!(finalizers(&b, "pvc-far").await, ["carob.dev/local-path"]);
    assert!(far.exists());
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_a_pod_has_mounted_stays() {
    let b = Bench::new().await;
    bound(&b).await;
    let mount = json!([{"name": "v", "mountPath": "/data"}]);
    let main = json!({"name": "main", "args": ["forever"], "volumeMounts": mount});
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "data"}});
    b.create("web", json!({"containers": [main], "volumes": [volume]}))
        .await;
    b.until_phase("web", "Running").await;
    let dir = b.dir.path().join("agent/volumes/pvc-data");
    std::fs::write(dir.join("precious"), "x").unwrap();
    // As after a claim that was let go by force.
    let let_go = json!({"metadata": {
        "deletionTimestamp": "2026-11-21T10:00:00Z", "finalizers": ["carob.dev/local-path"],
    }});
    change::<PersistentVolume>(&b, "", "pvc-data", let_go).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(dir.join("precious").exists());
    b.begin_deletion("web", 0).await;
    b.until_phase("web", "gone").await;
    b.until("removed", async |b| {
        finalizers(b, "pvc-data").await.is_empty()
    })
    .await;
    assert!(!dir.exists());
}
