//! Probes and hooks that are commands: scripts, too, as another instance of a container's module plays them.

use std::time::Duration;

use client::Patch;
use k8s_openapi::api::core::v1::Pod;
use runtime::Runtime as _;
use serde_json::json;
use tokio::time::Instant;

use crate::bench::Bench;

impl Bench {
    async fn until_said(&self, name: &str, event: &str) {
        self.until(&format!("{name}: {event}"), async |b| {
            b.events(name).await.iter().any(|said| said == event)
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn commands_tell_how_a_container_is() {
    let b = Bench::new().await;
    let once = |words: &[&str]| json!({"exec": {"command": words}, "periodSeconds": 5, "failureThreshold": 1, "timeoutSeconds": 2});
    b.create("well", json!({"containers": [{"name": "main", "args": ["forever"],
        "env": [{"name": "CODE", "value": "0"}],
        "startupProbe": once(&["x", "sleep 1s", "exit $(CODE)"]), "readinessProbe": once(&["x", "print well", "exit 0"])}]}))
        .await;
    b.until_ready("well", "True").await;
    assert!(b.events("well").await.iter().all(|e| !e.contains("probe")));
    b.create(
        "ill",
        json!({"containers": [{"name": "main", "args": ["forever"],
        "livenessProbe": once(&["pgrep", "print out", "eprint err", "exit 3"])}]}),
    )
    .await;
    let restarted = async |name: &str| {
        let status = b.pod(name).await["status"]["containerStatuses"][0].clone();
        status["restartCount"].as_i64().unwrap_or(0) > 0
    };
    b.until("ill started again", async |_| restarted("ill").await)
        .await;
    // Whoever wonders why learns that there is no such program.
    let instead =
        "carob: pgrep is no applet: running the container's module with these words\nout\nerr\n";
    let failed = format!("Unhealthy: Liveness probe failed: {instead}");
    b.until_said("ill", &failed).await;
    b.create(
        "slow",
        json!({"containers": [{"name": "main", "args": ["forever"],
        "readinessProbe": once(&["x", "sleep 1m"])}]}),
    )
    .await;
    let timed_out = "Unhealthy: Readiness probe failed: command \"x sleep 1m\" timed out";
    b.until_said("slow", timed_out).await;
    // Not all that was ever probed runs still.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let running = b.runtime.metrics().running;
    assert!(
        running <= 6,
        "three containers, and a probe each: {running}"
    );
}

#[tokio::test(start_paused = true)]
async fn hooks_may_be_commands() {
    let b = Bench::new().await;
    let hooks = |start: &[&str]| {
        json!({
            "postStart": {"exec": {"command": start}},
            "preStop": {"exec": {"command": ["x", "sleep 3s", "exit 4"]}},
        })
    };
    b.create(
        "good",
        json!({"terminationGracePeriodSeconds": 30, "containers": [
            {"name": "main", "command": ["x"], "args": ["forever"], "lifecycle": hooks(&["x", "sleep 2s"])}]}),
    )
    .await;
    b.until_phase("good", "Running").await;
    let began = Instant::now();
    let at = b.clock.now() + jiff::SignedDuration::from_secs(30);
    let deleted = json!({"metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}});
    let pods = b.client.of::<Pod>();
    let deleted = Patch::Merge(deleted);
    pods.patch("default", "good", &deleted, None).await.unwrap();
    b.until_phase("good", "gone").await;
    let took = began.elapsed();
    let (least, most) = (Duration::from_secs(3), Duration::from_secs(10));
    assert!(took >= least && took < most, "{took:?}");
    b.until_said("good", "FailedPreStopHook: PreStopHook failed")
        .await;
    let start = ["x", "print no", "eprint never", "exit 7"];
    b.create(
        "bad",
        json!({"containers": [
            {"name": "main", "command": ["x"], "args": ["forever"], "lifecycle": hooks(&start)}]}),
    )
    .await;
    // What the hook was and printed may be secret, and many may read events.
    b.until_said("bad", "FailedPostStartHook: PostStartHook failed")
        .await;
    let words = start.join(" ");
    let told = format!(
        "Exec lifecycle hook ([{words}]) for Container \"main\" in Pod \"bad_default({uid})\" failed - error: \
         command '{words}' exited with 7: never\n, message: \"no\\nnever\\n\"",
        uid = b.pod("bad").await["metadata"]["uid"].as_str().unwrap(),
    );
    let waits = json!({"reason": "PostStartHookError", "message": told});
    b.until("the pod's status says more", async |b| {
        b.pod("bad").await["status"]["containerStatuses"][0]["state"]["waiting"] == waits
    })
    .await;
}
