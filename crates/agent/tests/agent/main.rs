//! A whole agent against a simulated API server, running scripts instead of guests, on tokio's paused clock.

mod bench;
mod claims;
mod classes;
mod commands;
mod evicting;
mod garbage;
mod images;
mod lifetimes;
mod node;
mod probing;
mod refreshing;
mod resizing;
mod statics;
mod tokens;

use std::sync::atomic::Ordering;
use std::time::Duration;

use client::Patch;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use runtime::Runtime as _;
use serde_json::json;

use bench::{Bench, files_below};

#[tokio::test(start_paused = true)]
async fn who_must_not_be_root_and_is_to_be_root_is_not_started() {
    let b = Bench::new().await;
    let of_pod = json!({"runAsNonRoot": true});
    let root = json!([{"name": "main", "securityContext": {"runAsUser": 0}}]);
    b.create(
        "root",
        json!({"securityContext": of_pod, "containers": root}),
    )
    .await;
    let waiting = b.until_waiting("root", "CreateContainerConfigError").await;
    let message = waiting["state"]["waiting"]["message"].as_str();
    let why = "container's runAsUser breaks non-root policy (pod: \"root_default(";
    assert!(message.is_some_and(|m| m.starts_with(why)), "{waiting}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_to_its_end() {
    let b = Bench::new().await;
    let config = json!({"metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v"}});
    b.client
        .of::<ConfigMap>()
        .create(&serde_json::from_value(config).unwrap())
        .await
        .unwrap();
    b.create("job", json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "first", "args": ["print hello"]}],
        "containers": [{
            "name": "main", "args": ["args", "print from $(K) on $(NODE)", "sleep 5s", "exit 3"],
            "env": [
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            ],
            "volumeMounts": [{"name": "c", "mountPath": "/etc/c"}],
        }],
        "volumes": [{"name": "c", "configMap": {"name": "c"}}],
    }))
    .await;
    b.until_phase("job", "Running").await;
    // The first address is the node's own, the second its DNS server's.
    assert_eq!(b.pod("job").await["status"]["podIP"], "10.128.0.3");
    assert!(b.pod_dir("job").join("volumes/configMap/c/k").exists());
    b.until_phase("job", "Failed").await;
    let status = b.pod("job").await["status"].clone();
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(3), &json!("Error"))
    );
    assert_eq!(
        status["initContainerStatuses"][0]["state"]["terminated"]["reason"],
        "Completed"
    );
    assert_eq!(b.log("job", "first", 0), "hello\n");
    assert!(b.log("job", "main", 0).ends_with("from v on n1\n"));
    let events = b.events("job").await.join("\n");
    for wanted in [
        "Pulled: ",
        "Created: Created container: main",
        "Started: Started container main",
    ] {
        assert!(events.contains(wanted), "{wanted} in {events}");
    }
    b.until("released", async |b| {
        !b.pod_dir("job").join("volumes").exists()
    })
    .await;
    assert_eq!(files_below(&b.pod_dir("job")), ["logs", "record.json"]);
}

#[tokio::test(start_paused = true)]
async fn what_others_write_into_a_status_is_put_right() {
    let b = Bench::new().await;
    b.create(
        "web",
        json!({"containers": [{"name": "main", "args": ["forever"]}]}),
    )
    .await;
    b.until_ready("web", "True").await;
    // As the controller does it when the node was silent.
    let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]}});
    b.client
        .of::<Pod>()
        .patch("default", "web", &Patch::Strategic(silent), Some("status"))
        .await
        .unwrap();
    b.until_ready("web", "True").await;
    let version = async || b.pod("web").await["metadata"]["resourceVersion"].clone();
    let settled = version().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(version().await, settled, "and then nothing more is written");
}

#[tokio::test(start_paused = true)]
async fn what_crashes_waits_longer_each_time() {
    let b = Bench::new().await;
    b.create(
        "bad",
        json!({"containers": [{"name": "main", "args": ["sleep 1s", "trap ouch"]}]}),
    )
    .await;
    let status = b.until_waiting("bad", "CrashLoopBackOff").await;
    assert_eq!(status["restartCount"], 1);
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 134);
    assert_eq!(
        status["lastState"]["terminated"]["message"]
            .as_str()
            .map(|m| m.contains("ouch")),
        Some(true)
    );
    let uid = b.uid("bad");
    let message = format!("back-off 10s restarting failed container=main pod=bad_default({uid})");
    assert_eq!(status["state"]["waiting"]["message"], message);
    let before = tokio::time::Instant::now();
    b.until("restarted", async |b| {
        b.pod("bad").await["status"]["containerStatuses"][0]["restartCount"] == 4
    })
    .await;
    let took = before.elapsed().as_secs();
    assert!((70..75).contains(&took), "10 + 20 + 40 s and some: {took}");
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_waited_for() {
    let b = Bench::new().await;
    b.create("lacks", json!({"containers": [{
        "name": "main", "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}],
    }]}))
    .await;
    let status = b.until_waiting("lacks", "CreateContainerConfigError").await;
    assert_eq!(
        status["state"]["waiting"]["message"],
        "configmap \"late\" not found"
    );
    let config = json!({"metadata": {"name": "late", "namespace": "default"}, "data": {"k": "v"}});
    b.client
        .of::<ConfigMap>()
        .create(&serde_json::from_value(config).unwrap())
        .await
        .unwrap();
    b.until_phase("lacks", "Running").await;

    b.create(
        "none",
        json!({"containers": [{"name": "main", "image": "file:///nowhere/x.wasm"}]}),
    )
    .await;
    b.until_waiting("none", "ErrImagePull").await;
    b.until_waiting("none", "ImagePullBackOff").await;
    b.create(
        "name",
        json!({"containers": [{"name": "main", "image": "Not A Name"}]}),
    )
    .await;
    b.until_waiting("name", "InvalidImageName").await;
    b.create(
        "never",
        json!({"containers": [{"name": "main", "image": "x:1", "imagePullPolicy": "Never"}]}),
    )
    .await;
    b.until_waiting("never", "ErrImageNeverPull").await;
    b.create(
        "host",
        json!({"hostPID": true, "containers": [{"name": "main"}]}),
    )
    .await;
    let status = b.until_waiting("host", "Unsupported").await;
    assert_eq!(
        status["state"]["waiting"]["message"],
        "spec.hostPID is not supported by carob yet"
    );
}

#[tokio::test(start_paused = true)]
async fn containers_are_told_of_the_services_that_are_known_when_they_start() {
    let b = Bench::new().await;
    // Its words at its end become the termination message.
    let main =
        json!({"name": "main", "args": ["trap $(WEB_SERVICE_HOST):$(WEB_PORT_80_TCP_PORT)"]});
    b.create("told", json!({"containers": [main]})).await;
    b.until("told nothing", async |b| {
        let status = b.pod("told").await["status"].to_string();
        status.contains("$(WEB_SERVICE_HOST):$(WEB_PORT_80_TCP_PORT)")
    })
    .await;
    let web = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.3.4", "ports": [{"port": 80}]},
    });
    let web: Service = serde_json::from_value(web).unwrap();
    b.client.of::<Service>().create(&web).await.unwrap();
    b.until("told of web", async |b| {
        let status = b.pod("told").await["status"].to_string();
        status.contains("10.96.3.4:80")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_pulled_and_cannot_run_is_no_failed_pull() {
    let b = Bench::new().await;
    let image = format!("file://{}", b.dir.path().join("broken.wasm").display());
    b.create(
        "broken",
        json!({"containers": [{"name": "main", "image": image}]}),
    )
    .await;
    let status = b.until_waiting("broken", "CreateContainerError").await;
    let message = status["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.ends_with("is declared invalid"), "{message}");
    let said = format!("Failed: Error: {message}");
    b.until("told of", async |b| {
        b.events("broken").await.contains(&said)
    })
    .await;
    let events = b.events("broken").await;
    assert!(
        events.iter().any(|e| e.starts_with("Pulled: Successfully")),
        "{events:?}"
    );
    assert!(
        !events.iter().any(|e| e.contains("pull image")),
        "{events:?}"
    );
    // It is tried again, and is never shown as a pull that waits.
    b.until("tried again", async |b| {
        b.times_said("broken", "Pulled").await > 1
    })
    .await;
    b.until_waiting("broken", "CreateContainerError").await;
    assert!(
        !b.events("broken")
            .await
            .iter()
            .any(|e| e.contains("BackOff"))
    );
}

#[tokio::test(start_paused = true)]
async fn deletion_ends_a_pod_and_removes_its_object() {
    let b = Bench::new().await;
    for (name, script) in [
        ("plain", json!(["forever"])),
        ("drains", json!(["drain 3s", "forever"])),
    ] {
        b.create(
            name,
            json!({"containers": [{"name": "main", "args": script}]}),
        )
        .await;
        b.until_phase(name, "Running").await;
        let before = tokio::time::Instant::now();
        b.begin_deletion(name, 30).await;
        b.until_phase(name, "gone").await;
        let took = before.elapsed();
        let wanted = if name == "plain" { 0..1 } else { 3..4 };
        assert!(wanted.contains(&took.as_secs()), "{name} {took:?}");
        b.until("removed", async |b| !b.pod_dir(name).exists())
            .await;
    }
    let events = b.events("plain").await.join("\n");
    assert!(
        events.contains("Killing: Stopping container main"),
        "{events}"
    );
}

#[tokio::test(start_paused = true)]
async fn pods_outlive_their_agent() {
    let mut b = Bench::new().await;
    b.create(
        "server",
        json!({"containers": [{"name": "main", "args": ["print up", "forever"]}]}),
    )
    .await;
    b.create(
        "done",
        json!({"restartPolicy": "Never", "containers": [{"name": "main", "args": ["exit 0"]}]}),
    )
    .await;
    b.until_phase("server", "Running").await;
    b.until_phase("done", "Succeeded").await;
    let address = b.pod("server").await["status"]["podIP"].clone();
    let main = async |b: &Bench| b.pod("server").await["status"]["containerStatuses"][0].clone();

    b.stop().await;
    let status = main(&b).await;
    assert_eq!(
        status["state"]["terminated"]["exitCode"], 143,
        "the API knows of the end: {status}"
    );
    assert_eq!(b.phase("server").await, "Running");
    b.start();
    b.until("running again", async |b| {
        main(b).await["restartCount"] == 1
    })
    .await;
    assert_eq!(main(&b).await["lastState"]["terminated"]["exitCode"], 143);
    assert_eq!(b.pod("server").await["status"]["podIP"], address);

    b.kill().await;
    b.create("orphan", json!({"containers": [{"name": "main"}]}))
        .await;
    std::fs::create_dir_all(b.pod_dir("left")).unwrap();
    b.start();
    b.until("running once more", async |b| {
        main(b).await["restartCount"] == 2
    })
    .await;
    assert_eq!(
        main(&b).await["lastState"]["terminated"]["reason"],
        "Unknown"
    );
    b.until_phase("orphan", "Running").await;
    assert!(!b.pod_dir("left").exists());
    assert_eq!(b.phase("done").await, "Succeeded");
    assert_eq!(
        b.pod("done").await["status"]["containerStatuses"][0]["restartCount"],
        0
    );
    assert_eq!(b.log("server", "main", 2), "up\n");
}

#[tokio::test(start_paused = true)]
async fn at_the_agents_end_endpoints_go_before_what_they_lead_to() {
    let mut b = Bench::new().await;
    b.create(
        "server",
        json!({"containers": [{"name": "main", "args": ["forever"]}]}),
    )
    .await;
    b.until_ready("server", "True").await;
    b.server.lose(&http::Method::PATCH, "pods/server/status");
    let (task, shutdown) = b.agent.take().unwrap();
    shutdown.cancel();
    b.until("its end", async |b| {
        let has_ended = b.runtime.metrics().running == 0;
        let pod = b.pod("server").await;
        let mut conditions = pod["status"]["conditions"].as_array().unwrap().iter();
        let is_ready = conditions.any(|c| c["type"] == "Ready" && c["status"] == "True");
        assert!(!(has_ended && is_ready), "nobody has heard of it: {pod}");
        has_ended
    })
    .await;
    task.await.unwrap();

    b.start();
    b.until_ready("server", "True").await;
    b.is_cut.store(true, Ordering::Relaxed);
    let (task, shutdown) = b.agent.take().unwrap();
    shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(b.runtime.metrics().running, 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(b.runtime.metrics().running, 0, "nobody can hear of it");
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_lost_is_made_up_for_by_the_api() {
    let mut b = Bench::new().await;
    b.create(
        "server",
        json!({
            "initContainers": [{"name": "first", "args": ["print once"]}],
            "containers": [{"name": "main", "args": ["forever"]}],
        }),
    )
    .await;
    b.until_phase("server", "Running").await;
    let address = b.pod("server").await["status"]["podIP"].clone();
    b.kill().await;
    std::fs::write(b.pod_dir("server").join("record.json"), "{\"half").unwrap();
    b.create(
        "new",
        json!({"containers": [{"name": "main", "args": ["forever"]}]}),
    )
    .await;
    b.start();
    b.until("running again", async |b| {
        b.pod("server").await["status"]["containerStatuses"][0]["restartCount"] == 1
    })
    .await;
    assert_eq!(
        files_below(&b.pod_dir("server").join("logs/first")),
        ["0.0.log"],
        "what has succeeded does not run again"
    );
    b.until_phase("new", "Running").await;
    assert_eq!(b.pod("server").await["status"]["podIP"], address);
    assert_ne!(b.pod("new").await["status"]["podIP"], address);
}

#[tokio::test(start_paused = true)]
async fn reports_reach_the_api_through_faults() {
    let b = Bench::new().await;
    b.server.lose(&http::Method::PATCH, "/status");
    b.server.refuse(&http::Method::PATCH, "/status", 500);
    b.create("one", json!({"restartPolicy": "OnFailure", "containers": [{"name": "main", "args": ["sleep 1s", "exit 0"]}]})).await;
    b.until_phase("one", "Succeeded").await;
    let writes = b
        .server
        .requests()
        .iter()
        .filter(|r| r.starts_with("PATCH") && r.contains("pods/one/status"))
        .count();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let later = b
        .server
        .requests()
        .iter()
        .filter(|r| r.starts_with("PATCH") && r.contains("pods/one/status"))
        .count();
    assert_eq!(writes, later, "a pod at rest is not written");
}
