//! ResourceClaims and templates of them: which devices a pod wants. Different from a stock API
//! server: the expressions of selectors are not compiled.

use super::field::{
    child, children, default_number, default_text, int, items, map, present, root, same, text,
};
use super::{Hooks, names, volume_source};
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Claims.
pub(super) const CLAIM: Hooks = Hooks {
    kind: "resource.k8s.io/v1 ResourceClaim",
    default: |claim| {
        if let Some(spec) = root(claim).and_then(|claim| child(claim, "spec")) {
            fill(spec);
        }
    },
    validate: |claim, old, errors| {
        let path = FieldPath::new("spec");
        if !is_changed(claim, old, &path, errors) {
            spec(&claim["spec"], &path, errors);
        }
    },
    ..Hooks::NONE
};

/// Templates of claims.
pub(super) const TEMPLATE: Hooks = Hooks {
    kind: "resource.k8s.io/v1 ResourceClaimTemplate",
    default: |template| {
        let spec = root(template).and_then(|template| child(template, "spec"));
        if let Some(spec) = spec.and_then(|spec| child(spec, "spec")) {
            fill(spec);
        }
    },
    validate: |template, old, errors| {
        let path = FieldPath::new("spec");
        if is_changed(template, old, &path, errors) {
            return;
        }
        let metadata = map(template, "/spec/metadata").into_iter().flatten();
        for (field, held) in metadata {
            let set = !held.is_null() && *held != "";
            if set && !matches!(field.as_str(), "annotations" | "labels") {
                let path = path.child("metadata").child(field);
                errors.push(FieldError::forbidden(&path, "cannot be set"));
            }
        }
        spec(&template["spec"]["spec"], &path.child("spec"), errors);
    },
    ..Hooks::NONE
};

/// What is asked for is one device, unless the request says otherwise.
fn fill(spec: &mut Map<String, Value>) {
    let Some(devices) = child(spec, "devices") else {
        return;
    };
    for request in children(devices, "requests") {
        if let Some(exactly) = child(request, "exactly") {
            fill_request(exactly);
        }
        for alternative in children(request, "firstAvailable") {
            fill_request(alternative);
        }
    }
}

fn fill_request(request: &mut Map<String, Value>) {
    default_text(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        default_number(request, "count", 1);
    }
}

const MOST_REQUESTS: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
const LONGEST_PARAMETERS: usize = 10 * 1024;

/// On update only this is judged: that the spec is what it was.
fn is_changed(
    new: &Value,
    old: Option<&Value>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> bool {
    let Some(old) = old else { return false };
    if !same(new.get("spec"), old.get("spec")) {
        let held = new["spec"].clone();
        errors.push(FieldError::invalid(path, held, "field is immutable"));
    }
    true
}

fn spec(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child("devices");
    let list = path.child("requests");
    let requests = items(spec, "/devices/requests");
    set(requests, MOST_REQUESTS, &list, errors);
    for (index, held) in requests.iter().enumerate() {
        request(held, &list.index(index), errors);
    }
    let known = request_names(requests);
    for (index, held) in items(spec, "/devices/constraints").iter().enumerate() {
        let path = path.child("constraints").index(index);
        references(held, &known, &path, errors);
    }
    for (index, held) in items(spec, "/devices/config").iter().enumerate() {
        let path = path.child("config").index(index);
        references(held, &known, &path, errors);
        configuration(held, &path, errors);
    }
}

/// A list of things with names, each of another name.
fn set(held: &[Value], most: usize, list: &FieldPath, errors: &mut Vec<FieldError>) {
    if held.len() > most {
        errors.push(FieldError::too_many(list, held.len(), most));
    }
    let mut seen = BTreeSet::new();
    for (index, item) in held.iter().enumerate() {
        let name = text(item, "/name");
        if !seen.insert(name) {
            let path = list.index(index).child("name");
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

fn request(request: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    request_name(text(request, "/name"), &path.child("name"), errors);
    let alternatives = items(request, "/firstAvailable");
    match (present(request, "/exactly"), alternatives) {
        (None, []) => errors.push(FieldError::required(
            path,
            "exactly one of `exactly` or `firstAvailable` is required",
        )),
        (Some(_), [_, ..]) => errors.push(FieldError::invalid(
            path,
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
        (Some(exactly), []) => devices(exactly, &path.child("exactly"), errors),
        (None, _) => {
            let list = path.child("firstAvailable");
            set(alternatives, MOST_ALTERNATIVES, &list, errors);
            for (index, held) in alternatives.iter().enumerate() {
                let path = list.index(index);
                request_name(text(held, "/name"), &path.child("name"), errors);
                devices(held, &path, errors);
            }
        }
    }
}

fn request_name(name: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        names::check(errors, path, name, names::dns_label);
    }
}

/// Judges how many devices of which class are wanted.
fn devices(wanted: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let at = path.child("deviceClassName");
    match text(wanted, "/deviceClassName") {
        "" => errors.push(FieldError::required(&at, "")),
        class => names::check(errors, &at, class, names::dns_subdomain),
    }
    selectors(wanted, path, errors);
    let count = int(wanted, "/count");
    let at = path.child("count");
    match text(wanted, "/allocationMode") {
        "All" if count != 0 => errors.push(FieldError::invalid(
            &at,
            count,
            "must not be specified when allocationMode is 'All'",
        )),
        "ExactCount" if count <= 0 => {
            errors.push(FieldError::invalid(&at, count, "must be greater than zero"));
        }
        _ => {
            let modes = ["All", "ExactCount"];
            names::one_of(errors, wanted, "allocationMode", path, &modes);
        }
    }
}

/// Judges by what devices are told apart, for claims and for classes.
pub(super) fn selectors(holder: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = path.child("selectors");
    let selectors = items(holder, "/selectors");
    if selectors.len() > MOST_REQUESTS {
        let error = FieldError::too_many(&list, selectors.len(), MOST_REQUESTS);
        errors.push(error);
    }
    for (index, selector) in selectors.iter().enumerate() {
        let path = list.index(index).child("cel");
        if present(selector, "/cel").is_none() {
            errors.push(FieldError::required(&path, ""));
        } else if text(selector, "/cel/expression").len() > LONGEST_PARAMETERS {
            let path = path.child("expression");
            errors.push(FieldError::too_long(&path, LONGEST_PARAMETERS));
        }
    }
}

/// Judges what a driver is told, for claims and for classes.
pub(super) fn configuration(holder: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child("opaque");
    let Some(opaque) = present(holder, "/opaque") else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    driver_name(text(opaque, "/driver"), &path.child("driver"), errors);
    if present(opaque, "/parameters").is_none() {
        errors.push(FieldError::required(&path.child("parameters"), ""));
    }
}

/// Judges the name of a driver of devices.
pub(super) fn driver_name(name: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        volume_source::driver_name(name, path, errors);
    }
}

fn request_names(requests: &[Value]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for request in requests {
        let name = text(request, "/name");
        for part in items(request, "/firstAvailable") {
            names.insert(format!("{name}/{}", text(part, "/name")));
        }
        names.insert(name.to_owned());
    }
    names
}

fn references(
    holder: &Value,
    known: &BTreeSet<String>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for (index, name) in items(holder, "/requests").iter().enumerate() {
        let name = text(name, "");
        if !known.contains(name) {
            errors.push(FieldError::invalid(
                &path.child("requests").index(index),
                name,
                "must be the name of a request in the claim or the name of a request and a \
                 subrequest separated by '/'",
            ));
        }
    }
}
