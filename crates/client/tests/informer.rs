//! Informers and the recorder against a simulated cluster, through its faults.

use std::{collections::BTreeSet, time::Duration};

use client::{
    DeleteOptions, EventType, Informer, Key, ListOptions, Object, PartialObject, Patch, Recorder,
    reference, simulated::Simulated,
};
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use serde_json::json;

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.metadata.namespace = Some("default".to_owned());
    map
}

fn start(cluster: &Simulated, options: ListOptions) -> Informer<ConfigMap> {
    Informer::start(cluster.client("test").of(), options)
}

async fn create(cluster: &Simulated, name: &str) -> ConfigMap {
    let access = cluster.client("test").of::<ConfigMap>();
    access.create(&map(name)).await.unwrap()
}

fn names(informer: &Informer<ConfigMap>) -> Vec<String> {
    informer.view().keys().map(|key| key.name.clone()).collect()
}

fn requests(cluster: &Simulated, with: &str) -> usize {
    let requests = cluster.requests();
    requests.iter().filter(|line| line.contains(with)).count()
}

#[tokio::test(start_paused = true)]
async fn follows_without_polling() {
    let cluster = Simulated::new();
    create(&cluster, "a").await;
    let informer = start(&cluster, ListOptions::default());
    assert!(!informer.is_synced());
    informer.synced().await;
    assert_eq!(names(&informer), ["a"]);
    for name in ["b", "c"] {
        let created = create(&cluster, name).await;
        informer.reached(created.revision()).await;
    }
    assert_eq!(names(&informer), ["a", "b", "c"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(requests(&cluster, "GET"), 2, "one list and one watch");
}

#[tokio::test(start_paused = true)]
async fn keeps_no_managed_fields() {
    let cluster = Simulated::new();
    let access = cluster.client("test").of::<ConfigMap>();
    let mut managed = map("listed");
    managed.metadata.managed_fields = Some(vec![Default::default()]);
    let listed = access.create(&managed).await.unwrap();
    assert!(listed.metadata.managed_fields.is_some());
    let informer = start(&cluster, ListOptions::default());
    informer.synced().await;
    managed.metadata.name = Some("watched".to_owned());
    let watched = access.create(&managed).await.unwrap();
    informer.reached(watched.revision()).await;
    assert_eq!(names(&informer), ["listed", "watched"]);
    for (_, object) in &informer.view() {
        assert_eq!(object.metadata.managed_fields, None);
    }
}

#[tokio::test(start_paused = true)]
async fn resumes_a_broken_watch_without_listing() {
    let cluster = Simulated::new();
    let informer = start(&cluster, ListOptions::default());
    informer.synced().await;
    for round in 0..5 {
        cluster.break_watches();
        let created = create(&cluster, &format!("r{round}")).await;
        informer.reached(created.revision()).await;
    }
    assert_eq!(informer.view().len(), 5);
    assert_eq!(requests(&cluster, "limit="), 1, "one list");
}

#[tokio::test(start_paused = true)]
async fn lists_again_when_history_is_gone() {
    let cluster = Simulated::new();
    create(&cluster, "stays").await;
    create(&cluster, "goes").await;
    let informer = start(&cluster, ListOptions::default());
    informer.synced().await;
    let mut changes = informer.subscribe();
    assert_eq!(
        changes.next().await.len(),
        2,
        "everything counts as changed at first"
    );
    // The watch is broken and can't resume before history is gone.
    cluster.lose(&Method::GET, "/configmaps");
    cluster.break_watches();
    tokio::task::yield_now().await;
    let access = cluster.client("test").of::<ConfigMap>();
    let options = DeleteOptions::default();
    access.delete("default", "goes", &options).await.unwrap();
    let comes = create(&cluster, "comes").await;
    cluster.compact();
    informer.reached(comes.revision()).await;
    assert_eq!(names(&informer), ["comes", "stays"]);
    let changed = changes.next().await;
    let expected = ["comes", "goes"].map(|name| Key::new("default", name));
    assert_eq!(
        changed,
        BTreeSet::from(expected),
        "what stayed has not changed"
    );
}

#[tokio::test(start_paused = true)]
async fn keeps_trying_until_there_is_a_server() {
    let cluster = Simulated::new();
    for _ in 0..20 {
        cluster.refuse(&Method::GET, "/configmaps", 503);
    }
    let informer = start(&cluster, ListOptions::default());
    let began = tokio::time::Instant::now();
    informer.synced().await;
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(10), "it backs off: {waited:?}");
    assert!(
        waited < Duration::from_secs(40),
        "but not for ever: {waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn selections_are_entered_and_left() {
    let cluster = Simulated::new();
    let chosen = start(&cluster, ListOptions::default().labels("pick=yes"));
    let named = start(&cluster, ListOptions::named("default", "b"));
    chosen.synced().await;
    named.synced().await;
    create(&cluster, "a").await;
    create(&cluster, "b").await;
    let access = cluster.client("test").of::<ConfigMap>();
    for (label, expected) in [("yes", vec!["a"]), ("no", vec![])] {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { "pick": label } } }));
        let patched = access.patch("default", "a", &patch, None).await.unwrap();
        chosen.reached(patched.revision()).await;
        assert_eq!(names(&chosen), expected);
    }
    assert_eq!(names(&named), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_object_is_left_out() {
    let cluster = Simulated::new();
    let configmaps = api::resource::by_path("", "v1", "configmaps").unwrap();
    let client = cluster.client("test");
    let broken = client::Untyped(json!({
        "metadata": { "name": "broken", "namespace": "default" }, "data": "not a map",
    }));
    client.untyped(configmaps).create(&broken).await.unwrap();
    let informer = start(&cluster, ListOptions::default());
    informer.synced().await;
    let partial: Informer<PartialObject> =
        Informer::start(client.resource(configmaps), ListOptions::default());
    partial.synced().await;
    let fine = create(&cluster, "fine").await;
    informer.reached(fine.revision()).await;
    partial.reached(fine.revision()).await;
    assert_eq!(names(&informer), ["fine"]);
    assert_eq!(partial.view().len(), 2);
    assert!(
        client
            .of::<ConfigMap>()
            .list(&ListOptions::default())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn changes_coalesce_while_nobody_looks() {
    let cluster = Simulated::new();
    let informer = start(&cluster, ListOptions::default());
    informer.synced().await;
    let mut changes = informer.subscribe();
    let created = create(&cluster, "a").await;
    let access = cluster.client("test").of::<ConfigMap>();
    let mut revision = created.revision();
    for round in 0..10 {
        let patch = Patch::Merge(json!({ "data": { "round": round.to_string() } }));
        revision = access
            .patch("default", "a", &patch, None)
            .await
            .unwrap()
            .revision();
    }
    informer.reached(revision).await;
    assert_eq!(
        changes.next().await,
        BTreeSet::from([Key::new("default", "a")])
    );
    let waiting = tokio::time::timeout(Duration::from_secs(5), changes.next()).await;
    assert!(waiting.is_err(), "nothing more has changed");
}

async fn events(cluster: &Simulated) -> Vec<Event> {
    // Recording is done in the background.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let access = cluster.client("test").of::<Event>();
    access.list(&ListOptions::default()).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn repeated_events_are_counted_up() {
    let cluster = Simulated::new();
    let recorder = Recorder::start(cluster.client("test"), "tester", "node-1");
    let about = reference(&create(&cluster, "a").await);
    // Even if an answer is lost on the way.
    cluster.lose_answer(&Method::POST, "/events");
    for _ in 0..3 {
        recorder.event(&about, EventType::Warning, "BackOff", "restarting");
    }
    recorder.event(&about, EventType::Normal, "Started", "it runs");
    let events = events(&cluster).await;
    assert_eq!(events.len(), 2);
    let repeated = events
        .iter()
        .find(|event| event.reason.as_deref() == Some("BackOff"));
    let repeated = repeated.unwrap();
    assert_eq!(repeated.count, Some(3));
    assert_eq!(repeated.type_.as_deref(), Some("Warning"));
    assert_eq!(repeated.involved_object.uid, about.uid);
    let source = repeated.source.as_ref().unwrap();
    assert_eq!(source.component.as_deref(), Some("tester"));
    assert_eq!(source.host.as_deref(), Some("node-1"));
    let name = repeated.metadata.name.as_deref().unwrap();
    let hex = name.strip_prefix("a.").unwrap();
    assert!(u128::from_str_radix(hex, 16).is_ok(), "{name}");
    // After ten minutes it is a new one.
    tokio::time::sleep(Duration::from_secs(700)).await;
    recorder.event(&about, EventType::Warning, "BackOff", "restarting");
    assert_eq!(self::events(&cluster).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn similar_events_are_combined() {
    let cluster = Simulated::new();
    let recorder = Recorder::start(cluster.client("test"), "tester", "");
    let about = reference(&create(&cluster, "a").await);
    for number in 0..14 {
        recorder.event(
            &about,
            EventType::Warning,
            "Failed",
            format!("reason {number}"),
        );
    }
    let events = events(&cluster).await;
    assert_eq!(events.len(), 11);
    let combined = events.iter().find(|event| event.count == Some(4)).unwrap();
    let message = combined.message.as_deref().unwrap();
    assert_eq!(message, "(combined from similar events): reason 13");
}

#[tokio::test(start_paused = true)]
async fn what_is_always_ill_writes_seldom() {
    let cluster = Simulated::new();
    let recorder = Recorder::start(cluster.client("test"), "tester", "");
    let of = async |name| reference(&create(&cluster, name).await);
    let (ill, other) = (of("a").await, of("b").await);
    let fails = || recorder.event(&ill, EventType::Warning, "Unhealthy", "probe failed");
    let before = cluster.revision();
    for _ in 0..100 {
        fails();
    }
    recorder.event(&other, EventType::Normal, "Started", "it runs");
    let counts = async || {
        let events = events(&cluster).await;
        let of = |name: &str| {
            let mut all = events.iter();
            all.find(|event| event.involved_object.name.as_deref() == Some(name))?
                .count
        };
        (of("a"), of("b"), cluster.revision() - before)
    };
    assert_eq!(counts().await, (Some(25), Some(1), 26));
    // An hour of a probe each ten seconds. What is written then has counted all.
    for _ in 0..360 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        fails();
    }
    assert_eq!(counts().await, (Some(100 + 360), Some(1), 26 + 12));
}

#[tokio::test(start_paused = true)]
async fn recording_never_waits() {
    let cluster = Simulated::new();
    cluster.set_latency(Duration::from_secs(3600));
    let recorder = Recorder::start(cluster.client("test"), "tester", "");
    let about = reference(&map("a"));
    for number in 0..5000 {
        recorder.event(&about, EventType::Normal, "Many", format!("{number}"));
    }
}
