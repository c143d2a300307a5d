use std::time::Duration;

use client::simulated::Simulated;
use client::{ListOptions, Untyped};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::surviving;

#[tokio::test]
async fn work_that_panics_ends_alone() {
    assert_eq!(surviving(async { 1 }).await, Some(1));
    let panics = async {
        tokio::task::yield_now().await;
        panic!("a test wants a panic")
    };
    assert_eq!(surviving::<()>(panics).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_refuses_stands_in_the_status_until_it_does_not() {
    let server = Simulated::new();
    let client = server.client("test");
    for _ in 0..3 {
        server.refuse(&http::Method::POST, "/pods", 403);
    }
    let sets = client.untyped(api::resource::of::<ReplicaSet>());
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "set", "namespace": "ns"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "set"}}, "template": {
            "metadata": {"labels": {"app": "set"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    sets.create(&Untyped(set)).await.expect("made");
    let shutdown = CancellationToken::new();
    let controllers = tokio::spawn(super::run(client.clone(), "CA".into(), shutdown.clone()));
    for reason in [json!("FailedCreate"), json!(null)] {
        let shown = async {
            loop {
                let Untyped(set) = sets.get("ns", "set").await.expect("it");
                let condition = &set["status"]["conditions"][0];
                if set["status"].is_object() && condition["reason"] == reason {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let shown = tokio::time::timeout(Duration::from_secs(60), shown).await;
        assert!(shown.is_ok(), "{reason}");
    }
    shutdown.cancel();
    controllers.await.expect("no panic");
}

/// However many claims wait, none loses a volume that it chose to another, and has to choose again.
#[tokio::test(start_paused = true)]
async fn each_claim_chooses_once() {
    const COUNT: usize = 40;
    let server = Simulated::new();
    server.set_latency(Duration::from_millis(5));
    let client = server.client("test");
    let volumes = client.untyped(api::resource::of::<PersistentVolume>());
    let claims = client.untyped(api::resource::of::<PersistentVolumeClaim>());
    for number in 0..COUNT {
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": format!("v{number}"), "finalizers": ["kubernetes.io/pv-protection"]},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}},
            "status": {"phase": "Available"},
        });
        volumes.create(&Untyped(volume)).await.expect("made");
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": format!("c{number}"), "namespace": "ns", "finalizers": ["kubernetes.io/pvc-protection"]},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}},
        });
        claims.create(&Untyped(claim)).await.expect("made");
    }
    let shutdown = CancellationToken::new();
    let controllers = tokio::spawn(super::run(client.clone(), "CA".into(), shutdown.clone()));
    let bound = async {
        loop {
            let listed = claims.list(&ListOptions::namespace("ns")).await;
            let items = listed.expect("a list").items;
            if items
                .iter()
                .all(|Untyped(claim)| claim["status"]["phase"] == "Bound")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let bound = tokio::time::timeout(Duration::from_secs(60), bound).await;
    assert!(bound.is_ok(), "{:?}", server.requests());
    shutdown.cancel();
    controllers.await.expect("no panic");
    let requests = server.requests();
    let choices = requests.iter().filter(|request| {
        request.starts_with("PATCH /api/v1/persistentvolumes/") && !request.contains("/status")
    });
    assert_eq!(choices.count(), COUNT, "{requests:#?}");
}
