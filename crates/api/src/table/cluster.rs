//! Rows of nodes, namespaces, plain data, events and the other kinds without a group of their own.

use super::age;
use super::cell::{age, condition, count, name, number, or, or_none, string};
use crate::kinds::field::{flag, int, items, map, text};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let address = |kind: &str| -> Value {
        let found = items(object, "/status/addresses")
            .iter()
            .find(|address| text(address, "/type") == kind);
        or_none(found.map_or("", |address| text(address, "/address"))).into()
    };
    let info = |field: &str| -> Value {
        or(
            text(object, &format!("/status/nodeInfo/{field}")),
            "<unknown>",
        )
        .into()
    };
    vec![
        name(object),
        node_status(object).into(),
        or_none(&roles(object)).into(),
        age(object, now),
        string(object, "/status/nodeInfo/kubeletVersion"),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn node_status(node: &Value) -> String {
    let ready = match condition(node, "Ready") {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if flag(node, "/spec/unschedulable") {
        format!("{ready},SchedulingDisabled")
    } else {
        ready.to_owned()
    }
}

/// The roles that a node's labels claim, sorted: `node-role.kubernetes.io/ROLE` and `kubernetes.io/role=ROLE`.
fn roles(node: &Value) -> String {
    let roles: BTreeSet<&str> = map(node, "/metadata/labels")
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str(),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

pub(super) fn component_status(object: &Value, _now: Timestamp) -> Vec<Value> {
    let healthy = items(object, "/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == "Healthy");
    let field = |pointer: &str| healthy.map_or("", |condition| text(condition, pointer));
    let status = match field("/status") {
        "True" => "Healthy",
        "False" => "Unhealthy",
        _ => "Unknown",
    };
    vec![
        name(object),
        status.into(),
        field("/message").into(),
        field("/error").into(),
    ]
}

pub(super) fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        string(object, "/status/phase"),
        age(object, now),
    ]
}

pub(super) fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let keys = ["/data", "/binaryData"]
        .into_iter()
        .map(|field| map(object, field).map_or(0, serde_json::Map::len))
        .sum::<usize>();
    vec![name(object), keys.into(), age(object, now)]
}

pub(super) fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        string(object, "/type"),
        count(object, "/data"),
        age(object, now),
    ]
}

pub(super) fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        string(object, "/spec/holderIdentity"),
        age(object, now),
    ]
}

pub(super) fn runtime_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), string(object, "/handler"), age(object, now)]
}

pub(super) fn priority_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        number(object, "/value"),
        flag(object, "/globalDefault").into(),
        age(object, now),
        string(object, "/preemptionPolicy"),
    ]
}

pub(super) fn resource_quota(object: &Value, now: Timestamp) -> Vec<Value> {
    // Sorted here: the map's own order may be that of the document.
    let hard: BTreeMap<&str, &str> = map(object, "/status/hard")
        .into_iter()
        .flatten()
        .map(|(resource, hard)| (resource.as_str(), hard.as_str().unwrap_or_default()))
        .collect();
    let mut requests = Vec::new();
    let mut limits = Vec::new();
    for (resource, hard) in hard {
        let used = map(object, "/status/used")
            .and_then(|used| used.get(resource))
            .and_then(Value::as_str)
            .unwrap_or("0");
        let column = if resource.starts_with("limits.") {
            &mut limits
        } else {
            &mut requests
        };
        column.push(format!("{resource}: {used}/{hard}"));
    }
    vec![
        name(object),
        requests.join(", ").into(),
        limits.join(", ").into(),
        age(object, now),
    ]
}

/// Both forms of an event: core/v1 and events.k8s.io/v1 name the same facts differently.
pub(super) fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let either = |core: &str, events: &str| -> String {
        or(text(object, core), text(object, events)).to_owned()
    };
    let event_time = text(object, "/eventTime");
    let first = either("/firstTimestamp", "/deprecatedFirstTimestamp");
    let first = age::since(or(&first, event_time), now);
    let last = either("/lastTimestamp", "/deprecatedLastTimestamp");
    let series = text(object, "/series/lastObservedTime");
    let last = match (series, last.as_str()) {
        ("", "") => first.clone(),
        ("", last) => age::since(last, now),
        (series, _) => age::since(series, now),
    };
    let count = [
        int(object, "/series/count"),
        int(object, "/count"),
        int(object, "/deprecatedCount"),
        1,
    ]
    .into_iter()
    .find(|count| *count != 0);
    let kind = either("/involvedObject/kind", "/regarding/kind").to_lowercase();
    let target = match either("/involvedObject/name", "/regarding/name") {
        name if name.is_empty() => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        string(object, "/type"),
        string(object, "/reason"),
        target.into(),
        either("/involvedObject/fieldPath", "/regarding/fieldPath").into(),
        event_source(object).into(),
        either("/message", "/note").trim().into(),
        first.into(),
        count.into(),
        name(object),
    ]
}

fn event_source(event: &Value) -> String {
    let first = |pointers: [&str; 4]| {
        pointers
            .into_iter()
            .map(|pointer| text(event, pointer))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    };
    let component = first([
        "/source/component",
        "/deprecatedSource/component",
        "/reportingComponent",
        "/reportingController",
    ]);
    let instance = first([
        "/source/host",
        "/deprecatedSource/host",
        "/reportingInstance",
        "/reportingInstance",
    ]);
    if instance.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {instance}")
    }
}

pub(super) fn resource_claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let deleted = !text(object, "/metadata/deletionTimestamp").is_empty();
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if map(object, "/status/allocation").is_some() {
        states.push("allocated");
        if !items(object, "/status/reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    vec![name(object), states.join(",").into(), age(object, now)]
}

pub(super) fn resource_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        string(object, "/spec/nodeName"),
        string(object, "/spec/driver"),
        string(object, "/spec/pool/name"),
        age(object, now),
    ]
}
