//! Emptying namespaces, against a simulated server.

use std::time::Duration;

use client::Untyped;
use client::simulated::Simulated;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_namespace_that_does_not_go_says_why() {
    let server = Simulated::new();
    let client = server.client("test");
    let namespaces = client.untyped(api::resource::of::<Namespace>());
    let doomed = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "doomed", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}});
    namespaces.create(&Untyped(doomed)).await.expect("made");
    let maps = client.untyped(api::resource::of::<ConfigMap>());
    let kept = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "doomed",
        "finalizers": ["x.dev/keep"], "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    maps.create(&Untyped(kept)).await.expect("made");
    let collected = tokio::time::timeout(Duration::from_secs(5), super::run(client.clone()));
    assert!(collected.await.is_err(), "it never ends by itself");
    let found = client.of::<Namespace>().find("", "doomed").await;
    let status = found
        .expect("read")
        .expect("there")
        .status
        .expect("a status");
    let said = status.conditions.unwrap_or_default();
    let remaining = said.iter().find(|c| c.type_ == "NamespaceContentRemaining");
    let message = remaining.and_then(|c| c.message.as_deref());
    let due = "Some resources are remaining: configmaps. has 1 resource instances";
    assert_eq!(message, Some(due));
    assert_eq!(status.phase.as_deref(), Some("Terminating"));
}

#[tokio::test(start_paused = true)]
async fn the_events_of_a_namespace_go_before_it() {
    let server = Simulated::new();
    let client = server.client("test");
    let namespaces = client.untyped(api::resource::of::<Namespace>());
    let doomed = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "doomed", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"finalizers": ["kubernetes"]}});
    namespaces.create(&Untyped(doomed)).await.expect("made");
    let collected = tokio::time::timeout(Duration::from_secs(5), super::run(client));
    assert!(collected.await.is_err(), "it never ends by itself");
    let requests = server.requests();
    let events = "DELETE /api/v1/namespaces/doomed/events";
    assert!(requests.iter().any(|r| r == events), "{requests:?}");
    // The simulated server does not know how to delete them, so the namespace has to stay.
    assert!(!requests.iter().any(|r| r.ends_with("/finalize")));
}
