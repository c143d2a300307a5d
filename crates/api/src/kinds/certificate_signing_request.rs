//! CertificateSigningRequests: who asks is written down by the server, and the request never changes.
//! Different from a stock API server: a request's signature is not checked, only that there is a
//! request.

use super::field::{child, items, maybe_int, root, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use base64::Engine as _;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "certificates.k8s.io/v1 CertificateSigningRequest",
    prepare,
    validate,
    ..Hooks::NONE
};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn prepare(request: &mut Value, old: Option<&Value>, context: &Context) {
    let Some(request) = root(request) else { return };
    if let Some(old) = old {
        super::field::restore(request, &json!({"spec": old["spec"]}), "spec");
        return;
    }
    let Some(spec) = child(request, "spec") else {
        return;
    };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    let user = &context.user;
    for (field, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            spec.insert(field.to_owned(), value.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
}

fn validate(request: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    if let Some(old) = old {
        conditions_stay(request, old, errors);
        return;
    }
    let spec = &request["spec"];
    let path = FieldPath::new("spec");
    if !is_request(text(spec, "/request")) {
        errors.push(FieldError::invalid(
            &path.child("request"),
            spec["request"].clone(),
            "PEM block type must be CERTIFICATE REQUEST",
        ));
    }
    let list = path.child("usages");
    let usages = items(spec, "/usages");
    if usages.is_empty() {
        errors.push(FieldError::required(&list, ""));
    }
    for (index, usage) in usages.iter().enumerate() {
        let held = text(usage, "");
        if !USAGES.contains(&held) {
            errors.push(FieldError::not_supported(&list.index(index), held, &USAGES));
        }
        if usages[..index].contains(usage) {
            errors.push(FieldError::duplicate(&list.index(index), held));
        }
    }
    signer(text(spec, "/signerName"), &path.child("signerName"), errors);
    let seconds = maybe_int(spec, "/expirationSeconds");
    if let Some(seconds) = seconds.filter(|seconds| *seconds < 600) {
        errors.push(FieldError::invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
}

fn is_request(encoded: &str) -> bool {
    let standard = base64::engine::general_purpose::STANDARD;
    let bytes = standard.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines()
        .any(|line| line.trim_end() == "-----BEGIN CERTIFICATE REQUEST-----")
}

/// Judges `domain/path`: who is to sign.
fn signer(name: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(path, name, why));
        return;
    }
    let Some((domain, rest)) = name.split_once('/') else {
        errors.push(FieldError::invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ));
        return;
    };
    for why in names::dns_subdomain(domain) {
        let why = format!("validating label {domain:?}: {why}");
        errors.push(FieldError::invalid(path, domain, &why));
    }
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, why));
    }
    if rest.is_empty() {
        errors.push(FieldError::invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ));
    }
    for part in rest.split('.').filter(|_| !rest.is_empty()) {
        for why in names::dns_subdomain(part) {
            let why = format!("validating label {part:?}: {why}");
            errors.push(FieldError::invalid(path, rest, &why));
        }
    }
}

/// What was decided is not taken back.
fn conditions_stay(request: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("status").child("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        let count = |request: &Value| {
            let held = items(request, "/status/conditions").iter();
            held.filter(|condition| text(condition, "/type") == kind)
                .count()
        };
        if count(request) < count(old) {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&path, &why));
        }
    }
    let decided = |kind: &str| {
        items(request, "/status/conditions")
            .iter()
            .any(|condition| text(condition, "/type") == kind)
    };
    let both_before = ["Approved", "Denied"].iter().all(|kind| {
        items(old, "/status/conditions")
            .iter()
            .any(|condition| text(condition, "/type") == *kind)
    });
    if decided("Approved") && decided("Denied") && !both_before {
        errors.push(FieldError::invalid(
            &path,
            "Denied",
            "Approved and Denied conditions are mutually exclusive",
        ));
    }
}
