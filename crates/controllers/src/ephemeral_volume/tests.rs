use serde_json::{Value, json};

use super::*;
use crate::simulation::Simulation;

fn pod(name: &str) -> Value {
    let template = json!({
        "metadata": {"labels": {"tier": "cache"}, "annotations": {"why": "a test"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns"},
    "spec": {"containers": [], "volumes": [
        {"name": "plain", "emptyDir": {}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}},
    ]}})
}

fn made(sim: &Simulation, name: &str) -> Option<Value> {
    sim.load("PersistentVolumeClaim", &Key::new("ns", name))
}

#[test]
fn a_pod_gets_a_claim_of_its_own_and_gets_it_back() {
    let mut sim = Simulation::new(1);
    let key = sim.create(pod("web"));
    sim.settle();
    let claim = made(&sim, "web-scratch").expect("made");
    let uid = sim.load("Pod", &key).expect("there")["metadata"]["uid"].clone();
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid,
        "controller": true, "blockOwnerDeletion": true}]);
    assert_eq!(claim["metadata"]["ownerReferences"], owner);
    assert_eq!(claim["metadata"]["labels"], json!({"tier": "cache"}));
    assert_eq!(claim["metadata"]["annotations"]["why"], "a test");
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
    assert_eq!(sim.view.claims.iter().count(), 1);
    sim.delete(
        "PersistentVolumeClaim",
        &Key::new("ns", "web-scratch"),
        false,
    );
    sim.settle();
    assert!(made(&sim, "web-scratch").is_some());
}

#[test]
fn a_pod_that_ends_gets_none() {
    let mut sim = Simulation::new(1);
    let key = sim.create(pod("web"));
    sim.phase(&key, "Running");
    sim.delete("Pod", &key, false);
    assert!(reconcile(&key, &sim.view).is_empty());
    assert!(!has(
        &serde_json::from_value(json!({"metadata": {}})).expect("a pod")
    ));
}

#[test]
fn another_s_claim_is_left_alone() {
    let mut sim = Simulation::new(1);
    sim.create(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "web-scratch", "namespace": "ns"}, "spec": {}}));
    let key = sim.create(pod("web"));
    let plan = reconcile(&key, &sim.view);
    assert!(plan.writes.is_empty());
    let [event] = plan.events.as_slice() else {
        panic!("{plan:?}");
    };
    assert!(event.warning && event.reason == "FailedBinding");
    assert_eq!(
        event.message,
        "ephemeral volume scratch: PVC ns/web-scratch was not created for pod ns/web (pod is not owner)"
    );
}
