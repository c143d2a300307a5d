//! Which requests an admission webhook or policy is asked about: rules that their kinds share.

use super::field::{children, default, default_text, items, present, text};
use super::names;
use super::template::label_selector;
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MOST_CONDITIONS: usize = 64;

/// Judges one rule: operations on resources.
pub(super) fn rule(rule: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    listed(rule, "operations", "operations", path, errors);
    for (index, operation) in items(rule, "/operations").iter().enumerate() {
        let operation = text(operation, "");
        if !OPERATIONS.contains(&operation) {
            let path = path.child("operations").index(index);
            errors.push(FieldError::not_supported(&path, operation, &OPERATIONS));
        }
    }
    listed(rule, "apiGroups", "API groups", path, errors);
    listed(rule, "apiVersions", "API versions", path, errors);
    for (index, version) in items(rule, "/apiVersions").iter().enumerate() {
        if text(version, "").is_empty() {
            let path = path.child("apiVersions").index(index);
            errors.push(FieldError::required(&path, ""));
        }
    }
    resources(rule, &path.child("resources"), errors);
    let scopes = ["*", "Cluster", "Namespaced"];
    names::one_of(errors, rule, "scope", path, &scopes);
}

/// Judges a list that must not be empty and in which `*` stands alone.
fn listed(rule: &Value, field: &str, others: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let held = items(rule, &format!("/{field}"));
    let path = path.child(field);
    if held.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    if held.len() > 1 && held.iter().any(|value| *value == "*") {
        let why = format!("if '*' is present, must not specify other {others}");
        errors.push(FieldError::invalid(&path, held.to_vec(), &why));
    }
}

/// Resources and subresources; what a star takes already is not named again after it.
fn resources(rule: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let held = items(rule, "/resources");
    if held.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut all_parts, mut all_resources) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (index, resource) in held.iter().enumerate() {
        let path = path.index(index);
        let name = text(resource, "");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        let Some((resource, part)) = name.split_once('/') else {
            plain = name != "*";
            continue;
        };
        for (taken, by) in [
            (all_parts.contains(resource), format!("{resource}/*")),
            (all_resources.contains(part), format!("*/{part}")),
        ] {
            if taken {
                let why = format!("if '{by}' is present, must not specify {name}");
                errors.push(FieldError::invalid(&path, name, &why));
            }
        }
        if part == "*" {
            all_parts.insert(resource);
        }
        if resource == "*" {
            all_resources.insert(part);
        }
    }
    let has = |name: &str| held.iter().any(|held| *held == name);
    for (wrong, why) in [
        (
            held.len() > 1 && has("*/*"),
            "if '*/*' is present, must not specify other resources",
        ),
        (
            has("*") && plain,
            "if '*' is present, must not specify other resources without subresources",
        ),
    ] {
        if wrong {
            errors.push(FieldError::invalid(path, held.to_vec(), why));
        }
    }
}

/// Fills in which objects a policy is about: all, of all scopes, unless it says otherwise.
pub(super) fn fill(held: &mut Map<String, Value>) {
    default_text(held, "matchPolicy", "Equivalent");
    for field in ["namespaceSelector", "objectSelector"] {
        default(held, field, json!({}));
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in children(held, list) {
            default_text(rule, "scope", "*");
        }
    }
}

/// Judges which objects a policy is about.
pub(super) fn match_resources(held: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    names::one_of(errors, held, "matchPolicy", path, &["Equivalent", "Exact"]);
    for field in ["namespaceSelector", "objectSelector"] {
        label_selector(&held[field], &path.child(field), errors);
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for (index, held) in items(held, &format!("/{list}")).iter().enumerate() {
            let path = path.child(list).index(index);
            let objects = items(held, "/resourceNames");
            for (index, name) in objects.iter().enumerate() {
                let path = path.child("resourceNames").index(index);
                names::check(errors, &path, text(name, ""), names::path_segment);
                if objects[..index].contains(name) {
                    errors.push(FieldError::duplicate(&path, name.clone()));
                }
            }
            rule(held, &path, errors);
        }
    }
}

/// Judges conditions of a match: their form only, for expressions are not compiled.
pub(super) fn conditions(holder: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = path.child("matchConditions");
    let conditions = items(holder, "/matchConditions");
    if conditions.len() > MOST_CONDITIONS {
        let error = FieldError::too_many(&list, conditions.len(), MOST_CONDITIONS);
        errors.push(error);
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = list.index(index);
        if text(condition, "/expression").trim().is_empty() {
            errors.push(FieldError::required(&path.child("expression"), ""));
        }
        let name = text(condition, "/name");
        let path = path.child("name");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        names::check(errors, &path, name, names::qualified_name);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

/// Judges where a webhook is called: a URL, or a service of the cluster.
pub(super) fn client_config(config: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let url = config.get("url").and_then(Value::as_str);
    match (url, present(config, "/service")) {
        (Some(address), None) => self::url(address, &path.child("url"), errors),
        (None, Some(service)) => self::service(service, &path.child("service"), errors),
        _ => errors.push(FieldError::required(
            path,
            "exactly one of url or service is required",
        )),
    }
}

fn url(url: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let authority = if scheme.is_empty() { "" } else { authority };
    let (before, fragment) = tail.split_once('#').unwrap_or((tail, ""));
    let query = before.split_once('?').map_or("", |(_, query)| query);
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    for (wrong, value, why) in [
        (
            !scheme.eq_ignore_ascii_case("https"),
            scheme,
            format!("'https' is the only allowed URL scheme{FORM}"),
        ),
        (
            host.is_empty(),
            host,
            format!("host must be specified{FORM}"),
        ),
        (
            !user.is_empty(),
            user,
            "user information is not permitted in the URL".to_owned(),
        ),
        (
            !fragment.is_empty(),
            fragment,
            "fragments are not permitted in the URL".to_owned(),
        ),
        (
            !query.is_empty(),
            query,
            "query parameters are not permitted in the URL".to_owned(),
        ),
    ] {
        if wrong {
            errors.push(FieldError::invalid(path, value, &why));
        }
    }
}

fn service(service: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["name", "namespace"] {
        if text(service, &format!("/{field}")).is_empty() {
            let why = format!("service {field} is required");
            errors.push(FieldError::required(&path.child(field), &why));
        }
    }
    if let Some(port) = super::field::maybe_int(service, "/port")
        && let Some(why) = names::port_number(port)
    {
        let why = format!("port is not valid: {why}");
        errors.push(FieldError::invalid(&path.child("port"), port, &why));
    }
    let at = text(service, "/path");
    if matches!(at, "" | "/") {
        return;
    }
    let path = path.child("path");
    let mut fault = |why: &str| errors.push(FieldError::invalid(&path, at, why));
    let Some(rest) = at.strip_prefix('/') else {
        return fault("must start with a '/'");
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (index, segment) in rest.split('/').enumerate() {
        if segment.is_empty() {
            fault(&format!("segment[{index}] may not be empty"));
            continue;
        }
        for why in names::dns_subdomain(segment) {
            fault(&format!("segment[{index}]: {why}"));
        }
    }
}
