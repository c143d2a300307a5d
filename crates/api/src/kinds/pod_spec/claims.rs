//! Rules of the resource claims of a pod, and of their use by its containers.

use crate::kinds::field::{items, text};
use crate::kinds::names;
use crate::status::{FieldError, FieldErrorKind, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

/// Judges `resourceClaims` and returns their names.
pub(super) fn validate<'a>(
    spec: &'a Value,
    list: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, claim) in items(spec, "/resourceClaims").iter().enumerate() {
        let path = list.index(index);
        match text(claim, "/name") {
            "" => errors.push(FieldError::required(&path.child("name"), "")),
            name if !names.insert(name) => {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            name => names::check(errors, &path.child("name"), name, names::dns_label),
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let given = |field: &&&str| claim.get(**field).is_some_and(Value::is_string);
        let why = match sources.iter().filter(given).count() {
            0 => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            1 => "",
            _ => {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            }
        };
        if !why.is_empty() {
            errors.push(FieldError::invalid(&path, claim.clone(), why));
        }
        for field in sources.iter().filter(given) {
            let name = text(claim, &format!("/{field}"));
            names::check(errors, &path.child(field), name, names::dns_subdomain);
        }
    }
    names
}

/// Judges `resources.claims` of a container against the pod's claims.
pub(super) fn used(
    resources: &Value,
    claims: &BTreeSet<&str>,
    list: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    // What was named before: a whole claim, or one request of it.
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (index, claim) in items(resources, "/claims").iter().enumerate() {
        let path = list.index(index);
        let (name, request) = (text(claim, "/name"), text(claim, "/request"));
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if seen.contains(&(name, "")) {
            errors.push(FieldError::duplicate(&path, name));
        } else if request.is_empty() {
            if seen.iter().any(|(other, _)| *other == name) {
                errors.push(FieldError::duplicate(&path, name));
            }
        } else {
            names::check(errors, &path.child("request"), request, names::dns_label);
            if seen.contains(&(name, request)) {
                errors.push(FieldError::duplicate(&path, format!("{name}/{request}")));
            }
        }
        seen.insert((name, request));
        if !claims.contains(name) {
            errors.push(unknown(name, claims, &path));
        }
    }
}

fn unknown(name: &str, claims: &BTreeSet<&str>, path: &FieldPath) -> FieldError {
    let known: Vec<&str> = claims.iter().copied().collect();
    let which = if known.is_empty() {
        " which is empty".to_owned()
    } else {
        format!(": {}", known.join(", "))
    };
    FieldError {
        kind: FieldErrorKind::NotFound,
        field: path.clone(),
        message: format!(
            "Not found: {name:?}: must be one of the names in pod.spec.resourceClaims{which}"
        ),
    }
}
