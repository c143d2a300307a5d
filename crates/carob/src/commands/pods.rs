//! Pods as users name them: by their own names, or by what they belong to.

use anyhow::{Result, bail};
use client::{Client, ListOptions, Object};
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus, Pod, PodStatus};
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

/// Why a pod does not start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It may change without the user, such as room on a node.
    ForNow(String),
    /// It will not change unless the user does something.
    ForEver(String),
}

/// What keeps a pod from starting, apart from the time that a start takes.
pub(super) fn waits_for(pod: &Pod) -> Option<Wait> {
    let status = pod.status.as_ref()?;
    if let Some(waiting) = containers(status).find_map(held_back) {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.as_deref().unwrap_or_default();
        let text = format!("{reason}: {message}");
        return Some(match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "Unsupported" => Wait::ForEver(text),
            _ => Wait::ForNow(text),
        });
    }
    let mut conditions = status.conditions.iter().flatten();
    let unplaced = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    unplaced.message.clone().map(Wait::ForNow)
}

/// All containers, in the order in which they start.
fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let first = status.init_container_statuses.iter().flatten();
    first.chain(status.container_statuses.iter().flatten())
}

/// How a container waits that is not merely about to start.
fn held_back(container: &ContainerStatus) -> Option<&ContainerStateWaiting> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let starts = matches!(
        waiting.reason.as_deref(),
        None | Some("ContainerCreating" | "PodInitializing")
    );
    (!starts).then_some(waiting)
}

/// Why a pod is not ready; `None` of one that is, or that is over in order.
pub(super) fn unready(pod: &Pod) -> Option<String> {
    let status = pod.status.clone().unwrap_or_default();
    if status.phase.as_deref() == Some("Succeeded") || is_ready(pod) {
        return None;
    }
    if status.phase.as_deref() == Some("Failed") {
        return Some(failure(&status));
    }
    if let Some(Wait::ForNow(why) | Wait::ForEver(why)) = waits_for(pod) {
        return Some(why);
    }
    let conditions = status.conditions.iter().flatten();
    let mut lacking = conditions.filter(|c| c.status == "False");
    let why = lacking.find_map(|c| c.message.clone());
    Some(why.unwrap_or_else(|| "it is about to start".to_owned()))
}

/// Why a pod has failed.
fn failure(status: &PodStatus) -> String {
    if let Some(why) = status.message.as_ref().or(status.reason.as_ref()) {
        return format!("it failed: {why}");
    }
    let ended = containers(status).find_map(|container| {
        let end = container.state.as_ref()?.terminated.as_ref()?;
        (end.exit_code != 0).then_some((container, end))
    });
    let Some((container, end)) = ended else {
        return "it failed".to_owned();
    };
    let said = end.message.as_deref().map(str::trim).unwrap_or_default();
    let said = match said {
        "" => String::new(),
        said => format!(": {said}"),
    };
    let (name, code) = (&container.name, end.exit_code);
    format!("it failed: container {name} ended with exit code {code}{said}")
}

/// An object's selector as the API's lists take it: that of workloads, or the labels alone that Services have. None
/// where it selects nothing.
pub(super) fn selector(selector: &Value) -> Option<String> {
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
    fn why_pods_are_not_ready() {
        let creating =
            json!({"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}});
        let pulling = json!({"name": "main", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such tag"}}});
        let traps = json!({"name": "main", "state": {"terminated": {"exitCode": 134, "message": "unreachable\n"}}});
        let unready = "containers with unready status: [main]";
        for (status, want) in [
            (Value::Null, Some("it is about to start")),
            (json!({"phase": "Succeeded"}), None),
            (
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
                None,
            ),
            (
                json!({"phase": "Pending", "conditions":
                    [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]}),
                Some("0/3 nodes are available"),
            ),
            (
                json!({"phase": "Pending", "containerStatuses": [creating]}),
                Some("it is about to start"),
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [pulling], "containerStatuses": [creating]}),
                Some("ErrImagePull: no such tag"),
            ),
            (
                json!({"phase": "Running", "conditions": [
                    {"type": "PodScheduled", "status": "True"},
                    {"type": "Ready", "status": "False", "message": unready},
                ]}),
                Some(unready),
            ),
            (
                json!({"phase": "Failed", "reason": "OutOfcpu"}),
                Some("it failed: OutOfcpu"),
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [traps]}),
                Some("it failed: container main ended with exit code 134: unreachable"),
            ),
        ] {
            let pod = serde_json::from_value(with_defaults(&status)).unwrap();
            assert_eq!(super::unready(&pod).as_deref(), want, "{status}");
        }
    }

    /// A pod of this status, with what every container's has.
    fn with_defaults(status: &Value) -> Value {
        let mut status = status.clone();
        for field in ["initContainerStatuses", "containerStatuses"] {
            let all = status.get_mut(field).and_then(Value::as_array_mut);
            for container in all.into_iter().flatten() {
                for (name, value) in [
                    ("image", json!("x")),
                    ("imageID", json!("x")),
                    ("ready", json!(false)),
                    ("restartCount", json!(0)),
                ] {
                    container[name] = value;
                }
            }
        }
        json!({"metadata": {"name": "p"}, "status": status})
    }

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
