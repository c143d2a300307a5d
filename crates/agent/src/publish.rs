//! The node's own ports, by which the outside reaches Services and pods: listened at while somebody wants them.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use client::{EventType, Informer, Key, Recorder};
use k8s_openapi::api::core::v1::Service;
use network::Protocol;
use network::entrance::{At, Claimant, Entrance, Ports};
use network::services::Name;
use tokio::sync::watch;

use crate::cluster::Peer;
use crate::word::Word;

/// How long after a port could not be had it is tried again, at first and at last.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_AT_LAST: Duration = Duration::from_secs(30);

/// Which of a node's ports it cannot serve, as `TCP 192.0.2.1:80,UDP 192.0.2.1:53`: those who give Services their status read
/// it.
pub(crate) const NOT_SERVED: &str = "carob.dev/ports-not-served";

/// Where what has to be said about a port goes.
pub(crate) struct Reports {
    pub(crate) node: String,
    /// What the Node says of [`NOT_SERVED`].
    pub(crate) word: Word,
    pub(crate) recorder: Recorder,
    pub(crate) services: Informer<Service>,
    pub(crate) pods: Informer<Peer>,
}

/// Listens at the ports that are wanted, and at others whenever that, or the Node, has `changed`. It never returns: drop
/// it.
pub(crate) async fn publish(
    entrance: Entrance,
    mut changed: watch::Receiver<()>,
    mut reports: Reports,
) {
    let mut ports = Ports::new(entrance.clone());
    let mut failing = BTreeMap::<At, io::ErrorKind>::new();
    let mut shut_out = BTreeMap::new();
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
        let taken = entrance.shut_out();
        for (at, pod) in &taken {
            if shut_out.get(at) != Some(pod) {
                let why = io::Error::other("a Service has the port");
                reports.failed(*at, &Claimant::Pod(pod.clone()), &why);
            }
        }
        shut_out = taken;
        failing = failed
            .iter()
            .map(|(at, error)| (*at, error.kind()))
            .collect();
        let text = text(failing.keys());
        let told = reports.word.say(&text).await;
        let moved = if failing.is_empty() && told {
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
