//! PriorityLevelConfigurations: how much of the server a level of priority may use.

use super::Hooks;
use super::field::{int, maybe_int, present, text};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration",
    validate,
    ..Hooks::NONE
};

const MOST_QUEUES: i64 = 10_000_000;
/// Bits of the hash by which requests are dealt to queues.
const HASH_BITS: i64 = 60;

fn validate(level: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &level["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    let kind = text(spec, "/type");
    if (text(level, "/metadata/name") == "exempt") != (kind == "Exempt") {
        errors.push(FieldError::invalid(
            &path.child("type"),
            kind,
            "type must be 'Exempt' if and only if name is 'exempt'",
        ));
    }
    let limited = present(spec, "/limited");
    let at = path.child("limited");
    match (kind, limited) {
        ("Exempt", Some(_)) => errors.push(FieldError::forbidden(
            &at,
            "must be nil if the type is not Limited",
        )),
        ("Limited", None) => errors.push(FieldError::required(
            &at,
            "must not be empty when type is Limited",
        )),
        ("Limited", Some(held)) => validate_limited(held, &at, errors),
        ("Exempt", None) => {}
        _ => errors.push(FieldError::not_supported(
            &path.child("type"),
            kind,
            &["Exempt", "Limited"],
        )),
    }
}

fn validate_limited(limited: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for (field, range, why) in [
        (
            "nominalConcurrencyShares",
            0..=i64::MAX,
            "must be a non-negative integer",
        ),
        (
            "lendablePercent",
            0..=100,
            "must be between 0 and 100, inclusive",
        ),
        (
            "borrowingLimitPercent",
            0..=i64::MAX,
            "if specified, must be a non-negative integer",
        ),
    ] {
        let given = maybe_int(limited, &format!("/{field}"));
        if let Some(number) = given.filter(|number| !range.contains(number)) {
            errors.push(FieldError::invalid(&path.child(field), number, why));
        }
    }
    let response = &limited["limitResponse"];
    let path = path.child("limitResponse");
    let queuing = present(response, "/queuing");
    let at = path.child("queuing");
    match (text(response, "/type"), queuing) {
        ("Reject", Some(_)) => errors.push(FieldError::forbidden(
            &at,
            "must be nil if limited.limitResponse.type is not Limited",
        )),
        ("Queue", None) => errors.push(FieldError::required(
            &at,
            "must not be empty if limited.limitResponse.type is Limited",
        )),
        ("Queue", Some(held)) => validate_queuing(held, &at, errors),
        ("Reject", None) => {}
        (other, _) => errors.push(FieldError::not_supported(
            &path.child("type"),
            other,
            &["Queue", "Reject"],
        )),
    }
}

/// What is left out, or 0, means what its default says.
fn validate_queuing(queuing: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let given = |field: &str, default: i64| match int(queuing, &format!("/{field}")) {
        0 => default,
        number => number,
    };
    let limit = given("queueLengthLimit", 50);
    let (queues, hand) = (given("queues", 64), given("handSize", 8));
    for (field, number) in [
        ("queueLengthLimit", limit),
        ("queues", queues),
        ("handSize", hand),
    ] {
        if number <= 0 {
            let path = path.child(field);
            errors.push(FieldError::invalid(&path, number, "must be positive"));
        }
    }
    if queues > MOST_QUEUES {
        let why = format!("must not be greater than {MOST_QUEUES}");
        errors.push(FieldError::invalid(&path.child("queues"), queues, &why));
    }
    if queues <= 0 || hand <= 0 {
        return;
    }
    let entropy = ((queues as f64).log2() * hand as f64).ceil();
    let why = if hand > queues {
        format!("should not be greater than queues ({queues})")
    } else if entropy > HASH_BITS as f64 {
        format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        )
    } else {
        return;
    };
    errors.push(FieldError::invalid(&path.child("handSize"), hand, &why));
}
