use serde_json::{Value, json};

use super::*;

fn of<T: serde::de::DeserializeOwned>(value: Value) -> std::sync::Arc<T> {
    std::sync::Arc::new(serde_json::from_value(value).expect("an object"))
}

fn node(name: &str, ip: &str, ready: &str, more: Value) -> Value {
    let mut node = json!({"metadata": {"name": name}, "status": {
        "addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}],
        "conditions": [{"type": "Ready", "status": ready}]}});
    for (field, value) in more.as_object().into_iter().flatten() {
        node["metadata"][field] = value.clone();
    }
    node
}

fn service(spec: Value, status: Value) -> Value {
    let mut service = json!({"metadata": {"namespace": "d", "name": "s", "uid": "u", "resourceVersion": "7"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}, "status": status});
    for (field, value) in spec.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    service
}

fn view(service: Value, nodes: &[Value]) -> View {
    let mut view = View::default();
    view.services.set(&Key::new("d", "s"), Some(of(service)));
    for node in nodes {
        let key = Key::new("", node["metadata"]["name"].as_str().expect("a name"));
        view.nodes.set(&key, Some(of(node.clone())));
    }
    let slice = json!({"metadata": {"namespace": "d", "name": "s-1", "labels": {SERVICE_NAME: "s"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "b", "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "nodeName": "a", "conditions": {"ready": false}}]});
    view.endpoint_slices
        .set(&Key::new("d", "s-1"), Some(of(slice)));
    view
}

/// The patch of the status; none where nothing is to be written.
fn status(view: &View) -> Option<Value> {
    let now = "2026-11-21T10:00:00Z".parse().expect("a time");
    let plan = reconcile(&Key::new("d", "s"), view, now);
    let mut writes = plan.writes.into_iter();
    match writes.next() {
        None => None,
        Some(Write::Status { patch, .. }) => Some(patch["status"].clone()),
        Some(other) => panic!("{other:?}"),
    }
}

fn ips(status: Option<Value>) -> String {
    let status = status.expect("a status");
    let all = status["loadBalancer"]["ingress"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ips = all
        .iter()
        .map(|one| one["ip"].as_str().expect("an address").to_owned());
    ips.collect::<Vec<_>>().join(" ")
}

#[test]
fn ready_nodes_answer() {
    let nodes = [
        node("a", "192.0.2.1", "True", json!({})),
        node("b", "192.0.2.2", "True", json!({})),
        node("c", "192.0.2.3", "Unknown", json!({})),
        node("d", "192.0.2.4", "True", json!({"labels": {EXCLUDED: ""}})),
    ];
    for (spec, due) in [
        (json!({}), "192.0.2.1 192.0.2.2"),
        (json!({"externalTrafficPolicy": "Local"}), "192.0.2.2"),
    ] {
        assert_eq!(ips(status(&view(service(spec, json!({})), &nodes))), due);
    }
    let told = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"ip": "192.0.2.2", "ipMode": "VIP"}]}});
    assert_eq!(
        status(&view(service(json!({}), told.clone()), &nodes)),
        None,
        "all is said"
    );
    // What it was before goes, and others' is theirs.
    let plain = view(service(json!({"type": "ClusterIP"}), told.clone()), &nodes);
    assert_eq!(
        status(&plain),
        Some(json!({"loadBalancer": {"ingress": null}}))
    );
    let other = view(
        service(json!({"loadBalancerClass": "x/y"}), json!({})),
        &nodes,
    );
    assert_eq!(status(&other), None);
    let fresh = view(
        service(json!({"type": "ClusterIP"}), json!({"loadBalancer": {}})),
        &nodes,
    );
    assert_eq!(status(&fresh), None);
}

#[test]
fn ports_that_are_not_served_are_named() {
    let failing = json!({"annotations": {NOT_SERVED: "UDP 192.0.2.1:53,TCP 192.0.2.1:80"}});
    let nodes = [
        node("a", "192.0.2.1", "True", failing),
        node("b", "192.0.2.2", "True", json!({})),
    ];
    let ports = json!({"ports": [{"port": 80}, {"port": 443}]});
    let said = status(&view(service(ports, json!({})), &nodes)).expect("a status");
    let one = &said["loadBalancer"]["ingress"][0];
    assert_eq!(
        one["ports"][0],
        json!({"port": 80, "protocol": "TCP", "error": REASON})
    );
    assert_eq!(one["ports"][1], json!({"port": 443, "protocol": "TCP"}));
    assert_eq!(
        said["loadBalancer"]["ingress"][1],
        json!({"ip": "192.0.2.2"})
    );
    let condition = &said["conditions"][0];
    assert_eq!(
        condition["message"],
        "TCP port 80 is not served at 192.0.2.1"
    );
    // Once they are it goes.
    let mut before = said.clone();
    before["conditions"][0]["lastTransitionTime"] = json!("2026-11-21T09:00:00Z");
    let ports = json!({"ports": [{"port": 80}, {"port": 443}]});
    let again = view(service(ports.clone(), before.clone()), &nodes);
    assert_eq!(status(&again), None, "since when stays");
    let healed = [node("a", "192.0.2.1", "True", json!({})), nodes[1].clone()];
    let said = status(&view(service(ports, before), &healed)).expect("a status");
    assert_eq!(said["conditions"], Value::Null);
}

#[test]
fn sctp_is_stored_and_not_served() {
    let nodes = [node("a", "192.0.2.1", "True", json!({}))];
    let ports = json!({"ports": [{"port": 9, "protocol": "SCTP"}]});
    let said = status(&view(service(ports, json!({})), &nodes)).expect("a status");
    let conditions = said["conditions"].as_array().expect("conditions");
    let messages: Vec<_> = conditions.iter().map(|c| &c["message"]).collect();
    assert_eq!(
        messages,
        [
            "SCTP port 9 is not served at 192.0.2.1",
            "SCTP port 9 is stored, and nothing carries SCTP"
        ]
    );
    let ports = json!({"type": "ClusterIP", "ports": [{"port": 9, "protocol": "SCTP"}]});
    let said = status(&view(service(ports, json!({})), &nodes)).expect("a status");
    assert_eq!(said["conditions"][0]["type"], PORTS_SERVED);
    assert_eq!(said["conditions"].as_array().map(Vec::len), Some(1));
}

fn made(name: &str, second: u8, spec: Value) -> Value {
    let mut service = service(spec, json!({}));
    service["metadata"]["name"] = json!(name);
    service["metadata"]["creationTimestamp"] = json!(format!("2026-11-21T09:00:{second:02}Z"));
    service
}

#[test]
fn a_port_that_another_has_is_said() {
    let nodes = [node("a", "192.0.2.1", "True", json!({}))];
    let own = || made("s", 5, json!({"ports": [{"port": 80}, {"port": 443}]}));
    for (other, due) in [
        (
            made("o", 4, json!({})),
            Some("TCP port 80 is that of the Service d/o"),
        ),
        (
            made("o", 5, json!({})),
            Some("TCP port 80 is that of the Service d/o"),
        ),
        (made("t", 5, json!({})), None),
        (made("o", 6, json!({})), None),
        (
            made("o", 4, json!({"ports": [{"port": 80, "protocol": "UDP"}]})),
            None,
        ),
        (made("o", 4, json!({"loadBalancerClass": "x/y"})), None),
        (made("o", 4, json!({"type": "NodePort"})), None),
        (
            made(
                "o",
                6,
                json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 443}]}),
            ),
            Some("TCP port 443 is that of the Service d/o"),
        ),
    ] {
        let mut view = view(own(), &nodes);
        let name = other["metadata"]["name"].as_str().expect("a name");
        view.services
            .set(&Key::new("d", name), Some(of(other.clone())));
        let now = "2026-11-21T10:00:00Z".parse().expect("a time");
        let events = reconcile(&Key::new("d", "s"), &view, now).events;
        assert_eq!(events.first().map(|event| event.message.as_str()), due);
        let said = status(&view).expect("a status");
        let message = said["conditions"][0]["message"].as_str();
        assert_eq!(message, due, "{other}");
        let errors = said["loadBalancer"]["ingress"][0]["ports"].as_array();
        let errors = errors.map_or(0, |ports| {
            ports.iter().filter(|port| port["error"] == REASON).count()
        });
        assert_eq!(errors, usize::from(due.is_some()), "{said}");
    }
}

#[test]
fn of_several_the_oldest_has_a_port() {
    let nodes = [node("a", "192.0.2.1", "True", json!({}))];
    let mut view = view(made("s", 5, json!({})), &nodes);
    for (name, second) in [("b", 3), ("c", 2), ("d", 4)] {
        let other = of(made(name, second, json!({})));
        view.services.set(&Key::new("d", name), Some(other));
    }
    let said = status(&view).expect("a status");
    assert_eq!(
        said["conditions"][0]["message"],
        "TCP port 80 is that of the Service d/c"
    );
}

#[test]
fn those_who_come_after_are_looked_at_again() {
    let mut view = View::default();
    for (name, second, spec) in [
        ("elder", 1, json!({})),
        ("younger", 9, json!({})),
        ("secure", 9, json!({"ports": [{"port": 443}]})),
        (
            "datagrams",
            9,
            json!({"ports": [{"port": 80, "protocol": "UDP"}]}),
        ),
        ("plain", 9, json!({"type": "ClusterIP"})),
        ("anothers", 9, json!({"loadBalancerClass": "x/y"})),
    ] {
        let other = of(made(name, second, spec));
        view.services.set(&Key::new("d", name), Some(other));
    }
    let web = || Some((5, json!({})));
    let node_port = json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]});
    for (old, new, due) in [
        (None, web(), "younger"),
        (web(), None, "younger"),
        (web(), Some((5, json!({"type": "ClusterIP"}))), "younger"),
        (
            web(),
            Some((5, json!({"ports": [{"port": 443}]}))),
            "secure younger",
        ),
        // It was made again.
        (web(), Some((10, json!({}))), "younger"),
        (None, Some((5, node_port)), "elder younger"),
        (None, Some((5, json!({"type": "ClusterIP"}))), ""),
        (None, Some((10, json!({}))), ""),
        (
            web(),
            Some((5, json!({"externalTrafficPolicy": "Local"}))),
            "",
        ),
    ] {
        let told = format!("{old:?} to {new:?}");
        let [old, new] = [old, new].map(|is| {
            let (second, spec) = is?;
            Some(of::<Service>(made("s", second, spec)))
        });
        let found = rivals(old.as_deref(), new.as_deref(), &view);
        let found: Vec<_> = found.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(found.join(" "), due, "{told}");
    }
}
