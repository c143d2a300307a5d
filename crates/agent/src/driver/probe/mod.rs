//! One probe of a container, made.

mod command;
mod dial;
mod grpc;
mod http;
mod room;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::time::{Instant, timeout};

use super::Driver;
use super::cell::Cell;
use crate::env;
use crate::pod::{Action, EventKind, Found, Heard, PodView as _, ProbeKind};
pub(super) use command::{one_line, tell_by};
pub(super) use dial::Dialer;
pub(super) use http::tell;
pub(super) use room::{Room, Rooms};

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
            let running = state.running.get(container);
            let running = running.map(|instance| instance.running.clone());
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
            rooms: Rooms {
                pod: &cell.probes,
                node: &self.0.probes,
            },
        };
        let outcome = async {
            let Some(action) = &probe.exec else {
                return Some(make(probe, spec, &dialer, awaits).await);
            };
            let words = action.command.as_deref().unwrap_or_default();
            let words = env::words_of_probe(spec, words);
            let command = self.command(cell, &cell.state.lock(), container, words)?;
            Some(command::check(command, dialer.rooms, within(probe)).await)
        };
        let outcome = tokio::select! {
            // A command ends with its instance.
            biased;
            _ = running.wait() => return,
            outcome = outcome => outcome,
        };
        if let Some(outcome) = outcome {
            self.probed(cell, container, attempt, kind, outcome);
        }
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

/// What a probe asks of somebody who listens.
enum Question<'a> {
    Http(&'a HTTPGetAction),
    Socket,
    Grpc(&'a str),
}

/// Makes a probe. A pod that may still be starting is awaited: for somebody to listen there is as much time as for the
/// probe, of which it is a part.
async fn make(probe: &Probe, spec: &Container, dialer: &Dialer<'_>, awaits: bool) -> Outcome {
    let (question, host, port) = match question(probe, spec) {
        Ok(asked) => asked,
        Err(why) => return Outcome::Error(why),
    };
    let within = within(probe);
    let mut left = within;
    if awaits {
        let began = Instant::now();
        // Where nobody came to listen the probe says so.
        let _ = timeout(left, dialer.listening(host, port)).await;
        left = left.saturating_sub(began.elapsed());
    }
    let _room = dialer.rooms.enter().await;
    let deadline = Instant::now() + left;
    match question {
        Question::Http(get) => http::get(dialer, get, port, deadline).await,
        Question::Socket => match dialer.dial(host, port, deadline).await {
            Ok(_) => Outcome::Success,
            Err(why) => Outcome::Failure(why),
        },
        Question::Grpc(service) => grpc::check(dialer, service, port, (within, deadline)).await,
    }
}

/// How long a probe may take.
fn within(probe: &Probe) -> Duration {
    let secs = probe.timeout_seconds.filter(|s| *s > 0).unwrap_or(1);
    Duration::from_secs(secs.unsigned_abs().into())
}

/// What is asked of which host, the pod itself where it has no name, and at which port.
fn question<'a>(
    probe: &'a Probe,
    spec: &Container,
) -> Result<(Question<'a>, &'a str, u16), String> {
    if let Some(get) = &probe.http_get {
        let host = get.host.as_deref().unwrap_or_default();
        Ok((Question::Http(get), host, port_of(spec, &get.port)?))
    } else if let Some(socket) = &probe.tcp_socket {
        let host = socket.host.as_deref().unwrap_or_default();
        Ok((Question::Socket, host, port_of(spec, &socket.port)?))
    } else if let Some(grpc) = &probe.grpc {
        let service = grpc.service.as_deref().unwrap_or_default();
        let port = port_of(spec, &IntOrString::Int(grpc.port))?;
        Ok((Question::Grpc(service), "", port))
    } else {
        Err("missing probe handler".to_owned())
    }
}

/// A port by its number, or by what the container calls it.
pub(super) fn port_of(spec: &Container, port: &IntOrString) -> Result<u16, String> {
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
