//! What connections need to know of Services, slices and nodes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use network::names;
use network::nodes::Node;
use network::services::{Endpoint, Name, Service, ServicePort, Slice};

use crate::ports::protocol;

/// Which Service a slice is of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const ZONE: &str = "topology.kubernetes.io/zone";
/// How long a client of a Service with affinity stays, where nothing is said.
const STAY: Duration = Duration::from_secs(10_800);

/// A Service; none of one that is only a name.
pub(super) fn service(object: &core::Service) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let ports = spec.ports.iter().flatten().filter_map(port).collect();
    let cluster = spec.cluster_ips.iter().flatten();
    let external = spec.external_ips.iter().flatten();
    let balancer = object
        .status
        .iter()
        .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .flatten()
        .filter_map(|ingress| ingress.ip.as_ref());
    let affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    Some(Service {
        cluster: addresses(cluster),
        external: addresses(external.chain(balancer)),
        ports,
        since: object
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(0, |made| made.0.as_second()),
        affinity: affinity.then(|| stay(spec)),
        internal_local: local(&spec.internal_traffic_policy),
        external_local: local(&spec.external_traffic_policy),
        prefers_node: spec.traffic_distribution.as_deref() == Some("PreferSameNode"),
    })
}

fn stay(spec: &core::ServiceSpec) -> Duration {
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
    let seconds = seconds.and_then(|s| u64::try_from(s).ok());
    seconds.map_or(STAY, Duration::from_secs)
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<Ipv4Addr> {
    // "None" is no address, nor is what belongs to another family.
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn port(port: &core::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok()?,
        node_port: port
            .node_port
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| *number != 0),
    })
}

/// A Service as its name sees it.
pub(super) fn named_service(object: &core::Service) -> Option<names::Service> {
    let spec = object.spec.as_ref()?;
    let kind = match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
        (Some("ExternalName"), _) => {
            names::ServiceKind::ExternalName(spec.external_name.clone().unwrap_or_default())
        }
        (_, Some("None")) => names::ServiceKind::Headless,
        // One that has no address yet has no name either.
        (_, address) => names::ServiceKind::ClusterIp(address?.parse().ok()?),
    };
    let ports =
        spec.ports.iter().flatten().filter_map(|port| {
            named_port(port.name.as_deref(), port.protocol.as_deref(), port.port)
        });
    Some(names::Service {
        kind,
        ports: ports.collect(),
    })
}

/// A slice as its Service's name sees it.
pub(super) fn named_slice(object: &discovery::EndpointSlice) -> names::Slice {
    let ports =
        object.ports.iter().flatten().filter_map(|port| {
            named_port(port.name.as_deref(), port.protocol.as_deref(), port.port?)
        });
    let endpoints = object.endpoints.iter().flatten().filter_map(|of| {
        Some(names::Endpoint {
            address: of.addresses.first()?.parse().ok()?,
            hostname: of.hostname.clone(),
            ready: of.conditions.as_ref().and_then(|c| c.ready) != Some(false),
        })
    });
    names::Slice {
        endpoints: endpoints.collect(),
        ports: ports.collect(),
    }
}

fn named_port(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<names::Port> {
    Some(names::Port {
        name: name.unwrap_or_default().to_owned(),
        protocol: match protocol.unwrap_or("TCP") {
            "TCP" => names::Protocol::Tcp,
            "UDP" => names::Protocol::Udp,
            "SCTP" => names::Protocol::Sctp,
            _ => return None,
        },
        number: u16::try_from(number).ok()?,
    })
}

/// The Service that a slice is of, if it is one's.
pub(super) fn service_of(object: &discovery::EndpointSlice) -> Option<Name> {
    let labels = object.metadata.labels.as_ref()?;
    Some(Name {
        namespace: object.metadata.namespace.clone()?,
        name: labels.get(SERVICE_NAME)?.clone(),
    })
}

/// A slice of addresses of the pods' kind.
pub(super) fn slice(object: &discovery::EndpointSlice) -> Slice {
    let ports = object.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.port?).ok()?;
        let name = port.name.clone().unwrap_or_default();
        Some((name, protocol(port.protocol.as_deref())?, number))
    });
    // On a local cluster the API servers have loopback addresses, and nobody else may have the host's.
    let of_api =
        service_of(object).is_some_and(|s| s.namespace == "default" && s.name == "kubernetes");
    let endpoints = object.endpoints.iter().flatten().map(endpoint);
    let reachable = |e: &Endpoint| of_api || !e.address.is_some_and(|ip| ip.is_loopback());
    Slice {
        ports: ports.collect(),
        endpoints: endpoints.filter(reachable).collect(),
    }
}

fn endpoint(of: &discovery::Endpoint) -> Endpoint {
    let conditions = of.conditions.clone().unwrap_or_default();
    // What is not said of readiness is to be taken for yes.
    let ready = conditions.ready.unwrap_or(true);
    let hints = of.hints.as_ref();
    let nodes = hints.iter().flat_map(|h| h.for_nodes.iter().flatten());
    let zones = hints.iter().flat_map(|h| h.for_zones.iter().flatten());
    Endpoint {
        address: of.addresses.first().and_then(|text| text.parse().ok()),
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        node: of.node_name.clone(),
        for_nodes: nodes.map(|n| n.name.clone()).collect(),
        for_zones: zones.map(|z| z.name.clone()).collect(),
    }
}

/// A node.
pub(super) fn node(object: &core::Node) -> Node {
    let status = object.status.as_ref();
    let addresses: Vec<Ipv4Addr> = status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten())
        .filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
        .filter_map(|address| address.address.parse().ok())
        .collect();
    let endpoints = status.and_then(|s| s.daemon_endpoints.as_ref());
    let port = endpoints
        .and_then(|endpoints| u16::try_from(endpoints.kubelet_endpoint.as_ref()?.port).ok())
        .filter(|port| *port != 0);
    let link = addresses.first().zip(port);
    let range = object.spec.as_ref().and_then(|s| s.pod_cidr.as_deref());
    Node {
        name: object.metadata.name.clone().unwrap_or_default(),
        pods: range.and_then(|range| range.parse().ok()),
        link: link.map(|(ip, port)| SocketAddr::from((*ip, port))),
        addresses,
    }
}

/// The zone that a node is in.
pub(super) fn zone(object: &core::Node) -> Option<String> {
    object.metadata.labels.as_ref()?.get(ZONE).cloned()
}

#[cfg(test)]
mod tests {
    use network::Protocol;
    use serde_json::{Value, json};

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(object: Value) -> T {
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn services_as_connections_see_them() {
        let object = of(
            json!({"spec": {"clusterIPs": ["10.96.0.9", "fd00::9"], "externalIPs": ["192.0.2.7"],
            "ports": [{"name": "web", "port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "sctp", "port": 9, "protocol": "SCTP"}],
            "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local", "trafficDistribution": "PreferSameNode"},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.8"}, {"hostname": "x"}]}}}),
        );
        let seen = service(&object).expect("a Service");
        assert_eq!(seen.cluster, [Ipv4Addr::new(10, 96, 0, 9)]);
        assert_eq!(
            seen.external,
            [Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(192, 0, 2, 8)]
        );
        let ports: Vec<_> = seen
            .ports
            .iter()
            .map(|p| (p.protocol, p.port, p.node_port))
            .collect();
        assert_eq!(
            ports,
            [(Protocol::Tcp, 80, Some(30_080)), (Protocol::Udp, 53, None)]
        );
        assert_eq!(seen.affinity, Some(STAY));
        assert!(seen.internal_local && !seen.external_local && seen.prefers_node);
        let headless = of(
            json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 1}]}}),
        );
        assert_eq!(service(&headless).map(|s| s.cluster), Some(Vec::new()));
        let alias = of(json!({"spec": {"type": "ExternalName", "externalName": "x.dev"}}));
        assert_eq!(service(&alias), None);
    }

    #[test]
    fn slices_as_connections_see_them() {
        let object = of(
            json!({"metadata": {"namespace": "n", "labels": {SERVICE_NAME: "s"}}, "addressType": "IPv4",
            "ports": [{"name": "web", "port": 8080}, {"name": "", "protocol": "UDP", "port": 53}, {"name": "all"}],
            "endpoints": [
                {"addresses": ["10.128.0.1"], "nodeName": "n1", "hints": {"forZones": [{"name": "a"}]}},
                {"addresses": ["10.128.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["fd00::1"]}]}),
        );
        let name = Name {
            namespace: "n".to_owned(),
            name: "s".to_owned(),
        };
        assert_eq!(service_of(&object), Some(name));
        let seen = slice(&object);
        assert_eq!(
            seen.ports,
            [
                ("web".to_owned(), Protocol::Tcp, 8080),
                (String::new(), Protocol::Udp, 53),
            ]
        );
        let states: Vec<_> = seen
            .endpoints
            .iter()
            .map(|e| (e.ready, e.serving, e.terminating))
            .collect();
        assert_eq!(
            states,
            [
                (true, true, false),
                (false, true, true),
                (true, true, false)
            ]
        );
        assert_eq!(seen.endpoints[0].for_zones, ["a"]);
        assert_eq!(seen.endpoints[2].address, None);
    }

    #[test]
    fn nodes_as_connections_see_them() {
        let object = of(
            json!({"metadata": {"name": "n", "labels": {ZONE: "a"}}, "spec": {"podCIDR": "10.128.0.0/18"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 7000}}}}),
        );
        let seen = node(&object);
        assert_eq!(seen.link, Some("192.0.2.1:7000".parse().unwrap()));
        assert_eq!(seen.addresses, [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!(seen.pods, "10.128.0.0/18".parse().ok());
        assert_eq!(zone(&object).as_deref(), Some("a"));
        let bare = node(&core::Node::default());
        assert_eq!((bare.link, bare.pods), (None, None));
    }
}
