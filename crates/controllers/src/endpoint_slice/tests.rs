//! What slices a Service has, by its pods.

use client::Key;
use serde_json::{Value, json};

use super::reconcile;
use crate::plan::Write;
use crate::simulation::Simulation;

/// A cluster with one node and a Service `web` on its port 80.
fn begin(spec: Value) -> (Simulation, Key) {
    let mut sim = Simulation::new(1);
    sim.create(json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node", "labels": {"topology.kubernetes.io/zone": "z"}}}));
    let mut service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "ns", "labels": {"team": "a"}},
        "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "web"},
                 "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]}});
    for (name, value) in spec.as_object().unwrap() {
        service["spec"][name] = value.clone();
    }
    let key = sim.create(service);
    (sim, key)
}

/// A pod behind it, ready at this address.
fn pod(sim: &mut Simulation, name: &str, address: &str, port: u16) -> Key {
    let key = sim.create(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}},
        "spec": {"hostname": name, "subdomain": "web",
                 "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]}}));
    sim.phase(&key, "Running");
    sim.change("Pod", &key, |pod| pod["status"]["podIP"] = address.into());
    key
}

/// The slices as `PORT: ADDRESS STATE, …`, sorted.
fn slices(sim: &Simulation) -> Vec<String> {
    let mut told: Vec<String> = sim
        .view
        .endpoint_slices
        .in_namespace("ns")
        .map(|slice| {
            let ports: Vec<_> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|p| p.port)
                .collect();
            let endpoints: Vec<_> = slice
                .endpoints
                .iter()
                .flatten()
                .map(|endpoint| {
                    let conditions = endpoint.conditions.clone().unwrap_or_default();
                    let state = [
                        (conditions.ready, "ready"),
                        (conditions.serving, "serving"),
                        (conditions.terminating, "terminating"),
                    ];
                    let state = state.iter().filter(|(is, _)| *is == Some(true));
                    let state: Vec<_> = state.map(|(_, word)| *word).collect();
                    format!("{} {}", endpoint.addresses.join(","), state.join("+"))
                })
                .collect();
            format!("{ports:?}: {}", endpoints.join(", "))
        })
        .collect();
    told.sort();
    told
}

#[test]
fn slices_follow_the_pods() {
    let (mut sim, key) = begin(json!({}));
    sim.settle();
    assert_eq!(slices(&sim), ["[]: "], "there always is one");
    let a = pod(&mut sim, "a", "10.0.0.1", 8080);
    let b = pod(&mut sim, "b", "10.0.0.2", 8080);
    sim.settle();
    assert_eq!(
        slices(&sim),
        ["[8080]: 10.0.0.1 ready+serving, 10.0.0.2 ready+serving"]
    );
    // Readiness goes, and a deletion begins.
    sim.change("Pod", &a, |pod| {
        pod["status"]["conditions"][0]["status"] = "False".into();
    });
    sim.delete("Pod", &b, false);
    sim.settle();
    assert_eq!(
        slices(&sim),
        ["[8080]: 10.0.0.1 , 10.0.0.2 serving+terminating"]
    );
    sim.let_go(&b);
    sim.change("Pod", &a, |pod| pod["status"]["phase"] = "Succeeded".into());
    sim.settle();
    assert_eq!(slices(&sim), ["[]: "]);
    sim.delete("Service", &key, true);
    sim.apply(&reconcile(&key, &sim.view));
    assert!(slices(&sim).is_empty());
}

#[test]
fn an_endpoint_says_what_it_is() {
    let (mut sim, _) = begin(json!({"clusterIP": "None", "trafficDistribution": "PreferClose"}));
    pod(&mut sim, "a", "10.0.0.1", 8080);
    sim.settle();
    let slice = sim.view.endpoint_slices.iter().next().unwrap().1;
    let endpoint = json!(slice.endpoints.as_ref().unwrap()[0]);
    assert_eq!(
        (
            &endpoint["hostname"],
            &endpoint["nodeName"],
            &endpoint["zone"]
        ),
        (&json!("a"), &json!("node"), &json!("z"))
    );
    assert_eq!(endpoint["targetRef"]["kind"], "Pod");
    assert_eq!(endpoint["hints"]["forZones"], json!([{"name": "z"}]));
    let labels = json!(slice.metadata.labels);
    assert_eq!(
        labels,
        json!({
            "team": "a",
            "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "service.kubernetes.io/headless": "",
        })
    );
    assert_eq!(
        slice.metadata.owner_references.as_ref().unwrap()[0].name,
        "web"
    );
}

#[test]
fn pods_with_other_ports_have_slices_of_their_own() {
    let (mut sim, key) = begin(json!({}));
    pod(&mut sim, "a", "10.0.0.1", 8080);
    let b = pod(&mut sim, "b", "10.0.0.2", 9090);
    sim.settle();
    assert_eq!(
        slices(&sim),
        [
            "[8080]: 10.0.0.1 ready+serving",
            "[9090]: 10.0.0.2 ready+serving"
        ]
    );
    sim.let_go(&b);
    sim.settle();
    assert_eq!(slices(&sim), ["[8080]: 10.0.0.1 ready+serving"]);
    sim.change("Service", &key, |service| {
        service["spec"]["selector"] = Value::Null;
    });
    // A Service that selects nothing any more leaves its endpoints to others, as they are; its Endpoints are mirrored.
    sim.settle();
    assert_eq!(slices(&sim), ["[8080]: 10.0.0.1 ready+serving"; 2]);
}

#[test]
fn unready_pods_are_ready_where_the_service_says_so() {
    let (mut sim, _) = begin(json!({"publishNotReadyAddresses": true}));
    let a = pod(&mut sim, "a", "10.0.0.1", 8080);
    sim.change("Pod", &a, |pod| pod["status"]["conditions"] = json!([]));
    sim.delete("Pod", &a, false);
    sim.settle();
    assert_eq!(slices(&sim), ["[8080]: 10.0.0.1 ready+terminating"]);
}

#[test]
fn many_pods_fill_slices_of_a_hundred() {
    let (mut sim, _) = begin(json!({}));
    for n in 0..250 {
        pod(
            &mut sim,
            &format!("p{n}"),
            &format!("10.0.{}.{}", n / 200, n % 200 + 1),
            80,
        );
    }
    sim.settle();
    let lengths = |sim: &Simulation| {
        let mut lengths: Vec<_> = sim
            .view
            .endpoint_slices
            .iter()
            .map(|(_, s)| s.endpoints.as_ref().map_or(0, Vec::len))
            .collect();
        lengths.sort_unstable();
        lengths
    };
    assert_eq!(lengths(&sim), [50, 100, 100]);
    // What somebody else made of a slice is put right.
    let (key, _) = sim.view.endpoint_slices.iter().next().unwrap();
    let key = key.clone();
    sim.change("EndpointSlice", &key, |slice| {
        slice["endpoints"] = json!([])
    });
    sim.settle();
    assert_eq!(lengths(&sim).iter().sum::<usize>(), 250);
}

#[test]
fn endpoints_that_somebody_wrote_are_mirrored() {
    let (mut sim, key) = begin(json!({"selector": {}}));
    sim.create(json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "web", "namespace": "ns", "labels": {"by": "hand"}},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
                     "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 80}]}]}));
    sim.settle();
    assert_eq!(slices(&sim), ["[80]: 192.0.2.1 ready+serving, 192.0.2.2 "]);
    let labels = &sim
        .view
        .endpoint_slices
        .iter()
        .next()
        .unwrap()
        .1
        .metadata
        .labels;
    assert_eq!(labels.as_ref().unwrap()["by"], "hand");
    sim.change("Endpoints", &key, |endpoints| {
        endpoints["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"] = "true".into();
    });
    sim.settle();
    assert!(slices(&sim).is_empty());
}

#[test]
fn a_service_that_selects_no_more_keeps_its_slices() {
    let (mut sim, key) = begin(json!({}));
    let a = pod(&mut sim, "a", "10.0.0.1", 8080);
    sim.settle();
    sim.change("Service", &key, |service| {
        service["spec"]["selector"] = json!(null)
    });
    sim.delete("Pod", &a, true);
    sim.apply(&reconcile(&key, &sim.view));
    let by_pods = |sim: &Simulation| {
        let all = sim.view.endpoint_slices.in_namespace("ns");
        let own = all.filter(|slice| {
            let labels = slice.metadata.labels.as_ref().unwrap();
            labels["endpointslice.kubernetes.io/managed-by"] == super::BY_PODS
        });
        own.map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len))
            .collect::<Vec<_>>()
    };
    assert_eq!(by_pods(&sim), [1]);
    sim.change("Service", &key, |service| {
        service["spec"]["selector"] = json!({"app": "web"})
    });
    sim.settle();
    assert_eq!(by_pods(&sim), [0]);
    // And is nobody's any more once the Service is gone.
    sim.delete("Service", &key, true);
    sim.apply(&reconcile(&key, &sim.view));
    assert!(slices(&sim).is_empty());
}

#[test]
fn what_is_made_again_has_slices_of_its_own() {
    let (mut by_pods, key) = begin(json!({}));
    pod(&mut by_pods, "a", "192.0.2.1", 80);
    let (mut mirrored, _) = begin(json!({"selector": {}}));
    mirrored.create(json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "web", "namespace": "ns"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]}));
    for (mut sim, kind) in [(by_pods, "Service"), (mirrored, "Endpoints")] {
        sim.settle();
        assert_eq!(slices(&sim), ["[80]: 192.0.2.1 ready+serving"], "{kind}");
        let object = sim.load(kind, &key).unwrap();
        sim.delete(kind, &key, true);
        sim.create(object);
        let plan = reconcile(&key, &sim.view);
        // In this order, so that nobody is without endpoints in between.
        assert!(
            matches!(
                plan.writes.as_slice(),
                [Write::Create { .. }, Write::Delete { .. }]
            ),
            "{plan:?}"
        );
        sim.apply(&plan);
        assert_eq!(slices(&sim), ["[80]: 192.0.2.1 ready+serving"], "{kind}");
        let slice = sim.view.endpoint_slices.iter().next().unwrap().1;
        let owners = slice.metadata.owner_references.as_ref().unwrap();
        let made = sim.load(kind, &key).unwrap();
        assert_eq!(made["metadata"]["uid"], owners[0].uid.as_str(), "{kind}");
        assert!(reconcile(&key, &sim.view).is_empty(), "{kind}");
    }
}

#[test]
fn labels_that_a_service_loses_its_slices_lose() {
    let (mut sim, key) = begin(json!({}));
    sim.settle();
    sim.change("Service", &key, |service| {
        service["metadata"]["labels"] = json!({"by": "hand"})
    });
    sim.settle();
    let endpoints = sim.view.endpoints.get(&key).unwrap();
    let slice = sim.view.endpoint_slices.iter().next().unwrap().1;
    for meta in [&endpoints.metadata, &slice.metadata] {
        let labels = meta.labels.as_ref().unwrap();
        assert_eq!((labels.get("team"), labels["by"].as_str()), (None, "hand"));
    }
}
