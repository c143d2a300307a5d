//! Ingresses.

use super::field::{int, items, present, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "networking.k8s.io/v1 Ingress",
    prepare: |ingress, old, _| {
        if old.is_none() {
            ingress["status"] = json!({"loadBalancer": {}});
        }
    },
    validate,
    ..Hooks::NONE
};

fn validate(ingress: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &ingress["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    let rules = items(spec, "/rules");
    match present(spec, "/defaultBackend") {
        Some(held) => backend(held, &path.child("defaultBackend"), errors),
        None if rules.is_empty() => errors.push(FieldError::invalid(
            &path,
            json!([]),
            "either `defaultBackend` or `rules` must be specified",
        )),
        None => {}
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(index);
        host(text(rule, "/host"), &path.child("host"), errors);
        let list = path.child("http").child("paths");
        let paths = items(rule, "/http/paths");
        if present(rule, "/http").is_some() && paths.is_empty() {
            errors.push(FieldError::required(&list, ""));
        }
        for (index, held) in paths.iter().enumerate() {
            http_path(held, &list.index(index), errors);
        }
    }
}

fn host(host: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if host.is_empty() {
        return;
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.push(FieldError::invalid(
            path,
            host,
            "must be a DNS name, not an IP address",
        ));
        return;
    }
    // One star may stand for the first label.
    let name = host.strip_prefix("*.").unwrap_or(host);
    names::check(errors, path, name, names::dns_subdomain);
}

fn http_path(held: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
    let at = text(held, "/path");
    match text(held, "/pathType") {
        "" => errors.push(FieldError::required(
            &path.child("pathType"),
            "pathType must be specified",
        )),
        "Exact" | "Prefix" if !at.starts_with('/') => errors.push(FieldError::invalid(
            &path.child("path"),
            at,
            "must be an absolute path",
        )),
        "ImplementationSpecific" if !at.is_empty() && !at.starts_with('/') => {
            errors.push(FieldError::invalid(
                &path.child("path"),
                at,
                "must be an absolute path",
            ));
        }
        _ => names::one_of(errors, held, "pathType", path, &kinds),
    }
    backend(&held["backend"], &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let service = present(backend, "/service");
    match (service, present(backend, "/resource")) {
        (Some(_), Some(_)) => errors.push(FieldError::invalid(
            path,
            "",
            "cannot set both resource and service backends",
        )),
        (None, None) => errors.push(FieldError::required(
            path,
            "resource or service backend is required",
        )),
        _ => {}
    }
    let Some(service) = service else { return };
    let path = path.child("service");
    match text(service, "/name") {
        "" => errors.push(FieldError::required(&path.child("name"), "")),
        name => names::check(errors, &path.child("name"), name, names::dns_1035_label),
    }
    let (name, number) = (text(service, "/port/name"), int(service, "/port/number"));
    let port = path.child("port");
    match (name, number) {
        ("", 0) => errors.push(FieldError::required(
            &path,
            "port name or number is required",
        )),
        ("", number) => {
            if let Some(why) = names::port_number(number) {
                errors.push(FieldError::invalid(&port.child("number"), number, why));
            }
        }
        (name, 0) => names::check(errors, &port.child("name"), name, names::port_name),
        _ => errors.push(FieldError::invalid(
            &path,
            "",
            "cannot set both port name & port number",
        )),
    }
}
