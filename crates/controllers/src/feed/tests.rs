//! Waiting for own writes, against a simulated server.

use std::collections::BTreeSet;
use std::sync::Arc;

use client::simulated::Simulated;
use client::{DeleteOptions, Key};
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};

use super::{Feed, PATIENCE, Queue, Work};
use crate::controller::Controller;
use crate::writer::{Mark, Writer};

fn pod(name: &str) -> Pod {
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
                     "metadata": {"name": name, "namespace": "ns"}, "spec": {"containers": []}});
    serde_json::from_value(pod).expect("a pod")
}

fn mark(pod: &Pod, revision: u64) -> Mark {
    Mark {
        kind: "Pod".into(),
        key: Key::of(pod),
        uid: client::Object::uid(pod).into(),
        revision,
    }
}

#[test]
fn a_pod_that_its_job_no_longer_controls_is_still_the_jobs_work() {
    let mut orphan = pod("a");
    orphan.metadata.finalizers = Some(vec!["batch.kubernetes.io/job-tracking".into()]);
    orphan.metadata.labels =
        Some([("batch.kubernetes.io/job-name".to_owned(), "job".to_owned())].into());
    let view = crate::View::default();
    let work = |pod: &Pod| {
        super::on_pod(super::Change {
            old: None,
            new: Some(pod),
            view: &view,
        })
    };
    let job = (Controller::Job, Key::new("ns", "job"));
    assert_eq!(work(&orphan), [job]);
    orphan.metadata.finalizers = None;
    assert_eq!(work(&orphan), []);
}

#[test]
fn a_port_that_one_service_gives_back_is_anothers_work() {
    let service = |name: &str, made: &str| -> Service {
        let service = json!({"metadata": {"name": name, "namespace": "ns", "creationTimestamp": made},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
        serde_json::from_value(service).expect("a Service")
    };
    let [gone, next] = [
        service("gone", "2026-11-21T09:00:00Z"),
        service("next", "2026-11-21T09:00:01Z"),
    ];
    let mut view = crate::View::default();
    view.services
        .set(&Key::of(&next), Some(next.clone().into()));
    let work = super::on_service(super::Change {
        old: Some(&gone),
        new: None,
        view: &view,
    });
    assert!(work.contains(&(Controller::ServiceStatus, Key::of(&next))));
}

#[test]
fn who_may_want_a_free_volume_or_a_new_class_is_asked() {
    let mut view = crate::View::default();
    for (name, spec) in [
        ("asks-for-none", json!({})),
        (
            "named",
            json!({"storageClassName": "other", "volumeName": "v"}),
        ),
        ("of-class", json!({"storageClassName": "c"})),
        ("of-other", json!({"storageClassName": "other"})),
        ("of-the-empty", json!({"storageClassName": ""})),
        (
            "served",
            json!({"storageClassName": "c", "volumeName": "w"}),
        ),
    ] {
        let claim = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
        let claim = serde_json::from_value(claim).expect("a claim");
        view.claims
            .set(&Key::new("ns", name), Some(Arc::new(claim)));
    }
    let names = |work: Vec<Work>| {
        let of_claims = work
            .into_iter()
            .filter(|(controller, _)| *controller == Controller::ClaimBinding);
        let names: BTreeSet<String> = of_claims.map(|(_, key)| key.name).collect();
        Vec::from_iter(names).join(" ")
    };
    let volume = |spec: Value| {
        let volume = json!({"metadata": {"name": "v"}, "spec": spec});
        let volume = serde_json::from_value(volume).expect("a volume");
        names(super::on_volume(super::Change {
            old: None,
            new: Some(&volume),
            view: &view,
        }))
    };
    assert_eq!(volume(json!({"storageClassName": "c"})), "named of-class");
    let of = json!({"namespace": "ns", "name": "of-other"});
    let taken = json!({"storageClassName": "c", "claimRef": of});
    assert_eq!(volume(taken), "of-other");
    let class = |is_default: &str| {
        let annotations = json!({api::storage::IS_DEFAULT: is_default});
        let class =
            json!({"metadata": {"name": "c", "annotations": annotations}, "provisioner": "p"});
        let class = serde_json::from_value(class).expect("a class");
        names(super::on_storage_class(super::Change {
            old: None,
            new: Some(&class),
            view: &view,
        }))
    };
    assert_eq!(class("false"), "of-class");
    assert_eq!(class("true"), "asks-for-none of-class");
}

#[tokio::test(start_paused = true)]
async fn an_own_write_is_waited_for_until_it_is_in_view() {
    let server = Simulated::new();
    let client = server.client("test");
    let (feed, _tasks) = Feed::start(&client, "CA", &Queue::new()).await;
    let writer = Writer::new(client.clone());
    let made = client.of::<Pod>().create(&pod("a")).await.expect("made");
    let revision = client::Object::revision(&made);
    assert!(
        feed.unseen(vec![mark(&made, revision)], &writer)
            .await
            .is_empty()
    );
    assert!(feed.view().pods.get(&Key::new("ns", "a")).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_was_gone_before_anybody_saw_it_is_not_waited_for() {
    let server = Simulated::new();
    let client = server.client("test");
    let (feed, _tasks) = Feed::start(&client, "CA", &Queue::new()).await;
    let writer = Writer::new(client.clone());
    let pods = client.of::<Pod>();
    let made = pods.create(&pod("a")).await.expect("made");
    let options = DeleteOptions::uid(client::Object::uid(&made)).grace_period_seconds(0);
    pods.delete("ns", "a", &options).await.expect("deleted");
    // Far beyond what any event will say.
    let began = tokio::time::Instant::now();
    let unseen = feed.unseen(vec![mark(&made, 1_000_000)], &writer).await;
    assert!(unseen.is_empty(), "{unseen:?}");
    assert!(began.elapsed() <= 2 * PATIENCE);
    assert!(feed.unseen(vec![mark(&made, 0)], &writer).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_view_that_is_behind_is_told_from_one_that_is_not() {
    let server = Simulated::new();
    let client = server.client("test");
    let made = client.of::<Pod>().create(&pod("a")).await.expect("made");
    let (feed, _tasks) = Feed::start(&client, "CA", &Queue::new()).await;
    let writer = Writer::new(client.clone());
    // A deletion that was asked for and of which the view shows nothing.
    let going = mark(&made, 0);
    assert_eq!(feed.unseen(vec![going.clone()], &writer).await, []);
    assert!(!feed.shows(&feed.progress["Pod"], &going, 1_000_000));
    let stranger = Mark {
        uid: "before".into(),
        ..going
    };
    assert!(feed.shows(&feed.progress["Pod"], &stranger, 0));
}
