//! One probe of a container, made.

mod dial;
mod grpc;
mod http;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::time::Instant;

use super::Driver;
use super::cell::Cell;
use crate::pod::{Action, EventKind, Found, Heard, PodView as _, ProbeKind};
use dial::Dialer;

/// How many probes of a node are made at the same time; further ones wait, and their timeouts count from then on.
pub(super) const MOST: usize = 4096;

/// What probes call themselves, as the kubelet's do.
const USER_AGENT: &str = "kube-probe/1.36";

/// What came of a probe, in the kubelet's words.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    /// As good as a success.
    Warning(String),
    Failure(String),
    /// It could not be made.
    Error(String),
}

/// Whether a plan asks for probes, and for nothing else but to be made again.
pub(super) fn are_all(plan: &[Action]) -> bool {
    let probe = |action: &Action| matches!(action, Action::Probe { .. });
    let quiet = |action: &Action| probe(action) || matches!(action, Action::Requeue(_));
    plan.iter().any(probe) && plan.iter().all(quiet)
}

impl Driver {
    /// Probes an instance. What is found after its end is of no interest.
    pub(super) async fn probe(
        &self,
        cell: &Cell,
        container: &str,
        attempt: u32,
        kind: ProbeKind,
        awaits: bool,
    ) {
        let (pod, address, running) = {
            let state = cell.state.lock();
            let address = state.net.as_ref().map(|net| net.address());
            let running = state.running.get(container).cloned();
            (Arc::clone(&state.pod), address, running)
        };
        let spec = pod.container(container);
        let probe = spec.and_then(|spec| Some((spec, kind.of(spec)?)));
        let (Some((spec, probe)), Some(address), Some(running)) = (probe, address, running) else {
            return;
        };
        let dialer = Dialer {
            network: &self.0.tools.network,
            address,
            awaits,
        };
        let made = async {
            // It is never closed.
            let _room = self.0.probes.acquire().await.ok();
            make(probe, spec, &dialer).await
        };
        let outcome = tokio::select! {
            outcome = made => outcome,
            _ = running.wait() => return,
        };
        self.probed(cell, container, attempt, kind, outcome);
    }

    fn probed(
        &self,
        cell: &Cell,
        container: &str,
        attempt: u32,
        kind: ProbeKind,
        outcome: Outcome,
    ) {
        let (found, event) = judge(kind, outcome);
        let heard = {
            let now = self.0.tools.clock.now();
            let mut state = cell.state.lock();
            let heard = state.observed.probed(container, attempt, kind, found, now);
            state.untold |= heard == Heard::News;
            heard
        };
        if let Some((reason, message)) = event.filter(|_| heard != Heard::TooLate) {
            self.event(cell, Some(container), EventKind::Warning, reason, message);
        }
        if heard == Heard::News {
            tracing::debug!(pod = %cell.key, uid = %cell.uid, container, %kind, ?found, "probed");
            self.0.queue.add(cell.uid.clone());
        }
    }
}

/// What an outcome counts as, and the event that tells of it.
fn judge(kind: ProbeKind, outcome: Outcome) -> (Found, Option<(&'static str, String)>) {
    match outcome {
        Outcome::Success => (Found::Success, None),
        Outcome::Warning(why) => {
            let message = format!("{kind} probe warning: {why}");
            (Found::Success, Some(("ProbeWarning", message)))
        }
        Outcome::Failure(why) => {
            let message = format!("{kind} probe failed: {why}");
            (Found::Failure, Some(("Unhealthy", message)))
        }
        Outcome::Error(why) => {
            let message = format!("{kind} probe errored and resulted in unknown state: {why}");
            (Found::Nothing, Some(("Unhealthy", message)))
        }
    }
}

async fn make(probe: &Probe, spec: &Container, dialer: &Dialer<'_>) -> Outcome {
    let secs = probe.timeout_seconds.filter(|s| *s > 0).unwrap_or(1);
    let within = Duration::from_secs(secs.unsigned_abs().into());
    let deadline = Instant::now() + within;
    let named = |port: &IntOrString| port_of(spec, port).map_err(Outcome::Error);
    let outcome = async {
        if let Some(get) = &probe.http_get {
            let port = named(&get.port)?;
            Ok(http::get(dialer, get, port, deadline).await)
        } else if let Some(socket) = &probe.tcp_socket {
            let port = named(&socket.port)?;
            let host = socket.host.as_deref().unwrap_or_default();
            Ok(match dialer.dial(host, port, deadline).await {
                Ok(_) => Outcome::Success,
                Err(why) => Outcome::Failure(why),
            })
        } else if let Some(grpc) = &probe.grpc {
            let port = named(&IntOrString::Int(grpc.port))?;
            let service = grpc.service.as_deref().unwrap_or_default();
            Ok(grpc::check(dialer, service, port, within).await)
        } else {
            Err(Outcome::Error("missing probe handler".to_owned()))
        }
    };
    outcome.await.unwrap_or_else(|error| error)
}

/// A port by its number, or by what the container calls it.
fn port_of(spec: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = spec.ports.iter().flatten();
            let called = ports.find(|p| p.name.as_deref() == Some(name));
            let number = called.map(|p| p.container_port);
            // As a last resort a number in words, as the kubelet takes it.
            number
                .or_else(|| name.parse().ok())
                .ok_or_else(|| format!("strconv.Atoi: parsing {name:?}: invalid syntax"))?
        }
    };
    let valid = u16::try_from(number).ok().filter(|port| *port > 0);
    valid.ok_or_else(|| format!("invalid port number: {number}"))
}
