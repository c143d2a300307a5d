//! Rules of volumes.

use super::environment::{field_ref, resource_field_ref};
use crate::kinds::field::{items, map, maybe_int, present, text};
use crate::kinds::names;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

/// Fields of its pod that a downward API volume may show.
pub(super) const DOWNWARD_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Judges the volumes and returns the names of those that can be mounted.
pub(super) fn validate<'a>(
    spec: &'a Value,
    list: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut good = BTreeSet::new();
    for (index, volume) in items(spec, "/volumes").iter().enumerate() {
        let path = list.index(index);
        let before = errors.len();
        let name = text(volume, "/name");
        source(volume, &path, errors);
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else {
            names::check(errors, &path.child("name"), name, names::dns_label);
        }
        if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if errors.len() == before {
            good.insert(name);
        }
    }
    good
}

/// Judges the one source that must be there.
fn source(volume: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut seen = false;
    let fields = map(volume, "").into_iter().flatten();
    for (kind, held) in fields.filter(|(field, held)| *field != "name" && !held.is_null()) {
        let path = path.child(kind);
        if seen {
            errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 volume type",
            ));
            continue;
        }
        seen = true;
        judge(kind, held, &path, errors);
    }
    if !seen {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn judge(kind: &str, source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let required = |field: &str, errors: &mut Vec<FieldError>| {
        if text(source, &format!("/{field}")).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    };
    match kind {
        "hostPath" => {
            required("path", errors);
            no_dot_dot(text(source, "/path"), &path.child("path"), errors);
            names::one_of(
                errors,
                source,
                "type",
                path,
                &[
                    "BlockDevice",
                    "CharDevice",
                    "Directory",
                    "DirectoryOrCreate",
                    "File",
                    "FileOrCreate",
                    "Socket",
                ],
            );
        }
        "configMap" => {
            required("name", errors);
            files(source, path, errors);
        }
        "secret" => {
            required("secretName", errors);
            files(source, path, errors);
        }
        "downwardAPI" => {
            mode(source, "defaultMode", path, errors);
            downward(source, path, errors);
        }
        "projected" => projected(source, path, errors),
        "persistentVolumeClaim" => required("claimName", errors),
        "emptyDir" if text(source, "/sizeLimit").starts_with('-') => {
            errors.push(FieldError::forbidden(
                &path.child("sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            ));
        }
        "image" => {
            required("reference", errors);
            names::one_of(
                errors,
                source,
                "pullPolicy",
                path,
                &["Always", "IfNotPresent", "Never"],
            );
        }
        "ephemeral" if present(source, "/volumeClaimTemplate").is_none() => {
            errors.push(FieldError::required(&path.child("volumeClaimTemplate"), ""));
        }
        "nfs" => {
            required("server", errors);
            required("path", errors);
        }
        "csi" => required("driver", errors),
        _ => {}
    }
}

fn files(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    mode(source, "defaultMode", path, errors);
    for (index, item) in items(source, "/items").iter().enumerate() {
        key_to_path(item, &path.child("items").index(index), errors);
    }
}

fn key_to_path(item: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if text(item, "/key").is_empty() {
        errors.push(FieldError::required(&path.child("key"), ""));
    }
    file(item, path, errors);
    mode(item, "mode", path, errors);
}

/// The path at which a volume shows one file.
fn file(item: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match text(item, "/path") {
        "" => errors.push(FieldError::required(&path.child("path"), "")),
        file => {
            let path = path.child("path");
            below(file, &path, errors);
            if file.starts_with("..") && !file.starts_with("../") && file != ".." {
                errors.push(FieldError::invalid(&path, file, "must not start with '..'"));
            }
        }
    }
}

fn mode(object: &Value, field: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(mode) = maybe_int(object, &format!("/{field}"))
        && !(0..=0o777).contains(&mode)
    {
        errors.push(FieldError::invalid(
            &path.child(field),
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        ));
    }
}

fn downward(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, item) in items(source, "/items").iter().enumerate() {
        let path = path.child("items").index(index);
        file(item, &path, errors);
        let field = present(item, "/fieldRef");
        let resource = present(item, "/resourceFieldRef");
        match (field, resource) {
            (Some(field), None) => {
                field_ref(field, &path.child("fieldRef"), &DOWNWARD_FIELDS, errors);
            }
            (None, Some(resource)) => {
                resource_field_ref(resource, &path.child("resourceFieldRef"), false, errors);
            }
            (Some(_), Some(_)) => errors.push(FieldError::invalid(
                &path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            )),
            (None, None) => errors.push(FieldError::required(
                &path.child("fieldRef"),
                "one of fieldRef and resourceFieldRef is required",
            )),
        }
        mode(item, "mode", &path, errors);
    }
}

fn projected(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    mode(source, "defaultMode", path, errors);
    for (index, source) in items(source, "/sources").iter().enumerate() {
        let path = path.child("sources").index(index);
        let kinds: Vec<&String> = map(source, "")
            .into_iter()
            .flatten()
            .filter(|(_, held)| !held.is_null())
            .map(|(kind, _)| kind)
            .collect();
        if kinds.len() > 1 {
            errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 volume type per source",
            ));
        }
        if let Some(kind) = kinds.first() {
            projection(kind, &source[kind.as_str()], &path.child(kind), errors);
        }
    }
}

fn projection(kind: &str, held: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match kind {
        "configMap" | "secret" => {
            if text(held, "/name").is_empty() {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
            files(held, path, errors);
        }
        "downwardAPI" => downward(held, path, errors),
        "serviceAccountToken" => {
            let seconds = maybe_int(held, "/expirationSeconds").unwrap_or(3600);
            if seconds < 600 {
                errors.push(FieldError::invalid(
                    &path.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                ));
            }
            file(held, path, errors);
        }
        _ => {}
    }
}

/// A fault unless `value` stays below the directory it is relative to.
pub(super) fn below(value: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    no_dot_dot(value, path, errors);
}

fn no_dot_dot(value: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}
