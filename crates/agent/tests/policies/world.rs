//! A small cluster, made of objects as a watch reports them.

use std::net::{Ipv4Addr, SocketAddrV4};

use agent::policies::{Changed, Index};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use network::Protocol;
use network::policy::{Direction, Verdict};
use serde::Deserialize as _;
use serde_yaml::Value;

pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// By name, what [`pods`] are at.
pub(crate) const ADDRESSES: &[(&str, Ipv4Addr)] = &[
    ("shop/web", Ipv4Addr::new(10, 128, 0, 1)),
    ("shop/api", Ipv4Addr::new(10, 128, 0, 2)),
    ("shop/db", Ipv4Addr::new(10, 128, 0, 3)),
    ("ops/web", Ipv4Addr::new(10, 128, 1, 1)),
    ("ops/monitor", Ipv4Addr::new(10, 128, 1, 2)),
    ("kube-system/dns", Ipv4Addr::new(10, 128, 2, 1)),
    ("outside", OUTSIDE),
    ("node", NODE),
];

const WORLD: &str = r#"
{kind: Namespace, metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop, team: store}}}
---
{kind: Namespace, metadata: {name: ops, labels: {kubernetes.io/metadata.name: ops, team: ops}}}
---
{kind: Namespace, metadata: {name: kube-system, labels: {kubernetes.io/metadata.name: kube-system}}}
---
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.128.0.1, hostIP: 192.168.0.1}
---
kind: Pod
metadata: {namespace: shop, name: api, labels: {app: api, tier: back}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 9090}]}]}
status: {phase: Running, podIP: 10.128.0.2, hostIP: 192.168.0.1}
---
kind: Pod
metadata: {namespace: shop, name: db, labels: {app: db, tier: back}}
spec: {containers: [{name: c, ports: [{name: pg, containerPort: 5432, protocol: TCP}]}]}
status: {phase: Running, podIP: 10.128.0.3, hostIP: 192.168.0.2}
---
kind: Pod
metadata: {namespace: ops, name: web, labels: {app: web}}
spec: {containers: [{name: c}]}
status: {phase: Running, podIP: 10.128.1.1, hostIP: 192.168.0.2}
---
kind: Pod
metadata: {namespace: ops, name: monitor, labels: {app: monitor}}
spec: {containers: [{name: c}]}
status: {phase: Running, podIP: 10.128.1.2, hostIP: 192.168.0.2}
---
kind: Pod
metadata: {namespace: kube-system, name: dns, labels: {k8s-app: kube-dns}}
spec: {containers: [{name: c, ports: [{name: dns, containerPort: 53, protocol: UDP}]}]}
status: {phase: Running, podIP: 10.128.2.1, hostIP: 192.168.0.2}
"#;

/// The cluster without policies.
pub(crate) fn cluster() -> Index {
    let mut index = Index::new();
    for document in documents(WORLD) {
        let _ = apply(&mut index, document);
    }
    index
}

/// The objects of a YAML text.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).expect(yaml))
        .collect()
}

/// Tells the index of an object.
pub(crate) fn apply(index: &mut Index, object: Value) -> Changed {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    match object["kind"].as_str() {
        Some("Namespace") => {
            let read: Namespace = serde_yaml::from_value(typed(object, "v1")).expect("a Namespace");
            index.set_namespace(&name, Some(&read))
        }
        Some("Pod") => {
            let read: Pod = serde_yaml::from_value(typed(object, "v1")).expect("a Pod");
            index.set_pod(&namespace, &name, Some(&read))
        }
        _ => {
            let object = typed(object, "networking.k8s.io/v1");
            let read: NetworkPolicy = serde_yaml::from_value(object).expect("a NetworkPolicy");
            index.set_policy(&namespace, &name, Some(&read))
        }
    }
}

fn typed(mut object: Value, version: &str) -> Value {
    object["apiVersion"] = version.into();
    object
}

/// Judges `shop/web -> shop/db tcp/5432`.
pub(crate) fn judge(index: &Index, connection: &str) -> &'static str {
    let words: Vec<&str> = connection.split_whitespace().collect();
    let [from, "->", to, port] = words[..] else {
        panic!("no connection: {connection}");
    };
    let address = |name: &str| {
        let known = ADDRESSES.iter().find(|(n, _)| *n == name).map(|(_, a)| *a);
        known.unwrap_or_else(|| name.parse().expect(name))
    };
    let (protocol, port) = port.split_once('/').expect(connection);
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => panic!("{other}"),
    };
    let to = SocketAddrV4::new(address(to), port.parse().expect(connection));
    match index.policies().judge(address(from), to, protocol) {
        Verdict::Allowed => "allowed",
        Verdict::Denied(Direction::Ingress) => "not let in",
        Verdict::Denied(Direction::Egress) => "not let out",
    }
}
