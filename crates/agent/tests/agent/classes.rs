//! Pods of RuntimeClasses, and names of hosts that cannot be.

use std::sync::atomic::Ordering;

use client::DeleteOptions;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::node::v1::RuntimeClass;
use runtime::Handler;
use serde_json::json;

use crate::bench::Bench;

async fn class(b: &Bench, name: &str, handler: &str) {
    let class = json!({"metadata": {"name": name}, "handler": handler});
    let class: RuntimeClass = serde_json::from_value(class).unwrap();
    b.client.of().create(&class).await.unwrap();
}

async fn until_said(b: &Bench, name: &str, event: &str) {
    b.until(&format!("{name}: {event}"), async |b| {
        b.events(name).await.iter().any(|said| said == event)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_run_by_its_class_s_handler() {
    let mut b = Bench::new().await;
    class(&b, "small", "dense").await;
    let main = json!([{"name": "main", "args": ["forever"]}]);
    b.create("usual", json!({"containers": main})).await;
    b.until_phase("usual", "Running").await;
    let small = json!({"runtimeClassName": "small", "containers": main});
    b.create("small", small.clone()).await;
    b.until_phase("small", "Running").await;
    let run_by = |b: &Bench| std::mem::take(&mut *b.handlers.lock().unwrap());
    assert_eq!(run_by(&b), [Handler::Carob, Handler::Dense]);
    // What runs beside its module is run as it is.
    let probed = json!({"exec": {"command": ["x", "exit 0"]}});
    b.create(
        "probed",
        json!({"runtimeClassName": "small", "containers": [{
            "name": "main", "args": ["forever"], "startupProbe": probed,
        }]}),
    )
    .await;
    b.until_ready("probed", "True").await;
    assert_eq!(run_by(&b), [Handler::Dense; 2]);
    // The next agent goes on by it, though the class is another one by now.
    b.stop().await;
    let classes = b.client.of::<RuntimeClass>();
    let options = DeleteOptions::default();
    classes.delete("", "small", &options).await.unwrap();
    class(&b, "small", "carob").await;
    b.start();
    let again = async |b: &Bench| {
        let status = b.pod("small").await["status"]["containerStatuses"][0].clone();
        status["restartCount"] == 1 && !status["state"]["running"].is_null()
    };
    b.until("small runs again", again).await;
    b.until("all run again", async |b| {
        b.handlers.lock().unwrap().len() >= 3
    })
    .await;
    let ran = run_by(&b);
    let dense = ran.iter().filter(|by| **by == Handler::Dense);
    assert!(dense.count() >= 2, "{ran:?}");
    // So does one after that, and where there is no such class.
    b.stop().await;
    classes.delete("", "small", &options).await.unwrap();
    b.start();
    b.until("small runs once more", async |b| {
        let status = b.pod("small").await["status"]["containerStatuses"][0].clone();
        status["restartCount"] == 2 && !status["state"]["running"].is_null()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_needs_no_server_for_its_class() {
    let b = Bench::new().await;
    b.is_cut.store(true, Ordering::Relaxed);
    let image = format!("file://{}", b.dir.path().join("hello.wasm").display());
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "small"},
        "spec": {"runtimeClassName": "dense", "containers": [
            {"name": "main", "image": image, "args": ["forever"]},
        ]},
    });
    std::fs::write(b.manifests().join("small.yaml"), pod.to_string()).unwrap();
    b.until("it runs", async |b| {
        *b.handlers.lock().unwrap() == [Handler::Dense]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_node_cannot_run_it_says() {
    let b = Bench::new().await;
    class(&b, "kata", "kata").await;
    for (name, spec, event) in [
        (
            "vm",
            json!({"runtimeClassName": "kata"}),
            "failed to get sandbox runtime: no runtime for \"kata\" is configured",
        ),
        (
            "lost",
            json!({"runtimeClassName": "late"}),
            "runtimeclass.node.k8s.io \"late\" not found",
        ),
        (
            "long",
            json!({"subdomain": "x".repeat(60), "setHostnameAsFQDN": true}),
            "failed to construct FQDN from pod hostname and cluster domain, FQDN \
             long.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.default.svc.cluster.local is too long \
             (64 characters is the max, 91 characters requested)",
        ),
    ] {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "main", "args": ["forever"]}]);
        b.create(name, spec).await;
        let event = format!("FailedCreatePodSandBox: Failed to create pod sandbox: {event}");
        until_said(&b, name, &event).await;
    }
    assert!(b.handlers.lock().unwrap().is_empty());
    // It is tried again.
    class(&b, "late", "carob").await;
    b.until_phase("lost", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_class_s_overhead_takes_room() {
    let b = Bench::new().await;
    let main = json!([{"name": "main", "args": ["forever"]}]);
    let overhead = json!({"cpu": "1000000"});
    b.create("heavy", json!({"overhead": overhead, "containers": main}))
        .await;
    b.until_phase("heavy", "Failed").await;
    assert_eq!(b.pod("heavy").await["status"]["reason"], "OutOfcpu");
    assert!(b.handlers.lock().unwrap().is_empty());
}

fn put_static(b: &Bench, name: &str, mut spec: serde_json::Value) {
    let image = format!("file://{}", b.dir.path().join("hello.wasm").display());
    spec["containers"] = json!([{"name": "main", "image": image, "args": ["forever"]}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    std::fs::write(b.manifests().join(format!("{name}.yaml")), pod.to_string()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_s_class_takes_room() {
    let mut b = Bench::new().await;
    let node = b.client.of::<Node>().get("", "n1").await.unwrap();
    let node = serde_json::to_value(node).unwrap();
    let fixed = json!({"cpu": node["status"]["allocatable"]["cpu"]});
    let class = json!({
        "metadata": {"name": "costly"}, "handler": "dense", "overhead": {"podFixed": fixed},
    });
    let class: RuntimeClass = serde_json::from_value(class).unwrap();
    let classes = b.client.of::<RuntimeClass>();
    classes.create(&class).await.unwrap();
    put_static(&b, "costly", json!({"runtimeClassName": "costly"}));
    b.until_phase("costly-n1", "Running").await;
    let find_none = async |b: &Bench, name: &str| {
        let resources = json!({"requests": {"cpu": "1m"}});
        let main = json!([{"name": "main", "args": ["forever"], "resources": resources}]);
        b.create(name, json!({"containers": main})).await;
        b.until_phase(name, "Failed").await;
        assert_eq!(b.pod(name).await["status"]["reason"], "OutOfcpu");
    };
    find_none(&b, "late").await;
    // The next agent knows it, though there is no such class by then.
    b.stop().await;
    let options = DeleteOptions::default();
    classes.delete("", "costly", &options).await.unwrap();
    b.start();
    b.until("it runs again", async |b| {
        let status = b.pod("costly-n1").await["status"]["containerStatuses"][0].clone();
        status["restartCount"] == 1 && !status["state"]["running"].is_null()
    })
    .await;
    find_none(&b, "later").await;
    std::fs::remove_file(b.manifests().join("costly.yaml")).unwrap();
    b.until_phase("costly-n1", "gone").await;
    let resources = json!({"requests": {"cpu": "1m"}});
    let main = json!([{"name": "main", "args": ["forever"], "resources": resources}]);
    b.create("free", json!({"containers": main})).await;
    b.until_phase("free", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_priority_that_no_node_knows_is_told_of() {
    let b = Bench::new().await;
    put_static(
        &b,
        "known",
        json!({"priorityClassName": "system-node-critical"}),
    );
    put_static(&b, "unknown", json!({"priorityClassName": "high"}));
    for name in ["known-n1", "unknown-n1"] {
        b.until_phase(name, "Running").await;
    }
    let known = b.pod("known-n1").await;
    assert_eq!(known["spec"]["priority"], 2_000_001_000);
    assert!(b.pod("unknown-n1").await["spec"]["priority"].is_null());
    let said = b.times_said("unknown-n1", "UnknownPriorityClass");
    assert_eq!(said.await, 1);
    assert_eq!(b.times_said("known-n1", "UnknownPriorityClass").await, 0);
}
