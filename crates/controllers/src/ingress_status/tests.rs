use api::ingress::CONTROLLER;
use serde_json::{Value, json};

use super::*;

fn of<T: serde::de::DeserializeOwned>(value: Value) -> std::sync::Arc<T> {
    std::sync::Arc::new(serde_json::from_value(value).expect("an object"))
}

fn node(name: &str, ip: &str, ready: &str, ports: &str) -> Value {
    json!({"metadata": {"name": name, "annotations": {PORTS: ports}}, "status": {
        "addresses": [{"type": "InternalIP", "address": ip}],
        "conditions": [{"type": "Ready", "status": ready}]}})
}

fn view(class: Option<&str>, status: Value, nodes: &[Value]) -> View {
    let mut view = View::default();
    let ingress = json!({"metadata": {"namespace": "d", "name": "i", "uid": "u", "resourceVersion": "7"},
        "spec": {"ingressClassName": class}, "status": status});
    view.ingresses.set(&Key::new("d", "i"), Some(of(ingress)));
    for (name, controller) in [("carob", CONTROLLER), ("nginx", "k8s.io/ingress-nginx")] {
        let class = json!({"metadata": {"name": name}, "spec": {"controller": controller}});
        view.ingress_classes
            .set(&Key::new("", name), Some(of(class)));
    }
    for node in nodes {
        let key = Key::new("", node["metadata"]["name"].as_str().expect("a name"));
        view.nodes.set(&key, Some(of(node.clone())));
    }
    view
}

/// The patch of the status; none where nothing is to be written.
fn status(view: &View) -> Option<Value> {
    let plan = reconcile(&Key::new("d", "i"), view);
    match plan.writes.into_iter().next() {
        None => None,
        Some(Write::Status { patch, .. }) => Some(patch["status"].clone()),
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn nodes_that_serve_are_named() {
    let nodes = [
        node("a", "192.0.2.1", "True", "http=80,https=443"),
        node("b", "192.0.2.2", "True", "https=8443"),
        node("c", "192.0.2.3", "Unknown", "http=80,https=443"),
        node("d", "192.0.2.4", "True", ""),
        node("e", "192.0.2.5", "True", "http=x"),
    ];
    let port = |number: u16| json!({"port": number, "protocol": "TCP"});
    let all = json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.1", "ports": [port(80), port(443)]}, {"ip": "192.0.2.2", "ports": [port(8443)]}]}});
    for (class, told, due) in [
        (Some("carob"), json!({}), Some(all.clone())),
        (
            Some("carob"),
            json!({"loadBalancer": {}}),
            Some(all.clone()),
        ),
        (None, json!({}), None),
        (Some("carob"), all.clone(), None),
        (Some("nginx"), json!({}), None),
        (Some("gone"), json!({}), None),
    ] {
        assert_eq!(status(&view(class, told, &nodes)), due, "{class:?}");
    }
    let none = status(&view(Some("carob"), all.clone(), &nodes[2..]));
    assert_eq!(none, Some(json!({"loadBalancer": {"ingress": null}})));
    assert_eq!(
        status(&view(
            Some("carob"),
            json!({"loadBalancer": {}}),
            &nodes[2..]
        )),
        None
    );
}

#[test]
fn what_was_said_of_nodes_goes_once_others_serve() {
    // It serves none at the moment, which is no other's address.
    let nodes = [
        node("a", "192.0.2.1", "True", "http=80"),
        node("b", "192.0.2.2", "False", ""),
    ];
    let own = |ip: &str| json!({"ip": ip, "ports": [{"port": 80, "protocol": "TCP"}]});
    let cleared = Some(json!({"loadBalancer": {"ingress": null}}));
    for (told, due) in [
        (json!([own("192.0.2.1"), own("192.0.2.2")]), &cleared),
        (json!([own("192.0.2.1"), own("192.0.2.9")]), &None),
        (json!([own("192.0.2.1"), {"ip": "192.0.2.2"}]), &None),
        (json!([{"ip": "192.0.2.1"}]), &None),
        (json!([{"hostname": "x.dev"}]), &None),
    ] {
        for class in [None, Some("nginx"), Some("gone")] {
            let told = json!({"loadBalancer": {"ingress": told.clone()}});
            let found = status(&view(class, told.clone(), &nodes));
            assert_eq!(&found, due, "{class:?} {told}");
        }
    }
}

#[test]
fn what_of_a_node_matters() {
    let one = |ready: &str, ports: &str| of::<Node>(node("a", "192.0.2.1", ready, ports));
    let (served, other) = (one("True", "http=80"), one("True", "http=8080"));
    let away = one("False", "http=80");
    for (old, new, due) in [
        (Some(&served), Some(&served), false),
        (None, Some(&served), true),
        (Some(&served), None, true),
        (Some(&served), Some(&other), true),
        (Some(&served), Some(&away), true),
        (None, Some(&away), false),
    ] {
        let (old, new) = (old.map(|n| &**n), new.map(|n| &**n));
        assert_eq!(differs(old, new), due);
    }
}
