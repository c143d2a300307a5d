//! Rules of when a container is restarted by itself, whatever its pod's policy says.

use crate::kinds::field::{items, present, text};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const MOST_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;

/// Judges `restartPolicy` and `restartPolicyRules` (`validateContainerRestartPolicy`).
pub(super) fn validate(container: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let rules = items(container, "/restartPolicyRules");
    let at = path.child("restartPolicy");
    let policy = text(container, "/restartPolicy");
    if policy.is_empty() {
        if !rules.is_empty() {
            let why = "must specify restartPolicy when restart rules are used";
            errors.push(FieldError::required(&at, why));
        }
    } else if !POLICIES.contains(&policy) {
        errors.push(FieldError::not_supported(&at, policy, &POLICIES));
    }
    let list = path.child("restartPolicyRules");
    if rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&list, rules.len(), MOST_RULES));
    }
    for (index, held) in rules.iter().enumerate() {
        rule(held, &list.index(index), errors);
    }
}

fn rule(rule: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let action = text(rule, "/action");
    if !ACTIONS.contains(&action) {
        let path = path.child("action");
        errors.push(FieldError::not_supported(&path, action, &ACTIONS));
    }
    let path = path.child("exitCodes");
    let Some(codes) = present(rule, "/exitCodes") else {
        errors.push(FieldError::required(&path, "must be specified"));
        return;
    };
    let operator = text(codes, "/operator");
    if !OPERATORS.contains(&operator) {
        let path = path.child("operator");
        errors.push(FieldError::not_supported(&path, operator, &OPERATORS));
    }
    let values = items(codes, "/values");
    if values.len() > MOST_EXIT_CODES {
        let path = path.child("values");
        let error = FieldError::too_many(&path, values.len(), MOST_EXIT_CODES);
        errors.push(error);
    }
}
