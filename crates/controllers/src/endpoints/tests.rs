//! What Endpoints a Service has, by its pods.

use client::Key;
use serde_json::{Value, json};

use super::{EndpointAddress, EndpointSubset, reconcile, truncate};
use crate::simulation::Simulation;

fn begin(ports: Value) -> (Simulation, Key) {
    let mut sim = Simulation::new(1);
    sim.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}));
    let key = sim.create(json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "web"}, "ports": ports}}));
    (sim, key)
}

fn pod(sim: &mut Simulation, name: &str, address: &str, ready: bool) -> Key {
    let key = sim.create(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c"}]}}));
    sim.phase(&key, if ready { "Running" } else { "Pending" });
    sim.change("Pod", &key, |pod| pod["status"]["podIP"] = address.into());
    key
}

fn subsets(sim: &Simulation) -> Value {
    let endpoints = sim.view.endpoints.get(&Key::new("ns", "web")).unwrap();
    let addresses = |list: &Option<Vec<super::EndpointAddress>>| -> Vec<String> {
        list.iter().flatten().map(|a| a.ip.clone()).collect()
    };
    let told = endpoints.subsets.iter().flatten().map(|subset| {
        let ports: Vec<_> = subset.ports.iter().flatten().map(|p| p.port).collect();
        json!([
            addresses(&subset.addresses),
            addresses(&subset.not_ready_addresses),
            ports
        ])
    });
    told.collect()
}

#[test]
fn endpoints_follow_the_pods() {
    let (mut sim, key) = begin(json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]));
    sim.settle();
    assert_eq!(subsets(&sim), json!([]));
    let a = pod(&mut sim, "a", "10.0.0.2", true);
    pod(&mut sim, "b", "10.0.0.1", false);
    sim.settle();
    assert_eq!(
        subsets(&sim),
        json!([[["10.0.0.2"], ["10.0.0.1"], [80, 81]]])
    );
    sim.delete("Pod", &a, false);
    sim.settle();
    assert_eq!(subsets(&sim), json!([[[], ["10.0.0.1"], [80, 81]]]));
    sim.delete("Service", &key, true);
    sim.apply(&reconcile(&key, &sim.view));
    assert!(sim.view.endpoints.get(&key).is_none());
}

#[test]
fn headless_services_may_have_no_ports() {
    let (mut sim, key) = begin(json!([]));
    sim.change("Service", &key, |service| {
        service["spec"]["clusterIP"] = "None".into()
    });
    pod(&mut sim, "a", "10.0.0.1", true);
    sim.settle();
    assert_eq!(subsets(&sim), json!([[["10.0.0.1"], [], []]]));
    let labels = &sim.view.endpoints.get(&key).unwrap().metadata.labels;
    assert_eq!(
        json!(labels),
        json!({"endpoints.kubernetes.io/managed-by": "endpoint-controller", "service.kubernetes.io/headless": ""})
    );
}

#[test]
fn what_others_made_is_left_alone() {
    let (mut sim, key) = begin(json!([{"port": 80}]));
    sim.change("Service", &key, |service| {
        service["spec"]["selector"] = json!({})
    });
    sim.create(json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "web", "namespace": "ns"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]}));
    sim.settle();
    assert_eq!(subsets(&sim), json!([[["192.0.2.1"], [], [80]]]));
}

#[test]
fn a_service_that_selects_no_more_keeps_what_it_has() {
    let (mut sim, key) = begin(json!([{"port": 80}]));
    let a = pod(&mut sim, "a", "10.0.0.1", true);
    sim.settle();
    sim.change("Service", &key, |service| {
        service["spec"]["selector"] = json!(null)
    });
    sim.delete("Pod", &a, true);
    sim.settle();
    assert_eq!(subsets(&sim), json!([[["10.0.0.1"], [], [80]]]));
    // And goes on from there once it selects again.
    sim.change("Service", &key, |service| {
        service["spec"]["selector"] = json!({"app": "web"})
    });
    sim.settle();
    assert_eq!(subsets(&sim), json!([]));
}

#[test]
fn only_so_many_addresses_are_told() {
    let (mut sim, key) = begin(json!([{"port": 80}]));
    for n in 0..1_002 {
        let address = format!("10.0.{}.{}", n / 200, n % 200 + 1);
        pod(&mut sim, &format!("p{n}"), &address, n > 0);
    }
    sim.apply(&reconcile(&key, &sim.view));
    let told = subsets(&sim);
    let length = |list: usize| told[0][list].as_array().map_or(0, Vec::len);
    assert_eq!(
        (length(0), length(1)),
        (1_000, 0),
        "the unready one goes first"
    );
    let endpoints = sim.view.endpoints.get(&key).unwrap();
    let annotations = endpoints.metadata.annotations.as_ref().unwrap();
    assert_eq!(
        annotations["endpoints.kubernetes.io/over-capacity"],
        "truncated"
    );
    sim.apply(&reconcile(&key, &sim.view));
}

#[test]
fn groups_without_addresses_are_not_told() {
    let addresses = |count: usize| {
        let all = (0..count).map(|n| EndpointAddress {
            ip: format!("10.0.{}.{}", n / 200, n % 200 + 1),
            ..EndpointAddress::default()
        });
        Some(all.collect::<Vec<_>>()).filter(|all| !all.is_empty())
    };
    let group = |(ready, unready): (usize, usize)| EndpointSubset {
        addresses: addresses(ready),
        not_ready_addresses: addresses(unready),
        ports: None,
    };
    for (groups, due) in [
        (&[(999, 0), (1, 0)][..], &[(999, 0), (1, 0)][..]),
        (&[(1_000, 0), (1, 0), (0, 1)], &[(1_000, 0)]),
        (&[(0, 2), (600, 0), (399, 5)], &[(0, 1), (600, 0), (399, 0)]),
        (&[(0, 600), (0, 600), (0, 600)], &[(0, 600), (0, 400)]),
    ] {
        let mut all: Vec<_> = groups.iter().copied().map(group).collect();
        assert_eq!(truncate(&mut all), groups != due);
        let length = |list: &Option<Vec<_>>| list.as_ref().map_or(0, Vec::len);
        let left: Vec<_> = all
            .iter()
            .map(|group| (length(&group.addresses), length(&group.not_ready_addresses)))
            .collect();
        assert_eq!(left, due);
    }
}
