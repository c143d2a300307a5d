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
        let failed = ports.set(wanted.ports.keys().copied()).await;
        for (at, error) in &failed {
            // Said once, and again when it is for another reason.
            if failing.get(at) != Some(&error.kind()) {
                reports.failed(*at, &wanted.ports[at], error);
            }
        }
        for (lost, has) in &wanted.shut_out {
            if shut_out.get(lost) != Some(has) {
                let (at, pod) = lost.clone();
                let why = io::Error::other(format!("{has} has the port"));
                reports.failed(at, &Claimant::Pod(pod), &why);
            }
        }
        shut_out = wanted.shut_out;
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use client::simulated::Simulated;
    use client::{DeleteOptions, ListOptions, View};
    use k8s_openapi::api::core::v1::Node;
    use network::Network;
    use network::services::{Place, Service as Balanced, ServicePort};
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

    /// A node, and a Service that wants one of its ports.
    fn entrance(port: u16) -> Entrance {
        let network = Network::new("10.128.0.0/24".parse().expect("a range"));
        let gateway = network.join("gateway").expect("an address");
        network.update(|table| {
            table.services.set_place(Place {
                node: "n".to_owned(),
                zone: None,
            });
            let node = network::nodes::Node {
                name: "n".to_owned(),
                pods: Some(network.cidr()),
                link: None,
                addresses: vec![NODE],
            };
            table.nodes.set("n", Some(node));
            let service = Balanced {
                cluster: vec![Ipv4Addr::new(10, 96, 0, 20)],
                ports: vec![ServicePort {
                    name: String::new(),
                    protocol: Protocol::Tcp,
                    port: 80,
                    node_port: Some(port),
                }],
                ..Balanced::default()
            };
            let name = Name {
                namespace: "d".to_owned(),
                name: "s".to_owned(),
            };
            table.services.set_service(&name, Some(service));
        });
        Entrance::new(network, gateway)
    }

    async fn until(nodes: &Informer<Node>, is_so: impl Fn(&View<Node>) -> bool) {
        let mut changes = nodes.subscribe();
        let wait = async {
            while !is_so(&nodes.view()) {
                changes.next().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.expect("it comes to be");
    }

    #[tokio::test]
    async fn a_node_that_is_made_again_says_what_it_does_not_serve() {
        let taken = TcpListener::bind((NODE, 0)).await.expect("a port");
        let port = taken.local_addr().expect("its address").port();
        let server = Simulated::new();
        let client = server.client("test");
        let all = client.of::<Node>();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        let node: Node = serde_json::from_value(node).expect("a Node");
        all.create(&node).await.expect("made");
        let nodes = Informer::<Node>::start(client.of(), ListOptions::default());
        nodes.synced().await;
        let reports = Reports {
            node: "n".to_owned(),
            word: Word::new(NOT_SERVED, "n", client.clone(), nodes.clone()),
            recorder: Recorder::start(client.clone(), "kubelet", "n"),
            services: Informer::start(client.of(), ListOptions::default()),
            pods: Informer::start(
                client.resource(api::Resource::of::<k8s_openapi::api::core::v1::Pod>()),
                ListOptions::default(),
            ),
        };
        let changed = watch::Sender::new(());
        let publishing = publish(entrance(port), changed.subscribe(), reports);
        let _publishing = AbortOnDropHandle::new(tokio::spawn(publishing));
        let key = Key::new("", "n");
        let said = |nodes: &View<Node>| {
            let annotations = nodes.get(&key)?.metadata.annotations.as_ref();
            annotations?.get(NOT_SERVED).cloned()
        };
        let due = Some(word(&(Protocol::Tcp, SocketAddrV4::new(NODE, port))));
        until(&nodes, |nodes| said(nodes) == due).await;
        let gone = all.delete("", "n", &DeleteOptions::default()).await;
        gone.expect("deleted");
        until(&nodes, |nodes| nodes.is_empty()).await;
        all.create(&node).await.expect("made again");
        until(&nodes, |nodes| !nodes.is_empty()).await;
        changed.send_replace(());
        until(&nodes, |nodes| said(nodes) == due).await;
    }
}
