//! EndpointSlices: a part each of the addresses behind a service.

use super::address::{check_endpoint, ip, is_api_service};
use super::field::{children, default, default_text, items, map, present, root, text};
use super::{Hooks, endpoints, names, pod_spec, template};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "discovery.k8s.io/v1 EndpointSlice",
    default: |slice| {
        let Some(slice) = root(slice) else { return };
        for port in children(slice, "ports") {
            default(port, "name", "");
            default_text(port, "protocol", "TCP");
        }
    },
    validate,
    ..Hooks::NONE
};

fn validate(slice: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    let kinds = ["FQDN", "IPv4", "IPv6"];
    if text(slice, "/addressType").is_empty() {
        errors.push(FieldError::required(&root.child("addressType"), ""));
    }
    names::one_of(errors, slice, "addressType", &root, &kinds);
    let endpoints = items(slice, "/endpoints");
    if endpoints.len() > 1000 {
        errors.push(FieldError::too_many(
            &root.child("endpoints"),
            endpoints.len(),
            1000,
        ));
    }
    let kind = Kind {
        family: text(slice, "/addressType"),
        of_api_servers: is_api_service(
            text(slice, "/metadata/namespace"),
            text(slice, "/metadata/labels/kubernetes.io~1service-name"),
        ),
    };
    for (index, held) in endpoints.iter().enumerate() {
        let path = root.child("endpoints").index(index);
        endpoint(held, kind, &path, errors);
    }
    ports(slice, &root.child("ports"), errors);
    if let Some(old) = old {
        template::immutable(slice, old, "addressType", &root, errors);
    }
}

const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_ZONE_HINTS: usize = 8;

/// What kind of addresses a slice has.
#[derive(Clone, Copy)]
struct Kind<'a> {
    family: &'a str,
    of_api_servers: bool,
}

fn endpoint(endpoint: &Value, kind: Kind<'_>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = path.child("addresses");
    let addresses = items(endpoint, "/addresses");
    if addresses.is_empty() {
        let why = "must contain at least 1 address";
        errors.push(FieldError::required(&list, why));
    } else if addresses.len() > MOST_ADDRESSES {
        let error = FieldError::too_many(&list, addresses.len(), MOST_ADDRESSES);
        errors.push(error);
    }
    for (index, held) in addresses.iter().enumerate() {
        address(text(held, ""), kind, &list.index(index), errors);
    }
    if let Some(node) = present(endpoint, "/nodeName") {
        let path = path.child("nodeName");
        names::check(errors, &path, text(node, ""), names::dns_subdomain);
    }
    let topology = map(endpoint, "/deprecatedTopology");
    pod_spec::labels(topology, &path.child("deprecatedTopology"), errors);
    if let Some(host) = present(endpoint, "/hostname") {
        let path = path.child("hostname");
        names::check(errors, &path, text(host, ""), names::dns_label);
    }
    let zones = items(endpoint, "/hints/forZones");
    let list = path.child("hints").child("forZones");
    if zones.len() > MOST_ZONE_HINTS {
        errors.push(FieldError::too_many(&list, zones.len(), MOST_ZONE_HINTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, zone) in zones.iter().enumerate() {
        let path = list.index(index).child("name");
        let name = text(zone, "/name");
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        names::check(errors, &path, name, names::label_value);
    }
}

fn address(address: &str, kind: Kind<'_>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let family = match kind.family {
        "IPv4" => ip(address).filter(std::net::IpAddr::is_ipv4),
        "IPv6" => ip(address).filter(std::net::IpAddr::is_ipv6),
        "FQDN" => return domain(address, path, errors),
        _ => return,
    };
    if family.is_none() {
        let why = format!("must be a valid {} address", kind.family);
        errors.push(FieldError::invalid(path, address, &why));
    }
    check_endpoint(errors, path, address, kind.of_api_servers);
}

fn domain(name: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let faults = names::dns_subdomain(name);
    if !faults.is_empty() {
        errors.push(FieldError::invalid(path, name, &faults.join(",")));
    } else if !name.contains('.') {
        errors.push(FieldError::invalid(
            path,
            name,
            "should be a domain with at least two segments separated by dots",
        ));
    }
}

fn ports(slice: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let ports = items(slice, "/ports");
    if ports.len() > MOST_PORTS {
        errors.push(FieldError::too_many(list, ports.len(), MOST_PORTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = list.index(index);
        endpoints::validate_port(port, &path, errors);
        let name = text(port, "/name");
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
}
