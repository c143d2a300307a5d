//! Service accounts' tokens in pods' volumes: given, renewed, kept where that fails.

use std::time::Duration;

use client::Patch;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use serde_json::{Value, json};

use crate::bench::{Bench, files_below};

const ACCESS: &str = "kube-api-access-x";

/// A namespace as its controllers make it.
async fn bench() -> Bench {
    let b = Bench::new().await;
    let account = json!({"metadata": {"name": "default", "namespace": "default"}});
    let account = serde_json::from_value(account).unwrap();
    b.client
        .of::<ServiceAccount>()
        .create(&account)
        .await
        .unwrap();
    b
}

async fn create_ca(b: &Bench) {
    let ca = json!({"metadata": {"name": "kube-root-ca.crt", "namespace": "default"}, "data": {"ca.crt": "PEM"}});
    let ca = serde_json::from_value(ca).unwrap();
    b.client.of::<ConfigMap>().create(&ca).await.unwrap();
}

/// A pod's spec as admission leaves it.
fn spec(script: &Value) -> Value {
    json!({
        "serviceAccountName": "default",
        "containers": [{
            "name": "main", "args": script,
            "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
        }],
        "volumes": [{"name": "kube-api-access-x", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
            {"downwardAPI": {"items": [
                {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"},
                {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}, "path": "labels"},
            ]}},
        ]}}],
    })
}

fn shown(b: &Bench, file: &str) -> String {
    std::fs::read_to_string(b.memory_dir("web").join(ACCESS).join(file)).unwrap()
}

/// How many tokens were asked for.
fn asked(b: &Bench) -> usize {
    let requests = b.server.requests();
    let tokens = requests
        .iter()
        .filter(|r| r.starts_with("POST /api/v1/namespaces/default/serviceaccounts/default/token"));
    tokens.count()
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_a_token_while_it_lives() {
    let mut b = bench().await;
    create_ca(&b).await;
    b.create("web", spec(&json!(["forever"]))).await;
    b.until_phase("web", "Running").await;
    let first = shown(&b, "token");
    assert!(first.ends_with("of default for web"), "{first}");
    assert_eq!(shown(&b, "ca.crt"), "PEM");
    assert_eq!(shown(&b, "namespace"), "default");
    assert_eq!(asked(&b), 1);
    let on_disk = b.pod_dir("web").join("volumes");
    assert!(!on_disk.join("projected").exists());

    // Not before three quarters of its life, but before its end.
    tokio::time::sleep(Duration::from_secs(2700)).await;
    assert_eq!((asked(&b), shown(&b, "token")), (1, first.clone()));
    b.server
        .refuse(&http::Method::POST, "/serviceaccounts/default/token", 503);
    b.server.lose(&http::Method::GET, "/kube-root-ca.crt");
    b.until("asked again in vain", async |b| asked(b) >= 2)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(shown(&b, "token"), first, "the old one stays");
    b.until("renewed", async |b| shown(b, "token") != first)
        .await;
    let second = shown(&b, "token");
    assert_eq!(asked(&b), 3);
    let names = files_below(&b.memory_dir("web").join(ACCESS));
    let contents = names
        .iter()
        .filter(|n| n.starts_with("..") && *n != "..data");
    assert_eq!(contents.count(), 1, "{names:?}");

    // The guests of a pod that is taken up begin anew, with a new token.
    b.kill().await;
    b.start();
    b.until("another one", async |b| shown(b, "token") != second)
        .await;
    b.until_phase("web", "Running").await;
    assert_eq!(asked(&b), 4);
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    assert_eq!(asked(&b), 6);

    let deleted =
        json!({"metadata": {"deletionTimestamp": b.clock.now(), "deletionGracePeriodSeconds": 0}});
    b.client
        .of::<Pod>()
        .patch("default", "web", &Patch::Merge(deleted), None)
        .await
        .unwrap();
    b.until("removed", async |b| {
        !b.pod_dir("web").exists() && !b.memory_dir("web").exists()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(asked(&b), 6, "nobody asks for a pod that is gone");
}

#[tokio::test(start_paused = true)]
async fn a_token_stays_where_only_what_lies_beside_it_changes() {
    let b = bench().await;
    create_ca(&b).await;
    b.create("web", spec(&json!(["forever"]))).await;
    b.until_phase("web", "Running").await;
    let began = tokio::time::Instant::now();
    let first = shown(&b, "token");
    let change = async |ca: &str| {
        let patch = Patch::Merge(json!({"data": {"ca.crt": ca}}));
        let maps = b.client.of::<ConfigMap>();
        let name = "kube-root-ca.crt";
        maps.patch("default", name, &patch, None).await.unwrap();
    };
    let shows = async |file: &str, text: &str| {
        let path = b.memory_dir("web").join(ACCESS).join(file);
        b.until(&format!("{file} {text}"), async |_| {
            std::fs::read_to_string(&path).is_ok_and(|shown| shown == text)
        })
        .await;
    };
    for ca in ["two", "three", "four"] {
        change(ca).await;
        shows("ca.crt", ca).await;
    }
    // Where nobody knows what has changed, all is made anew.
    b.server.break_watches();
    change("five").await;
    b.server.compact();
    shows("ca.crt", "five").await;
    let labels = Patch::Merge(json!({"metadata": {"labels": {"app": "x"}}}));
    let pods = b.client.of::<Pod>();
    pods.patch("default", "web", &labels, None).await.unwrap();
    shows("labels", "app=\"x\"").await;
    assert_eq!((asked(&b), shown(&b, "token")), (1, first.clone()));

    // It is renewed when it would have been.
    tokio::time::sleep(Duration::from_secs(2600)).await;
    assert_eq!(asked(&b), 1);
    b.until("renewed", async |b| asked(b) == 2).await;
    shows("ca.crt", "five").await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2890), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_what_its_token_lies_beside() {
    let b = bench().await;
    b.create("web", spec(&json!(["forever"]))).await;
    let failed = "FailedMount: MountVolume.SetUp failed for volume \"kube-api-access-x\" : configmap \"kube-root-ca.crt\" not found";
    b.until("failed to mount", async |b| {
        b.events("web").await.iter().any(|event| event == failed)
    })
    .await;
    create_ca(&b).await;
    let before = tokio::time::Instant::now();
    b.until_phase("web", "Running").await;
    assert!(before.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn labels_in_files_follow_the_pod() {
    let b = bench().await;
    create_ca(&b).await;
    b.create("web", spec(&json!(["forever"]))).await;
    b.until_phase("web", "Running").await;
    assert_eq!(shown(&b, "labels"), "");
    let labels = json!({"metadata": {"labels": {"app": "x"}}});
    b.client
        .of::<Pod>()
        .patch("default", "web", &Patch::Merge(labels), None)
        .await
        .unwrap();
    b.until("followed", async |b| shown(b, "labels") == "app=\"x\"")
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_write_a_token_says_so_and_tries_again() {
    let b = bench().await;
    create_ca(&b).await;
    b.create("web", spec(&json!(["forever"]))).await;
    b.until_phase("web", "Running").await;
    let first = shown(&b, "token");
    let volume = b.memory_dir("web").join(ACCESS);
    let aside = volume.with_file_name("aside");
    std::fs::rename(&volume, &aside).unwrap();
    std::fs::write(&volume, "in its place").unwrap();
    tokio::time::sleep(Duration::from_secs(2700)).await;
    let said = "FailedMount: MountVolume.SetUp failed for volume \"kube-api-access-x\" : writing its files: ";
    b.until("said", async |b| {
        let events = b.events("web").await;
        events.iter().any(|event| event.starts_with(said))
    })
    .await;
    std::fs::remove_file(&volume).unwrap();
    std::fs::rename(&aside, &volume).unwrap();
    b.until("renewed", async |b| shown(b, "token") != first)
        .await;
}
