//! Replica sets, in simulation.

use client::Key;
use serde_json::{Value, json};

use crate::pods;
use crate::simulation::Simulation;

fn set(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    })
}

fn begin(replicas: i32) -> (Simulation, Key) {
    let mut sim = Simulation::new(1);
    let key = sim.create(set("set", replicas));
    sim.settle();
    (sim, key)
}

fn active(sim: &Simulation) -> Vec<Key> {
    let pods = sim.pods().into_iter();
    pods.filter(|(_, pod)| pods::is_active(pod))
        .map(|(key, _)| key)
        .collect()
}

#[test]
fn the_status_tells_what_is_there() {
    let (mut sim, key) = begin(3);
    sim.phase(&active(&sim)[0].clone(), "Running");
    sim.settle();
    let object = sim.load("ReplicaSet", &key).expect("it");
    assert_eq!(
        object["status"],
        json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 1,
               "availableReplicas": 1, "observedGeneration": 1})
    );
}

#[test]
fn a_pod_that_ends_is_replaced() {
    let (mut sim, _) = begin(2);
    let gone = active(&sim)[0].clone();
    sim.phase(&gone, "Failed");
    sim.settle();
    assert_eq!(active(&sim).len(), 2);
    sim.delete("Pod", &active(&sim)[0].clone(), false);
    sim.settle();
    assert_eq!(active(&sim).len(), 2);
}

#[test]
fn one_look_makes_no_more_than_a_burst() {
    let mut sim = Simulation::new(1);
    let key = sim.create(set("set", 501));
    let plan = super::reconcile(&key, &sim.view, None, sim.now);
    let creates = plan
        .writes
        .iter()
        .filter(|w| matches!(w, crate::Write::Create { .. }));
    assert_eq!(creates.count(), super::BURST);
    sim.settle();
    assert_eq!(active(&sim).len(), 501);
}

#[test]
fn of_surplus_pods_those_go_that_are_missed_least() {
    let (mut sim, key) = begin(4);
    let pods = active(&sim);
    for pod in &pods[1..] {
        sim.phase(pod, "Running");
    }
    sim.change("Pod", &pods[2], |pod| {
        pod["metadata"]["annotations"] =
            json!({"controller.kubernetes.io/pod-deletion-cost": "-5"});
    });
    sim.change("ReplicaSet", &key, |set| set["spec"]["replicas"] = 2.into());
    sim.settle();
    assert_eq!(active(&sim), [pods[1].clone(), pods[3].clone()]);
}

#[test]
fn orphans_are_taken_over_instead_of_new_pods() {
    let mut sim = Simulation::new(1);
    for name in ["a", "b"] {
        sim.create(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "ns", "labels": {"app": "set"}},
            "spec": {"containers": []}}));
    }
    sim.create(set("set", 3));
    sim.settle();
    assert_eq!(sim.pods().len(), 3, "one is new");
    for (_, pod) in sim.pods() {
        assert_eq!(pod.metadata.owner_references.map(|o| o.len()), Some(1));
    }
}

#[test]
fn a_pod_that_is_not_chosen_any_more_is_let_go_and_replaced() {
    let (mut sim, _) = begin(1);
    let pod = active(&sim)[0].clone();
    sim.change("Pod", &pod, |p| {
        p["metadata"]["labels"] = json!({"app": "debug"})
    });
    sim.settle();
    assert_eq!(active(&sim).len(), 2);
    let object = sim.load("Pod", &pod).expect("it lives on");
    assert!(
        object["metadata"]["ownerReferences"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
}

#[test]
fn a_pod_is_available_once_it_was_ready_for_long_enough() {
    let (mut sim, key) = begin(1);
    sim.change("ReplicaSet", &key, |set| {
        set["spec"]["minReadySeconds"] = 10.into()
    });
    sim.phase(&active(&sim)[0].clone(), "Running");
    sim.settle();
    let available = |sim: &Simulation| {
        sim.load("ReplicaSet", &key).expect("it")["status"]["availableReplicas"].clone()
    };
    assert!(available(&sim).is_null());
    let plan = super::reconcile(&key, &sim.view, None, sim.now);
    assert_eq!(plan.again_after, Some(std::time::Duration::from_secs(10)));
    sim.pass(10);
    sim.settle();
    assert_eq!(available(&sim), 1);
}

#[test]
fn a_refusal_is_a_condition_while_pods_are_missing() {
    let (mut sim, key) = begin(1);
    let refused = |message: &str| crate::controller::Refusal {
        reason: "FailedCreate",
        message: message.into(),
    };
    let condition = |sim: &Simulation| {
        sim.load("ReplicaSet", &key).expect("it")["status"]["conditions"].clone()
    };
    let plan = super::reconcile(&key, &sim.view, Some(&refused("quota")), sim.now);
    assert!(plan.is_empty(), "nothing is missing: {plan:?}");
    for _ in 0..2 {
        sim.delete("Pod", &active(&sim)[0].clone(), true);
        let plan = super::reconcile(&key, &sim.view, Some(&refused("quota")), sim.now);
        sim.apply(&plan);
        sim.pass(1);
    }
    let began = crate::simulation::epoch();
    assert_eq!(
        condition(&sim),
        json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                "message": "quota", "lastTransitionTime": began}])
    );
    sim.settle();
    assert!(condition(&sim).is_null());
}
