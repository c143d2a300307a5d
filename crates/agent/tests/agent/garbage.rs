//! What nobody needs goes, and nothing else does.

use std::time::Duration;

use agent::Disk;
use client::Patch;
use images::Digest;
use k8s_openapi::api::core::v1::{Node, Pod};
use runtime::Runtime as _;
use serde_json::{Value, json};

use super::bench::{Bench, EMPTY, files_below};

const HELLO: &[u8] = b"\0asm\x01\0\0\0";
const OTHER: &[u8] = b"\0asm\x01\0\0\0other";

async fn compiled(b: &Bench) -> Vec<String> {
    let all = b.runtime.compiled().await.unwrap();
    all.into_iter().map(|c| c.digest).collect()
}

fn digests(modules: &[&[u8]]) -> Vec<String> {
    let mut all: Vec<_> = modules.iter().map(|m| Digest::of(m).to_string()).collect();
    all.sort();
    all
}

fn left(b: &Bench, available: u64) {
    *b.disk.lock().unwrap() = Disk { available, ..EMPTY };
}

async fn pressure(b: &Bench) -> Value {
    let node = b.client.of::<Node>().get("", "n1").await.unwrap();
    let node = serde_json::to_value(node).unwrap();
    let conditions = node["status"]["conditions"].as_array().cloned();
    let mut conditions = conditions.unwrap_or_default().into_iter();
    let of = conditions.find(|c| c["type"] == "DiskPressure");
    of.unwrap_or_default()
}

async fn minutes(n: u64) {
    tokio::time::sleep(Duration::from_secs(60 * n)).await;
}

/// A pod of a module of its own that has ended.
async fn job(b: &Bench) {
    let file = b.dir.path().join("other.wasm");
    std::fs::write(&file, OTHER).unwrap();
    let main = json!({
        "name": "main", "image": format!("file://{}", file.display()), "args": ["print done"],
    });
    ended(b, "job", main).await;
}

/// A pod of this container that has ended and given everything back.
async fn ended(b: &Bench, name: &str, main: Value) {
    let spec = json!({"restartPolicy": "Never", "containers": [main]});
    b.create(name, spec).await;
    b.until_phase(name, "Succeeded").await;
    b.until("released", async |b| {
        files_below(&b.pod_dir(name)) == ["logs", "record.json"]
    })
    .await;
}

/// Who stays whatever the node lacks.
const CRITICAL: i32 = 2_000_000_000;

async fn server(b: &Bench) {
    let main = json!({"name": "main", "args": ["forever"]});
    let spec = json!({"priority": CRITICAL, "containers": [main]});
    b.create("server", spec).await;
    b.until_phase("server", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn images_come_and_go() {
    let b = Bench::new().await;
    server(&b).await;
    job(&b).await;
    minutes(20).await;
    assert_eq!(
        compiled(&b).await,
        digests(&[HELLO, OTHER]),
        "there is room"
    );
    assert_eq!(pressure(&b).await["status"], "False");

    left(&b, 1 << 20);
    b.until("collected", async |b| {
        compiled(b).await == digests(&[HELLO])
    })
    .await;
    b.until("under pressure", async |b| {
        pressure(b).await["reason"] == "KubeletHasDiskPressure"
    })
    .await;
    for told in [
        "NodeHasDiskPressure: Node n1 status is now: NodeHasDiskPressure",
        "EvictionThresholdMet: Attempting to reclaim ephemeral-storage",
    ] {
        b.until(told, async |b| {
            b.events("n1").await.iter().any(|e| e == told)
        })
        .await;
    }
    minutes(5).await;
    assert_eq!(compiled(&b).await, digests(&[HELLO]), "a container runs");
    assert_eq!(b.times_said("n1", "FreeDiskSpaceFailed").await, 0);

    // Less than what is in use is not enough.
    left(&b, 0);
    b.until("failed", async |b| {
        b.times_said("n1", "ImageGCFailed").await > 0
    })
    .await;
    assert!(b.times_said("n1", "FreeDiskSpaceFailed").await > 1);

    left(&b, EMPTY.available);
    minutes(4).await;
    assert_eq!(pressure(&b).await["status"], "True");
    minutes(2).await;
    assert_eq!(pressure(&b).await["status"], "False");
    assert_eq!(b.phase("server").await, "Running");
    // What has gone comes back.
    b.uids.lock().unwrap().remove("job");
    let deleted =
        json!({"metadata": {"deletionTimestamp": b.clock.now(), "deletionGracePeriodSeconds": 0}});
    let pods = b.client.of::<Pod>();
    pods.patch("default", "job", &Patch::Merge(deleted), None)
        .await
        .unwrap();
    b.until_phase("job", "gone").await;
    job(&b).await;
    assert_eq!(compiled(&b).await, digests(&[HELLO, OTHER]));
}

#[tokio::test(start_paused = true)]
async fn pressure_is_told_over_a_restart() {
    let mut b = Bench::new().await;
    left(&b, 0);
    b.until("under pressure", async |b| {
        pressure(b).await["status"] == "True"
    })
    .await;
    let before = pressure(&b).await;
    minutes(1).await;
    b.stop().await;
    assert_eq!(pressure(&b).await, before);
    b.start();
    b.until("ready", async |b| b.node_ready().await).await;
    minutes(1).await;
    let after = pressure(&b).await;
    assert_eq!(after["status"], "True");
    // It was not taken back in between, which this time would show.
    assert_eq!(after["lastTransitionTime"], before["lastTransitionTime"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_while_images_go_keeps_its_own() {
    let b = Bench::new().await;
    ended(&b, "first", json!({"name": "main", "args": ["exit 0"]})).await;
    minutes(6).await;
    job(&b).await;
    minutes(6).await;
    b.forgets.send_replace(false);
    left(&b, 1 << 20);
    // The one that was used longest ago.
    b.until("on its way out", async |b| b.forgets.receiver_count() > 0)
        .await;
    let image = format!("file://{}", b.dir.path().join("other.wasm").display());
    let late = json!({
        "priority": CRITICAL,
        "containers": [{"name": "main", "image": image, "imagePullPolicy": "Never", "args": ["forever"]}],
        "volumes": [{"name": "v", "configMap": {"name": "not-yet"}}],
    });
    b.create("late", late).await;
    minutes(1).await;
    b.forgets.send_replace(true);
    minutes(5).await;
    assert_eq!(compiled(&b).await, digests(&[OTHER]));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_comes_after_its_pods_end_is_not_kept() {
    let b = Bench::new().await;
    b.prepares.send_replace(false);
    let main = json!({"name": "main", "args": ["forever"]});
    let spec = json!({"activeDeadlineSeconds": 5, "containers": [main]});
    b.create("late", spec).await;
    b.until_phase("late", "Failed").await;
    minutes(1).await;
    assert!(compiled(&b).await.is_empty());
    b.prepares.send_replace(true);
    b.until("made ready", async |b| !compiled(b).await.is_empty())
        .await;
    left(&b, 1 << 20);
    b.until("collected", async |b| compiled(b).await.is_empty())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_week_without_use_is_enough() {
    let b = Bench::new().await;
    job(&b).await;
    minutes(20).await;
    // The record of a node that slept.
    let file = b.dir.path().join("agent/images/used.json");
    let record = std::fs::read_to_string(&file).unwrap();
    assert!(record.contains("\"2026-11-21T10:"), "{record}");
    let mut b = b;
    b.stop().await;
    std::fs::write(&file, record.replace("2026-11-21T", "2026-11-13T")).unwrap();
    b.start();
    b.until("forgotten", async |b| compiled(b).await.is_empty())
        .await;
    assert_eq!(b.log("job", "main", 0), "done\n");
}

#[tokio::test(start_paused = true)]
async fn directories_that_nobody_needs_go_and_logs_stay() {
    let b = Bench::new().await;
    server(&b).await;
    job(&b).await;
    // As if they had come back, or could not be removed.
    std::fs::create_dir_all(b.pod_dir("nobody").join("logs/main")).unwrap();
    std::fs::create_dir_all(b.pod_dir("job").join("volumes/emptyDir/x")).unwrap();
    std::fs::create_dir_all(b.pod_dir("job").join("containers/main/0/root")).unwrap();
    // What cannot be read of one pod is none of the others' business.
    let main = json!({"name": "main", "args": ["exit 0"]});
    ended(&b, "odd", main).await;
    let unreadable = b.pod_dir("odd").join("logs/main");
    std::fs::remove_dir_all(&unreadable).unwrap();
    std::fs::write(&unreadable, "no directory").unwrap();
    minutes(70).await;
    assert!(!b.pod_dir("nobody").exists());
    assert_eq!(files_below(&b.pod_dir("job")), ["logs", "record.json"]);
    assert_eq!(b.log("job", "main", 0), "done\n");
    for kept in ["containers/main/0/root", "logs/main/0.0.log", "record.json"] {
        assert!(b.pod_dir("server").join(kept).exists(), "{kept}");
    }

    // With too little room, too, until its object is gone.
    left(&b, 0);
    minutes(10).await;
    assert_eq!(b.log("job", "main", 0), "done\n");
    let deleted =
        json!({"metadata": {"deletionTimestamp": b.clock.now(), "deletionGracePeriodSeconds": 0}});
    let pods = b.client.of::<Pod>();
    pods.patch("default", "job", &Patch::Merge(deleted), None)
        .await
        .unwrap();
    b.until("removed", async |b| !b.pod_dir("job").exists())
        .await;
}
