//! ConfigMaps and Secrets that change while pods show them.

use std::time::Duration;

use client::{DeleteOptions, Patch};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use crate::bench::{Bench, files_below};

async fn create_map(b: &Bench, name: &str, value: &str) {
    let map = json!({"metadata": {"name": name, "namespace": "default"}, "data": {"k": value}});
    let map = serde_json::from_value(map).unwrap();
    b.client.of::<ConfigMap>().create(&map).await.unwrap();
}

async fn change_map(b: &Bench, name: &str, data: Value) {
    let patch = Patch::Merge(json!({"data": data}));
    let maps = b.client.of::<ConfigMap>();
    maps.patch("default", name, &patch, None).await.unwrap();
}

/// One that says `one`.
async fn create_secret(b: &Bench) {
    let secret = json!({"metadata": {"name": "s", "namespace": "default"}, "data": {"p": "b25l"}});
    let secret = serde_json::from_value(secret).unwrap();
    b.client.of::<Secret>().create(&secret).await.unwrap();
}

/// It says `two`.
async fn change_secret(b: &Bench) {
    let patch = Patch::Merge(json!({"data": {"p": "dHdv"}}));
    let secrets = b.client.of::<Secret>();
    secrets.patch("default", "s", &patch, None).await.unwrap();
}

fn spec(volumes: &Value) -> Value {
    json!({"containers": [{"name": "main", "args": ["forever"]}], "volumes": volumes})
}

fn shown(b: &Bench, pod: &str, file: &str) -> Option<String> {
    std::fs::read_to_string(b.pod_dir(pod).join("volumes").join(file)).ok()
}

fn gets(b: &Bench, path: &str) -> usize {
    let requests = b.server.requests();
    let line = format!("GET /api/v1/namespaces/default/{path}");
    requests.iter().filter(|r| **r == line).count()
}

/// How many lists and watches of all objects of a kind were asked for.
fn follows(b: &Bench, plural: &str) -> usize {
    let requests = b.server.requests();
    let line = format!("GET /api/v1/{plural}?fieldSelector=spec.nodeName%3Dn1");
    requests.iter().filter(|r| r.starts_with(&line)).count()
}

#[tokio::test(start_paused = true)]
async fn a_change_is_in_the_files_of_all_pods_within_a_second() {
    let b = Bench::new().await;
    create_map(&b, "c", "one").await;
    create_map(&b, "other", "one").await;
    let volumes = json!([
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "o", "configMap": {"name": "other"}},
    ]);
    for number in 0..100 {
        b.create(&format!("web-{number}"), spec(&volumes)).await;
    }
    for number in 0..100 {
        b.until_phase(&format!("web-{number}"), "Running").await;
    }
    b.server.set_latency(Duration::from_millis(5));
    let (before, others) = (gets(&b, "configmaps/c"), gets(&b, "configmaps/other"));
    change_map(&b, "c", json!({"k": "two"})).await;
    let began = tokio::time::Instant::now();
    b.until("all show it", async |b| {
        (0..100).all(|number| {
            let shown = shown(b, &format!("web-{number}"), "configMap/c/k");
            shown.as_deref() == Some("two")
        })
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let reads = gets(&b, "configmaps/c") - before;
    assert!((1..=10).contains(&reads), "{reads} reads for 100 pods");
    assert_eq!(gets(&b, "configmaps/other"), others);
    // A list and a watch a kind, however many pods.
    assert_eq!((follows(&b, "configmaps"), follows(&b, "secrets")), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn no_change_is_missed_while_the_watch_is_away() {
    let b = Bench::new().await;
    create_map(&b, "c", "one").await;
    create_secret(&b).await;
    let sources = json!([{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]);
    let volumes = json!([{"name": "v", "projected": {"sources": sources}}]);
    b.create("web", spec(&volumes)).await;
    b.until_phase("web", "Running").await;
    let shows = async |file: &str, value: &str| {
        b.until(&format!("{file} {value}"), async |b| {
            let shown = std::fs::read_to_string(b.memory_dir("web").join("v").join(file));
            shown.ok().as_deref() == Some(value)
        })
        .await;
    };
    shows("p", "one").await;
    change_secret(&b).await;
    shows("p", "two").await;

    // It goes on from where it was.
    b.server.break_watches();
    change_map(&b, "c", json!({"k": "two"})).await;
    shows("k", "two").await;
    let lists = follows(&b, "configmaps");
    // Where that is not kept any more, all is read again.
    b.server.break_watches();
    change_map(&b, "c", json!({"k": "three"})).await;
    b.server.compact();
    shows("k", "three").await;
    assert!(follows(&b, "configmaps") > lists);
    // One that nobody could read is tried again.
    b.server.refuse(&http::Method::GET, "/configmaps/c", 503);
    change_map(&b, "c", json!({"k": "four"})).await;
    shows("k", "four").await;
}

#[tokio::test(start_paused = true)]
async fn at_an_agents_start_what_is_shown_is_read_once() {
    let mut b = Bench::new().await;
    create_map(&b, "c", "one").await;
    let volumes = json!([{"name": "c", "configMap": {"name": "c"}}]);
    b.create("web", spec(&volumes)).await;
    b.until_phase("web", "Running").await;
    b.kill().await;
    // It is known of the pod before it is known from where on changes are heard of.
    let list = "/api/v1/configmaps";
    b.server.refuse(&http::Method::GET, list, 503);
    let before = gets(&b, "configmaps/c");
    b.start();
    b.until("read", async |b| gets(b, "configmaps/c") > before)
        .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(gets(&b, "configmaps/c"), before + 1);

    // No pod waits for ever for a server that refuses.
    b.kill().await;
    for _ in 0..100 {
        b.server.refuse(&http::Method::GET, list, 403);
    }
    b.start();
    let began = tokio::time::Instant::now();
    b.until("read", async |b| gets(b, "configmaps/c") > before + 1)
        .await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_asked_for_once_and_holds_up_nothing() {
    let b = Bench::new().await;
    create_map(&b, "c", "one").await;
    create_map(&b, "other", "one").await;
    let volumes = json!([
        {"name": "must", "configMap": {"name": "c"}},
        {"name": "o", "configMap": {"name": "other"}},
    ]);
    b.create("web", spec(&volumes)).await;
    b.until_phase("web", "Running").await;
    let shows = async |file: &str, value: &str| {
        b.until(&format!("{file} {value}"), async |b| {
            shown(b, "web", &format!("configMap/{file}/k")).as_deref() == Some(value)
        })
        .await;
    };
    let maps = b.client.of::<ConfigMap>();
    let options = DeleteOptions::default();
    maps.delete("default", "c", &options).await.unwrap();
    b.until("said", async |b| {
        b.times_said("web", "FailedMount").await == 1
    })
    .await;
    let asked = gets(&b, "configmaps/c");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(gets(&b, "configmaps/c"), asked);
    assert_eq!(b.times_said("web", "FailedMount").await, 1);

    change_map(&b, "other", json!({"k": "two"})).await;
    shows("o", "two").await;
    assert_eq!(shown(&b, "web", "configMap/must/k").as_deref(), Some("one"));
    create_map(&b, "c", "two").await;
    shows("must", "two").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_stays_and_what_is_optional_goes() {
    let b = Bench::new().await;
    create_map(&b, "c", "one").await;
    let volumes = json!([
        {"name": "must", "configMap": {"name": "c"}},
        {"name": "key", "configMap": {"name": "c", "items": [{"key": "k", "path": "k"}]}},
        {"name": "may", "configMap": {"name": "c", "optional": true}},
        {"name": "later", "configMap": {"name": "later", "optional": true}},
    ]);
    b.create("web", spec(&volumes)).await;
    b.until_phase("web", "Running").await;
    let of = |volume: &str| shown(&b, "web", &format!("configMap/{volume}/k"));
    let said = async |what: &str| {
        b.until(what, async |b| {
            b.events("web").await.iter().any(|event| event == what)
        })
        .await;
    };
    change_map(&b, "c", json!({"k": null, "l": "two"})).await;
    said("FailedMount: MountVolume.SetUp failed for volume \"key\" : configmap references non-existent config key: k").await;
    assert_eq!((of("must"), of("may")), (None, None));
    assert_eq!(of("key").as_deref(), Some("one"));
    change_map(&b, "c", json!({"k": "three"})).await;
    b.until("it is back", async |_| {
        of("key").as_deref() == Some("three")
    })
    .await;

    let maps = b.client.of::<ConfigMap>();
    maps.delete("default", "c", &DeleteOptions::default())
        .await
        .unwrap();
    said("FailedMount: MountVolume.SetUp failed for volume \"must\" : configmap \"c\" not found")
        .await;
    assert_eq!(of("must").as_deref(), Some("three"));
    b.until("the optional one goes", async |_| of("may").is_none())
        .await;
    assert_eq!(b.phase("web").await, "Running");

    create_map(&b, "c", "four").await;
    create_map(&b, "later", "here").await;
    b.until("all is shown", async |_| {
        let all = [of("must"), of("key"), of("may"), of("later")];
        all == ["four", "four", "four", "here"].map(|value| Some(value.to_owned()))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_secret_is_as_new_as_its_container() {
    let b = Bench::new().await;
    create_secret(&b).await;
    let items = json!([{"key": "p", "path": "deep/p"}]);
    let mount = json!({"name": "v", "mountPath": "/v", "subPath": "deep"});
    let main = json!({"name": "main", "args": ["sleep 60s", "exit 1"], "volumeMounts": [mount]});
    let volume = json!({"name": "v", "secret": {"secretName": "s", "items": items}});
    let spec = json!({"containers": [main], "volumes": [volume]});
    b.create("web", spec).await;
    b.until_phase("web", "Running").await;
    let copies = b.memory_dir("web").join("..sub-paths/main");
    let shows = |attempt: &str, value: &str| {
        let shown = std::fs::read_to_string(copies.join(attempt).join("0/p"));
        shown.is_ok_and(|shown| shown == value)
    };
    assert!(shows("0", "one"));
    let instance = b.pod_dir("web").join("containers/main/0");
    assert_eq!(files_below(&instance), ["root"], "no copy is on the disk");
    change_secret(&b).await;
    b.until("begun anew", async |_| shows("1", "two")).await;
    b.until("removed", async |_| !copies.join("0").exists())
        .await;

    // As if it could not be removed.
    std::fs::create_dir(copies.join("0")).unwrap();
    tokio::time::sleep(Duration::from_secs(70 * 60)).await;
    assert!(!copies.join("0").exists());
}
