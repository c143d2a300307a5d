//! The node's own ports, by which the outside reaches Services and pods: listened at while somebody wants them.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use api::not_served::{NotServed, Port};
use client::{EventType, Informer, Key, Recorder};
use k8s_openapi::api::core::v1::Service;
use network::entrance::{At, Claimant, Entrance, Ports};
use network::services::Name;
use tokio::sync::watch;

use crate::peer::Peer;
use crate::ports;
use crate::word::Word;

/// How long after a port could not be had it is tried again, at first and at last.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_AT_LAST: Duration = Duration::from_secs(30);

/// Where what has to be said about a port goes.
pub(crate) struct Reports {
    pub(crate) node: String,
    /// What the Node says of [`api::not_served::NOT_SERVED`].
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
    let mut failing = BTreeMap::<At, (Claimant, io::ErrorKind)>::new();
    let mut shut_out = BTreeMap::new();
    let mut pause = RETRY;
    loop {
        changed.borrow_and_update();
        let wanted = entrance.wanted();
        let mut failed = BTreeMap::new();
        for (at, error) in ports.set(wanted.ports.keys().copied()).await {
            let failure = (wanted.ports[&at].clone(), error.kind());
            // Said once to each who wants it, and again when it is for another reason.
            if failing.get(&at) != Some(&failure) {
                reports.failed(at, &failure.0, &error);
            }
            failed.insert(at, failure);
        }
        for (lost, has) in &wanted.shut_out {
            if shut_out.get(lost) != Some(has) {
                let (at, pod) = lost.clone();
                let why = io::Error::other(format!("{has} has the port"));
                reports.failed(at, &Claimant::Pod(pod), &why);
            }
        }
        shut_out = wanted.shut_out;
        failing = failed;
        let not_served: NotServed = failing.keys().map(port).collect();
        let told = reports.word.say(&not_served.to_string()).await;
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

fn port((protocol, at): &At) -> Port {
    ports::told(*protocol, at.ip(), at.port())
}

impl Reports {
    fn failed(&self, at: At, claimant: &Claimant, error: &io::Error) {
        let message = format!("node {} cannot serve {}: {error}", self.node, port(&at));
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
    use std::net::Ipv4Addr;

    use api::not_served::NOT_SERVED;
    use client::simulated::Simulated;
    use client::{Client, DeleteOptions, Kind, ListOptions, View};
    use k8s_openapi::api::core::v1::{Event, Node};
    use network::services::{Place, Service as Balanced, ServicePort};
    use network::{Network, Protocol};
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

    /// A node that publishes, one of whose ports somebody else has.
    struct World {
        port: u16,
        _taken: TcpListener,
        client: Client,
        nodes: Informer<Node>,
        network: Network,
        changed: watch::Sender<()>,
        _publishing: AbortOnDropHandle<()>,
    }

    impl World {
        /// With Services that want nothing.
        async fn begin(services: &[&str]) -> Self {
            let taken = TcpListener::bind((NODE, 0)).await.expect("a port");
            let server = Simulated::new();
            let client = server.client("test");
            for name in services {
                let service = json!({"apiVersion": "v1", "kind": "Service",
                    "metadata": {"name": name, "namespace": "d"}});
                let service: Service = serde_json::from_value(service).expect("a Service");
                let made = client.of::<Service>().create(&service).await;
                made.expect("made");
            }
            let made = client.of::<Node>().create(&node()).await;
            made.expect("made");
            let nodes = Informer::<Node>::start(client.of(), ListOptions::default());
            nodes.synced().await;
            let services = Informer::start(client.of(), ListOptions::default());
            services.synced().await;
            let reports = Reports {
                node: "n".to_owned(),
                word: Word::new(NOT_SERVED, "n", client.clone(), nodes.clone()),
                recorder: Recorder::start(client.clone(), "kubelet", "n"),
                services,
                pods: Informer::start(
                    client.resource(api::Resource::of::<k8s_openapi::api::core::v1::Pod>()),
                    ListOptions::default(),
                ),
            };
            let network = network();
            let gateway = network.join("gateway").expect("an address");
            let entrance = Entrance::new(network.clone(), gateway);
            let changed = watch::Sender::new(());
            let publishing = publish(entrance, changed.subscribe(), reports);
            Self {
                port: taken.local_addr().expect("its address").port(),
                _taken: taken,
                client,
                nodes,
                network,
                changed,
                _publishing: AbortOnDropHandle::new(tokio::spawn(publishing)),
            }
        }

        /// From now on this Service wants the port, and no other.
        fn wants(&self, wanting: &str) {
            self.network.update(|table| {
                for name in ["s", "t"] {
                    let service = Some(service(self.port)).filter(|_| name == wanting);
                    let name = Name {
                        namespace: "d".to_owned(),
                        name: name.to_owned(),
                    };
                    table.services.set_service(&name, service);
                }
            });
            self.changed.send_replace(());
        }
    }

    fn node() -> Node {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        serde_json::from_value(node).expect("a Node")
    }

    /// With that node in it.
    fn network() -> Network {
        let network = Network::new("10.128.0.0/24".parse().expect("a range"));
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
        });
        network
    }

    fn service(port: u16) -> Balanced {
        Balanced {
            cluster: vec![Ipv4Addr::new(10, 96, 0, 20)],
            ports: vec![ServicePort {
                name: String::new(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: Some(port),
            }],
            ..Balanced::default()
        }
    }

    async fn until<T: Kind>(informer: &Informer<T>, is_so: impl Fn(&View<T>) -> bool) {
        let mut changes = informer.subscribe();
        let wait = async {
            while !is_so(&informer.view()) {
                changes.next().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.expect("it comes to be");
    }

    #[tokio::test]
    async fn a_node_that_is_made_again_says_what_it_does_not_serve() {
        let world = World::begin(&[]).await;
        let nodes = &world.nodes;
        let key = Key::new("", "n");
        let said = |nodes: &View<Node>| {
            let annotations = nodes.get(&key)?.metadata.annotations.as_ref();
            annotations?.get(NOT_SERVED).cloned()
        };
        let due = Some(format!("TCP {NODE}:{}", world.port));
        world.wants("s");
        until(nodes, |nodes| said(nodes) == due).await;
        let all = world.client.of::<Node>();
        let gone = all.delete("", "n", &DeleteOptions::default()).await;
        gone.expect("deleted");
        until(nodes, |nodes| nodes.is_empty()).await;
        all.create(&node()).await.expect("made again");
        until(nodes, |nodes| !nodes.is_empty()).await;
        world.changed.send_replace(());
        until(nodes, |nodes| said(nodes) == due).await;
    }

    #[tokio::test]
    async fn whoever_inherits_a_port_that_cannot_be_had_is_told() {
        let world = World::begin(&["s", "t"]).await;
        let events = Informer::<Event>::start(world.client.of(), ListOptions::default());
        for name in ["s", "t"] {
            world.wants(name);
            until(&events, |events| {
                let mut about = events.iter().map(|(_, event)| &event.involved_object);
                about.any(|object| object.name.as_deref() == Some(name))
            })
            .await;
        }
    }
}
