//! Services. Cluster addresses and node ports are drawn from the cluster's pools by the API server
//! before it stores a service; here only their form is judged.

mod traffic;

use super::address::check_ip;
use super::field::{
    absent, children, default, default_text, entry, int, items, map, present, root, spec, text,
};
use super::names::{self, one_of};
use super::{Hooks, pod_spec};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 Service",
    default: fill,
    prepare,
    validate,
};

fn fill(service: &mut Value) {
    let Some(spec) = spec(service) else { return };
    default_text(spec, "sessionAffinity", "None");
    default_text(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "ClientIP" {
        if let Some(client) =
            entry(spec, "sessionAffinityConfig").and_then(|held| entry(held, "clientIP"))
        {
            default(client, "timeoutSeconds", 10_800);
        }
    } else {
        spec.remove("sessionAffinityConfig");
    }
    for port in children(spec, "ports") {
        default_text(port, "protocol", "TCP");
        let unset = port
            .get("targetPort")
            .is_none_or(|target| target.is_null() || *target == json!(0) || *target == json!(""));
        if let Some(number) = port.get("port").cloned().filter(|_| unset) {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    let external = spec
        .get("externalIPs")
        .and_then(Value::as_array)
        .is_some_and(|held| !held.is_empty());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external) {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind == "ExternalName" {
        return;
    }
    default_text(spec, "internalTrafficPolicy", "Cluster");
    cluster_addresses(spec);
}

/// `clusterIP` is the first of `clusterIPs`; one family, IPv4, unless the service says otherwise.
fn cluster_addresses(spec: &mut Map<String, Value>) {
    let one = spec
        .get("clusterIP")
        .filter(|held| held.as_str().is_some_and(|held| !held.is_empty()))
        .cloned();
    let many = spec.get("clusterIPs").and_then(|held| held.get(0)).cloned();
    match (one, many) {
        (Some(one), None) => {
            spec.insert("clusterIPs".to_owned(), json!([one]));
        }
        (None, Some(first)) => {
            spec.insert("clusterIP".to_owned(), first);
        }
        _ => {}
    }
    default_text(spec, "ipFamilyPolicy", "SingleStack");
    if absent(spec, "ipFamilies") {
        spec.insert("ipFamilies".to_owned(), json!(["IPv4"]));
    }
}

fn prepare(service: &mut Value, old: Option<&Value>, _context: &Context) {
    let Some(old) = old else {
        service["status"] = json!({"loadBalancer": {}});
        return;
    };
    let external = |service: &Value| text(service, "/spec/type") == "ExternalName";
    let (is, was) = (external(service), external(old));
    drop_unused(service, old);
    let Some(held) = root(service).and_then(|held| entry(held, "spec")) else {
        return;
    };
    give_back(held, old);
    // What was drawn at birth stays, also where an update leaves it out.
    if is || was {
        return;
    }
    for field in ["clusterIP", "clusterIPs"] {
        if let Some(value) = present(old, &format!("/spec/{field}"))
            && (absent(held, field) || held[field] == "" || held[field] == json!([]))
        {
            held.insert(field.to_owned(), value.clone());
        }
    }
    if held["type"] != "ClusterIP" {
        node_ports(held, items(old, "/spec/ports"));
    }
}

/// What the type has no use for goes, if the update only left it as it was.
fn give_back(spec: &mut Map<String, Value>, old: &Value) {
    let before = &old["spec"];
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default();
    let has_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let (external, keeps_ports) = (kind == "ExternalName", has_ports(kind));
    let was_external = text(before, "/type") == "ExternalName";
    if external && !was_external && spec.get("clusterIP") == before.get("clusterIP") {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if spec.get(field) == before.get(field) {
                spec.remove(field);
            }
        }
    }
    let numbers = |ports: &[Value]| -> BTreeSet<i64> {
        let numbers = ports.iter().filter_map(|port| port["nodePort"].as_i64());
        numbers.filter(|number| *number != 0).collect()
    };
    let own = spec.get("ports").and_then(Value::as_array);
    let same = numbers(own.map_or(&[], Vec::as_slice)) == numbers(items(old, "/spec/ports"));
    if !keeps_ports && has_ports(text(old, "/spec/type")) && same {
        for port in children(spec, "ports") {
            port.remove("nodePort");
        }
    }
}

/// The same for what goes with the type as a whole.
fn drop_unused(service: &mut Value, old: &Value) {
    let old = &old["spec"];
    for (field, has_use) in traffic::BY_TYPE {
        let unused = has_use(old) && !has_use(&service["spec"]);
        if unused
            && service["spec"].get(field) == old.get(field)
            && let Some(spec) = service["spec"].as_object_mut()
        {
            spec.remove(field);
        }
    }
}

fn node_ports(spec: &mut Map<String, Value>, old: &[Value]) {
    for port in children(spec, "ports") {
        let same = |field: &str, held: &Value| port.get(field) == held.get(field);
        let before = old
            .iter()
            .find(|held| same("port", held) && same("protocol", held))
            .and_then(|held| held.get("nodePort"))
            .cloned();
        if let Some(number) = before
            && port.get("nodePort").is_none_or(|held| *held == json!(0))
        {
            port.insert("nodePort".to_owned(), number);
        }
    }
}

fn validate(service: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &service["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    kind(spec, &path, errors);
    ports(spec, &path.child("ports"), errors);
    pod_spec::labels(map(spec, "/selector"), &path.child("selector"), errors);
    one_of(
        errors,
        spec,
        "sessionAffinity",
        &path,
        &["ClientIP", "None"],
    );
    addresses(spec, &path, errors);
    traffic::families(spec, &path, errors);
    traffic::validate(service, old, &path, errors);
    if let Some(old) = old {
        address_change(spec, &old["spec"], &path, errors);
    }
}

fn kind(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(errors, spec, "type", path, &kinds);
    let headless = text(spec, "/clusterIP") == "None";
    match text(spec, "/type") {
        "LoadBalancer" | "NodePort" if headless => errors.push(FieldError::invalid(
            &path.child("clusterIPs").index(0),
            "None",
            &format!(
                "may not be set to 'None' for {} services",
                text(spec, "/type")
            ),
        )),
        "ExternalName" => match text(spec, "/externalName").trim_end_matches('.') {
            "" => errors.push(FieldError::required(&path.child("externalName"), "")),
            name => {
                names::check(
                    errors,
                    &path.child("externalName"),
                    name,
                    names::dns_subdomain,
                );
            }
        },
        _ => {}
    }
}

fn ports(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let ports = items(spec, "/ports");
    let kind = text(spec, "/type");
    if ports.is_empty() && kind != "ExternalName" && text(spec, "/clusterIP") != "None" {
        errors.push(FieldError::required(list, ""));
    }
    let mut names_seen = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut node_ports = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = list.index(index);
        let name = text(port, "/name");
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if !name.is_empty() {
            names::check(errors, &path.child("name"), name, names::dns_label);
            if !names_seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        let number = int(port, "/port");
        if let Some(why) = names::port_number(number) {
            errors.push(FieldError::invalid(&path.child("port"), number, why));
        }
        let protocol = text(port, "/protocol");
        one_of(errors, port, "protocol", &path, &["SCTP", "TCP", "UDP"]);
        target(port, &path.child("targetPort"), errors);
        if let Some(protocol) = present(port, "/appProtocol") {
            let path = path.child("appProtocol");
            names::check(errors, &path, text(protocol, ""), names::qualified_name);
        }
        if !numbers.insert((protocol, number)) {
            errors.push(FieldError::duplicate(&path, port.clone()));
        }
        let node_port = int(port, "/nodePort");
        if node_port == 0 {
            continue;
        }
        if matches!(kind, "ClusterIP" | "ExternalName") {
            errors.push(FieldError::forbidden(
                &path.child("nodePort"),
                &format!("may not be used when `type` is '{kind}'"),
            ));
        } else if !node_ports.insert((protocol, node_port)) {
            errors.push(FieldError::duplicate(&path.child("nodePort"), node_port));
        }
    }
}

fn target(port: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match port.get("targetPort") {
        Some(Value::String(name)) => names::check(errors, path, name, names::port_name),
        Some(Value::Number(number)) => {
            let number = number.as_i64().unwrap_or_default();
            if let Some(why) = names::port_number(number) {
                errors.push(FieldError::invalid(path, number, why));
            }
        }
        _ => {}
    }
}

fn addresses(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let addresses = items(spec, "/clusterIPs");
    let list = path.child("clusterIPs");
    for (index, address) in addresses.iter().enumerate() {
        let address = text(address, "");
        if !matches!(address, "None" | "") {
            check_ip(errors, &list.index(index), address);
        }
    }
    if addresses.len() > 2 {
        errors.push(FieldError::invalid(
            &list,
            addresses.to_vec(),
            "may only hold up to 2 values",
        ));
    }
    let first = text(spec, "/clusterIPs/0");
    let one = text(spec, "/clusterIP");
    if !first.is_empty() && one != first {
        errors.push(FieldError::invalid(
            &list,
            addresses.to_vec(),
            "first value must match `clusterIP`",
        ));
    }
}

fn address_change(spec: &Value, old: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let plain = |spec: &Value| text(spec, "/type") != "ExternalName";
    let before = text(old, "/clusterIP");
    if plain(spec) && plain(old) && !before.is_empty() && before != text(spec, "/clusterIP") {
        errors.push(FieldError::invalid(
            &path.child("clusterIPs").index(0),
            items(spec, "/clusterIPs").to_vec(),
            "may not change once set",
        ));
    }
}
