//! Kinds that are served in two versions, or by two groups, of one store: events as core/v1 and
//! events.k8s.io/v1, autoscalers as autoscaling/v1 and v2. The first of each pair below is what is
//! stored; the other is made of it, and it of the other, without loss.

use super::field::{entry, items, map, maybe_int, root, text};
use crate::resource::{self, Resource};
use serde_json::{Map, Value, json};

/// The resource in whose version objects of this one are stored; itself for all but a few.
pub fn stored_as(resource: &'static Resource) -> &'static Resource {
    let stored = match (resource.group, resource.version, resource.kind) {
        ("events.k8s.io", "v1", "Event") => ("", "v1", "events"),
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => {
            ("autoscaling", "v2", "horizontalpodautoscalers")
        }
        _ => return resource,
    };
    resource::by_path(stored.0, stored.1, stored.2).unwrap_or(resource)
}

/// The object in the version of `to`. An object that is of this version already, or of another
/// kind, is returned as it is.
pub fn convert(mut object: Value, to: &Resource) -> Value {
    let from = text(&object, "/apiVersion").to_owned();
    let Some(fields) = root(&mut object) else {
        return object;
    };
    match (from.as_str(), to.api_version, to.kind) {
        ("v1", "events.k8s.io/v1", "Event") => rename(fields, |core, events| (core, events)),
        ("events.k8s.io/v1", "v1", "Event") => rename(fields, |core, events| (events, core)),
        ("autoscaling/v2", "autoscaling/v1", "HorizontalPodAutoscaler") => to_v1(fields),
        ("autoscaling/v1", "autoscaling/v2", "HorizontalPodAutoscaler") => to_v2(fields),
        _ => return object,
    }
    fields.insert("apiVersion".to_owned(), to.api_version.into());
    object
}

/// Names of the same facts in core/v1 and in events.k8s.io/v1.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(
    event: &mut Map<String, Value>,
    direction: fn(&'static str, &'static str) -> (&'static str, &'static str),
) {
    for (core, events) in EVENT_FIELDS {
        let (from, to) = direction(core, events);
        if let Some(value) = event.remove(from) {
            event.insert(to.to_owned(), value);
        }
    }
}

/// What version 1 has no field for, kept in annotations, as JSON of version 2.
const KEPT: [(&str, &str, &str); 4] = [
    ("spec", "metrics", "autoscaling.alpha.kubernetes.io/metrics"),
    (
        "spec",
        "behavior",
        "autoscaling.alpha.kubernetes.io/behavior",
    ),
    (
        "status",
        "currentMetrics",
        "autoscaling.alpha.kubernetes.io/current-metrics",
    ),
    (
        "status",
        "conditions",
        "autoscaling.alpha.kubernetes.io/conditions",
    ),
];

/// The metric that version 1 has a field for: the CPU's average use.
fn is_cpu(metric: &Value, part: &str) -> bool {
    text(metric, "/type") == "Resource"
        && text(metric, "/resource/name") == "cpu"
        && maybe_int(metric, &format!("/resource/{part}/averageUtilization")).is_some()
}

fn to_v1(scaler: &mut Map<String, Value>) {
    for (holder, list, part, field) in [
        (
            "spec",
            "metrics",
            "target",
            "targetCPUUtilizationPercentage",
        ),
        (
            "status",
            "currentMetrics",
            "current",
            "currentCPUUtilizationPercentage",
        ),
    ] {
        let Some(holder) = scaler.get_mut(holder).and_then(Value::as_object_mut) else {
            continue;
        };
        let metrics = holder.get(list).map_or(&[][..], |held| items(held, ""));
        let cpu = metrics.iter().position(|metric| is_cpu(metric, part));
        let Some(at) = cpu else { continue };
        let pointer = format!("/resource/{part}/averageUtilization");
        let percentage = maybe_int(&metrics[at], &pointer);
        let rest: Vec<Value> = metrics
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != at)
            .map(|(_, metric)| metric.clone())
            .collect();
        holder.insert(field.to_owned(), json!(percentage));
        holder.insert(list.to_owned(), rest.into());
    }
    for (holder, field, annotation) in KEPT {
        let held = scaler
            .get_mut(holder)
            .and_then(Value::as_object_mut)
            .and_then(|holder| holder.remove(field))
            .filter(|held| !held.is_null() && *held != json!([]));
        if let Some(held) = held
            && let Some(annotations) = annotations(scaler)
        {
            annotations.insert(annotation.to_owned(), held.to_string().into());
        }
    }
    if let Some(status) = scaler.get_mut("status").and_then(Value::as_object_mut) {
        status.entry("currentReplicas").or_insert(0.into());
    }
}

fn to_v2(scaler: &mut Map<String, Value>) {
    for (holder, field, annotation) in KEPT {
        let kept = annotations(scaler)
            .and_then(|annotations| annotations.remove(annotation))
            .and_then(|text| serde_json::from_str::<Value>(text.as_str()?).ok());
        if let Some(kept) = kept
            && let Some(holder) = entry(scaler, holder)
        {
            holder.insert(field.to_owned(), kept);
        }
    }
    for (holder, list, part, field) in [
        (
            "spec",
            "metrics",
            "target",
            "targetCPUUtilizationPercentage",
        ),
        (
            "status",
            "currentMetrics",
            "current",
            "currentCPUUtilizationPercentage",
        ),
    ] {
        let Some(holder) = scaler.get_mut(holder).and_then(Value::as_object_mut) else {
            continue;
        };
        let Some(percentage) = holder.remove(field).and_then(|held| held.as_i64()) else {
            continue;
        };
        let mut value = json!({"averageUtilization": percentage});
        if part == "target" {
            value["type"] = "Utilization".into();
        }
        let mut metrics =
            vec![json!({"type": "Resource", "resource": {"name": "cpu", part: value}})];
        if let Some(Value::Array(others)) = holder.remove(list) {
            metrics.extend(others);
        }
        holder.insert(list.to_owned(), metrics.into());
    }
    let bare =
        map(&Value::Object(scaler.clone()), "/metadata/annotations").is_some_and(Map::is_empty);
    if bare && let Some(metadata) = entry(scaler, "metadata") {
        metadata.remove("annotations");
    }
}

fn annotations(scaler: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    entry(entry(scaler, "metadata")?, "annotations")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(group: &str, version: &str, plural: &str) -> &'static Resource {
        resource::by_path(group, version, plural).expect("served")
    }

    #[test]
    fn events_of_both_groups_are_one() {
        let core = find("", "v1", "events");
        let events = find("events.k8s.io", "v1", "events");
        assert!(std::ptr::eq(stored_as(events), core));
        assert!(std::ptr::eq(stored_as(core), core));
        let stored = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "p"}, "message": "m", "reason": "R", "type": "Normal",
            "source": {"component": "c"}, "count": 2, "firstTimestamp": "2026-11-21T10:00:00Z",
            "lastTimestamp": "2026-11-21T10:00:01Z", "reportingComponent": "c"});
        let shown = convert(stored.clone(), events);
        assert_eq!(shown["apiVersion"], "events.k8s.io/v1");
        assert_eq!(shown["regarding"]["name"], "p");
        assert_eq!(shown["note"], "m");
        assert_eq!(shown["deprecatedCount"], 2);
        assert_eq!(shown.get("involvedObject"), None);
        assert_eq!(convert(shown, core), stored);
        assert_eq!(convert(stored.clone(), core), stored);
    }

    #[test]
    fn autoscalers_lose_nothing_in_the_old_version() {
        let new = find("autoscaling", "v2", "horizontalpodautoscalers");
        let old = find("autoscaling", "v1", "horizontalpodautoscalers");
        assert!(std::ptr::eq(stored_as(old), new));
        let stored = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}}, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 60}}}]},
            "status": {"currentReplicas": 1, "desiredReplicas": 2, "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 10}}}]}});
        let shown = convert(stored.clone(), old);
        assert_eq!(shown["spec"]["targetCPUUtilizationPercentage"], 80);
        assert_eq!(shown["status"]["currentCPUUtilizationPercentage"], 10);
        assert_eq!(shown["spec"].get("metrics"), None);
        assert_eq!(convert(shown, new), stored);
        let body = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let made = convert(body.clone(), new);
        assert_eq!(
            made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
            50
        );
        assert_eq!(convert(made, old), body);
    }

    #[test]
    fn odd_objects_are_left_alone() {
        let old = find("autoscaling", "v1", "horizontalpodautoscalers");
        for odd in [
            json!(null),
            json!([]),
            json!({"apiVersion": "autoscaling/v2", "spec": 1, "metadata": 2, "status": []}),
        ] {
            convert(odd, old);
        }
    }
}
