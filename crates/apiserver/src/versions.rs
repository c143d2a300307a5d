//! Two views of the same objects: `events.k8s.io/v1` of core Events, `autoscaling/v1` of v2
//! HorizontalPodAutoscalers. Stored is always the second; these functions turn one into the other.

use std::borrow::Cow;

use api::{Object, Resource, Status};
use serde_json::{Map, Value, json};

/// Fields of an Event: in core/v1, in events.k8s.io/v1.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A resource whose objects are stored in another version's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Event,
    Autoscaler,
}

fn view(resource: &Resource) -> Option<View> {
    match (resource.group, resource.version, resource.plural) {
        ("events.k8s.io", _, "events") => Some(View::Event),
        ("autoscaling", "v1", "horizontalpodautoscalers") => Some(View::Autoscaler),
        _ => None,
    }
}

/// Whether objects of the resource are stored as they are served.
pub(crate) fn stored_as_served(resource: &Resource) -> bool {
    view(resource).is_none()
}

/// The object as the resource serves it.
pub(crate) fn served<'a>(
    resource: &Resource,
    object: &'a Object,
) -> Result<Cow<'a, Object>, Status> {
    let Some(view) = view(resource) else {
        return Ok(Cow::Borrowed(object));
    };
    let unreadable = |e: api::object::ObjectError| Status::internal(e.to_string());
    let tree = to_served(view, object.value().map_err(unreadable)?);
    let bytes = api::object::to_stored(tree);
    let object = Object::from_stored(&bytes, object.revision()).map_err(unreadable)?;
    Ok(Cow::Owned(object))
}

/// The object as it is stored. `old` is the stored object that it takes the place of.
pub(crate) fn stored(resource: &Resource, mut object: Value, old: Option<&Value>) -> Value {
    match view(resource) {
        None => {}
        Some(View::Event) => {
            rename(&mut object, EVENT_FIELDS.map(|(core, new)| (new, core)));
            object["apiVersion"] = "v1".into();
        }
        Some(View::Autoscaler) => {
            let kept = old.and_then(|o| o.pointer("/spec/metrics")?.as_array());
            let mut metrics: Vec<Value> = kept
                .into_iter()
                .flatten()
                .filter(|m| !is_cpu(m))
                .cloned()
                .collect();
            let spec = object.get_mut("spec").and_then(Value::as_object_mut);
            if let Some(target) = spec.and_then(|s| s.remove("targetCPUUtilizationPercentage")) {
                metrics.push(cpu("target", "averageUtilization", &target));
            }
            if !metrics.is_empty() {
                object["spec"]["metrics"] = metrics.into();
            }
            let status = object.get_mut("status").and_then(Value::as_object_mut);
            if let Some(now) = status.and_then(|s| s.remove("currentCPUUtilizationPercentage")) {
                object["status"]["currentMetrics"] =
                    json!([cpu("current", "averageUtilization", &now)]);
            }
            object["apiVersion"] = "autoscaling/v2".into();
        }
    }
    object
}

fn to_served(view: View, mut object: Value) -> Value {
    match view {
        View::Event => {
            rename(&mut object, EVENT_FIELDS);
            object["apiVersion"] = "events.k8s.io/v1".into();
        }
        View::Autoscaler => {
            let take = |object: &mut Value, part: &str, list: &str, path: &str| {
                let metrics = object.get_mut(part)?.as_object_mut()?.remove(list)?;
                let metric = metrics.as_array()?.iter().find(|m| is_cpu(m))?;
                metric.pointer(path).cloned()
            };
            let target = "/resource/target/averageUtilization";
            if let Some(target) = take(&mut object, "spec", "metrics", target) {
                object["spec"]["targetCPUUtilizationPercentage"] = target;
            }
            let current = "/resource/current/averageUtilization";
            if let Some(now) = take(&mut object, "status", "currentMetrics", current) {
                object["status"]["currentCPUUtilizationPercentage"] = now;
            }
            object["apiVersion"] = "autoscaling/v1".into();
        }
    }
    object
}

fn rename<'a>(object: &mut Value, fields: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for (from, to) in fields {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn cpu(part: &str, field: &str, value: &Value) -> Value {
    let mut measured = Map::new();
    if part == "target" {
        measured.insert("type".to_owned(), "Utilization".into());
    }
    measured.insert(field.to_owned(), value.clone());
    json!({"type": "Resource", "resource": {"name": "cpu", part: measured}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(group: &str, version: &str, plural: &str) -> &'static Resource {
        api::resource::by_path(group, version, plural).unwrap()
    }

    fn there_and_back(resource: &Resource, served_form: Value) -> Value {
        let stored_form = stored(resource, served_form.clone(), None);
        let bytes = stored_form.to_string();
        let object = Object::from_stored(bytes.as_bytes(), 7).unwrap();
        let mut back = served(resource, &object).unwrap().value().unwrap();
        back["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        assert_eq!(back, served_form);
        stored_form
    }

    #[test]
    fn events() {
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
            "regarding": {"kind": "Pod"}, "note": "hello", "reason": "R", "deprecatedCount": 2});
        let core = there_and_back(resource("events.k8s.io", "v1", "events"), new);
        assert_eq!(core["involvedObject"]["kind"], "Pod");
        assert_eq!(
            (&core["message"], &core["apiVersion"]),
            (&json!("hello"), &json!("v1"))
        );
    }

    #[test]
    fn autoscalers() {
        let old = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let v1 = resource("autoscaling", "v1", "horizontalpodautoscalers");
        let v2 = there_and_back(v1, old.clone());
        let target = "/spec/metrics/0/resource/target/averageUtilization";
        assert_eq!(v2.pointer(target), Some(&json!(50)));
        let before = json!({"spec": {"metrics": [{"type": "Pods"}, {"type": "Resource", "resource": {"name": "cpu"}}]}});
        let kept = stored(v1, old, Some(&before));
        assert_eq!(kept["spec"]["metrics"].as_array().unwrap().len(), 2);
        assert_eq!(kept["spec"]["metrics"][0]["type"], "Pods");
    }

    #[test]
    fn others_are_as_they_are() {
        assert!(stored_as_served(resource("", "v1", "events")));
        assert!(stored_as_served(resource(
            "autoscaling",
            "v2",
            "horizontalpodautoscalers"
        )));
    }
}
