//! Rows of the kinds that say who may do what, and of those that judge requests.

use super::age::human_duration;
use super::cell::{age, count, name, number, number_or, or, or_none, selector, string, words};
use crate::kinds::field::{items, maybe_int, present, text};
use jiff::Timestamp;
use serde_json::Value;

pub(super) fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| -> Vec<Value> {
        items(object, "/subjects")
            .iter()
            .filter(|subject| text(subject, "/kind") == kind)
            .cloned()
            .collect()
    };
    let accounts: Vec<String> = subjects("ServiceAccount")
        .iter()
        .map(|subject| format!("{}/{}", text(subject, "/namespace"), text(subject, "/name")))
        .collect();
    vec![
        name(object),
        format!(
            "{}/{}",
            text(object, "/roleRef/kind"),
            text(object, "/roleRef/name")
        )
        .into(),
        age(object, now),
        words(&subjects("User"), "/name", ", ").into(),
        words(&subjects("Group"), "/name", ", ").into(),
        accounts.join(", ").into(),
    ]
}

pub(super) fn certificate_signing_request(object: &Value, now: Timestamp) -> Vec<Value> {
    let has = |kind: &str| {
        items(object, "/status/conditions")
            .iter()
            .any(|condition| text(condition, "/type") == kind)
    };
    let mut status = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !text(object, "/status/certificate").is_empty() {
        status.push_str(",Issued");
    }
    vec![
        name(object),
        age(object, now),
        or_none(text(object, "/spec/signerName")).into(),
        string(object, "/spec/username"),
        maybe_int(object, "/spec/expirationSeconds")
            .map_or_else(|| "<none>".to_owned(), human_duration)
            .into(),
        status.into(),
    ]
}

pub(super) fn webhooks(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), count(object, "/webhooks"), age(object, now)]
}

pub(super) fn validating_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    policy(object, "/spec/validations", now)
}

pub(super) fn mutating_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    policy(object, "/spec/mutations", now)
}

fn policy(object: &Value, rules: &str, now: Timestamp) -> Vec<Value> {
    let parameter = present(object, "/spec/paramKind")
        .map(|kind| format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind")));
    vec![
        name(object),
        count(object, rules),
        parameter.as_deref().unwrap_or("<unset>").into(),
        age(object, now),
    ]
}

pub(super) fn policy_binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameter = match text(object, "/spec/paramRef/name") {
        "" if present(object, "/spec/paramRef/selector").is_some() => {
            selector(object, "/spec/paramRef/selector")
        }
        "" => "<unset>".to_owned(),
        // Without a namespace it may be cluster-scoped or in any: the table cannot tell.
        name => format!(
            "{}/{name}",
            or(text(object, "/spec/paramRef/namespace"), "*")
        ),
    };
    vec![
        name(object),
        string(object, "/spec/policyName"),
        parameter.into(),
        age(object, now),
    ]
}

pub(super) fn flow_schema(object: &Value, now: Timestamp) -> Vec<Value> {
    let dangling = items(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == "Dangling")
        .map(|condition| text(condition, "/status"));
    vec![
        name(object),
        string(object, "/spec/priorityLevelConfiguration/name"),
        number(object, "/spec/matchingPrecedence"),
        or_none(text(object, "/spec/distinguisherMethod/type")).into(),
        age(object, now),
        dangling.unwrap_or("?").into(),
    ]
}

pub(super) fn priority_level(object: &Value, now: Timestamp) -> Vec<Value> {
    let shares = maybe_int(object, "/spec/limited/nominalConcurrencyShares")
        .or_else(|| maybe_int(object, "/spec/exempt/nominalConcurrencyShares"));
    let queuing = |field: &str| {
        number_or(
            object,
            &format!("/spec/limited/limitResponse/queuing/{field}"),
            "<none>",
        )
    };
    vec![
        name(object),
        string(object, "/spec/type"),
        shares.map_or_else(|| "<none>".into(), |shares| shares.to_string().into()),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        age(object, now),
    ]
}

pub(super) fn api_service(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = present(object, "/spec/service").map_or_else(
        || "Local".to_owned(),
        |service| format!("{}/{}", text(service, "/namespace"), text(service, "/name")),
    );
    let available = items(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == "Available");
    let available = match available {
        None => "Unknown".to_owned(),
        Some(condition) if text(condition, "/status") == "True" => "True".to_owned(),
        Some(condition) => format!(
            "{} ({})",
            text(condition, "/status"),
            text(condition, "/reason")
        ),
    };
    vec![
        name(object),
        service.into(),
        available.into(),
        age(object, now),
    ]
}
