//! CustomResourceDefinitions: they are stored; serving what they define is not done yet.

mod structural;

use super::field::{child, default, default_text, entry, items, map, root, spec, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};
use std::collections::BTreeSet;

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
        if let Some(service) = child(conversion, "webhook")
            .and_then(|webhook| child(webhook, "clientConfig"))
            .and_then(|config| child(config, "service"))
        {
            default(service, "port", 443);
        }
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
    let name = text(definition, "/metadata/name");
    if name != format!("{plural}.{group}") {
        errors.push(FieldError::invalid(
            &FieldPath::new("metadata").child("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    validate_group(group, &path.child("group"), errors);
    validate_approval(definition, old, errors);
    if text(spec, "/scope").is_empty() {
        errors.push(FieldError::required(&path.child("scope"), ""));
    }
    names::one_of(errors, spec, "scope", &path, &["Cluster", "Namespaced"]);
    if old.is_none() && spec["preserveUnknownFields"] == true {
        let path = path.child("preserveUnknownFields");
        errors.push(FieldError::invalid(&path, true, "must be false"));
    }
    validate_names(&spec["names"], &path.child("names"), errors);
    validate_versions(spec, &path.child("versions"), errors);
    let versions = items(spec, "/versions");
    if old.is_none_or(|old| old["spec"]["versions"] != spec["versions"]) {
        schemas(versions, &path, errors);
    }
    let Some(old) = old.map(|old| &old["spec"]) else {
        return;
    };
    for field in ["group", "scope"] {
        super::template::immutable(spec, old, field, &path, errors);
    }
    let path = path.child("names");
    for field in ["plural", "kind"] {
        super::template::immutable(&spec["names"], &old["names"], field, &path, errors);
    }
}

fn validate_versions(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let versions = items(spec, "/versions");
    let mut fault = |why: &str| {
        errors.push(FieldError::invalid(list, spec["versions"].clone(), why));
    };
    let storage = |version: &&Value| version["storage"] == true;
    if versions.iter().filter(storage).count() != 1 {
        fault("must have exactly one version marked as storage version");
    }
    let names: BTreeSet<&str> = versions.iter().map(|held| text(held, "/name")).collect();
    if names.len() < versions.len() {
        fault("must contain unique version names");
    }
    for (index, version) in versions.iter().enumerate() {
        let path = list.index(index);
        label(text(version, "/name"), "", &path.child("name"), errors);
        let schema = version.pointer("/schema/openAPIV3Schema");
        if schema.is_none_or(Value::is_null) {
            let path = path.child("schema").child("openAPIV3Schema");
            errors.push(FieldError::required(&path, "schemas are required"));
        }
    }
}

fn validate_group(group: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let faults = names::dns_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !faults.is_empty() {
        errors.push(FieldError::invalid(path, group, &faults.join(",")));
    } else if !group.contains('.') {
        let why = "should be a domain with at least one dot";
        errors.push(FieldError::invalid(path, group, why));
    }
}

const APPROVAL: &str = "api-approved.kubernetes.io";

/// Whether an annotation says that a group of Kubernetes' own may be extended.
#[derive(PartialEq)]
enum Approval {
    Missing,
    Invalid,
    /// Approved somewhere, or `unapproved` and said so.
    Told,
}

fn approval(definition: &Value) -> Approval {
    let held = map(definition, "/metadata/annotations").and_then(|held| held.get(APPROVAL));
    match held.and_then(Value::as_str).unwrap_or_default() {
        "" => Approval::Missing,
        told if told.starts_with("unapproved") || is_url(told) => Approval::Told,
        _ => Approval::Invalid,
    }
}

fn is_url(text: &str) -> bool {
    let scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let host = |rest: &str| !rest.starts_with(['/', '?', '#']) && !rest.is_empty();
    text.split_once("://")
        .is_some_and(|(before, rest)| scheme(before) && host(rest))
}

/// Judges definitions in groups that are Kubernetes' own. One that was not approved may stay so.
fn validate_approval(definition: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let group = text(definition, "/spec/group");
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|own| {
        group
            .strip_suffix(own)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    let is = approval(definition);
    if !protected || old.is_some_and(|old| approval(old) == is) {
        return;
    }
    let path = FieldPath::new("metadata")
        .child("annotations")
        .key(APPROVAL);
    let asked = format!("protected groups must have approval annotation {APPROVAL:?}");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match is {
        Approval::Told => {}
        Approval::Missing => errors.push(FieldError::required(&path, &format!("{asked}, {see}"))),
        Approval::Invalid => {
            let held = definition["metadata"]["annotations"][APPROVAL].clone();
            let why = format!(
                "{asked} with either a URL or a reason starting with \"unapproved\", {see}"
            );
            errors.push(FieldError::invalid(&path, held, &why));
        }
    }
}

/// Judges a name as a DNS label of RFC 1035, all its faults at once. Where letters may be of either
/// case, `before` says so.
fn label(name: &str, before: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let faults = if before.is_empty() {
        names::dns_1035_label(name)
    } else {
        names::dns_1035_label(&name.to_lowercase())
    };
    if !faults.is_empty() {
        let why = format!("{before}{}", faults.join(","));
        errors.push(FieldError::invalid(path, name, &why));
    }
}

fn validate_names(held: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const CASED: &str = "may have mixed case, but should otherwise match: ";
    for (field, before) in [
        ("plural", ""),
        ("singular", ""),
        ("kind", CASED),
        ("listKind", CASED),
    ] {
        let name = text(held, &format!("/{field}"));
        let path = path.child(field);
        // The two that follow from the kind may be left out.
        if name.is_empty() && matches!(field, "plural" | "kind") {
            errors.push(FieldError::required(&path, ""));
        } else if !name.is_empty() {
            label(name, before, &path, errors);
        }
    }
    for list in ["shortNames", "categories"] {
        for (index, name) in items(held, &format!("/{list}")).iter().enumerate() {
            label(text(name, ""), "", &path.child(list).index(index), errors);
        }
    }
    let kind = text(held, "/kind");
    if !kind.is_empty() && kind == text(held, "/listKind") {
        errors.push(FieldError::invalid(
            &path.child("listKind"),
            kind,
            "kind and listKind may not be the same",
        ));
    }
}

/// One schema that all versions share is told as the definition's own.
fn schemas(versions: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
    let schema = |version: &Value| version.pointer("/schema/openAPIV3Schema").cloned();
    let Some(first) = versions.first().and_then(schema).filter(Value::is_object) else {
        return;
    };
    let field = "openAPIV3Schema";
    if versions
        .iter()
        .all(|version| schema(version).as_ref() == Some(&first))
    {
        let path = path.child("validation").child(field);
        structural::validate(&first, &path, errors);
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let path = path.child("versions").index(index).child("schema");
        if let Some(schema) = schema(version).filter(|schema| !schema.is_null()) {
            structural::validate(&schema, &path.child(field), errors);
        }
    }
}
