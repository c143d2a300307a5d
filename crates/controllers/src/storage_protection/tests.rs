//! When claims and volumes are kept, and when they go.

use client::simulated::Simulated;
use client::{DeleteOptions, Key};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::{CLAIM, VOLUME, claims, uses, without_finalizer};
use crate::plan::Write;
use crate::simulation::Simulation;
use crate::writer::{Outcome, Writer};

fn claim(name: &str, finalizers: &[&str]) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {},
           "metadata": {"name": name, "namespace": "ns", "finalizers": finalizers}})
}

fn pod(name: &str, volume: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns"},
           "spec": {"containers": [], "volumes": [volume]}})
}

fn named(claim: &str) -> Value {
    json!({"name": "v", "persistentVolumeClaim": {"claimName": claim}})
}

fn finalizers(sim: &Simulation, kind: &str, key: &Key) -> Value {
    sim.load(kind, key).expect("there")["metadata"]["finalizers"].clone()
}

#[test]
fn who_uses_a_claim() {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({"metadata": {
        "name": "web-v", "namespace": "ns",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u", "controller": true}],
    }}))
    .expect("a claim");
    let by_name = json!({"spec": {"nodeName": "n", "volumes": [named("web-v")]}});
    let own = json!({"spec": {"nodeName": "n", "volumes": [{"name": "v", "ephemeral": {}}]}});
    let gone =
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
    let table = [
        ("by its name", by_name.clone(), json!({}), true),
        (
            "another",
            json!({"spec": {"nodeName": "n", "volumes": [named("w")]}}),
            json!({}),
            false,
        ),
        (
            "no node",
            json!({"spec": {"volumes": [named("web-v")]}}),
            json!({}),
            false,
        ),
        (
            "an empty node",
            json!({"spec": {"nodeName": "", "volumes": [named("web-v")]}}),
            json!({}),
            false,
        ),
        (
            "finished",
            json!({"spec": by_name["spec"], "status": {"phase": "Succeeded"}}),
            json!({}),
            true,
        ),
        ("ended, by its name", by_name, gone.clone(), true),
        ("its own", own.clone(), json!({}), true),
        ("its own, ended", own.clone(), gone, false),
        (
            "its own, ending",
            own.clone(),
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}),
            true,
        ),
        ("that of a namesake", own, json!({"uid": "other"}), false),
        ("nothing", json!({}), json!({}), false),
    ];
    for (what, mut pod, meta, used) in table {
        pod["metadata"] = json!({"name": "web", "namespace": "ns", "uid": "u"});
        let fields = meta.as_object().expect("an object").clone();
        pod["metadata"]
            .as_object_mut()
            .expect("an object")
            .extend(fields);
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        assert_eq!(uses(&pod, &claim), used, "{what}");
        let names = claims(&pod).any(|key| key == Key::new("ns", "web-v"));
        assert!(names || !used, "{what}: its changes concern the claim");
    }
}

#[test]
fn a_claim_stays_while_a_pod_uses_it() {
    let mut sim = Simulation::new(1);
    let key = sim.create(claim("data", &["example.com/mine", CLAIM]));
    let user = sim.create(pod("web", &named("data")));
    sim.phase(&user, "Running");
    let waits = sim.create(pod("waits", &named("data")));
    sim.delete("PersistentVolumeClaim", &key, false);
    sim.settle();
    assert_eq!(
        finalizers(&sim, "PersistentVolumeClaim", &key),
        json!(["example.com/mine", CLAIM])
    );
    sim.phase(&user, "Succeeded");
    sim.settle();
    assert_eq!(
        finalizers(&sim, "PersistentVolumeClaim", &key),
        json!(["example.com/mine", CLAIM])
    );
    sim.let_go(&user);
    sim.settle();
    assert_eq!(
        finalizers(&sim, "PersistentVolumeClaim", &key),
        json!(["example.com/mine"])
    );
    assert!(sim.load("Pod", &waits).is_some());
}

#[test]
fn a_claim_that_nobody_uses_goes_at_once() {
    let mut sim = Simulation::new(1);
    let key = sim.create(claim("data", &[]));
    sim.settle();
    assert_eq!(
        finalizers(&sim, "PersistentVolumeClaim", &key),
        json!([CLAIM])
    );
    sim.delete("PersistentVolumeClaim", &key, false);
    assert!(sim.load("PersistentVolumeClaim", &key).is_some());
    sim.settle();
    assert_eq!(sim.load("PersistentVolumeClaim", &key), None);
}

#[test]
fn a_volume_stays_while_it_is_bound() {
    let mut sim = Simulation::new(1);
    let mut user = claim("data", &[]);
    user["spec"] = json!({"volumeName": "disk"});
    let user = sim.create(user);
    let key = sim.create(json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "disk"}, "spec": {}}));
    sim.settle();
    assert_eq!(
        sim.load("PersistentVolume", &key).expect("there")["status"]["phase"],
        "Bound"
    );
    assert_eq!(finalizers(&sim, "PersistentVolume", &key), json!([VOLUME]));
    sim.delete("PersistentVolume", &key, false);
    sim.settle();
    assert_eq!(finalizers(&sim, "PersistentVolume", &key), json!([VOLUME]));
    sim.delete("PersistentVolumeClaim", &user, false);
    sim.settle();
    assert_eq!(sim.load("PersistentVolume", &key), None);
}

#[test]
fn a_volume_stays_that_a_claim_has_and_that_does_not_say_so_yet() {
    for seed in 0..20 {
        let mut sim = Simulation::new(seed);
        let mut user = claim("data", &[CLAIM]);
        user["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
        user["spec"] = json!({"volumeName": "disk"});
        user["status"] = json!({"phase": "Bound"});
        let user = sim.create(user);
        let uid =
            sim.load("PersistentVolumeClaim", &user).expect("there")["metadata"]["uid"].clone();
        let key = sim.create(json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "disk", "finalizers": [VOLUME]},
            "spec": {"claimRef": {"namespace": "ns", "name": "data", "uid": uid}},
            "status": {"phase": "Available"}}));
        sim.delete("PersistentVolume", &key, false);
        sim.settle();
        assert_eq!(finalizers(&sim, "PersistentVolume", &key), json!([VOLUME]));
        sim.delete("PersistentVolumeClaim", &user, false);
        sim.settle();
        assert_eq!(sim.load("PersistentVolume", &key), None);
    }
}

#[tokio::test]
async fn the_api_is_asked_before_a_claim_goes() {
    let client = Simulated::new().client("test");
    let (claims, pods) = (client.of::<PersistentVolumeClaim>(), client.of::<Pod>());
    let made: PersistentVolumeClaim =
        serde_json::from_value(claim("data", &[CLAIM])).expect("a claim");
    let made = claims.create(&made).await.expect("made");
    let mut user = pod("web", &named("data"));
    user["spec"]["nodeName"] = json!("n");
    let user: Pod = serde_json::from_value(user).expect("a pod");
    pods.create(&user).await.expect("made");
    let let_go = Write::LetGo {
        patch: without_finalizer(&made.metadata, CLAIM),
        claim: made.into(),
    };
    let writer = Writer::new(client);
    let kept = writer.write(&let_go).await.expect("written");
    assert!(matches!(kept, Outcome::Nothing));
    let options = DeleteOptions::default().grace_period_seconds(0);
    pods.delete("ns", "web", &options).await.expect("deleted");
    let gone = writer.write(&let_go).await.expect("written");
    assert!(matches!(gone, Outcome::Written(_)));
    let left = claims.get("ns", "data").await.expect("there");
    assert_eq!(left.metadata.finalizers.unwrap_or_default(), [""; 0]);
}
