//! Which file a request for a log means.

use std::path::PathBuf;
use std::sync::Arc;

use client::node::LogsRequest;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::Driver;
use crate::logs::Log;
use crate::pod::{self, Container, Live, PodView as _};

/// An instance's log.
pub(crate) struct Found {
    pub(crate) dir: PathBuf,
    pub(crate) attempt: u32,
    /// Where it is written, while it is.
    pub(crate) live: Option<Arc<Log>>,
}

/// Why a request for a container is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No such pod or container.
    Unknown(String),
    /// The container has not come so far; Kubernetes' words.
    NotYet(String),
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
        let unknown = || Refusal::Unknown(format!("pod {namespace}/{name} is not on this node"));
        let cell = self.find(namespace, name, uid).ok_or_else(unknown)?;
        let state = cell.state.lock();
        let only = match state.pod.containers() {
            [only] if container.is_empty() => Some(only.name.clone()),
            _ => None,
        };
        let container = only.as_ref().unwrap_or(container);
        if state.pod.container(container).is_none() {
            return Err(Refusal::Unknown(format!(
                "container {container} is not valid for pod {name}"
            )));
        }
        let fresh = Container::default();
        let c = state.observed.get(container).unwrap_or(&fresh);
        let attempt = match previous {
            true => earlier(c, &state.pod, &self.status(&state), container),
            false => present(c),
        };
        let attempt = attempt.ok_or_else(|| {
            Refusal::NotYet(match previous {
                true => format!(
                    "previous terminated container \"{container}\" in pod \"{name}\" not found"
                ),
                false => format!(
                    "container \"{container}\" in pod \"{name}\" is waiting to start: {}",
                    why(c)
                ),
            })
        })?;
        let live = state
            .logs
            .get(container)
            .filter(|(of, _)| *of == attempt)
            .map(|(_, log)| log.clone());
        Ok(Found {
            dir: cell.log_dir(container),
            attempt,
            live,
        })
    }
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
    let mut shown = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    let shown = shown.find(|s| s.name == name)?.last_state.as_ref()?;
    let id = shown.terminated.as_ref()?.container_id.as_ref()?;
    let mut instances = c.ended.iter().chain(&c.before).map(|e| e.attempt);
    instances.find(|attempt| pod::container_id(pod.uid(), name, *attempt) == *id)
}

fn why(c: &Container) -> &str {
    c.problem
        .as_ref()
        .map_or("ContainerCreating", |p| p.reason.as_str())
}
