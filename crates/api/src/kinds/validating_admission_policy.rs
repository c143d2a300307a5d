//! Admission policies, those that judge and those that change, and their bindings: they are stored;
//! none is asked yet, and their expressions are not compiled.

mod mutating;

pub(super) use mutating::{BINDING as MUTATING_BINDING, POLICY as MUTATING_POLICY};

use super::field::{child, default_text, items, present, root, text};
use super::template::label_selector;
use super::{Hooks, admission_rules, names};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

/// What is to be held.
pub(super) const POLICY: Hooks = Hooks {
    kind: "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy",
    default: fill,
    validate: |policy, _, errors| validate(policy, errors),
    ..Hooks::NONE
};

/// Of what it is to be held.
pub(super) const BINDING: Hooks = Hooks {
    kind: "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding",
    default: fill_binding,
    validate: |binding, _, errors| validate_binding(binding, errors),
    ..Hooks::NONE
};

const MOST_ANNOTATIONS: usize = 20;
const LONGEST_EXPRESSION: usize = 5 * 1024;

fn fill(policy: &mut Value) {
    let Some(spec) = root(policy).and_then(|policy| child(policy, "spec")) else {
        return;
    };
    default_text(spec, "failurePolicy", "Fail");
    if let Some(held) = child(spec, "matchConstraints") {
        admission_rules::fill(held);
    }
}

fn fill_binding(binding: &mut Value) {
    let spec = root(binding).and_then(|binding| child(binding, "spec"));
    if let Some(held) = spec.and_then(|spec| child(spec, "matchResources")) {
        admission_rules::fill(held);
    }
}

fn validate(policy: &Value, errors: &mut Vec<FieldError>) {
    let spec = &policy["spec"];
    let path = FieldPath::new("spec");
    subject(spec, &path, errors);
    let validations = items(spec, "/validations");
    if validations.is_empty() && items(spec, "/auditAnnotations").is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        for field in ["validations", "auditAnnotations"] {
            errors.push(FieldError::required(&path.child(field), why));
        }
    }
    for (index, held) in validations.iter().enumerate() {
        validation(held, &path.child("validations").index(index), errors);
    }
    annotations(policy, &path.child("auditAnnotations"), errors);
}

/// Judges what both kinds of policies have: of which requests they are, and by which variables.
fn subject(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    names::one_of(errors, spec, "failurePolicy", path, &["Fail", "Ignore"]);
    if let Some(kind) = present(spec, "/paramKind") {
        param_kind(kind, &path.child("paramKind"), errors);
    }
    let at = path.child("matchConstraints");
    match present(spec, "/matchConstraints") {
        None => errors.push(FieldError::required(&at, "")),
        Some(held) => {
            admission_rules::match_resources(held, &at, errors);
            if items(held, "/resourceRules").is_empty() {
                errors.push(FieldError::required(&at.child("resourceRules"), ""));
            }
        }
    }
    admission_rules::conditions(spec, path, errors);
    for (index, held) in items(spec, "/variables").iter().enumerate() {
        variable(held, &path.child("variables").index(index), errors);
    }
}

fn param_kind(kind: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let at = path.child("apiVersion");
    let version = text(kind, "/apiVersion");
    let (group, number) = version.split_once('/').unwrap_or(("", version));
    if version.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if number.contains('/') {
        let why = format!("unexpected GroupVersion string: {version}");
        errors.push(FieldError::invalid(&at, version, &why));
    } else {
        let faults = names::dns_subdomain(group).join(",");
        if !group.is_empty() && !faults.is_empty() {
            errors.push(FieldError::invalid(&at, group, &faults));
        }
        let faults = names::dns_1035_label(number).join(",");
        if number.is_empty() {
            let why = "version must be specified";
            errors.push(FieldError::invalid(&at, version, why));
        } else if !faults.is_empty() {
            errors.push(FieldError::invalid(&at, number, &faults));
        }
    }
    let at = path.child("kind");
    let name = text(kind, "/kind");
    let faults = names::dns_1035_label(&name.to_lowercase()).join(",");
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if !faults.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {faults}");
        errors.push(FieldError::invalid(&at, name, &why));
    }
}

fn variable(variable: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let name = text(variable, "/name");
    let at = path.child("name");
    if name.trim().is_empty() {
        errors.push(FieldError::required(&at, "name is not specified"));
    } else if !is_identifier(name) {
        let why = "name is not a valid CEL identifier";
        errors.push(FieldError::invalid(&at, name, why));
    }
    expression(variable, "expression", path, errors);
}

fn is_identifier(name: &str) -> bool {
    const RESERVED: [&str; 21] = [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ];
    let first = |c: char| c == '_' || c.is_ascii_alphabetic();
    name.starts_with(first)
        && name.chars().all(|c| first(c) || c.is_ascii_digit())
        && !RESERVED.contains(&name)
}

fn expression(holder: &Value, field: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if text(holder, &format!("/{field}")).trim().is_empty() {
        let why = format!("{field} is not specified");
        errors.push(FieldError::required(&path.child(field), &why));
    }
}

fn validation(validation: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    expression(validation, "expression", path, errors);
    let written = text(validation, "/messageExpression");
    if !written.is_empty() && written.trim().is_empty() {
        let path = path.child("messageExpression");
        let why = "must be non-empty if specified";
        errors.push(FieldError::invalid(&path, written, why));
    }
    let message = text(validation, "/message");
    let at = path.child("message");
    if !message.is_empty() && message.trim().is_empty() {
        let why = "message must be non-empty if specified";
        errors.push(FieldError::invalid(&at, message, why));
    } else if message.trim().contains(['\n', '\r']) {
        let why = "message must not contain line breaks";
        errors.push(FieldError::invalid(&at, message, why));
    }
    // `Unauthorized` is known to some releases' clients only.
    let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
    if text(validation, "/reason") != "Unauthorized" {
        names::one_of(errors, validation, "reason", path, &reasons);
    }
}

fn annotations(policy: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let held = items(policy, "/spec/auditAnnotations");
    if held.len() > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(list, held.to_vec(), &why));
    }
    let name = text(policy, "/metadata/name");
    let mut seen = BTreeSet::new();
    for (index, annotation) in held.iter().enumerate() {
        let path = list.index(index);
        let key = text(annotation, "/key");
        let whole = format!("{name}/{key}");
        let at = path.child("key");
        names::check(errors, &at, &whole, names::qualified_name);
        expression(annotation, "valueExpression", &path, errors);
        if text(annotation, "/valueExpression").trim().len() > LONGEST_EXPRESSION {
            let why = format!("must not exceed {LONGEST_EXPRESSION} bytes in length");
            errors.push(FieldError::required(&path.child("valueExpression"), &why));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(&at, key));
        }
    }
}

fn validate_binding(binding: &Value, errors: &mut Vec<FieldError>) {
    let spec = &binding["spec"];
    let path = FieldPath::new("spec");
    bound(spec, &path, errors);
    let list = path.child("validationActions");
    let actions = items(spec, "/validationActions");
    if actions.is_empty() {
        let why = "at least one validation action is required";
        errors.push(FieldError::required(&list, why));
    }
    for (index, action) in actions.iter().enumerate() {
        let path = list.index(index);
        let known = ["Audit", "Deny", "Warn"];
        let held = text(action, "");
        if !known.contains(&held) {
            errors.push(FieldError::not_supported(&path, held, &known));
        }
        if actions[..index].contains(action) {
            errors.push(FieldError::duplicate(&path, held));
        }
    }
    let has = |action: &str| actions.iter().any(|held| *held == action);
    if has("Deny") && has("Warn") {
        errors.push(FieldError::invalid(
            &list,
            actions.to_vec(),
            "must not contain both Deny and Warn (repeating the same validation failure information \
             in the API response and headers serves no purpose)",
        ));
    }
}

/// Judges what both kinds of bindings have: which policy is bound, and to what.
fn bound(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let at = path.child("policyName");
    match text(spec, "/policyName") {
        "" => errors.push(FieldError::required(&at, "")),
        name => names::check(errors, &at, name, names::dns_subdomain),
    }
    if let Some(held) = present(spec, "/paramRef") {
        param_ref(held, &path.child("paramRef"), errors);
    }
    let held = &spec["matchResources"];
    admission_rules::match_resources(held, &path.child("matchResources"), errors);
}

fn param_ref(reference: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let name = text(reference, "/name");
    let selector = present(reference, "/selector");
    if !name.is_empty() {
        names::check(errors, &path.child("name"), name, names::path_segment);
    }
    if let Some(selector) = selector {
        label_selector(selector, &path.child("selector"), errors);
    }
    match (name.is_empty(), selector.is_some()) {
        (false, true) => {
            for field in ["name", "selector"] {
                let why = "name and selector are mutually exclusive";
                errors.push(FieldError::forbidden(&path.child(field), why));
            }
        }
        (true, false) => {
            let why = "one of name or selector must be specified";
            errors.push(FieldError::required(path, why));
        }
        _ => {}
    }
    if text(reference, "/parameterNotFoundAction").is_empty() {
        let path = path.child("parameterNotFoundAction");
        errors.push(FieldError::required(&path, ""));
    }
    let actions = ["Deny", "Allow"];
    names::one_of(errors, reference, "parameterNotFoundAction", path, &actions);
}
