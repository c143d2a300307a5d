use serde_json::{Value, json};

use super::*;
use crate::plan::{Plan, Write};
use crate::simulation::Simulation;
use client::Key;

const WAITS: &str = "WaitForFirstConsumer";

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": provisioner, "reclaimPolicy": "Delete", "volumeBindingMode": mode})
}

fn claim(name: &str, spec: Value) -> Value {
    let mut all = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": {"requests": {"storage": "2Gi"}}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        all[field] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "ns"}, "spec": all})
}

fn volume(name: &str, size: &str, spec: Value) -> Value {
    let mut all = json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "storageClassName": "",
        "capacity": {"storage": size}, "hostPath": {"path": "/x"},
        "persistentVolumeReclaimPolicy": "Retain"});
    for (field, value) in spec.as_object().into_iter().flatten() {
        all[field] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": all})
}

fn of(claim: &str) -> Value {
    json!({"claimRef": {"namespace": "ns", "name": claim}})
}

fn key(name: &str) -> Key {
    Key::new("ns", name)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A claim's phase and volume.
fn state(sim: &Simulation, name: &str) -> String {
    let claim = sim
        .load("PersistentVolumeClaim", &key(name))
        .expect("there");
    format!(
        "{} {}",
        text(&claim["status"]["phase"]),
        text(&claim["spec"]["volumeName"])
    )
}

/// A volume's phase and claim.
fn held(sim: &Simulation, name: &str) -> String {
    let volume = sim
        .load("PersistentVolume", &Key::new("", name))
        .expect("there");
    format!(
        "{} {}",
        text(&volume["status"]["phase"]),
        text(&volume["spec"]["claimRef"]["name"])
    )
}

/// What one look at a claim plans: its events.
fn told(sim: &Simulation, name: &str) -> String {
    let Plan { events, .. } = reconcile_claim(&key(name), &sim.view, &Promises::default());
    let all: Vec<String> = events
        .iter()
        .map(|event| format!("{}: {}", event.reason, event.message))
        .collect();
    all.join("\n")
}

#[test]
fn claims_get_the_smallest_volumes_that_fit() {
    let mut sim = Simulation::new(1);
    for (name, size) in [("large", "9Gi"), ("right", "3Gi"), ("small", "1Gi")] {
        sim.create(volume(name, size, json!({})));
    }
    sim.create(claim("a", json!({})));
    sim.settle();
    assert_eq!(
        (state(&sim, "a"), held(&sim, "right")),
        ("Bound right".into(), "Bound a".into())
    );
    let bound = sim.load("PersistentVolumeClaim", &key("a")).expect("there");
    assert_eq!(bound["status"]["capacity"]["storage"], "3Gi");
    assert_eq!(
        bound["status"]["accessModes"],
        json!(["ReadWriteOnce", "ReadOnlyMany"])
    );
    let yes = json!({"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"});
    assert_eq!(bound["metadata"]["annotations"], yes);
    sim.create(claim("b", json!({})));
    sim.create(claim("c", json!({})));
    sim.settle();
    assert_eq!(state(&sim, "b"), "Bound large");
    assert_eq!(state(&sim, "c"), "Pending null");
    assert_eq!(
        told(&sim, "c"),
        "FailedBinding: no persistent volumes available for this claim and no storage class is set"
    );
    assert_eq!(held(&sim, "small"), "Available null");
    sim.create(volume("late", "2Gi", json!({})));
    sim.settle();
    assert_eq!(state(&sim, "c"), "Bound late");
}

/// All look at one picture, before anything is written.
#[test]
fn claims_that_are_looked_at_at_once_get_different_volumes() {
    let sized = |size: &str| json!({"resources": {"requests": {"storage": size}}});
    let mut sim = Simulation::new(1);
    sim.create(class("fast", "kubernetes.io/no-provisioner", "Immediate"));
    let fast = || json!({"storageClassName": "fast"});
    for (name, size, spec) in [
        ("v1", "1Gi", json!({})),
        ("v2", "2Gi", json!({})),
        ("v3", "3Gi", json!({})),
        ("v4", "4Gi", of("h")),
        ("v5", "5Gi", fast()),
    ] {
        sim.create(volume(name, size, spec));
    }
    sim.settle();
    let cases = [
        ("a", sized("1Gi"), "v1"),
        ("b", sized("1Gi"), "v2"),
        ("c", sized("3Gi"), "v3"),
        // What is left for it was promised, which is to be seen.
        ("d", sized("1Gi"), "later"),
        // No promise would help it.
        ("e", sized("9Gi"), "never"),
        ("f", fast(), "v5"),
        ("g", fast(), "later"),
        ("h", sized("1Gi"), "v4"),
    ];
    for (name, spec, _) in &cases {
        sim.create(claim(name, spec.clone()));
    }
    let mut promised = Promises::default();
    let mut look = |sim: &Simulation, name: &str| {
        promised.take_back(&key(name));
        let plan = reconcile_claim(&key(name), &sim.view, &promised);
        promised.give(&key(name), &plan);
        plan
    };
    let got = |plan: &Plan| match plan.writes.as_slice() {
        [Write::Patch { target, .. }, ..] if target.kind == "PersistentVolume" => {
            target.key.name.clone()
        }
        _ if plan.again_after.is_some() => "later".to_owned(),
        _ => "never".to_owned(),
    };
    // Whoever looks again gets the same.
    for _ in 0..2 {
        for (name, _, volume) in &cases {
            assert_eq!(got(&look(&sim, name)), *volume, "{name}");
        }
    }
    // One that is gone leaves what it was promised to others.
    sim.delete("PersistentVolumeClaim", &key("b"), true);
    assert!(look(&sim, "b").writes.is_empty());
    assert_eq!(got(&look(&sim, "d")), "v2");
    for name in ["a", "c", "d", "f", "h"] {
        let plan = look(&sim, name);
        sim.apply(&plan);
    }
    assert_eq!(got(&look(&sim, "g")), "never");
    sim.settle();
    assert_eq!(state(&sim, "d"), "Bound v2");
}

#[test]
fn claims_and_volumes_that_name_each_other() {
    let mut sim = Simulation::new(1);
    sim.create(volume("mine", "9Gi", of("a")));
    sim.create(volume("free", "2Gi", json!({})));
    sim.settle();
    assert_eq!(held(&sim, "mine"), "Available a");
    sim.create(claim("a", json!({})));
    sim.create(claim("b", json!({"volumeName": "free"})));
    sim.create(claim("c", json!({"volumeName": "free"})));
    sim.create(claim("d", json!({"volumeName": "none"})));
    sim.settle();
    assert_eq!(state(&sim, "a"), "Bound mine");
    assert_eq!(state(&sim, "b"), "Bound free");
    assert_eq!(state(&sim, "c"), "Pending free");
    assert_eq!(
        told(&sim, "c"),
        "FailedBinding: volume \"free\" already bound to a different claim."
    );
    assert_eq!(state(&sim, "d"), "Pending none");
    sim.create(volume("none", "1Gi", json!({})));
    sim.settle();
    assert_eq!(
        told(&sim, "d"),
        "VolumeMismatch: Cannot bind to requested volume \"none\": requested PV is too small"
    );
    let mine = sim
        .load("PersistentVolume", &Key::new("", "mine"))
        .expect("there");
    assert_eq!(
        mine["metadata"].get("annotations"),
        None,
        "it was bound by its owner"
    );
}

#[test]
fn what_claims_of_a_class_wait_for() {
    let mut sim = Simulation::new(1);
    sim.create(class("later", "example.com/p", WAITS));
    sim.create(class("now", "example.com/p", "Immediate"));
    sim.create(class("never", "kubernetes.io/no-provisioner", "Immediate"));
    sim.create(volume("free", "2Gi", json!({"storageClassName": "later"})));
    for name in ["later", "now", "never", "unknown"] {
        sim.create(claim(name, json!({"storageClassName": name})));
    }
    let external = "ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/p' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.";
    for (name, why) in [
        (
            "later",
            "WaitForFirstConsumer: waiting for first consumer to be created before binding",
        ),
        ("now", external),
        (
            "never",
            "ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner",
        ),
        (
            "unknown",
            "ProvisioningFailed: storageclass.storage.k8s.io \"unknown\" not found",
        ),
    ] {
        assert_eq!(told(&sim, name), why, "{name}");
    }
    sim.settle();
    assert_eq!(told(&sim, "now"), "", "it was told once");
    sim.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "later"}}]}}));
    assert_eq!(
        told(&sim, "later"),
        "WaitForPodScheduled: waiting for pod web to be scheduled"
    );
    // The scheduler sets a volume aside.
    sim.change("PersistentVolume", &Key::new("", "free"), |free| {
        free["spec"]["claimRef"] = json!({"namespace": "ns", "name": "later"});
    });
    sim.settle();
    assert_eq!(state(&sim, "later"), "Bound free");
    for name in ["now", "never", "unknown"] {
        assert_eq!(state(&sim, name), "Pending null", "{name}");
    }
}

#[test]
fn claims_get_a_default_that_comes_later() {
    let mut sim = Simulation::new(1);
    let mut none = claim("none", Value::Null);
    let spec = none["spec"].as_object_mut().expect("a spec");
    spec.remove("storageClassName");
    sim.create(none);
    sim.create(claim("empty", Value::Null));
    sim.create(class("later", "example.com/p", WAITS));
    sim.settle();
    let class_of = |sim: &Simulation, name: &str| {
        let claim = sim.load("PersistentVolumeClaim", &key(name));
        claim.expect("there")["spec"]["storageClassName"].clone()
    };
    assert_eq!(class_of(&sim, "none"), Value::Null);
    sim.change("StorageClass", &Key::new("", "later"), |class| {
        let marks = json!({"storageclass.kubernetes.io/is-default-class": "true"});
        class["metadata"]["annotations"] = marks;
    });
    sim.settle();
    assert_eq!(class_of(&sim, "none"), "later");
    assert_eq!(class_of(&sim, "empty"), "");
    assert_eq!(state(&sim, "none"), "Pending null");
}

#[test]
fn what_was_bound_may_be_lost() {
    let mut sim = Simulation::new(1);
    let disk = sim.create(volume("disk", "2Gi", json!({})));
    let a = sim.create(claim("a", json!({})));
    sim.settle();
    // Taken away by force, finalizer and all.
    sim.change("PersistentVolume", &disk, |disk| {
        disk["metadata"]["finalizers"] = json!([])
    });
    sim.delete("PersistentVolume", &disk, true);
    let lost = "ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!";
    assert_eq!(told(&sim, "a"), lost);
    sim.settle();
    assert_eq!(
        (state(&sim, "a"), told(&sim, "a")),
        ("Lost disk".into(), String::new())
    );
    let other = json!({"claimRef": {"namespace": "ns", "name": "a", "uid": "another"}});
    sim.create(volume("disk", "2Gi", other));
    sim.change("PersistentVolumeClaim", &a, |a| {
        a["status"]["phase"] = "Bound".into()
    });
    let misbound =
        "ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly";
    assert_eq!(told(&sim, "a"), misbound);
}

#[test]
fn what_becomes_of_volumes_whose_claims_go() {
    let mut sim = Simulation::new(1);
    let made = json!({"pv.kubernetes.io/provisioned-by": "example.com/p"});
    for (name, policy, by) in [
        ("kept", "Retain", Value::Null),
        ("deleted", "Delete", Value::Null),
        ("theirs", "Delete", made),
        ("recycled", "Recycle", Value::Null),
    ] {
        let mut volume = volume(name, "2Gi", of(name));
        volume["spec"]["persistentVolumeReclaimPolicy"] = policy.into();
        volume["metadata"]["annotations"] = by;
        sim.create(volume);
        sim.create(claim(name, json!({})));
    }
    sim.settle();
    for name in ["kept", "deleted", "theirs", "recycled"] {
        assert_eq!(state(&sim, name), format!("Bound {name}"));
        sim.delete("PersistentVolumeClaim", &key(name), false);
    }
    let release = reconcile_volume(&Key::new("", "kept"), &sim.view);
    assert!(
        release.writes.is_empty(),
        "its claim is there until its finalizers are gone"
    );
    sim.settle();
    for (name, phase) in [
        ("kept", "Released kept"),
        ("deleted", "Failed deleted"),
        ("theirs", "Released theirs"),
        ("recycled", "Failed recycled"),
    ] {
        assert_eq!(held(&sim, name), phase);
    }
    for event in [
        "VolumeFailedDelete error getting deleter volume plugin for volume \"deleted\": no deletable volume plugin matched",
        "VolumeFailedRecycle No recycler plugin found for the volume!",
    ] {
        assert_eq!(
            sim.events.iter().filter(|told| *told == event).count(),
            1,
            "{event}"
        );
    }
    // A namesake is another claim.
    sim.create(claim("kept", json!({})));
    sim.settle();
    assert_eq!(
        (held(&sim, "kept"), state(&sim, "kept")),
        ("Released kept".into(), "Pending null".into())
    );
    // Its owner gives it back.
    sim.change("PersistentVolume", &Key::new("", "kept"), |kept| {
        kept["spec"]["claimRef"] = Value::Null
    });
    sim.settle();
    assert_eq!(state(&sim, "kept"), "Bound kept");
}

#[test]
fn a_volume_that_its_claim_does_not_take_is_free_again() {
    let mut sim = Simulation::new(1);
    sim.create(volume("one", "2Gi", json!({})));
    let a = sim.create(claim("a", json!({})));
    sim.settle();
    let uid = sim.load("PersistentVolumeClaim", &a).expect("there")["metadata"]["uid"].clone();
    let reference = json!({"claimRef": {"namespace": "ns", "name": "a", "uid": uid}});
    let mut by_us = volume("by-us", "2Gi", reference.clone());
    by_us["metadata"]["annotations"] = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
    sim.create(by_us);
    sim.create(volume("by-owner", "2Gi", reference));
    sim.settle();
    assert_eq!(state(&sim, "a"), "Bound one");
    assert_eq!(held(&sim, "by-us"), "Available null");
    assert_eq!(held(&sim, "by-owner"), "Available a");
}

/// Whatever order things are looked at in, whoever interferes: no volume is two claims', no claim has two volumes, and
/// what was bound stays so.
#[test]
fn no_volume_is_bound_twice() {
    for seed in 0..60 {
        let mut sim = Simulation::new(seed);
        sim.create(class("later", "example.com/p", WAITS));
        let mut bound: Vec<(String, String)> = Vec::new();
        for step in 0..120 {
            let (number, draw) = (sim.draw(8), sim.draw(12));
            let (name, disk) = (format!("c{number}"), format!("v{number}"));
            let classes = ["", "later"];
            let class = classes[sim.draw(2)];
            let there = |sim: &Simulation, kind: &str, key: &Key| sim.load(kind, key).is_some();
            match draw {
                0 if !there(&sim, "PersistentVolumeClaim", &key(&name)) => {
                    sim.create(claim(&name, json!({"storageClassName": class})));
                }
                1 if !there(&sim, "PersistentVolume", &Key::new("", disk.as_str())) => {
                    sim.create(volume(&disk, "2Gi", json!({"storageClassName": class})));
                }
                2 if step % 3 == 0 => {
                    bound.retain(|(claim, _)| *claim != name);
                    sim.delete("PersistentVolumeClaim", &key(&name), false);
                }
                // The scheduler sets a free volume aside for a claim that has none.
                3 => {
                    let free = |volume: &Value| volume["spec"]["claimRef"].is_null();
                    let is_free = sim
                        .load("PersistentVolume", &Key::new("", disk.as_str()))
                        .is_some_and(|v| free(&v));
                    let claim = sim.load("PersistentVolumeClaim", &key(&name));
                    let claim = claim.filter(|claim| claim["spec"]["volumeName"].is_null());
                    if let Some(claim) = claim.filter(|_| is_free) {
                        let uid = claim["metadata"]["uid"].clone();
                        sim.change("PersistentVolume", &Key::new("", disk.as_str()), |volume| {
                            volume["spec"]["claimRef"] =
                                json!({"namespace": "ns", "name": name, "uid": uid});
                        });
                    }
                }
                _ => sim.look_somewhere(),
            }
            check(&sim, &mut bound);
        }
        sim.settle();
        check(&sim, &mut bound);
    }
}

/// What holds at any time. `bound` are the claims that were seen to be bound, with their volumes.
fn check(sim: &Simulation, bound: &mut Vec<(String, String)>) {
    let mut volumes = std::collections::BTreeSet::new();
    let done = "/metadata/annotations/pv.kubernetes.io~1bind-completed";
    let claims: Vec<Key> = sim.view.claims.iter().map(|(key, _)| key.clone()).collect();
    bound.retain(|(name, _)| claims.iter().any(|key| key.name == *name));
    for key in claims {
        let claim = sim.load("PersistentVolumeClaim", &key).expect("there");
        if claim.pointer(done).is_none() {
            continue;
        }
        let volume = text(&claim["spec"]["volumeName"]);
        assert!(volumes.insert(volume.clone()), "{volume} is two claims'");
        let there = sim.load("PersistentVolume", &Key::new("", volume.as_str()));
        let there = there.expect("a volume that is bound is not gone");
        assert_eq!(
            there["spec"]["claimRef"]["uid"], claim["metadata"]["uid"],
            "{volume}"
        );
        match bound.iter().find(|(name, _)| *name == key.name) {
            Some((_, before)) => assert_eq!(*before, volume, "{} moved", key.name),
            None => bound.push((key.name.clone(), volume)),
        }
    }
}

#[test]
fn a_volume_is_let_go_only_after_the_api_was_asked() {
    let mut sim = Simulation::new(1);
    let reference = json!({"claimRef": {"namespace": "ns", "name": "a", "uid": "u"}});
    let disk = sim.create(volume("disk", "2Gi", reference));
    let plan = reconcile_volume(&disk, &sim.view);
    let [Write::Release { claim, patch, .. }] = plan.writes.as_slice() else {
        panic!("{plan:?}");
    };
    assert_eq!(
        (claim.kind.as_str(), &claim.key, claim.uid.as_str()),
        ("PersistentVolumeClaim", &key("a"), "u")
    );
    assert_eq!(patch["status"]["phase"], "Released");
}
