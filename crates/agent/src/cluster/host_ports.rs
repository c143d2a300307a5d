//! The ports of nodes that pods ask for: `hostPort`.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodStatus};
use network::Protocol;
use network::host_ports::{HostPort, PodPorts};

use crate::ports;

/// What becomes of the ports that a pod asks its node for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HostPorts {
    /// What the pod asks for. What its node can give is judged by that one's Node, whatever the status says of addresses:
    /// other nodes write it.
    pub(super) asked: Option<PodPorts>,
    /// Those at addresses that are not the node's by the pod's status, as `TCP 192.0.2.9:80`: only to be said of pods of
    /// this node, whose status it writes itself.
    pub(super) foreign: Vec<String>,
}

impl HostPorts {
    /// None, as long as the pod has no node and no address, or once it has ended.
    pub(super) fn of(pod: &Pod) -> Self {
        let mut all = Self::default();
        let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else {
            return all;
        };
        let address = status.pod_ip.as_ref().and_then(|ip| ip.parse().ok());
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let (Some(address), Some(node), false) = (address, &spec.node_name, ended) else {
            return all;
        };
        let of_node = addresses(status);
        let mut ports = Vec::new();
        for port in ports::declared(spec) {
            all.add(port, &of_node, &mut ports);
        }
        let created = pod.metadata.creation_timestamp.as_ref();
        all.asked = (!ports.is_empty()).then(|| PodPorts {
            node: node.clone(),
            since: created.map_or(0, |made| made.0.as_second()),
            address,
            ports,
        });
        all
    }

    fn add(&mut self, port: &ContainerPort, of_node: &[Ipv4Addr], ports: &mut Vec<HostPort>) {
        let number = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
        let (Some(host), Some(to), Some(protocol)) = (
            port.host_port.and_then(number),
            number(port.container_port),
            ports::protocol(port.protocol.as_deref()),
        ) else {
            return;
        };
        let wanted = port.host_ip.as_deref().unwrap_or_default();
        let any = matches!(wanted, "" | "0.0.0.0");
        let address = wanted.parse().ok().filter(|_| !any);
        if any || address.is_some() {
            ports.push(HostPort {
                protocol,
                address,
                port: host,
                to,
            });
        }
        let is_foreign = !any && !address.is_some_and(|ip| of_node.contains(&ip));
        if is_foreign && !of_node.is_empty() {
            self.foreign.push(word(protocol, wanted, host));
        }
    }
}

/// The addresses of a pod's node, as the pod's status has them.
fn addresses(status: &PodStatus) -> Vec<Ipv4Addr> {
    let all = status.host_ips.iter().flatten().map(|host| &host.ip);
    let all = all.chain(&status.host_ip);
    all.filter_map(|ip| ip.parse().ok()).collect()
}

fn word(protocol: Protocol, ip: &str, port: u16) -> String {
    ports::told(protocol, ip, port).to_string()
}

#[cfg(test)]
mod tests;
