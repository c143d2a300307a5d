//! Namespaces: the `kubernetes` finalizer in the spec holds one until it is empty.

use super::field::{default_text, entry, items, root, text};
use super::{Hooks, names};
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
    if let Some(status) = root(namespace).and_then(|namespace| entry(namespace, "status")) {
        default_text(status, "phase", "Active");
    }
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
    if old.is_some() {
        return;
    }
    let mut finalizers = items(namespace, "/spec/finalizers").to_vec();
    if !finalizers.contains(&json!("kubernetes")) {
        finalizers.push(json!("kubernetes"));
    }
    namespace["spec"] = json!({"finalizers": finalizers});
    namespace["status"] = json!({"phase": "Active"});
}

/// Of a new namespace the finalizers are judged as a whole, of one that is finalized each for itself.
fn validate(namespace: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    if old.is_some_and(|old| old["spec"] == namespace["spec"]) {
        return;
    }
    let list = FieldPath::new("spec").child("finalizers");
    for (index, name) in items(namespace, "/spec/finalizers").iter().enumerate() {
        let path = if old.is_some() {
            list.index(index)
        } else {
            list.clone()
        };
        let name = text(name, "");
        names::check(errors, &path, name, names::qualified_name);
        let standard = matches!(name, "orphan" | "foregroundDeletion" | "kubernetes");
        if !standard && !name.contains('/') {
            errors.push(FieldError::invalid(
                &path,
                name,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
}
