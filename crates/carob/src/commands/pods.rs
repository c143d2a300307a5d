//! Pods as users name them: by their own names, or by what they belong to.

use anyhow::{Result, bail};
use client::{Client, ListOptions, Object};
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::target;

/// The pod that is meant: itself, or one of those that the named object selects, a ready one before one that only runs,
/// and that before others.
pub(super) async fn pod_of(client: &Client, namespace: &str, named: &str) -> Result<String> {
    let Some((kind, name)) = named.split_once('/') else {
        return Ok(named.to_owned());
    };
    let resource = target::resource(kind)?;
    if resource.kind == Pod::KIND {
        return Ok(name.to_owned());
    }
    let owner = client.untyped(resource).get(namespace, name).await?.0;
    let Some(labels) = selector(&owner["spec"]["selector"]) else {
        bail!("{named} selects no pods: name a pod");
    };
    let options = ListOptions::namespace(namespace).labels(labels);
    let pods = client.of::<Pod>().list(&options).await?.items;
    let ready = pods.iter().find(|pod| is_ready(pod));
    let Some(chosen) = ready.or_else(|| pods.iter().find(|pod| runs(pod)).or(pods.last())) else {
        bail!("{named} has no pods");
    };
    if pods.len() > 1 {
        eprintln!("carob: {} pods, this is {}", pods.len(), chosen.name());
    }
    Ok(chosen.name().to_owned())
}

/// Whether some container of the pod runs.
pub(super) fn runs(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.filter(|c| c.type_ == "Ready" && c.status == "True");
    runs(pod) && ready.count() > 0
}

/// An object's selector as the API's lists take it: that of workloads, or the labels alone that Services have. None
/// where it selects nothing.
fn selector(selector: &Value) -> Option<String> {
    let labels = match selector
        .get("matchLabels")
        .or(selector.get("matchExpressions"))
    {
        Some(_) => selector.get("matchLabels"),
        None => Some(selector),
    };
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let expressions = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten();
    let all: Option<Vec<String>> = labels
        .map(Some)
        .chain(expressions.map(requirement))
        .collect();
    all.filter(|all| !all.is_empty()).map(|all| all.join(","))
}

/// One of `matchExpressions`.
fn requirement(expression: &Value) -> Option<String> {
    let key = expression["key"].as_str()?;
    let values = expression["values"].as_array().into_iter().flatten();
    let values: Vec<&str> = values.filter_map(Value::as_str).collect();
    let values = values.join(",");
    Some(match expression["operator"].as_str()? {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "Exists" => key.to_owned(),
        "DoesNotExist" => format!("!{key}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_of_services_and_workloads() {
        let expressions = json!([
            {"key": "a", "operator": "In", "values": ["1", "2"]},
            {"key": "b", "operator": "NotIn", "values": ["3"]},
            {"key": "c", "operator": "Exists"},
            {"key": "d", "operator": "DoesNotExist"},
        ]);
        let spelled = "a in (1,2),b notin (3),c,!d";
        let both = format!("app=web,{spelled}");
        for (of, want) in [
            (json!({"app": "web", "tier": "x"}), Some("app=web,tier=x")),
            (json!({"matchLabels": {"app": "web"}}), Some("app=web")),
            (json!({"matchExpressions": expressions}), Some(spelled)),
            (
                json!({"matchLabels": {"app": "web"}, "matchExpressions": expressions}),
                Some(&*both),
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Gt"}]}),
                None,
            ),
            (json!({}), None),
            (Value::Null, None),
        ] {
            assert_eq!(selector(&of).as_deref(), want, "{of}");
        }
    }
}
