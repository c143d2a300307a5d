//! Validating and mutating webhook configurations: they are stored; the API server calls none yet.

use super::field::{child, children, default, default_text, items, root, text};
use super::template::label_selector;
use super::{Hooks, admission_rules, names};
use crate::status::{FieldError, FieldPath};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Webhooks that judge.
pub(super) const VALIDATING: Hooks = Hooks {
    kind: "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration",
    default: fill,
    validate,
    ..Hooks::NONE
};

/// Webhooks that change.
pub(super) const MUTATING: Hooks = Hooks {
    kind: "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration",
    default: |configuration| {
        fill(configuration);
        if let Some(configuration) = root(configuration) {
            for webhook in children(configuration, "webhooks") {
                default_text(webhook, "reinvocationPolicy", "Never");
            }
        }
    },
    validate,
    ..Hooks::NONE
};

fn fill(configuration: &mut Value) {
    let Some(configuration) = root(configuration) else {
        return;
    };
    for webhook in children(configuration, "webhooks") {
        default_text(webhook, "failurePolicy", "Fail");
        default_text(webhook, "matchPolicy", "Equivalent");
        default(webhook, "namespaceSelector", json!({}));
        default(webhook, "objectSelector", json!({}));
        default(webhook, "timeoutSeconds", 10);
        for rule in children(webhook, "rules") {
            default_text(rule, "scope", "*");
        }
        if let Some(service) =
            child(webhook, "clientConfig").and_then(|client| child(client, "service"))
        {
            default(service, "port", 443);
        }
    }
}

fn validate(configuration: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let webhooks = items(configuration, "/webhooks");
    let mut seen = BTreeSet::new();
    for (index, webhook) in webhooks.iter().enumerate() {
        let path = FieldPath::new("webhooks").index(index);
        let name = text(webhook, "/name");
        full_name(name, &path.child("name"), errors);
        for (index, rule) in items(webhook, "/rules").iter().enumerate() {
            admission_rules::rule(rule, &path.child("rules").index(index), errors);
        }
        for (field, allowed) in [
            ("failurePolicy", ["Fail", "Ignore"]),
            ("matchPolicy", ["Equivalent", "Exact"]),
            ("reinvocationPolicy", ["IfNeeded", "Never"]),
        ] {
            names::one_of(errors, webhook, field, &path, &allowed);
        }
        side_effects(webhook, &path.child("sideEffects"), errors);
        let seconds = super::field::int(webhook, "/timeoutSeconds");
        if !(1..=30).contains(&seconds) {
            errors.push(FieldError::invalid(
                &path.child("timeoutSeconds"),
                seconds,
                "the timeout value must be between 1 and 30 seconds",
            ));
        }
        for field in ["namespaceSelector", "objectSelector"] {
            label_selector(&webhook[field], &path.child(field), errors);
        }
        let config = &webhook["clientConfig"];
        admission_rules::client_config(config, &path.child("clientConfig"), errors);
        admission_rules::conditions(webhook, &path, errors);
        let list = path.child("admissionReviewVersions");
        let before = old.map(|old| items(old, "/webhooks"));
        versions(webhook, before, &list, errors);
        if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
}

fn full_name(name: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let faults = names::dns_subdomain(name);
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !faults.is_empty() {
        errors.push(FieldError::invalid(path, name, &faults.join(",")));
    } else if name.split('.').count() < 3 {
        errors.push(FieldError::invalid(
            path,
            name,
            "should be a domain with at least three segments separated by dots",
        ));
    }
}

fn side_effects(webhook: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let effects = ["None", "NoneOnDryRun"];
    match text(webhook, "/sideEffects") {
        "" => {
            let why = format!("must specify one of {}", effects.join(", "));
            errors.push(FieldError::required(path, &why));
        }
        given if !effects.contains(&given) => {
            errors.push(FieldError::not_supported(path, given, &effects));
        }
        _ => {}
    }
}

/// At least one of the versions must be one that the server speaks, unless it was so before.
fn versions(
    webhook: &Value,
    before: Option<&[Value]>,
    list: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    const SPOKEN: [&str; 2] = ["v1", "v1beta1"];
    let versions = items(webhook, "/admissionReviewVersions");
    if versions.is_empty() {
        let why = format!("must specify one of {}", SPOKEN.join(", "));
        errors.push(FieldError::required(list, &why));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let held = text(version, "");
        let path = list.index(index);
        if versions[..index].contains(version) {
            errors.push(FieldError::invalid(&path, held, "duplicate version"));
        } else {
            names::check(errors, &path, held, names::dns_1035_label);
        }
    }
    let spoken = |webhook: &Value| {
        let held = items(webhook, "/admissionReviewVersions").iter();
        held.clone().len() == 0 || held.clone().any(|held| SPOKEN.contains(&text(held, "")))
    };
    if before.is_none_or(|before| before.iter().all(spoken)) && !spoken(webhook) {
        let why = format!("must include at least one of {}", SPOKEN.join(", "));
        errors.push(FieldError::invalid(list, versions.to_vec(), &why));
    }
}
