//! Rules of volumes.

use super::environment::{field_ref, resource_field_ref};
use crate::kinds::field::{items, map, maybe_int, present, text};
use crate::kinds::names;
use crate::kinds::persistent_volume_claim;
use crate::kinds::volume_source::{self, below};
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
        "ephemeral" => ephemeral(source, &path.child("volumeClaimTemplate"), errors),
        "csi" => volume_source::driver_name(text(source, "/driver"), &path.child("driver"), errors),
        _ => volume_source::validate(kind, source, path, errors),
    }
}

/// Judges a claim that is made for this pod only.
fn ephemeral(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(template) = present(source, "/volumeClaimTemplate") else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let metadata = map(template, "/metadata").into_iter().flatten();
    for (field, held) in metadata {
        let set = !held.is_null() && *held != "";
        if set && !matches!(field.as_str(), "annotations" | "labels") {
            let path = path.child("metadata").child(field);
            errors.push(FieldError::forbidden(&path, "cannot be set"));
        }
    }
    persistent_volume_claim::validate_spec(&template["spec"], &path.child("spec"), errors);
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
    let mut paths = BTreeSet::new();
    for (index, source) in items(source, "/sources").iter().enumerate() {
        one_path_once(source, &mut paths, path, errors);
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

/// A fault for each file that a source before this one shows at the same path.
fn one_path_once<'a>(
    source: &'a Value,
    paths: &mut BTreeSet<&'a str>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for (kind, named) in [
        ("secret", Some("name")),
        ("configMap", Some("name")),
        ("downwardAPI", None),
    ] {
        for item in items(source, &format!("/{kind}/items")) {
            let at = text(item, "/path");
            if !at.is_empty() && !paths.insert(at) {
                let told = named.map_or(at, |field| text(&source[kind], &format!("/{field}")));
                let why = "conflicting duplicate paths";
                errors.push(FieldError::invalid(path, told, why));
            }
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
            if seconds > 1 << 32 {
                errors.push(FieldError::invalid(
                    &path.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                ));
            }
            file(held, path, errors);
        }
        _ => {}
    }
}
