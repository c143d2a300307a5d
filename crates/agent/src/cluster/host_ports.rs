//! The ports of nodes that pods ask for: `hostPort`.

use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodStatus};
use network::Protocol;
use network::entrance::At;

use crate::ports;

/// What becomes of the ports that a pod asks its node for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HostPorts {
    /// The node's, each with the pod's own behind it.
    pub(super) served: Vec<(At, SocketAddrV4)>,
    /// Those at addresses that are not the node's, as `TCP 192.0.2.9:80`.
    pub(super) foreign: Vec<String>,
}

impl HostPorts {
    /// None, as long as the pod has no address or once it has ended.
    pub(super) fn of(pod: &Pod) -> Self {
        let mut all = Self::default();
        let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else {
            return all;
        };
        let own = status.pod_ip.as_ref().and_then(|ip| ip.parse().ok());
        let node = Node::of(status);
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if let (Some(own), Some(node), false) = (own, node, ended) {
            for port in ports::declared(spec) {
                all.add(port, own, &node);
            }
        }
        all
    }

    fn add(&mut self, port: &ContainerPort, own: Ipv4Addr, node: &Node) {
        let number = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
        let (Some(host), Some(inside), Some(protocol)) = (
            port.host_port.and_then(number),
            number(port.container_port),
            ports::protocol(port.protocol.as_deref()),
        ) else {
            return;
        };
        match node.address(port.host_ip.as_deref().unwrap_or_default()) {
            Ok(ip) => {
                let at = (protocol, SocketAddrV4::new(ip, host));
                self.served.push((at, SocketAddrV4::new(own, inside)));
            }
            Err(ip) => self.foreign.push(word(protocol, &ip, host)),
        }
    }
}

/// The addresses of a pod's node.
struct Node {
    first: Ipv4Addr,
    all: Vec<Ipv4Addr>,
}

impl Node {
    fn of(status: &PodStatus) -> Option<Self> {
        let first = status.host_ip.as_ref()?.parse().ok()?;
        let all = status.host_ips.iter().flatten();
        Some(Self {
            first,
            all: all.filter_map(|host| host.ip.parse().ok()).collect(),
        })
    }

    /// The one that a port is wanted at; as an error what is none of them, and may be another node's.
    fn address(&self, wanted: &str) -> Result<Ipv4Addr, String> {
        let parsed = match wanted {
            "" | "0.0.0.0" => Some(self.first),
            _ => wanted.parse().ok(),
        };
        let own = |ip: &Ipv4Addr| *ip == self.first || self.all.contains(ip);
        parsed.filter(own).ok_or_else(|| wanted.to_owned())
    }
}

fn word(protocol: Protocol, ip: &str, port: u16) -> String {
    ports::told(protocol, ip, port).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn served(pod: &Pod) -> Vec<String> {
        let all = HostPorts::of(pod).served.into_iter();
        all.map(|((protocol, at), to)| format!("{protocol:?} {at} {to}"))
            .collect()
    }

    fn pod(ports: Value, status: Value) -> Pod {
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 90, "hostPort": 9090}]});
        let first = json!({"name": "i", "ports": [{"containerPort": 91, "hostPort": 9191}]});
        let spec = json!({"initContainers": [first, sidecar], "containers": [{"name": "a", "ports": ports}]});
        serde_json::from_value(json!({"spec": spec, "status": status})).expect("a pod")
    }

    #[test]
    fn ports_of_nodes_that_lead_to_pods() {
        let ports = json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81},
            {"containerPort": 82, "hostPort": 8082, "protocol": "SCTP"},
            {"containerPort": 83, "hostPort": 8083, "hostIP": "0.0.0.0"},
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.9"}]);
        let running = json!({"podIP": "10.128.0.5", "hostIP": "192.0.2.1", "phase": "Running",
            "hostIPs": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.9"}]});
        assert_eq!(
            served(&pod(ports.clone(), running)),
            [
                "Tcp 192.0.2.1:9090 10.128.0.5:90",
                "Tcp 192.0.2.1:8080 10.128.0.5:80",
                "Tcp 192.0.2.1:8083 10.128.0.5:83",
                "Udp 192.0.2.9:53 10.128.0.5:53"
            ]
        );
        for none in [
            json!({"hostIP": "192.0.2.1", "phase": "Pending"}),
            json!({"podIP": "10.128.0.5", "phase": "Running"}),
            json!({"podIP": "10.128.0.5", "hostIP": "192.0.2.1", "phase": "Failed"}),
        ] {
            assert_eq!(
                HostPorts::of(&pod(ports.clone(), none)),
                HostPorts::default()
            );
        }
    }

    #[test]
    fn ports_of_other_nodes_are_not_to_be_had() {
        let ports = json!([{"containerPort": 80, "hostPort": 80, "hostIP": "192.0.2.2"},
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "2001:db8::2"}]);
        let running = json!({"podIP": "10.128.0.5", "hostIP": "192.0.2.1", "phase": "Running"});
        let pod = pod(ports, running);
        assert_eq!(served(&pod), ["Tcp 192.0.2.1:9090 10.128.0.5:90"]);
        assert_eq!(
            HostPorts::of(&pod).foreign,
            ["TCP 192.0.2.2:80", "UDP [2001:db8::2]:53"]
        );
    }
}
