//! Rules of `metadata`, as `k8s.io/apimachinery/pkg/api/validation` has them.

use serde_json::{Map, Value};

use super::{metadata_path, text};
use crate::apply::manager_faults;
use crate::kinds::names;
use crate::resource::Resource;
use crate::status::{FieldError, FieldPath, Status};

/// Bytes of a subresource's name.
const MAX_SUBRESOURCE_BYTES: usize = 256;
/// Bytes of all annotations together.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// What is wrong with an object's metadata.
pub(super) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let empty = Map::new();
    let metadata = object["metadata"].as_object().unwrap_or(&empty);
    let path = metadata_path();
    let mut errors = Vec::new();
    name(resource, metadata, &path, &mut errors);
    let namespace = text(metadata, "namespace");
    if resource.namespaced {
        let path = path.child("namespace");
        if namespace.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        names::check(&mut errors, &path, namespace, |ns| match ns {
            "" => Vec::new(),
            ns => names::dns_label(ns),
        });
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden(
            &path.child("namespace"),
            "not allowed on this type",
        ));
    }
    labels(metadata, &path.child("labels"), &mut errors);
    annotations(metadata, &path.child("annotations"), &mut errors);
    owners(metadata, &path.child("ownerReferences"), &mut errors);
    finalizers(metadata, &path.child("finalizers"), &mut errors);
    managed_fields(metadata, &path.child("managedFields"), &mut errors);
    errors
}

fn name(
    resource: &Resource,
    metadata: &Map<String, Value>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let rule = name_rule(resource);
    let base = text(metadata, "generateName");
    if !base.is_empty() {
        // What follows the base is alphanumeric: a dash at its end is no fault.
        let masked = match base.strip_suffix('-') {
            Some(rest) => format!("{rest}a"),
            None => base.to_owned(),
        };
        let path = path.child("generateName");
        errors.extend(
            rule(&masked)
                .iter()
                .map(|why| FieldError::invalid(&path, base, why)),
        );
    }
    let name = text(metadata, "name");
    let path = path.child("name");
    if name.is_empty() {
        errors.push(FieldError::required(
            &path,
            "name or generateName is required",
        ));
    } else {
        names::check(errors, &path, name, rule);
    }
}

/// What the names of a resource's objects must look like.
fn name_rule(resource: &Resource) -> fn(&str) -> Vec<String> {
    match (resource.group, resource.plural) {
        ("", "namespaces") => names::dns_label,
        ("", "services") => names::dns_1035_label,
        ("rbac.authorization.k8s.io", _) | ("certificates.k8s.io", _) => names::path_segment,
        ("apiregistration.k8s.io", _) | ("networking.k8s.io", "ipaddresses") => names::path_segment,
        _ => names::dns_subdomain,
    }
}

fn labels(metadata: &Map<String, Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let labels = metadata.get("labels").and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        names::check(errors, path, key, names::qualified_name);
        let value = value.as_str().unwrap_or_default();
        names::check(errors, path, value, names::label_value);
    }
}

fn annotations(metadata: &Map<String, Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    let mut total = 0;
    for (key, value) in annotations.into_iter().flatten() {
        // Keys are compared without regard to case.
        let lower = key.to_lowercase();
        let faults = names::qualified_name(&lower);
        errors.extend(
            faults
                .iter()
                .map(|why| FieldError::invalid(path, key.as_str(), why)),
        );
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MAX_ANNOTATION_BYTES {
        errors.push(FieldError::too_long(path, MAX_ANNOTATION_BYTES));
    }
}

/// Owners, whose faults Kubernetes tells of the list as a whole.
fn owners(metadata: &Map<String, Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let owners = metadata.get("ownerReferences").and_then(Value::as_array);
    let (mut controller, mut second) = (None::<String>, false);
    for owner in owners.into_iter().flatten() {
        let get = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        for (field, what) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if get(field).is_empty() {
                errors.push(FieldError::invalid(&path.child(field), "", what));
            }
        }
        // An event goes by itself, and would take what it owns with it.
        if (get("apiVersion"), get("kind")) == ("v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, owner.clone(), why));
        }
        // Told once: each time it shows the whole list.
        if owner.get("controller") != Some(&Value::Bool(true)) || second {
            continue;
        }
        let name = format!("{}/{}", get("kind"), get("name"));
        match &controller {
            None => controller = Some(name),
            Some(first) => {
                second = true;
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                let held = owners.cloned().unwrap_or_default();
                errors.push(FieldError::invalid(path, held, &why));
            }
        }
    }
}

fn finalizers(metadata: &Map<String, Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let (mut orphan, mut foreground) = (false, false);
    for (index, finalizer) in finalizers_of(metadata).enumerate() {
        let path = path.index(index);
        names::check(errors, &path, finalizer, names::qualified_name);
        let standard = matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes");
        if !finalizer.contains('/') && !standard {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path, finalizer, why));
        }
        orphan |= finalizer == "orphan";
        foreground |= finalizer == "foregroundDeletion";
    }
    if orphan && foreground {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        let value = metadata.get("finalizers").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(path, value, why));
    }
}

fn finalizers_of(metadata: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let finalizers = metadata.get("finalizers").and_then(Value::as_array);
    finalizers.into_iter().flatten().filter_map(Value::as_str)
}

/// The key under which Kubernetes would store the object, which an error names.
fn kubernetes_key(resource: &Resource, namespace: &str, name: &str) -> String {
    let place = match (resource.group, resource.plural) {
        ("", "nodes") => "minions",
        ("", "replicationcontrollers") => "controllers",
        ("", "services") => "services/specs",
        ("", "endpoints") => "services/endpoints",
        ("networking.k8s.io", "ingresses") => "ingress",
        (_, plural) => plural,
    };
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("/registry/{place}/{namespace}{slash}{name}")
}

/// Entries that a client brought; those that cannot be read at all were left out before.
fn managed_fields(metadata: &Map<String, Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let entries = metadata.get("managedFields").and_then(Value::as_array);
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let path = path.index(index);
        let get = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        errors.extend(manager_faults(&path.child("manager"), get("manager")));
        if get("subresource").len() > MAX_SUBRESOURCE_BYTES {
            let path = path.child("subresource");
            errors.push(FieldError::too_long(&path, MAX_SUBRESOURCE_BYTES));
        }
    }
}

/// Keeps what an update may not change, and tells where the new object tries to.
///
/// # Errors
///
/// 409 when the new object has another uid: it was deleted and made again meanwhile.
pub(super) fn carry_over(
    resource: &Resource,
    old: &Value,
    new: &mut Value,
) -> Result<Vec<FieldError>, Status> {
    let empty = Map::new();
    let before = old["metadata"].as_object().unwrap_or(&empty);
    let metadata = super::metadata_mut(new);
    let (uid, wanted) = (text(before, "uid"), text(metadata, "uid"));
    if !wanted.is_empty() && wanted != uid {
        let name = text(before, "name");
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}",
            kubernetes_key(resource, text(before, "namespace"), name)
        );
        return Err(Status::conflict(resource, name, &why));
    }
    let path = metadata_path();
    let mut errors = Vec::new();
    for field in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let given = metadata.get(field).filter(|value| !value.is_null());
        if let Some(given) = given.filter(|given| before.get(field) != Some(*given)) {
            errors.push(FieldError::invalid(
                &path.child(field),
                given.clone(),
                "field is immutable",
            ));
        }
    }
    if before.contains_key("deletionTimestamp") {
        let known: Vec<&str> = finalizers_of(before).collect();
        let added: Vec<String> = finalizers_of(metadata)
            .filter(|finalizer| !known.contains(finalizer))
            .map(|finalizer| format!("{finalizer:?}"))
            .collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden(&path.child("finalizers"), &why));
        }
    }
    // Kubernetes checks metadata twice on an update, and reports it twice.
    errors.extend(errors.clone());
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
        "selfLink",
    ] {
        let keep = field != "generateName" || !metadata.contains_key(field);
        match before.get(field).filter(|_| keep) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None if keep => metadata.remove(field),
            None => None,
        };
    }
    Ok(errors)
}
