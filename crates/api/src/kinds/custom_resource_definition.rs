//! CustomResourceDefinitions: they are stored; serving what they define is not done yet.

use super::field::{default_text, entry, items, root, spec, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "apiextensions.k8s.io/v1 CustomResourceDefinition",
    default: fill,
    prepare,
    validate,
};

fn fill(definition: &mut Value) {
    let Some(spec) = spec(definition) else { return };
    if let Some(conversion) = entry(spec, "conversion") {
        default_text(conversion, "strategy", "None");
    }
    if let Some(names) = entry(spec, "names") {
        let kind = names
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if !kind.is_empty() {
            default_text(names, "singular", &kind.to_lowercase());
            default_text(names, "listKind", &format!("{kind}List"));
        }
    }
}

fn prepare(definition: &mut Value, old: Option<&Value>, _context: &Context) {
    if old.is_some() {
        return;
    }
    let stored: Vec<Value> = items(definition, "/spec/versions")
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    if let Some(definition) = root(definition) {
        definition.insert(
            "status".to_owned(),
            json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""},
                "storedVersions": stored}),
        );
    }
}

fn validate(definition: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &definition["spec"];
    let path = FieldPath::new("spec");
    let group = text(spec, "/group");
    let plural = text(spec, "/names/plural");
    let expected = format!("{plural}.{group}");
    let name = text(definition, "/metadata/name");
    if name != expected {
        errors.push(FieldError::invalid(
            &FieldPath::new("metadata").child("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    for (field, value) in [("group", group), ("scope", text(spec, "/scope"))] {
        if value.is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
    names::one_of(errors, spec, "scope", &path, &["Cluster", "Namespaced"]);
    let versions = items(spec, "/versions");
    let storage = versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count();
    if storage != 1 {
        errors.push(FieldError::invalid(
            &path.child("versions"),
            spec["versions"].clone(),
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        if version
            .pointer("/schema/openAPIV3Schema")
            .is_none_or(Value::is_null)
        {
            let path = path.child("versions").index(index).child("schema");
            errors.push(FieldError::required(
                &path.child("openAPIV3Schema"),
                "schemas are required",
            ));
        }
    }
    if let Some(old) = old {
        let old = &old["spec"];
        for field in ["group", "scope"] {
            super::template::immutable(spec, old, field, &path, errors);
        }
        let path = path.child("names");
        for field in ["plural", "kind"] {
            super::template::immutable(&spec["names"], &old["names"], field, &path, errors);
        }
    }
}
