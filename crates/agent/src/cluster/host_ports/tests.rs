use client::Key;
use k8s_openapi::api::core::v1::Node;
use network::Network;
use network::entrance::Entrance;
use serde_json::{Value, json};

use super::*;
use crate::cluster::Cluster;
use crate::peer::Peer;

fn asked(pod: &Pod) -> Vec<String> {
    let all = HostPorts::of(pod).asked.into_iter().flat_map(|of| of.ports);
    all.map(|of| {
        let at = of.address.map(|at| at.to_string()).unwrap_or_default();
        format!("{:?} {at}:{} {}", of.protocol, of.port, of.to)
    })
    .collect()
}

fn pod(ports: Value, status: Value) -> Pod {
    let sidecar = json!({"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 90, "hostPort": 9090}]});
    let first = json!({"name": "i", "ports": [{"containerPort": 91, "hostPort": 9191}]});
    let spec = json!({"nodeName": "n1", "initContainers": [first, sidecar], "containers": [{"name": "a", "ports": ports}]});
    let metadata =
        json!({"namespace": "d", "name": "p", "creationTimestamp": "1970-01-01T00:01:00Z"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status}))
        .expect("a pod")
}

#[test]
fn ports_of_nodes_that_lead_to_pods() {
    let ports = json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81},
        {"containerPort": 82, "hostPort": 8082, "protocol": "SCTP"},
        {"containerPort": 83, "hostPort": 8083, "hostIP": "0.0.0.0"},
        {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.9"}]);
    // Where its node is the pod's status does not say.
    for status in [
        json!({"podIP": "10.128.0.5", "hostIP": "192.0.2.1", "phase": "Running"}),
        json!({"podIP": "10.128.0.5", "hostIP": "198.51.100.1", "phase": "Running"}),
        json!({"podIP": "10.128.0.5", "phase": "Running"}),
    ] {
        let pod = pod(ports.clone(), status);
        let all = HostPorts::of(&pod).asked.expect("ports");
        assert_eq!((all.node.as_str(), all.since), ("n1", 60));
        assert_eq!(all.address, Ipv4Addr::new(10, 128, 0, 5));
        assert_eq!(
            asked(&pod),
            [
                "Tcp :8080 80",
                "Tcp :8083 83",
                "Udp 192.0.2.9:53 53",
                "Tcp :9090 90"
            ]
        );
    }
    for none in [
        json!({"hostIP": "192.0.2.1", "phase": "Pending"}),
        json!({"podIP": "10.128.0.5", "hostIP": "192.0.2.1", "phase": "Failed"}),
    ] {
        let pod = pod(ports.clone(), none);
        assert_eq!(HostPorts::of(&pod), HostPorts::default());
    }
}

#[test]
fn ports_at_addresses_that_are_not_the_nodes_are_said() {
    let ports = json!([{"containerPort": 80, "hostPort": 80, "hostIP": "192.0.2.2"},
        {"containerPort": 81, "hostPort": 81, "hostIP": "192.0.2.9"},
        {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "2001:db8::2"}]);
    let running = json!({"podIP": "10.128.0.5", "hostIP": "192.0.2.1", "phase": "Running",
        "hostIPs": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.9"}]});
    let all = HostPorts::of(&pod(ports, running));
    assert_eq!(all.foreign, ["TCP 192.0.2.2:80", "UDP [2001:db8::2]:53"]);
}

/// What this node, n2, listens at by what pods of n1 say of themselves.
#[test]
fn another_nodes_pods_open_no_ports_here() {
    let network = Network::new("10.128.64.0/18".parse().expect("a range"));
    let gateway = network.join("gateway").expect("an address");
    let cluster = Cluster::new("n2", network.clone());
    let entrance = Entrance::new(network, gateway);
    for (name, range, address) in [
        ("n1", "10.128.0.0/18", "192.0.2.1"),
        ("n2", "10.128.64.0/18", "192.0.2.2"),
    ] {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"podCIDR": range},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]}}),
        )
        .expect("a Node");
        cluster.node(&Key::new("", name), Some(&node));
    }
    let tell = |pod: &Pod| {
        let peer = Peer::from(pod.clone());
        cluster.pod(&Key::new("d", "p"), None, Some(&peer));
    };
    let ports = json!([{"containerPort": 6443, "hostPort": 4444},
        {"containerPort": 6443, "hostPort": 4445, "hostIP": "192.0.2.2"}]);
    for address in ["127.0.0.1", "192.0.2.2", "10.128.64.9", "10.128.0.9"] {
        tell(&pod(
            ports.clone(),
            json!({"podIP": address, "hostIP": "192.0.2.2", "phase": "Running"}),
        ));
        assert!(entrance.wanted().ports.is_empty(), "{address}");
    }
    let running = json!({"podIP": "10.128.64.9", "hostIP": "192.0.2.2", "phase": "Running"});
    let mut own = pod(ports, running);
    own.spec.as_mut().expect("a spec").node_name = Some("n2".to_owned());
    tell(&own);
    let wanted = entrance.wanted().ports.into_iter();
    let wanted: Vec<_> = wanted
        .map(|((_, at), by)| (at.to_string(), by.to_string()))
        .collect();
    let due = ["192.0.2.2:4444", "192.0.2.2:4445", "192.0.2.2:9090"];
    let due = due.map(|at| (at.to_owned(), "Pod d/p".to_owned()));
    assert_eq!(wanted, due);
}
