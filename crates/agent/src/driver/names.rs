//! What a pod calls itself and others: `/etc/hosts`, `/etc/resolv.conf`, and the same for guests that ask their host for
//! a name's address.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{HostAlias, Pod, PodDNSConfig};
use network::names::DOMAIN;
use network::names::search::{CLUSTER_NDOTS, Hosts, LOCAL, Search};

use crate::pod::PodView as _;

/// The longest name that a host may have, as the kernel of others has it.
const LONGEST: usize = 64;

/// Refuses a name of the pod's host that is too long to be one, in the kubelet's words.
pub(super) fn check(pod: &Pod) -> Result<(), String> {
    let name = pod.nodename();
    match name.len() > LONGEST {
        true => Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long \
             ({LONGEST} characters is the max, {} characters requested)",
            name.len()
        )),
        false => Ok(()),
    }
}

/// The text of `/etc/hosts`.
pub(super) fn hosts(pod: &Pod, ip: Option<IpAddr>) -> String {
    let mut text = format!("# Kubernetes-managed hosts file.\n{LOCAL}");
    if let Some(ip) = ip {
        text += &format!("{ip}\t{}\n", own_names(pod).join("\t"));
    }
    let aliases = aliases(pod);
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        text += &format!("{}\t{}\n", alias.ip, names.join("\t"));
    }
    text
}

/// The text of `/etc/resolv.conf`, for guests that bring a resolver of their own; none where the pod knows of no server.
pub(super) fn resolv_conf(pod: &Pod, server: Ipv4Addr) -> Option<String> {
    if !is_cluster_first(pod) && config(pod).is_none() {
        return None;
    }
    let mut text = String::new();
    let searches = searches(pod);
    if !searches.is_empty() {
        text += &format!("search {}\n", searches.join(" "));
    }
    text += &format!("nameserver {server}\noptions ndots:{}", ndots(pod));
    let options = config(pod).and_then(|c| c.options.as_deref());
    for option in options.unwrap_or_default() {
        match (option.name.as_deref().unwrap_or_default(), &option.value) {
            ("ndots" | "", _) => {}
            (name, None) => text += &format!(" {name}"),
            (name, Some(value)) => text += &format!(" {name}:{value}"),
        }
    }
    Some(text + "\n")
}

/// How the pod's guests find addresses: what the two files say.
pub(super) fn search(pod: &Pod, ip: Option<IpAddr>) -> Search {
    let mut hosts = Hosts::new();
    let own = ip.into_iter().map(|ip| (ip, own_names(pod)));
    let others = aliases(pod)
        .iter()
        .filter_map(|a| Some((a.ip.parse().ok()?, a.hostnames.clone().unwrap_or_default())));
    for (ip, names) in own.chain(others) {
        names.iter().for_each(|name| hosts.add(name, ip));
    }
    if !is_cluster_first(pod) && config(pod).is_none() {
        return Search::host(hosts);
    }
    Search::none(hosts)
        .and_searches(&searches(pod))
        .with_ndots(ndots(pod))
}

/// `ClusterFirst`, which is also what a pod has that says nothing; guests have no network of their host's.
fn is_cluster_first(pod: &Pod) -> bool {
    let policy = pod.pod_spec().and_then(|spec| spec.dns_policy.as_deref());
    !matches!(policy, Some("Default" | "None"))
}

fn config(pod: &Pod) -> Option<&PodDNSConfig> {
    pod.pod_spec()?.dns_config.as_ref()
}

fn searches(pod: &Pod) -> Vec<String> {
    let own = match is_cluster_first(pod) {
        true => vec![
            format!("{}.svc.{DOMAIN}", pod.namespace()),
            format!("svc.{DOMAIN}"),
            DOMAIN.to_owned(),
        ],
        false => Vec::new(),
    };
    let more = config(pod).and_then(|c| c.searches.clone());
    own.into_iter().chain(more.unwrap_or_default()).collect()
}

fn ndots(pod: &Pod) -> u8 {
    let options = config(pod).and_then(|c| c.options.as_deref());
    let asked = options.unwrap_or_default().iter().rev().find_map(|option| {
        let value = option.value.as_ref()?;
        (option.name.as_deref() == Some("ndots")).then(|| value.parse().ok())?
    });
    asked.unwrap_or(match is_cluster_first(pod) {
        true => CLUSTER_NDOTS,
        false => 1,
    })
}

fn own_names(pod: &Pod) -> Vec<String> {
    pod.fqdn().into_iter().chain([pod.hostname()]).collect()
}

fn aliases(pod: &Pod) -> &[HostAlias] {
    pod.pod_spec()
        .and_then(|s| s.host_aliases.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use network::names::Names;
    use network::names::search::Decision;
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let object = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
        serde_json::from_value(object).expect("a pod")
    }

    #[test]
    fn what_guests_ask_for_is_what_the_files_say() {
        let pod = pod(json!({"subdomain": "db", "containers": [],
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]},
                {"ip": "2001:db8::7", "hostnames": ["c"]}]}));
        let own: IpAddr = "10.128.0.7".parse().expect("an address");
        let (text, search) = (hosts(&pod, Some(own)), search(&pod, Some(own)));
        for (name, address) in [
            ("web.db.shop.svc.cluster.local", "10.128.0.7"),
            ("web", "10.128.0.7"),
            ("a", "1.2.3.4"),
            ("b", "1.2.3.4"),
            ("c", "2001:db8::7"),
            ("localhost", "127.0.0.1"),
            ("localhost", "::1"),
            ("ip6-loopback", "::1"),
            ("ip6-allrouters", "fe00::2"),
        ] {
            let wanted = address.parse().expect("an address");
            let found = search.own(name).expect("a name of the pod");
            assert!(found.contains(&wanted), "{name}: {found:?}");
            let line = |l: &str| l.starts_with(address) && l.split_whitespace().any(|w| w == name);
            assert!(text.lines().any(line), "{name}: {text}");
        }
    }

    #[test]
    fn what_guests_call_their_host() {
        let long = "x".repeat(40);
        for (spec, name) in [
            (json!({}), Ok("web".to_owned())),
            (json!({"hostname": "front"}), Ok("front".to_owned())),
            (json!({"subdomain": "db"}), Ok("web".to_owned())),
            // Without a domain the whole name is no longer.
            (json!({"setHostnameAsFQDN": true}), Ok("web".to_owned())),
            (
                json!({"subdomain": "db", "setHostnameAsFQDN": true}),
                Ok("web.db.shop.svc.cluster.local".to_owned()),
            ),
            (
                json!({"subdomain": long, "setHostnameAsFQDN": true}),
                Err(format!(
                    "failed to construct FQDN from pod hostname and cluster domain, FQDN \
                     web.{long}.shop.svc.cluster.local is too long (64 characters is the max, 67 characters requested)"
                )),
            ),
            (
                json!({"hostnameOverride": "a.example", "subdomain": "db"}),
                Ok("a.example".to_owned()),
            ),
        ] {
            let pod = pod(spec);
            let found = check(&pod).map(|()| pod.nodename());
            assert_eq!(found, name, "{:?}", pod.spec);
        }
        let overridden = pod(json!({"hostnameOverride": "a.example", "subdomain": "db"}));
        assert_eq!(own_names(&overridden), ["a.example"]);
    }

    #[test]
    fn how_names_are_searched() {
        let server = Ipv4Addr::new(10, 96, 0, 10);
        let own = "search shop.svc.cluster.local svc.cluster.local cluster.local";
        for (spec, file, outside) in [
            (
                json!({}),
                Some(format!("{own}\nnameserver 10.96.0.10\noptions ndots:5\n")),
                "x.dev",
            ),
            (
                json!({"dnsConfig": {"searches": ["corp.dev"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                Some(format!(
                    "{own} corp.dev\nnameserver 10.96.0.10\noptions ndots:2 edns0\n"
                )),
                "x.dev.corp.dev x.dev",
            ),
            (json!({"dnsPolicy": "Default"}), None, "x.dev"),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.96.0.10"], "searches": ["corp.dev"]}}),
                Some("search corp.dev\nnameserver 10.96.0.10\noptions ndots:1\n".to_owned()),
                "x.dev x.dev.corp.dev",
            ),
        ] {
            let pod = pod(spec);
            assert_eq!(resolv_conf(&pod, server), file, "{:?}", pod.spec);
            let steps = search(&pod, None).decide(&Names::default(), "x.dev", 0);
            let asked: Vec<_> = steps
                .into_iter()
                .filter_map(|step| match step {
                    Decision::Outside(name) => Some(name),
                    _ => None,
                })
                .collect();
            assert_eq!(asked.join(" "), outside, "{:?}", pod.spec);
        }
    }
}
