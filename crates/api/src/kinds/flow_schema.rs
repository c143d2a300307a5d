//! FlowSchemas: which requests belong to which level of priority.

use super::field::{default_number, flag, int, items, present, spec, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "flowcontrol.apiserver.k8s.io/v1 FlowSchema",
    default: |schema| {
        if let Some(spec) = spec(schema) {
            default_number(spec, "matchingPrecedence", DEFAULT_PRECEDENCE);
        }
    },
    validate,
    ..Hooks::NONE
};

const HIGHEST_PRECEDENCE: i64 = 10_000;
const DEFAULT_PRECEDENCE: i64 = 1000;
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

fn validate(schema: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &schema["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    let at = path.child("matchingPrecedence");
    let precedence = int(spec, "/matchingPrecedence");
    let too_high = format!("must not be greater than {HIGHEST_PRECEDENCE}");
    let why = if precedence <= 0 {
        "must be a positive value"
    } else if precedence > HIGHEST_PRECEDENCE {
        &too_high
    } else if precedence == 1 && text(schema, "/metadata/name") != "exempt" {
        "only the schema named 'exempt' may have matchingPrecedence 1"
    } else {
        ""
    };
    if !why.is_empty() {
        errors.push(FieldError::invalid(&at, precedence, why));
    }
    let method = &spec["distinguisherMethod"];
    let methods = ["ByNamespace", "ByUser"];
    let at = path.child("distinguisherMethod");
    names::one_of(errors, method, "type", &at, &methods);
    let at = path.child("priorityLevelConfiguration").child("name");
    match text(spec, "/priorityLevelConfiguration/name") {
        "" => errors.push(FieldError::required(&at, "must reference a priority level")),
        level => names::check(errors, &at, level, names::dns_subdomain),
    }
    for (index, rule) in items(spec, "/rules").iter().enumerate() {
        rules(rule, &path.child("rules").index(index), errors);
    }
}

fn rules(rule: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = path.child("subjects");
    let subjects = items(rule, "/subjects");
    if subjects.is_empty() {
        let why = "subjects must contain at least one value";
        errors.push(FieldError::required(&list, why));
    }
    for (index, held) in subjects.iter().enumerate() {
        subject(held, &list.index(index), errors);
    }
    let resources = items(rule, "/resourceRules");
    let others = items(rule, "/nonResourceRules");
    if resources.is_empty() && others.is_empty() {
        errors.push(FieldError::required(
            path,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        ));
    }
    for (index, held) in resources.iter().enumerate() {
        resource_rule(held, &path.child("resourceRules").index(index), errors);
    }
    for (index, held) in others.iter().enumerate() {
        other_rule(held, &path.child("nonResourceRules").index(index), errors);
    }
}

/// The kinds of subjects and the field of each.
const SUBJECTS: [(&str, &str); 3] = [
    ("Group", "group"),
    ("ServiceAccount", "serviceAccount"),
    ("User", "user"),
];

fn subject(subject: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(subject, "/kind");
    if !SUBJECTS.iter().any(|(known, _)| *known == kind) {
        let known = SUBJECTS.map(|(known, _)| known);
        errors.push(FieldError::not_supported(&path.child("kind"), kind, &known));
        return;
    }
    for (of, field) in SUBJECTS {
        let held = present(subject, &format!("/{field}"));
        let path = path.child(field);
        match held {
            Some(_) if of != kind => {
                let why = format!("{field} is forbidden when subject kind is not '{of}'");
                errors.push(FieldError::forbidden(&path, &why));
            }
            None if of == kind => {
                let why = format!("{field} is required when subject kind is '{of}'");
                errors.push(FieldError::required(&path, &why));
            }
            Some(held) => named(held, of, &path, errors),
            None => {}
        }
    }
}

fn named(held: &Value, kind: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let name = text(held, "/name");
    let account = kind == "ServiceAccount";
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else if account && name != "*" {
        names::check(errors, &path.child("name"), name, names::dns_subdomain);
    }
    if !account {
        return;
    }
    let path = path.child("namespace");
    match text(held, "/namespace") {
        "" => {
            let why = "must specify namespace for service account";
            errors.push(FieldError::required(&path, why));
        }
        namespace => names::check(errors, &path, namespace, names::dns_label),
    }
}

/// Judges a list that must not be empty and in which `*` stands alone; whether it is neither.
fn listed(
    rule: &Value,
    field: &str,
    (missing, others): (&str, &str),
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> bool {
    let held = items(rule, &format!("/{field}"));
    let path = path.child(field);
    let any = held.iter().any(|value| *value == "*");
    if held.is_empty() {
        errors.push(FieldError::required(&path, missing));
    } else if any && held.len() > 1 {
        let why = format!("if '*' is present, must not specify other {others}");
        errors.push(FieldError::invalid(&path, held.to_vec(), &why));
    }
    !any && !held.is_empty()
}

fn verbs(rule: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let words = ("verbs must contain at least one value", "verbs");
    let known = |verb: &Value| VERBS.contains(&text(verb, ""));
    let held = items(rule, "/verbs");
    if listed(rule, "verbs", words, path, errors) && !held.iter().all(known) {
        let path = path.child("verbs");
        errors.push(FieldError::not_supported(&path, held.to_vec(), &VERBS));
    }
}

fn resource_rule(rule: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    verbs(rule, path, errors);
    let words = (
        "resource rules must supply at least one api group",
        "api groups",
    );
    listed(rule, "apiGroups", words, path, errors);
    let words = (
        "resource rules must supply at least one resource",
        "resources",
    );
    listed(rule, "resources", words, path, errors);
    if items(rule, "/namespaces").is_empty() && flag(rule, "/clusterScope") {
        return;
    }
    let words = (
        "resource rules that are not cluster scoped must supply at least one namespace",
        "namespaces",
    );
    if !listed(rule, "namespaces", words, path, errors) {
        return;
    }
    for (index, namespace) in items(rule, "/namespaces").iter().enumerate() {
        let namespace = text(namespace, "");
        for why in names::dns_label(namespace) {
            let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
            let path = path.child("namespaces").index(index);
            errors.push(FieldError::invalid(&path, namespace, &why));
        }
    }
}

fn other_rule(rule: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    verbs(rule, path, errors);
    let words = (
        "nonResourceURLs must contain at least one value",
        "non-resource URLs",
    );
    if !listed(rule, "nonResourceURLs", words, path, errors) {
        return;
    }
    for (index, url) in items(rule, "/nonResourceURLs").iter().enumerate() {
        let url = text(url, "");
        let stars = url.matches('*').count();
        let why = match url {
            "/" => continue,
            "" => "must not be empty",
            url if !url.starts_with('/') => "must start with slash",
            url if url.contains(' ') => "must not contain white-space",
            url if url.contains("//") => "must not contain double slash",
            url if stars > 1 || (stars == 1 && !url.ends_with("/*")) => {
                "wildcard can only do suffix matching"
            }
            _ => continue,
        };
        let path = path.child("nonResourceURLs").index(index);
        errors.push(FieldError::invalid(&path, url, why));
    }
}
