//! The node's DNS server, as Services and policies see it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use network::Protocol;
use network::dns::PORT;
use network::services::{Endpoint, Slice};

/// The Service at the cluster's DNS address. Its endpoints are no objects: each node's pods have their own.
pub(super) const SERVICE: (&str, &str) = ("kube-system", "kube-dns");
/// What the server is known by in the network; no pod's uid and no slice's name is like it.
pub(super) const UID: &str = "kube-dns";
/// What the node's own place in the network is known by.
pub(super) const GATEWAY: &str = "gateway";

/// Where a host's resolvers are written down: resolv.conf(5).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The server as the pod that it is on other clusters, for policies that let pods ask it.
pub(super) fn pod(address: Ipv4Addr) -> Pod {
    let (namespace, name) = SERVICE;
    let label = ("k8s-app".to_owned(), name.to_owned());
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(UID.to_owned()),
            labels: Some([label].into()),
            ..ObjectMeta::default()
        },
        // What has none is no peer.
        spec: Some(PodSpec::default()),
        status: Some(PodStatus {
            pod_ip: Some(address.to_string()),
            ..PodStatus::default()
        }),
    }
}

/// The one endpoint that this node's pods and ports have.
pub(super) fn slice(node: &str, address: Ipv4Addr) -> Slice {
    let ports = [("dns", Protocol::Udp), ("dns-tcp", Protocol::Tcp)];
    Slice {
        ports: ports
            .map(|(name, protocol)| (name.to_owned(), protocol, PORT))
            .into(),
        endpoints: vec![Endpoint {
            address: Some(address),
            ready: true,
            serving: true,
            node: Some(node.to_owned()),
            ..Endpoint::default()
        }],
    }
}

/// The host's resolvers, for names that are not the cluster's.
pub(super) fn resolvers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    parse(&text)
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address: IpAddr = match words.next()? {
            "nameserver" => words.next()?.parse().ok()?,
            _ => return None,
        };
        Some(SocketAddr::new(address, PORT))
    });
    servers.collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use k8s_openapi::api::core::v1::Namespace;
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use serde_json::{Value, json};

    use super::*;
    use crate::policies::Index;

    fn of<T: serde::de::DeserializeOwned>(object: Value) -> T {
        serde_json::from_value(object).expect("an object")
    }

    /// The rule that everybody writes beside one that denies the rest.
    #[test]
    fn pods_that_may_ask_for_names_alone() {
        const WEB: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 9);
        const DNS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 2);
        let mut index = Index::new();
        let label = json!({"kubernetes.io/metadata.name": "kube-system"});
        let system: Namespace = of(json!({"metadata": {"name": "kube-system", "labels": label}}));
        let web: Pod = of(
            json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"},
            "spec": {"containers": []}, "status": {"podIP": WEB}}),
        );
        let policy: NetworkPolicy = of(json!({"metadata": {"name": "names"}, "spec": {
            "podSelector": {}, "policyTypes": ["Egress"], "egress": [{
                "to": [{"namespaceSelector": {"matchLabels": label}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
                "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}]}}));
        let _ = index.set_namespace("kube-system", Some(&system));
        let _ = index.set_pod("shop", "web", Some(&web));
        let _ = index.set_policy("shop", "names", Some(&policy));
        let (namespace, name) = SERVICE;
        let _ = index.set_pod(namespace, name, Some(&pod(DNS)));
        for (to, port, due) in [
            (DNS, 53, true),
            (DNS, 54, false),
            ([10, 128, 0, 1].into(), 53, false),
        ] {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let verdict = index
                    .policies()
                    .judge(WEB, SocketAddrV4::new(to, port), protocol);
                assert_eq!(verdict.is_allowed(), due, "{protocol:?} {to}:{port}");
            }
        }
    }

    #[test]
    fn a_hosts_resolvers() {
        let text = "# one\nsearch x.dev\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # two\nnameserver x\noptions a\n";
        let found: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }
}
