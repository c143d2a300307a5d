//! `PodMetrics` and `NodeMetrics`, as metrics-server words them.

use std::collections::BTreeSet;

use api::quantity::{Notation, Quantity};
use api::status::Subject;
use api::{Object, Resource, Status, time};
use client::node::CpuRate;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answers::Usage;

const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// Nothing if none of the pod's containers runs, or one of them began this moment.
pub(super) fn pod(pod: &Object, usage: &Usage) -> Option<Value> {
    let running = usage.pods.get(pod.uid())?;
    let mut names = names(pod);
    let mut containers = Vec::with_capacity(names.len());
    let mut longest = 0;
    // Each of the pod's own, and once, whatever its node says.
    for container in running.iter().filter(|c| names.remove(&c.name)) {
        let rate = container.cpu_rate?;
        longest = longest.max(rate.window_nanos);
        containers.push(json!({
            "name": container.name,
            "usage": used(rate, container.memory_bytes),
        }));
    }
    if containers.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "PodMetrics",
        "apiVersion": API_VERSION,
        "metadata": metadata(pod, usage),
        "timestamp": time::format(usage.at),
        "window": window(longest),
        "containers": containers,
    }))
}

/// What the pod's spec calls its containers.
fn names(pod: &Object) -> BTreeSet<String> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Containing {
        spec: Spec,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Spec {
        init_containers: Vec<Named>,
        containers: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let spec = pod.view::<Containing>().unwrap_or_default().spec;
    let all = spec.init_containers.into_iter().chain(spec.containers);
    all.map(|container| container.name).collect()
}

/// Nothing of a node whose agent began this moment.
pub(super) fn node(node: &Object, usage: &Usage) -> Option<Value> {
    let rate = usage.node.cpu_rate?;
    Some(json!({
        "kind": "NodeMetrics",
        "apiVersion": API_VERSION,
        "metadata": metadata(node, usage),
        "timestamp": time::format(usage.at),
        "window": window(rate.window_nanos),
        "usage": used(rate, usage.node.memory_bytes),
    }))
}

/// 404 where there are none: of pods the name alone would not say which.
pub(super) fn unknown(resource: &'static Resource, namespace: Option<&str>, name: &str) -> Status {
    let whole = match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    let subject = Subject {
        group: resource.group,
        name: resource.singular,
    };
    Status::not_found(subject, &whole)
}

fn metadata(user: &Object, usage: &Usage) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), user.name().into());
    if !user.namespace().is_empty() {
        metadata.insert("namespace".to_owned(), user.namespace().into());
    }
    if !user.labels().is_empty() {
        let labels = user.labels().iter();
        let labels: Map<String, Value> = labels
            .map(|(key, value)| (key.to_string(), Value::from(&**value)))
            .collect();
        metadata.insert("labels".to_owned(), labels.into());
    }
    metadata.insert(
        "creationTimestamp".to_owned(),
        time::format(usage.at).into(),
    );
    metadata.into()
}

fn used(rate: CpuRate, memory: u64) -> Value {
    let memory = i64::try_from(memory).unwrap_or(i64::MAX);
    json!({
        "cpu": Quantity::from_nanos(rate.nano_cores).to_string(),
        "memory": Quantity::from_value(memory, Notation::BinarySi).to_string(),
    })
}

/// In milliseconds: what is finer nobody reads.
fn window(nanos: u64) -> String {
    let millis = i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX);
    time::format_duration(millis.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use client::node::{ContainerStats, NodeStats, PodStats, StatsResponse};

    use super::*;

    fn rate(nano_cores: u64, window_millis: u64) -> Option<CpuRate> {
        Some(CpuRate {
            nano_cores,
            window_nanos: window_millis * 1_000_000 + 999,
        })
    }

    fn container(name: &str, memory_bytes: u64, cpu_rate: Option<CpuRate>) -> ContainerStats {
        ContainerStats {
            name: name.to_owned(),
            memory_bytes,
            cpu_rate,
            ..ContainerStats::default()
        }
    }

    fn usage(containers: Vec<ContainerStats>) -> Usage {
        let pod = PodStats {
            uid: "u".to_owned(),
            containers,
            ..PodStats::default()
        };
        let node = NodeStats {
            memory_bytes: 1 << 30,
            cpu_rate: rate(250_000_000, 20_500),
            ..NodeStats::default()
        };
        let answer = StatsResponse {
            time: 1_800_000_000_123_456_789,
            node: Some(node),
            pods: vec![pod],
        };
        Usage::read(answer)
    }

    fn object(metadata: Value) -> Object {
        let spec = json!({"initContainers": [{"name": "b"}], "containers": [{"name": "a"}]});
        let object = json!({"metadata": metadata, "spec": spec}).to_string();
        Object::from_stored(object.as_bytes(), 5).unwrap()
    }

    #[test]
    fn what_a_pod_uses_in_metrics_servers_words() {
        let web =
            object(json!({"name": "p", "namespace": "demo", "uid": "u", "labels": {"app": "web"}}));
        let both = usage(vec![
            container("a", 1_263_616, rate(12_345, 15_001)),
            container("b", 100, rate(0, 3_600_000)),
            // What a node may say besides.
            container("a", 7, rate(7, 7_200_000)),
            container("of-no-pod", 7, rate(7, 7_200_000)),
        ]);
        assert_eq!(
            pod(&web, &both),
            Some(json!({
                "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": "p", "namespace": "demo", "labels": {"app": "web"},
                    "creationTimestamp": "2027-01-15T08:00:00Z"},
                "timestamp": "2027-01-15T08:00:00Z", "window": "1h0m0s",
                "containers": [
                    {"name": "a", "usage": {"cpu": "12345n", "memory": "1234Ki"}},
                    {"name": "b", "usage": {"cpu": "0", "memory": "100"}},
                ],
            }))
        );
        // Nothing runs, something has just begun, and another pod of that name.
        assert_eq!(pod(&web, &usage(Vec::new())), None);
        let young = vec![container("a", 1, rate(1, 15_000)), container("b", 1, None)];
        assert_eq!(pod(&web, &usage(young)), None);
        let other = object(json!({"name": "p", "namespace": "demo", "uid": "v"}));
        assert_eq!(pod(&other, &both), None);
    }

    #[test]
    fn what_a_node_uses() {
        let n1 = object(json!({"name": "n1", "uid": "n"}));
        let mut usage = usage(Vec::new());
        assert_eq!(
            node(&n1, &usage),
            Some(json!({
                "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": "n1", "creationTimestamp": "2027-01-15T08:00:00Z"},
                "timestamp": "2027-01-15T08:00:00Z", "window": "20.5s",
                "usage": {"cpu": "250m", "memory": "1Gi"},
            }))
        );
        usage.node.cpu_rate = None;
        assert_eq!(node(&n1, &usage), None);
    }

    #[test]
    fn where_there_is_nothing_to_tell_it_says_of_whom() {
        let of = |kind| api::resource::by_kind(API_VERSION, kind).unwrap();
        let pod = unknown(of("PodMetrics"), Some("demo"), "p");
        assert_eq!(pod.code, 404);
        assert_eq!(
            pod.message,
            "podmetrics.metrics.k8s.io \"demo/p\" not found"
        );
        let node = unknown(of("NodeMetrics"), None, "n1");
        assert_eq!(node.message, "nodemetrics.metrics.k8s.io \"n1\" not found");
    }
}
