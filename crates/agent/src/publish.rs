//! The node's own ports, by which the outside reaches Services and pods: listened at while somebody wants them.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use client::{Client, EventType, Informer, Key, Patch, Recorder};
use k8s_openapi::api::core::v1::{Node, Service};
use network::Protocol;
use network::entrance::{At, Claimant, Entrance, Ports};
use network::services::Name;
use serde_json::json;
use tokio::sync::watch;

use crate::cluster::Peer;

/// How long after a port could not be had it is tried again, at first and at last.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_AT_LAST: Duration = Duration::from_secs(30);

/// Which of a node's ports it cannot serve, as `TCP 192.0.2.1:80,UDP 192.0.2.1:53`: those who give Services their status read
/// it.
const NOT_SERVED: &str = "carob.dev/ports-not-served";

/// Where what has to be said about a port goes.
pub(crate) struct Reports {
    pub(crate) node: String,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) services: Informer<Service>,
    pub(crate) pods: Informer<Peer>,
}

/// Listens at the ports that are wanted, and at others whenever that has `changed`. It never returns: drop it.
pub(crate) async fn publish(
    entrance: Entrance,
    mut changed: watch::Receiver<()>,
    reports: Reports,
) {
    let mut ports = Ports::new(entrance.clone());
    let mut failing = BTreeMap::<At, io::ErrorKind>::new();
    // What an agent before this one could not serve may be served now.
    let mut told = None::<String>;
    let mut pause = RETRY;
    loop {
        changed.borrow_and_update();
        let wanted = entrance.wanted();
        let failed = ports.set(wanted.keys().copied()).await;
        for (at, error) in &failed {
            // Said once, and again when it is for another reason.
            if failing.get(at) != Some(&error.kind()) {
                reports.failed(*at, &wanted[at], error);
            }
        }
        failing = failed
            .iter()
            .map(|(at, error)| (*at, error.kind()))
            .collect();
        let text = text(failing.keys());
        if told.as_ref() != Some(&text) && reports.tell(&text).await {
            told = Some(text.clone());
        }
        let moved = if failing.is_empty() && told == Some(text) {
            pause = RETRY;
            changed.changed().await
        } else {
            let again = tokio::time::timeout(pause, changed.changed()).await;
            pause = (pause * 2).min(RETRY_AT_LAST);
            again.unwrap_or(Ok(()))
        };
        if moved.is_err() {
            return std::future::pending().await;
        }
    }
}

fn text<'a>(ports: impl Iterator<Item = &'a At>) -> String {
    ports.map(word).collect::<Vec<_>>().join(",")
}

fn word((protocol, at): &At) -> String {
    match protocol {
        Protocol::Tcp => format!("TCP {at}"),
        Protocol::Udp => format!("UDP {at}"),
    }
}

impl Reports {
    /// Writes into the Node what is not served; whether that came to be.
    async fn tell(&self, text: &str) -> bool {
        let value = Some(text).filter(|text| !text.is_empty());
        let patch = Patch::Merge(json!({"metadata": {"annotations": {NOT_SERVED: value}}}));
        let nodes = self.client.of::<Node>();
        let told = nodes.patch("", &self.node, &patch, None).await;
        if let Err(error) = &told {
            tracing::warn!(%error, "the node's ports could not be reported");
        }
        told.is_ok()
    }

    fn failed(&self, at: At, claimant: &Claimant, error: &io::Error) {
        let message = format!("node {} cannot serve {}: {error}", self.node, word(&at));
        tracing::warn!(?claimant, "{message}");
        let about = match claimant {
            Claimant::Service(name) => {
                let found = self.services.get(&key(name));
                found.map(|service| client::reference(&*service))
            }
            Claimant::Pod(name) => self.pods.get(&key(name)).map(|pod| pod.reference()),
        };
        if let Some(about) = about {
            let kind = EventType::Warning;
            self.recorder.event(&about, kind, "PortNotServed", message);
        }
    }
}

fn key(name: &Name) -> Key {
    Key::new(name.namespace.as_str(), name.name.as_str())
}
