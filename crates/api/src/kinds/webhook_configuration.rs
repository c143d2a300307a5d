//! Validating and mutating webhook configurations: they are stored; the API server calls none yet.

use super::Hooks;
use super::field::{child, children, default, default_number, default_text, items, root, text};
use crate::status::{FieldError, FieldPath};
use serde_json::{Value, json};

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
        default_number(webhook, "timeoutSeconds", 10);
        for rule in children(webhook, "rules") {
            default_text(rule, "scope", "*");
        }
        if let Some(service) =
            child(webhook, "clientConfig").and_then(|client| child(client, "service"))
        {
            default_number(service, "port", 443);
        }
    }
}

fn validate(configuration: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    for (index, webhook) in items(configuration, "/webhooks").iter().enumerate() {
        let path = FieldPath::new("webhooks").index(index);
        let name = text(webhook, "/name");
        super::names::check(
            errors,
            &path.child("name"),
            name,
            super::names::dns_subdomain,
        );
        if name.split('.').count() < 3 {
            errors.push(FieldError::invalid(
                &path.child("name"),
                name,
                "should be a domain with at least three segments separated by dots",
            ));
        }
        let effects = ["None", "NoneOnDryRun"];
        if !effects.contains(&text(webhook, "/sideEffects")) {
            let path = path.child("sideEffects");
            let given = text(webhook, "/sideEffects");
            errors.push(FieldError::not_supported(&path, given, &effects));
        }
        if items(webhook, "/admissionReviewVersions").is_empty() {
            errors.push(FieldError::required(
                &path.child("admissionReviewVersions"),
                "must specify one of v1, v1beta1",
            ));
        }
        let seconds = super::field::int(webhook, "/timeoutSeconds");
        if !(1..=30).contains(&seconds) {
            errors.push(FieldError::invalid(
                &path.child("timeoutSeconds"),
                seconds,
                "the timeout value must be between 1 and 30 seconds",
            ));
        }
    }
}
