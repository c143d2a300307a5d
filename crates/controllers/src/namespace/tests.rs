//! What a namespace has from birth.

use client::Key;
use serde_json::json;

use super::{ROOT_CA, reconcile};
use crate::simulation::Simulation;

fn begin() -> (Simulation, Key) {
    let mut sim = Simulation::new(1);
    let key =
        sim.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}}));
    let plan = reconcile(&key, &sim.view);
    sim.apply(&plan);
    (sim, key)
}

#[test]
fn a_namespace_gets_its_account_and_certificate_once() {
    let (sim, key) = begin();
    assert!(
        sim.load("ServiceAccount", &Key::new("ns", "default"))
            .is_some()
    );
    let map = sim
        .load("ConfigMap", &Key::new("ns", ROOT_CA))
        .expect("the map");
    assert_eq!(map["data"], json!({"ca.crt": "CA"}));
    assert!(reconcile(&key, &sim.view).is_empty());
}

#[test]
fn what_was_altered_or_removed_is_restored() {
    let (mut sim, key) = begin();
    let map = Key::new("ns", ROOT_CA);
    sim.change("ConfigMap", &map, |m| m["data"]["ca.crt"] = "false".into());
    sim.delete("ServiceAccount", &Key::new("ns", "default"), true);
    let plan = reconcile(&key, &sim.view);
    sim.apply(&plan);
    assert_eq!(
        sim.load("ConfigMap", &map).expect("the map")["data"]["ca.crt"],
        "CA"
    );
    assert!(reconcile(&key, &sim.view).is_empty());
}

#[test]
fn a_namespace_that_goes_gets_nothing() {
    let (mut sim, key) = begin();
    sim.delete("ServiceAccount", &Key::new("ns", "default"), true);
    sim.change("Namespace", &key, |n| {
        n["status"] = json!({"phase": "Terminating"})
    });
    assert!(reconcile(&key, &sim.view).is_empty());
}
