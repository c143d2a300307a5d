//! A pod's row: how many of its containers are ready, and the one word that says most about it.

use super::age;
use super::cell::{condition, or_none, words};
use crate::kinds::field::{flag, int, items, map, present, text};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let mut summary = Summary::new(pod);
    let initializing = summary.init_containers(pod);
    if !initializing || condition(pod, "Initialized") == Some("True") {
        summary.containers(pod);
    }
    summary.deletion(pod);
    let restarts = match summary.last_restart {
        last if summary.restarts != 0 && !last.is_empty() => {
            format!("{} ({} ago)", summary.restarts, age::since(last, now))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        text(pod, "/metadata/name").into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age::since(text(pod, "/metadata/creationTimestamp"), now).into(),
        or_none(text(pod, "/status/podIPs/0/ip")).into(),
        or_none(text(pod, "/spec/nodeName")).into(),
        or_none(text(pod, "/status/nominatedNodeName")).into(),
        readiness_gates(pod).into(),
    ]
}

/// What a row says of a pod that has ended, so that clients can hide it.
pub(super) fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// What the containers' states add up to.
struct Summary<'a> {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    /// RFC 3339 in UTC and whole seconds, so that the order of strings is that of times.
    last_restart: &'a str,
    /// The share of the sidecars in `restarts` and `last_restart`.
    sidecars: (i64, &'a str),
}

impl<'a> Summary<'a> {
    fn new(pod: &'a Value) -> Self {
        let mut reason = text(pod, "/status/phase");
        if !text(pod, "/status/reason").is_empty() {
            reason = text(pod, "/status/reason");
        }
        let gated = items(pod, "/status/conditions").iter().any(|condition| {
            text(condition, "/type") == "PodScheduled"
                && text(condition, "/reason") == "SchedulingGated"
        });
        let sidecars = items(pod, "/spec/initContainers")
            .iter()
            .filter(|container| text(container, "/restartPolicy") == "Always")
            .count();
        Self {
            reason: if gated { "SchedulingGated" } else { reason }.to_owned(),
            ready: 0,
            total: items(pod, "/spec/containers").len() + sidecars,
            restarts: 0,
            last_restart: "",
            sidecars: (0, ""),
        }
    }

    /// Goes through the init containers up to the first that is not done; true if there is one.
    fn init_containers(&mut self, pod: &'a Value) -> bool {
        let specs = items(pod, "/spec/initContainers");
        for (index, container) in items(pod, "/status/initContainerStatuses")
            .iter()
            .enumerate()
        {
            let sidecar = specs.iter().any(|spec| {
                text(spec, "/name") == text(container, "/name")
                    && text(spec, "/restartPolicy") == "Always"
            });
            let restarts = int(container, "/restartCount");
            let last = text(container, "/lastState/terminated/finishedAt");
            self.restarts += restarts;
            self.last_restart = self.last_restart.max(last);
            if sidecar {
                self.sidecars.0 += restarts;
                self.sidecars.1 = self.sidecars.1.max(last);
            }
            let terminated = present(container, "/state/terminated");
            if terminated.is_some_and(|state| int(state, "/exitCode") == 0) {
                continue;
            }
            if sidecar && flag(container, "/started") {
                self.ready += usize::from(flag(container, "/ready"));
                continue;
            }
            let waiting = text(container, "/state/waiting/reason");
            self.reason = if let Some(state) = terminated {
                format!("Init:{}", ended(state))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", specs.len())
            };
            return true;
        }
        false
    }

    fn containers(&mut self, pod: &'a Value) {
        (self.restarts, self.last_restart) = self.sidecars;
        let mut running = false;
        // From the last to the first: the first container's reason wins.
        for container in items(pod, "/status/containerStatuses").iter().rev() {
            self.restarts += int(container, "/restartCount");
            self.last_restart = self
                .last_restart
                .max(text(container, "/lastState/terminated/finishedAt"));
            let waiting = text(container, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(state) = present(container, "/state/terminated") {
                self.reason = ended(state);
            } else if flag(container, "/ready") && map(container, "/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = condition(pod, "Ready") == Some("True");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn deletion(&mut self, pod: &Value) {
        if present(pod, "/metadata/deletionTimestamp").is_none() {
            return;
        }
        if text(pod, "/status/reason") == "NodeLost" {
            self.reason = "Unknown".to_owned();
        } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            self.reason = "Terminating".to_owned();
        }
    }
}

/// Why a container ended: its reason, else its signal, else its exit code.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "/reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match int(terminated, "/signal") {
        0 => format!("ExitCode:{}", int(terminated, "/exitCode")),
        signal => format!("Signal:{signal}"),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let passed = gates
        .iter()
        .filter(|gate| condition(pod, text(gate, "/conditionType")) == Some("True"))
        .count();
    format!("{passed}/{}", gates.len())
}

/// Names and images of the containers of the pod spec at `pointer`, each joined by commas.
pub(super) fn containers(object: &Value, pointer: &str) -> [Value; 2] {
    let containers = items(object, &format!("{pointer}/containers"));
    [
        words(containers, "/name", ",").into(),
        words(containers, "/image", ",").into(),
    ]
}
