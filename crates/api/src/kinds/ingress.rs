//! Ingresses.

use super::field::{int, items, map, present, text};
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
    certificates(spec, &path.child("tls"), errors);
    if let Some(class) = present(spec, "/ingressClassName") {
        let path = path.child("ingressClassName");
        names::check(errors, &path, text(class, ""), names::dns_subdomain);
        if old.is_none() {
            annotated(ingress, text(class, ""), errors);
        }
    }
}

/// The annotation is the field's elder: both may be given only if they agree.
fn annotated(ingress: &Value, class: &str, errors: &mut Vec<FieldError>) {
    const ELDER: &str = "kubernetes.io/ingress.class";
    let annotations = map(ingress, "/metadata/annotations");
    let elder = annotations.and_then(|held| held.get(ELDER)?.as_str());
    if let Some(elder) = elder.filter(|elder| *elder != class) {
        let path = FieldPath::new("annotations").child(ELDER);
        let why = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(&path, elder, why));
    }
}

fn host(host: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if host.is_empty() {
        return;
    }
    if super::address::ip(host).is_some() {
        errors.push(FieldError::invalid(
            path,
            host,
            "must be a DNS name, not an IP address",
        ));
        return;
    }
    host_name(host, path, errors);
}

/// A name, for whose first label a star may stand.
fn host_name(host: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if !host.contains('*') {
        names::check(errors, path, host, names::dns_subdomain);
        return;
    }
    let rest = host.strip_prefix("*.");
    if rest.is_none_or(|rest| host.len() > 253 || !names::dns_subdomain(rest).is_empty()) {
        errors.push(FieldError::invalid(
            path,
            host,
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
             which must consist of lower case alphanumeric characters, '-' or '.' and end with an \
             alphanumeric character (e.g. '*.example.com', regex used for validation is \
             '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ));
    }
}

fn certificates(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, certificate) in items(spec, "/tls").iter().enumerate() {
        let path = list.index(index);
        for (index, host) in items(certificate, "/hosts").iter().enumerate() {
            host_name(text(host, ""), &path.child("hosts").index(index), errors);
        }
        let secret = text(certificate, "/secretName");
        if !secret.is_empty() {
            let path = path.child("secretName");
            names::check(errors, &path, secret, names::dns_subdomain);
        }
    }
}

/// Judges a reference to an object of any kind.
pub(super) fn typed_reference(reference: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(group) = present(reference, "/apiGroup") {
        let path = path.child("apiGroup");
        names::check(errors, &path, text(group, ""), names::dns_subdomain);
    }
    for field in ["kind", "name"] {
        match text(reference, &format!("/{field}")) {
            "" => {
                let why = format!("{field} is required");
                errors.push(FieldError::required(&path.child(field), &why));
            }
            value => names::check(errors, &path.child(field), value, names::path_segment),
        }
    }
}

/// Parts of a path that servers might read as another path.
fn misleading(at: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for part in ["//", "/./", "/../", "%2f", "%2F"] {
        if at.contains(part) {
            let why = format!("must not contain '{part}'");
            errors.push(FieldError::invalid(path, at, &why));
        }
    }
    for end in ["/..", "/."] {
        if at.ends_with(end) {
            let why = format!("cannot end with '{end}'");
            errors.push(FieldError::invalid(path, at, &why));
        }
    }
}

fn http_path(held: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
    let at = text(held, "/path");
    if matches!(text(held, "/pathType"), "Exact" | "Prefix") {
        misleading(at, &path.child("path"), errors);
    }
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
        (None, None) => errors.push(FieldError::invalid(
            path,
            "",
            "resource or service backend is required",
        )),
        (None, Some(resource)) => typed_reference(resource, &path.child("resource"), errors),
        (Some(_), None) => {}
    }
    let Some(service) = service else { return };
    let whole = path;
    let path = path.child("service");
    match text(service, "/name") {
        "" => errors.push(FieldError::required(&path.child("name"), "")),
        name => names::check(errors, &path.child("name"), name, names::dns_1035_label),
    }
    let (name, number) = (text(service, "/port/name"), int(service, "/port/number"));
    let port = path.child("port");
    match (name, number) {
        ("", 0) => errors.push(FieldError::required(
            whole,
            "port name or number is required",
        )),
        ("", number) => {
            if let Some(why) = names::port_number(number) {
                errors.push(FieldError::invalid(&port.child("number"), number, why));
            }
        }
        (name, 0) => names::check(errors, &port.child("name"), name, names::port_name),
        _ => errors.push(FieldError::invalid(
            whole,
            "",
            "cannot set both port name & port number",
        )),
    }
}
