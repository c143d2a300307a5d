//! Namespaces: the `kubernetes` finalizer in the spec holds one until it is empty.

use super::Hooks;
use super::field::{entry, root, text};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 Namespace",
    default: fill,
    prepare,
    validate,
};

/// The label that lets selectors name a namespace.
const NAME: &str = "kubernetes.io/metadata.name";

fn fill(namespace: &mut Value) {
    let name = text(namespace, "/metadata/name").to_owned();
    // With generateName the name comes later; `prepare` sees it.
    if name.is_empty() {
        return;
    }
    if let Some(labels) = root(namespace)
        .and_then(|namespace| entry(namespace, "metadata"))
        .and_then(|metadata| entry(metadata, "labels"))
    {
        labels.insert(NAME.to_owned(), name.into());
    }
}

fn prepare(namespace: &mut Value, old: Option<&Value>, _context: &Context) {
    fill(namespace);
    match old {
        None => {
            let mut finalizers = namespace
                .pointer("/spec/finalizers")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            if !finalizers.contains(&json!("kubernetes")) {
                finalizers.push(json!("kubernetes"));
            }
            namespace["spec"] = json!({"finalizers": finalizers});
            namespace["status"] = json!({"phase": "Active"});
        }
        // Only the `finalize` subresource takes finalizers away; it does not come this way.
        Some(old) => namespace["spec"] = old["spec"].clone(),
    }
}

fn validate(namespace: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let name = text(namespace, "/metadata/name");
    if super::names::dns_subdomain(name).is_empty() {
        let path = FieldPath::new("metadata").child("name");
        super::names::check(errors, &path, name, super::names::dns_label);
    }
}
