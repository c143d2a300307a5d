//! Endpoints: the addresses behind a service, all in one object.

use super::address::{check_endpoint, check_ip, is_api_service};
use super::field::{children, default_text, int, items, present, root, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 Endpoints",
    default: |endpoints| {
        let Some(endpoints) = root(endpoints) else {
            return;
        };
        for subset in children(endpoints, "subsets") {
            for port in children(subset, "ports") {
                default_text(port, "protocol", "TCP");
            }
        }
    },
    validate,
    ..Hooks::NONE
};

fn validate(endpoints: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let (namespace, name) = (
        text(endpoints, "/metadata/namespace"),
        text(endpoints, "/metadata/name"),
    );
    let of_api = is_api_service(namespace, name);
    for (index, subset) in items(endpoints, "/subsets").iter().enumerate() {
        let path = FieldPath::new("subsets").index(index);
        let lists = ["addresses", "notReadyAddresses"];
        let mut none = true;
        for list in lists {
            for (index, address) in items(subset, &format!("/{list}")).iter().enumerate() {
                none = false;
                validate_address(address, of_api, &path.child(list).index(index), errors);
            }
        }
        if none {
            errors.push(FieldError::required(
                &path,
                "must specify `addresses` or `notReadyAddresses`",
            ));
        }
        let ports = items(subset, "/ports");
        for (index, port) in ports.iter().enumerate() {
            let path = path.child("ports").index(index);
            let name = text(port, "/name");
            if name.is_empty() && ports.len() > 1 {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
            let number = int(port, "/port");
            if let Some(why) = names::port_number(number) {
                errors.push(FieldError::invalid(&path.child("port"), number, why));
            }
            validate_port(port, &path, errors);
        }
    }
}

fn validate_address(address: &Value, of_api: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let ip = text(address, "/ip");
    check_ip(errors, &path.child("ip"), ip);
    let host = text(address, "/hostname");
    if !host.is_empty() {
        names::check(errors, &path.child("hostname"), host, names::dns_label);
    }
    if let Some(node) = present(address, "/nodeName") {
        let path = path.child("nodeName");
        names::check(errors, &path, text(node, ""), names::dns_subdomain);
    }
    check_endpoint(errors, &path.child("ip"), ip, of_api);
}

/// Judges what ports of Endpoints and of EndpointSlices have in common.
pub(super) fn validate_port(port: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let name = text(port, "/name");
    if !name.is_empty() {
        names::check(errors, &path.child("name"), name, names::dns_label);
    }
    let protocols = ["SCTP", "TCP", "UDP"];
    names::one_of(errors, port, "protocol", path, &protocols);
    if let Some(protocol) = present(port, "/appProtocol") {
        let path = path.child("appProtocol");
        names::check(errors, &path, text(protocol, ""), names::qualified_name);
    }
}
