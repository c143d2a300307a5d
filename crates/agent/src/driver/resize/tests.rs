//! The ledger beside the pods that it is of.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use client::simulated::Simulated;
use client::{Access, Client, DeleteOptions, Informer, Key, ListOptions, Patch, Recorder};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use network::Network;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runtime::{Runtime, Scripted};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::driver::Tools;
use crate::image::Images;
use crate::node::ledger::Ledger;
use crate::objects::Objects;
use crate::pod::Host;
use crate::resources::Amounts;

/// A driver of a node with so much CPU, whose files are below `dir`.
pub(in crate::driver) fn driver(
    dir: &Path,
    client: &Client,
    clock: Clock,
    milli_cpu: i64,
) -> Driver {
    let runtime: Arc<dyn Runtime> = Arc::new(Scripted::new());
    let network = Network::new("10.128.0.0/18".parse().unwrap());
    let images = Images::open(dir.join("images"), client.clone(), runtime.clone(), true);
    Driver::new(Tools {
        dir: dir.join("pods"),
        host: Host {
            host_path: false,
            ips: vec![IpAddr::from([127, 0, 0, 1])],
            memory: None,
        },
        clock,
        client: client.clone(),
        images: images.unwrap(),
        disks: crate::volumes::Disks {
            node: "n1".to_owned(),
            own: dir.join("volumes"),
            shared: Vec::new(),
            host_path: false,
        },
        runtime,
        cluster: Cluster::new("n1", network.clone()),
        network,
        recorder: Recorder::start(client.clone(), "kubelet", "n1"),
        services: Informer::start(client.of(), ListOptions::default()),
        nodes: Informer::start(client.of(), ListOptions::default()),
        node: Key::new("", "n1"),
        most_in_memory: u64::MAX,
        machine: Amounts {
            milli_cpu,
            memory: 1 << 30,
            ephemeral: 0,
        },
        counters: Arc::default(),
        objects: Objects::new(client),
        tls: crate::exec::trust(None).unwrap(),
        health: tokio::sync::watch::Sender::default().subscribe(),
        heard: tokio::sync::watch::channel(None).1,
    })
}

/// The ledger says what all pods have together at this moment, whatever is under way.
fn assert_in_step(driver: &Driver) {
    let cells: Vec<_> = driver.0.cells.read().by_uid.values().cloned().collect();
    let states: Vec<_> = cells.iter().map(|cell| cell.state.lock()).collect();
    let mut sum = Ledger::default();
    for (cell, state) in cells.iter().zip(&states) {
        sum.set(&cell.uid, held(state));
    }
    assert_eq!(*driver.0.ledger.lock(), sum);
}

fn one_of<T: Copy>(rng: &mut StdRng, all: &[T]) -> T {
    all[rng.random_range(0..all.len())]
}

fn some_resources(rng: &mut StdRng, most: u32) -> Value {
    let cpu = format!("{}m", 100 * rng.random_range(0..=most));
    let memory = format!("{}Mi", 16 * rng.random_range(0..4));
    json!({"requests": {"cpu": cpu, "memory": memory}})
}

fn some_container(rng: &mut StdRng, name: String, image: &str) -> Value {
    let scripts: [&[&str]; 4] = [
        &["forever"],
        &["drain 1s", "forever"],
        &["sleep 3s"],
        &["sleep 2s", "exit 1"],
    ];
    let script = one_of(rng, &scripts);
    let policy = one_of(rng, &["NotRequired", "RestartContainer"]);
    json!({
        "name": name, "image": image, "args": script, "resources": some_resources(rng, 3),
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}],
    })
}

fn some_pod(rng: &mut StdRng, name: String, image: &str) -> Pod {
    let mut containers = vec![some_container(rng, "main".to_owned(), image)];
    if rng.random_bool(0.5) {
        containers.push(some_container(rng, "beside".to_owned(), image));
    }
    let policy = one_of(rng, &["Always", "OnFailure", "Never"]);
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "restartPolicy": policy, "terminationGracePeriodSeconds": 2, "containers": containers,
        },
    });
    if rng.random_bool(0.25) {
        let resources = some_resources(rng, 6);
        let init =
            json!({"name": "init", "image": image, "args": ["sleep 1s"], "resources": resources});
        pod["spec"]["initContainers"] = json!([init]);
    }
    serde_json::from_value(pod).unwrap()
}

/// Something happens to a pod that runs. That it may have gone meanwhile is no matter.
async fn something(rng: &mut StdRng, pods: &Access<Pod>, now: Timestamp) {
    let mut running = pods.list(&ListOptions::default()).await.unwrap().items;
    running.retain(|pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"));
    if running.is_empty() {
        return;
    }
    let pod = running.swap_remove(rng.random_range(0..running.len()));
    let name = pod.metadata.name.unwrap();
    let (patch, subresource) = match rng.random_range(0..6) {
        0..3 => {
            let mut containers = serde_json::to_value(pod.spec.unwrap().containers).unwrap();
            containers[0]["resources"] = some_resources(rng, 11);
            let generation = pod.metadata.generation.unwrap_or(1) + 1;
            let spec = json!({"containers": containers});
            (
                json!({"metadata": {"generation": generation}, "spec": spec}),
                None,
            )
        }
        3 => {
            let metadata = json!({"deletionTimestamp": now, "deletionGracePeriodSeconds": 2});
            (json!({"metadata": metadata}), None)
        }
        4 => (json!({"status": {"phase": "Failed"}}), Some("status")),
        _ => {
            let options = DeleteOptions::default();
            return drop(pods.delete("default", &name, &options).await);
        }
    };
    let patch = Patch::Merge(patch);
    drop(pods.patch("default", &name, &patch, subresource).await);
}

/// Pods come, wish, end and go as `seed` has it; the reasons of the events that were recorded.
async fn some_life(seed: u64) -> BTreeSet<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("pods")).unwrap();
    let image = dir.path().join("script.wasm");
    std::fs::write(&image, b"\0asm\x01\0\0\0").unwrap();
    let image = format!("file://{}", image.display());
    let client = Simulated::new().client("test");
    let clock = Clock::simulated("2026-11-21T10:00:00Z".parse().unwrap());
    let driver = driver(dir.path(), &client, clock, 1_000);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (driver, stop) = (driver.clone(), stop.clone());
        let informer = Informer::<Pod>::start(client.of(), ListOptions::default());
        async move {
            let begun = driver.begin().await;
            driver.run(informer, stop).await;
            driver.finish(begun).await;
        }
    });
    let pods = client.of::<Pod>();
    for step in 0..100 {
        if rng.random_bool(0.5) {
            let pod = some_pod(&mut rng, format!("p{step}"), &image);
            pods.create(&pod).await.unwrap();
        } else {
            something(&mut rng, &pods, clock.now()).await;
        }
        for _ in 0..rng.random_range(0..40) {
            tokio::task::yield_now().await;
            assert_in_step(&driver);
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..2_000))).await;
        assert_in_step(&driver);
    }
    assert_ne!(*driver.0.ledger.lock(), Ledger::default());
    for pod in pods.list(&ListOptions::default()).await.unwrap().items {
        let name = pod.metadata.name.unwrap();
        let options = DeleteOptions::default();
        drop(pods.delete("default", &name, &options).await);
    }
    let all_are_gone = async {
        while !driver.0.cells.read().by_uid.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_in_step(&driver);
        }
    };
    let all_are_gone = tokio::time::timeout(Duration::from_secs(600), all_are_gone);
    all_are_gone.await.expect("a pod stays");
    assert_eq!(*driver.0.ledger.lock(), Ledger::default());
    stop.cancel();
    running.await.unwrap();
    let events = client.of::<Event>();
    let events = events.list(&ListOptions::namespace("default")).await;
    let reasons = events.unwrap().items.into_iter().map(|event| event.reason);
    reasons.flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn the_ledger_is_the_sum_of_all_pods_at_any_moment() {
    let mut reasons = BTreeSet::new();
    for seed in 0..4 {
        reasons.extend(some_life(seed).await);
    }
    for reason in [
        "Started",
        "OutOfcpu",
        "ResizeStarted",
        "ResizeCompleted",
        "ResizeDeferred",
    ] {
        assert!(reasons.contains(reason), "{reason}: {reasons:?}");
    }
}

/// A pod that asks for so much CPU.
fn numbered(number: i64, millis: i64) -> Arc<Pod> {
    let resources = json!({"requests": {"cpu": format!("{millis}m")}});
    let pod = json!({
        "metadata": {
            "name": format!("p{number}"), "namespace": "default", "uid": format!("uid-{number}"),
        },
        "spec": {"containers": [{"name": "main", "resources": resources}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

#[tokio::test]
async fn neither_who_comes_nor_who_goes_has_all_others_looked_at() {
    const MANY: i64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let client = Simulated::new().client("test");
    let driver = driver(dir.path(), &client, Clock::Wall, 10 * MANY);
    for number in 1..MANY {
        driver.desired(&numbered(number, 10), None);
    }
    // Nobody had to be judged in a pass: none was made yet, and all go on.
    assert!(driver.waiting().is_empty());
    assert_eq!(driver.0.queue.len(), 9_999);
    let find = |number: i64| driver.find("default", &format!("p{number}"), "").unwrap();

    // Whoever looked at one of the others now would never be done.
    let others: Vec<_> = (2..MANY).map(find).collect();
    let locked: Vec<_> = others.iter().map(|cell| cell.state.lock()).collect();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn({
        let (driver, tasks) = (driver.clone(), tokio::runtime::Handle::current());
        move || {
            let _tasks = tasks.enter();
            driver.desired(&numbered(MANY, 10), None);
            driver.desired(&numbered(MANY, 11), None);
            let last = driver.find("default", &format!("p{MANY}"), "").unwrap();
            driver.ask_room(&last);
            driver.desired(&numbered(MANY + 1, 1), None);
            driver.share();
            let waits = driver.0.wishing.lock().clone();
            driver.gone(&Key::new("default", "p1"));
            driver.share();
            done.send(waits).unwrap();
        }
    });
    let waits = is_done.recv_timeout(Duration::from_secs(60));
    let waits = waits.expect("one of the others was looked at");
    drop(locked);

    let verdict = find(MANY + 1).state.lock().observed.verdict.clone();
    assert_eq!(verdict.unwrap().reason, "OutOfcpu");
    assert_eq!(waits, BTreeSet::from([format!("uid-{MANY}")]));
    let last = find(MANY);
    let state = last.state.lock();
    assert!(state.observed.is_allocated(&state.pod));
    assert_eq!(state.observed.verdict, None);
    drop(state);
    assert_in_step(&driver);
}

#[tokio::test]
async fn who_goes_makes_room_for_who_is_heard_of_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let client = Simulated::new().client("test");
    let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
    let key = |number: i64| Key::new("default", format!("p{number}").as_str());
    driver.desired(&numbered(9, 1_000), None);
    let made = |number: i64, second: i64| {
        let mut pod = Arc::unwrap_or_clone(numbered(number, 600));
        let at = Timestamp::from_second(second).unwrap();
        pod.metadata.creation_timestamp = Some(Time(at));
        Arc::new(pod)
    };
    // By name, who is gone comes last, and the older one behind the younger.
    driver.take_up([
        (Some(made(1, 20)), key(1)),
        (Some(made(2, 10)), key(2)),
        (None, key(9)),
    ]);
    let is_in = |number: i64| {
        let cell = driver.find("default", &format!("p{number}"), "").unwrap();
        cell.state.lock().is_admitted
    };
    assert_eq!((is_in(1), is_in(2)), (false, true));
}

#[tokio::test]
async fn who_is_here_again_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let client = Simulated::new().client("test");
    let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
    driver.desired(&numbered(1, 10), None);
    let cell = driver.find("default", "p1", "").unwrap();
    driver.gone(&Key::new("default", "p1"));
    driver.desired(&numbered(1, 10), None);
    assert!(driver.forget(&cell).is_none());
    driver.gone(&Key::new("default", "p1"));
    assert!(driver.forget(&cell).is_some());
    // Another one of the same uid is not this one.
    driver.desired(&numbered(1, 10), None);
    assert!(driver.forget(&cell).is_none());
    driver.judge(&cell);
    assert!(driver.find("default", "p1", "").is_ok());
    assert_in_step(&driver);
}
