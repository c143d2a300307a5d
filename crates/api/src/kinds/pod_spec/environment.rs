//! Rules of environment variables, and of references to fields of the pod.

use crate::kinds::field::{present, text};
use crate::kinds::names;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

const SOURCES: [&str; 5] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

pub(super) fn variable(variable: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match text(variable, "/name") {
        "" => errors.push(FieldError::required(&path.child("name"), "")),
        name => names::check(errors, &path.child("name"), name, names::env_name),
    }
    let Some(source) = present(variable, "/valueFrom") else {
        return;
    };
    let path = path.child("valueFrom");
    let given: Vec<&str> = SOURCES
        .into_iter()
        .filter(|name| source.get(*name).is_some_and(|held| !held.is_null()))
        .collect();
    for name in &given {
        let held = &source[*name];
        let path = path.child(name);
        match *name {
            "fieldRef" => field_ref(held, &path, &ENVIRONMENT_FIELDS, errors),
            "resourceFieldRef" => resource_field_ref(held, &path, true, errors),
            "fileKeyRef" => {
                for field in ["volumeName", "path", "key"] {
                    if text(held, &format!("/{field}")).is_empty() {
                        errors.push(FieldError::required(&path.child(field), ""));
                    }
                }
            }
            _ => key_ref(held, &path, errors),
        }
    }
    if !text(variable, "/value").is_empty() && !given.is_empty() {
        errors.push(FieldError::invalid(
            &path,
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if given.is_empty() {
        errors.push(FieldError::invalid(
            &path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ));
    } else if given.len() > 1 {
        errors.push(FieldError::invalid(
            &path,
            "",
            "may not have more than one field specified at a time",
        ));
    }
}

/// Fields of its pod that a container's environment may show.
const ENVIRONMENT_FIELDS: [&str; 10] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "metadata.generation",
];

/// Judges a reference to a field of the pod; `plain` are those allowed besides single labels and
/// annotations.
pub(super) fn field_ref(
    reference: &Value,
    path: &FieldPath,
    plain: &[&str],
    errors: &mut Vec<FieldError>,
) {
    let version = text(reference, "/apiVersion");
    if version.is_empty() {
        errors.push(FieldError::required(&path.child("apiVersion"), ""));
        return;
    }
    let field = text(reference, "/fieldPath");
    if field.is_empty() {
        errors.push(FieldError::required(&path.child("fieldPath"), ""));
        return;
    }
    let path = path.child("fieldPath");
    if let Some((kind, key)) = subscript(field) {
        match kind {
            "metadata.annotations" => {
                names::check(errors, &path, &key.to_lowercase(), names::qualified_name);
            }
            "metadata.labels" => names::check(errors, &path, key, names::qualified_name),
            _ => errors.push(FieldError::invalid(
                &path,
                field,
                "error converting fieldPath: field label does not support subscript",
            )),
        }
    } else if !plain.contains(&field) {
        let known =
            super::volumes::DOWNWARD_FIELDS.contains(&field) || ENVIRONMENT_FIELDS.contains(&field);
        if known {
            errors.push(FieldError::not_supported(&path, field, plain));
        } else {
            errors.push(FieldError::invalid(
                &path,
                field,
                &format!("error converting fieldPath: field label not supported: {field}"),
            ));
        }
    }
}

/// `metadata.labels['a']` as (`metadata.labels`, `a`).
fn subscript(field: &str) -> Option<(&str, &str)> {
    let (kind, rest) = field.split_once("['")?;
    Some((kind, rest.strip_suffix("']")?))
}

/// Judges a reference to what a container asks for or may use.
pub(super) fn resource_field_ref(
    reference: &Value,
    path: &FieldPath,
    own: bool,
    errors: &mut Vec<FieldError>,
) {
    if !own && text(reference, "/containerName").is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    }
    let resource = text(reference, "/resource");
    let known = ["cpu", "memory", "ephemeral-storage"]
        .into_iter()
        .any(|name| {
            ["limits.", "requests."]
                .into_iter()
                .any(|kind| resource.strip_prefix(kind) == Some(name))
        })
        || resource.starts_with("limits.hugepages-")
        || resource.starts_with("requests.hugepages-");
    if resource.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !known {
        errors.push(FieldError::not_supported(
            &path.child("resource"),
            resource,
            &[
                "limits.cpu",
                "limits.ephemeral-storage",
                "limits.memory",
                "requests.cpu",
                "requests.ephemeral-storage",
                "requests.memory",
            ],
        ));
    }
}

fn key_ref(reference: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if text(reference, "/name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    match text(reference, "/key") {
        "" => errors.push(FieldError::required(&path.child("key"), "")),
        key => names::check(errors, &path.child("key"), key, names::config_key),
    }
}

pub(super) fn source(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let prefix = text(source, "/prefix");
    names::check(errors, &path.child("prefix"), prefix, names::env_name);
    let given: Vec<&str> = ["configMapRef", "secretRef"]
        .into_iter()
        .filter(|name| source.get(*name).is_some_and(|held| !held.is_null()))
        .collect();
    for name in &given {
        if text(&source[*name], "/name").is_empty() {
            errors.push(FieldError::required(&path.child(name).child("name"), ""));
        }
    }
    match given.len() {
        0 => errors.push(FieldError::invalid(
            path,
            "",
            "must specify one of: `configMapRef` or `secretRef`",
        )),
        1 => {}
        _ => errors.push(FieldError::invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        )),
    }
}
