//! Rows of services, what stands behind them, and how they are reached.

use super::cell::{age, capped, joined, labels, name, or, or_none, selector_or_none, string};
use crate::kinds::field::{int, items, maybe_int, present, text};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        string(object, "/spec/type"),
        or_none(text(object, "/spec/clusterIPs/0")).into(),
        external_addresses(object).into(),
        service_ports(object).into(),
        age(object, now),
        labels(object, "/spec/selector"),
    ]
}

fn external_addresses(service: &Value) -> String {
    let external = joined(items(service, "/spec/externalIPs"), ",");
    match text(service, "/spec/type") {
        "ClusterIP" | "NodePort" => or_none(&external).to_owned(),
        "LoadBalancer" => {
            let balancer = load_balancer(service);
            let all: Vec<&str> = [balancer.as_str(), external.as_str()]
                .into_iter()
                .filter(|addresses| !addresses.is_empty())
                .collect();
            or(&all.join(","), "<pending>").to_owned()
        }
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses and host names that a load balancer was given, sorted.
fn load_balancer(object: &Value) -> String {
    let addresses: BTreeSet<&str> = items(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| or(text(ingress, "/ip"), text(ingress, "/hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

fn service_ports(service: &Value) -> String {
    let ports: Vec<String> = items(service, "/spec/ports")
        .iter()
        .map(|port| {
            let number = int(port, "/port");
            let protocol = text(port, "/protocol");
            match int(port, "/nodePort") {
                0 => format!("{number}/{protocol}"),
                node_port => format!("{number}:{node_port}/{protocol}"),
            }
        })
        .collect();
    or_none(&ports.join(",")).to_owned()
}

pub(super) fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        or_none(&subsets(object)).into(),
        age(object, now),
    ]
}

fn subsets(object: &Value) -> String {
    let mut list = Vec::new();
    for subset in items(object, "/subsets") {
        let addresses = items(subset, "/addresses");
        let ports = items(subset, "/ports");
        // A headless service may have no ports.
        if ports.is_empty() {
            list.extend(addresses.iter().map(|it| text(it, "/ip").to_owned()));
        }
        for port in ports {
            let port = int(port, "/port");
            list.extend(addresses.iter().map(|it| match text(it, "/ip") {
                v6 if v6.contains(':') => format!("[{v6}]:{port}"),
                v4 => format!("{v4}:{port}"),
            }));
        }
    }
    capped(&list, 3, list.len(), ",")
}

pub(super) fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = items(object, "/ports")
        .iter()
        .map(
            |port| match (maybe_int(port, "/port"), text(port, "/name")) {
                (Some(number), _) => number.to_string(),
                (None, "") => "*".to_owned(),
                (None, name) => name.to_owned(),
            },
        )
        .collect();
    let addresses: Vec<String> = items(object, "/endpoints")
        .iter()
        .flat_map(|endpoint| items(endpoint, "/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    vec![
        name(object),
        string(object, "/addressType"),
        or(&capped(&ports, 3, ports.len(), ","), "<unset>").into(),
        or(&capped(&addresses, 3, addresses.len(), ","), "<unset>").into(),
        age(object, now),
    ]
}

pub(super) fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let rules = items(object, "/spec/rules");
    let hosts: Vec<String> = rules
        .iter()
        .map(|rule| text(rule, "/host").to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let hosts = if hosts.is_empty() {
        "*".to_owned()
    } else {
        capped(&hosts, 3, hosts.len(), ",")
    };
    let ports = if items(object, "/spec/tls").is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        name(object),
        or_none(text(object, "/spec/ingressClassName")).into(),
        hosts.into(),
        load_balancer(object).into(),
        ports.into(),
        age(object, now),
    ]
}

pub(super) fn ingress_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = present(object, "/spec/parameters").map(|parameters| {
        let group = match text(parameters, "/apiGroup") {
            "" => String::new(),
            group => format!(".{group}"),
        };
        format!(
            "{}{group}/{}",
            text(parameters, "/kind"),
            text(parameters, "/name")
        )
    });
    vec![
        name(object),
        string(object, "/spec/controller"),
        or_none(parameters.as_deref().unwrap_or_default()).into(),
        age(object, now),
    ]
}

pub(super) fn network_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        selector_or_none(object, "/spec/podSelector"),
        age(object, now),
    ]
}

pub(super) fn ip_address(object: &Value, _now: Timestamp) -> Vec<Value> {
    let parent: Vec<&str> = ["group", "resource", "namespace", "name"]
        .into_iter()
        .map(|field| text(object, &format!("/spec/parentRef/{field}")))
        .filter(|part| !part.is_empty())
        .collect();
    vec![name(object), or_none(&parent.join("/")).into()]
}

pub(super) fn service_cidr(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        joined(items(object, "/spec/cidrs"), ",").into(),
        age(object, now),
    ]
}
