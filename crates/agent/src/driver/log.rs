//! Which file a request for a log means.

use std::path::PathBuf;
use std::sync::Arc;

use client::node::{LogsRequest, NOT_RUNNING};
use k8s_openapi::api::core::v1::{self as core, ContainerStatus, Pod, PodStatus};

use super::Driver;
use crate::logs::{Log, Progress};
use crate::pod::{self, Container, Live, PodView as _};

/// An instance's log.
pub(crate) struct Found {
    pub(crate) dir: PathBuf,
    pub(crate) attempt: u32,
    /// Where it is written, while it is.
    pub(crate) live: Option<Arc<Log>>,
    /// How far it was when its instance was seen running; only where that was asked for.
    pub(crate) after: Option<Progress>,
}

/// Why a request for a container is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No such pod or container.
    Unknown(String),
    /// The container has not come so far; Kubernetes' words.
    NotYet(String),
    /// As much is done as may be at once.
    Full(String),
}

/// The container that a request for a pod names.
pub(super) fn container_of<'p>(
    pod: &'p Pod,
    name: &str,
    container: &str,
) -> Result<&'p core::Container, Refusal> {
    let unknown = || Refusal::Unknown(format!("container {container} is not valid for pod {name}"));
    pod.container(container).ok_or_else(unknown)
}

impl Driver {
    /// Finds the log that a request means.
    ///
    /// # Errors
    /// When there is no such pod, container or instance.
    pub(crate) fn log(&self, request: &LogsRequest) -> Result<Found, Refusal> {
        let LogsRequest {
            namespace,
            pod: name,
            uid,
            container,
            previous,
            ..
        } = request;
        let cell = self.find(namespace, name, uid)?;
        let state = cell.state.lock();
        let only = match state.pod.containers() {
            [only] if container.is_empty() => Some(only.name.clone()),
            _ => None,
        };
        let container = only.as_ref().unwrap_or(container);
        container_of(&state.pod, name, container)?;
        let fresh = Container::default();
        let c = state.observed.get(container).unwrap_or(&fresh);
        let status = || self.status(&state);
        let attempt = match previous {
            true => earlier(c, &state.pod, &status(), container),
            false => present(c),
        };
        let live = state
            .logs
            .get(container)
            .filter(|(of, _)| Some(*of) == attempt)
            .map(|(_, log)| log.clone());
        let place = format!("container \"{container}\" in pod \"{name}\"");
        let after = match request.attach {
            true => Some(running(live.as_deref(), &place)?),
            false => None,
        };
        let attempt = attempt.ok_or_else(|| {
            Refusal::NotYet(match previous {
                true => format!("previous terminated {place} not found"),
                false => format!("{place} is waiting to start: {}", why(&status(), container)),
            })
        })?;
        Ok(Found {
            dir: cell.log_dir(container),
            attempt,
            live,
            after,
        })
    }
}

/// How far the log of an instance that runs is. It has ended as soon as its log has, whatever else
/// is known of it already.
fn running(live: Option<&Log>, place: &str) -> Result<Progress, Refusal> {
    let progress = live.map(|log| *log.progress().borrow());
    progress
        .filter(|p| !p.ended)
        .ok_or_else(|| Refusal::NotYet(format!("{place} {NOT_RUNNING}")))
}

/// The instance that runs, else the one that ended last.
fn present(c: &Container) -> Option<u32> {
    match &c.live {
        Live::Running { attempt, .. } => Some(*attempt),
        _ => c.ended.as_ref().map(|e| e.attempt),
    }
}

/// The instance that the status shows as `lastState`.
fn earlier(c: &Container, pod: &Pod, status: &PodStatus, name: &str) -> Option<u32> {
    let shown = shown(status, name)?.last_state.as_ref()?;
    let id = shown.terminated.as_ref()?.container_id.as_ref()?;
    let mut instances = c.ended.iter().chain(&c.before).map(|e| e.attempt);
    instances.find(|attempt| pod::container_id(pod.uid(), name, *attempt) == *id)
}

fn shown<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let mut shown = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    shown.find(|s| s.name == name)
}

/// Why a container has not started, in the kubelet's words.
fn why<'a>(status: &'a PodStatus, name: &str) -> &'a str {
    let state = shown(status, name).and_then(|s| s.state.as_ref());
    let waiting = state.and_then(|s| s.waiting.as_ref()?.reason.as_deref());
    match waiting.unwrap_or("ContainerCreating") {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        reason => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn why_a_container_waits() {
        for (state, said) in [
            (
                json!({"waiting": {"reason": "ErrImagePull"}}),
                "image can't be pulled",
            ),
            (
                json!({"waiting": {"reason": "ImagePullBackOff"}}),
                "trying and failing to pull image",
            ),
            (
                json!({"waiting": {"reason": "PodInitializing"}}),
                "PodInitializing",
            ),
            (json!({"waiting": {"reason": "Unsupported"}}), "Unsupported"),
            (json!({}), "ContainerCreating"),
        ] {
            for list in ["containerStatuses", "initContainerStatuses"] {
                let of = |name: &str| json!({"name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0});
                let other = json!({"waiting": {"reason": "Other"}});
                let mut first = of("other");
                first["state"] = other;
                let status = serde_json::from_value(json!({list: [first, of("c")]})).unwrap();
                assert_eq!(why(&status, "c"), said, "{list}");
            }
        }
    }
}
