//! MutatingAdmissionPolicies and their bindings: rules beside those that they share with the
//! policies that judge.

use super::{bound, expression, fill, fill_binding, subject};
use crate::kinds::Hooks;
use crate::kinds::field::{items, present, text};
use crate::kinds::names::one_of;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

/// What is to be changed.
pub(in crate::kinds) const POLICY: Hooks = Hooks {
    kind: "admissionregistration.k8s.io/v1 MutatingAdmissionPolicy",
    default: fill,
    validate: |policy, _, errors| validate(policy, errors),
    ..Hooks::NONE
};

/// Of what it is to be changed.
pub(in crate::kinds) const BINDING: Hooks = Hooks {
    kind: "admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding",
    default: fill_binding,
    validate: |binding, _, errors| {
        let path = FieldPath::new("spec");
        bound(&binding["spec"], &path, errors);
        let held = &binding["spec"]["matchResources"];
        operations(held, &path.child("matchResources"), errors);
    },
    ..Hooks::NONE
};

/// What is deleted cannot be changed.
const OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];

/// Types of patches, and the field that holds one of the type.
const PATCHES: [(&str, &str); 2] = [
    ("ApplyConfiguration", "applyConfiguration"),
    ("JSONPatch", "jsonPatch"),
];

fn validate(policy: &Value, errors: &mut Vec<FieldError>) {
    let spec = &policy["spec"];
    let path = FieldPath::new("spec");
    subject(spec, &path, errors);
    let held = &spec["matchConstraints"];
    operations(held, &path.child("matchConstraints"), errors);
    let list = path.child("mutations");
    let mutations = items(spec, "/mutations");
    if mutations.is_empty() {
        let why = "mutations must contain at least one item";
        errors.push(FieldError::required(&list, why));
    }
    for (index, held) in mutations.iter().enumerate() {
        mutation(held, &list.index(index), errors);
    }
    if text(spec, "/reinvocationPolicy").is_empty() {
        let path = path.child("reinvocationPolicy");
        errors.push(FieldError::required(&path, ""));
    }
    let policies = ["IfNeeded", "Never"];
    one_of(errors, spec, "reinvocationPolicy", &path, &policies);
}

/// Kubernetes tells these of the rules' operations together.
fn operations(held: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child("resourceRules").child("operations");
    for rule in items(held, "/resourceRules") {
        for operation in items(rule, "/operations") {
            let operation = text(operation, "");
            if !OPERATIONS.contains(&operation) {
                let error = FieldError::not_supported(&path, operation, &OPERATIONS);
                errors.push(error);
            }
        }
    }
}

fn mutation(mutation: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(mutation, "/patchType");
    let at = path.child("patchType");
    if kind.is_empty() {
        errors.push(FieldError::required(&at, ""));
        return;
    }
    if PATCHES.iter().all(|(known, _)| *known != kind) {
        let known = PATCHES.map(|(known, _)| known);
        errors.push(FieldError::not_supported(&at, kind, &known));
        return;
    }
    for (owner, field) in PATCHES {
        let at = path.child(field);
        match present(mutation, &format!("/{field}")) {
            Some(patch) if owner == kind => expression(patch, "expression", &at, errors),
            Some(_) => {
                let why = format!("must not be specified when patchType is {kind}");
                errors.push(FieldError::invalid(&at, format!("{{{field}}}"), &why));
            }
            None if owner == kind => {
                let why = format!("must be specified when patchType is {kind}");
                errors.push(FieldError::required(&at, &why));
            }
            None => {}
        }
    }
}
