use std::time::Duration;

use client::Untyped;
use client::simulated::Simulated;
use k8s_openapi::api::apps::v1::ReplicaSet;
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
