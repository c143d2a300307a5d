//! What the node hears of the cluster for its pods' network: Services, slices, nodes, and who may talk to whom.
//!
//! Each watch keeps its part of the network's table by deltas.

mod facts;
mod host_ports;
mod names;
mod own;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::ingress::Ports;
use api::not_served::NOT_SERVED;
use client::{Client, EventType, Informer, Key, ListOptions, Object, Recorder, View};
use imbl::ordmap::DiffItem;
use k8s_openapi::api::core::v1::{Namespace, Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use network::entrance::Entrance;
use network::services::{Name, Place};
use network::{Network, PodNet, Table};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ingress;
use crate::peer::Peer;
use crate::policies::Changed;
use crate::publish::{Reports, publish};
use crate::word::Word;
use host_ports::HostPorts;
use own::Known;
pub(crate) use own::OwnPod;

/// The cluster's DNS address: that of the Service `kube-system/kube-dns`.
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// The pods' addresses, of all nodes, and the Services'.
const RANGES: [&str; 2] = ["10.128.0.0/9", "10.96.0.0/12"];

/// One node's picture of the cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    node: Arc<str>,
    network: Network,
    known: Arc<Mutex<Known>>,
    /// Says that other ports of the node may be wanted.
    published: watch::Sender<()>,
}

impl Cluster {
    /// Nothing is known yet, so that no pod reaches another.
    pub(crate) fn new(node: &str, network: Network) -> Self {
        let known = Known::default();
        known.index.policies().shut(true);
        network.update(|table| {
            table.services.set_place(Place {
                node: node.to_owned(),
                zone: None,
            });
            table.policies = known.index.policies();
            let ranges = RANGES.iter().filter_map(|range| range.parse().ok());
            table.names.set_ranges(&ranges.collect::<Vec<_>>());
        });
        Self {
            node: node.into(),
            network,
            known: Arc::new(Mutex::new(known)),
            published: watch::Sender::new(()),
        }
    }

    /// Follows the cluster, and for as long as the result is kept. Once all that rules pods' connections has been read, they
    /// reach each other, and this returns. Ingresses are served at the node's address, and at these ports if any are given.
    pub(crate) async fn follow(
        &self,
        Entered {
            mut following,
            gateway,
        }: Entered,
        client: &Client,
        recorder: &Recorder,
        services: &Informer<Service>,
        (address, ports): (IpAddr, Ports),
    ) -> Following {
        let all = ListOptions::default;
        let namespaces = Informer::<Namespace>::start(client.of(), all());
        let policies = Informer::<NetworkPolicy>::start(client.of(), all());
        let alive = "status.phase!=Succeeded,status.phase!=Failed";
        let pods = client.resource(api::Resource::of::<Pod>());
        let pods = Informer::<Peer>::start(pods, all().fields(alive));
        let nodes = Informer::<Node>::start(client.of(), all());
        let slices = Informer::<EndpointSlice>::start(client.of(), all());
        // What rules mean is known before whom they mean: pods that are many are judged once.
        let cluster = self.clone();
        let namespace = move |key: &Key, _: Option<&Namespace>, new: Option<&Namespace>| {
            cluster.rules(|known| known.index.set_namespace(&key.name, new));
        };
        following.each(namespaces, namespace).await;
        let cluster = self.clone();
        let policy = move |key: &Key, _: Option<&NetworkPolicy>, new: Option<&NetworkPolicy>| {
            cluster.rules(|known| known.index.set_policy(&key.namespace, &key.name, new));
        };
        following.each(policies, policy).await;
        let (cluster, events) = (self.clone(), recorder.clone());
        let pod = move |key: &Key, old: Option<&Peer>, new: Option<&Peer>| {
            if let Some((about, what)) = cluster.pod(key, old, new) {
                events.event(&about, EventType::Warning, "PortNotServed", what);
            }
        };
        following.each(pods.clone(), pod).await;
        let cluster = self.clone();
        let node = move |key: &Key, _: Option<&Node>, new: Option<&Node>| cluster.node(key, new);
        following.each(nodes.clone(), node).await;
        let cluster = self.clone();
        let service = move |key: &Key, _: Option<&Service>, new: Option<&Service>| {
            cluster.service(key, new);
        };
        following.each(services.clone(), service).await;
        let cluster = self.clone();
        let slice = move |key: &Key, old: Option<&EndpointSlice>, new: Option<&EndpointSlice>| {
            cluster.slice(key, old, new);
        };
        following.each(slices, slice).await;
        self.known.lock().index.policies().shut(false);
        self.network.update(|table| table.outside = true);
        if let Some(gateway) = gateway {
            // Each has a share of the node's sockets, so that neither kind of clients shuts out the other.
            let entrance = || Entrance::new(self.network.clone(), gateway.clone());
            let reports = Reports {
                node: self.node.to_string(),
                word: Word::new(NOT_SERVED, &self.node, client.clone(), nodes.clone()),
                recorder: recorder.clone(),
                services: services.clone(),
                pods,
            };
            let changed = self.published.subscribe();
            // The pods' network has addresses of this family only.
            if let IpAddr::V4(address) = address {
                let setup = ingress::Setup {
                    node: self.node.to_string(),
                    address,
                    ports,
                    client: client.clone(),
                    recorder: recorder.clone(),
                    entrance: entrance(),
                    nodes,
                };
                following.0.spawn(ingress::follow(setup));
            }
            following.0.spawn(publish(entrance(), changed, reports));
        }
        following
    }

    /// Gives the node itself the first address among its pods', before any of them has one. The second is the DNS server's:
    /// rules that let that one in are not about whoever comes by the node.
    pub(crate) fn enter(&self) -> Entered {
        let mut following = Following::default();
        let gateway = self.join(&mut following);
        Entered { following, gateway }
    }

    fn join(&self, following: &mut Following) -> Option<PodNet> {
        let joined = self.network.join(names::GATEWAY);
        match joined.and_then(|gateway| Ok((gateway, self.network.join(names::UID)?))) {
            Ok((gateway, server)) => {
                let address = gateway.address();
                self.network.update(|table| table.gateway = Some(address));
                self.serve_names(server, following);
                Some(gateway)
            }
            Err(error) => {
                tracing::error!(%error, "names and the node's ports cannot be served");
                None
            }
        }
    }

    /// Serves names: it is what the cluster's DNS address means to this node's pods.
    fn serve_names(&self, net: PodNet, following: &mut Following) {
        let address = net.address();
        let (namespace, name) = names::SERVICE;
        // Policies know the server by what it is called on other clusters, where it is a pod.
        let server = names::pod(address);
        self.rules(|known| known.index.set_pod(namespace, name, Some(&server)));
        self.network.update(|table| {
            table.dns = Some(address);
            let service = Name {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            };
            let slice = names::slice(&self.node, address);
            table.services.set_slice(&service, names::UID, Some(slice));
        });
        following.0.spawn(async move {
            if let Err(error) = network::dns::serve(net, names::resolvers()).await {
                tracing::error!(%error, "names cannot be served");
            }
        });
    }

    /// Takes up a pod. Returns what is to be said about those of this node.
    fn pod(
        &self,
        key: &Key,
        old: Option<&Peer>,
        new: Option<&Peer>,
    ) -> Option<(ObjectReference, String)> {
        let ports = |peer: Option<&Peer>| peer.map(|peer| HostPorts::of(&peer.pod));
        let (before, after) = (
            ports(old).unwrap_or_default(),
            ports(new).unwrap_or_default(),
        );
        let own = new.filter(|new| self.is_own(&new.pod) && after.foreign != before.foreign);
        let said = own.filter(|_| !after.foreign.is_empty()).map(|new| {
            let ports = after.foreign.join(", ");
            let what = format!("node {} cannot serve {ports}: not its address", self.node);
            (new.reference(), what)
        });
        self.rules(|known| known.peer(key, old, new));
        if before.asked != after.asked {
            let set = |table: &mut Table| table.host_ports.set(&name(key), after.asked);
            self.network.update(set);
            self.published.send_replace(());
        }
        said
    }

    fn is_own(&self, pod: &Pod) -> bool {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        node == Some(&*self.node)
    }

    fn rules(&self, change: impl FnOnce(&mut Known) -> Changed) {
        let changed = change(&mut self.known.lock());
        for what in &changed.ignored {
            tracing::warn!(what, "a part of a NetworkPolicy has no effect");
        }
        self.judge_again(&changed.addresses);
    }

    fn judge_again(&self, addresses: &BTreeSet<Ipv4Addr>) {
        if !addresses.is_empty() {
            self.network.judge_again(addresses);
        }
    }

    fn node(&self, key: &Key, node: Option<&Node>) {
        self.network.update(|table| {
            table.nodes.set(&key.name, node.map(facts::node));
            if let Some(node) = node.filter(|_| *key.name == *self.node) {
                table.services.set_place(Place {
                    node: key.name.clone(),
                    zone: facts::zone(node),
                });
            }
        });
        self.published.send_replace(());
    }

    fn service(&self, key: &Key, new: Option<&Service>) {
        self.network.update(|table| {
            let service = new.and_then(facts::service);
            table.services.set_service(&name(key), service);
            match new.and_then(facts::named_service) {
                Some(named) => table.names.set_service(&key.namespace, &key.name, named),
                None => table.names.remove_service(&key.namespace, &key.name),
            }
        });
        self.published.send_replace(());
    }

    fn slice(&self, key: &Key, old: Option<&EndpointSlice>, new: Option<&EndpointSlice>) {
        let (before, after) = (
            old.and_then(facts::service_of),
            new.and_then(facts::service_of),
        );
        self.network.update(|table| {
            // A slice may be given to another Service.
            if let Some(service) = before.filter(|service| after.as_ref() != Some(service)) {
                table.services.set_slice(&service, &key.name, None);
                table.names.remove_slice(&key.namespace, &key.name);
            }
            if let Some((service, object)) = after.zip(new) {
                let slice = facts::slice(object);
                table.services.set_slice(&service, &key.name, Some(slice));
                let named = facts::named_slice(object);
                table
                    .names
                    .set_slice(&key.namespace, &service.name, &key.name, named);
            }
        });
    }
}

/// The node among its pods.
pub(crate) struct Entered {
    following: Following,
    /// It has an address there.
    gateway: Option<PodNet>,
}

/// The tasks that follow the cluster. Dropping it ends them.
#[derive(Default)]
pub(crate) struct Following(JoinSet<()>);

impl Following {
    /// Tells of each object as it comes, changes and goes; those that are there at first before this returns.
    async fn each<T: Object + Clone + PartialEq + Send + Sync + 'static>(
        &mut self,
        informer: Informer<T>,
        mut tell: impl FnMut(&Key, Option<&T>, Option<&T>) + Send + 'static,
    ) {
        let mut changes = informer.subscribe();
        informer.synced().await;
        let mut seen = View::<T>::default();
        let mut catch_up = move || {
            let fresh = informer.view();
            for change in seen.diff(&fresh) {
                match change {
                    DiffItem::Add(key, new) => tell(key, None, Some(new)),
                    DiffItem::Remove(key, old) => tell(key, Some(old), None),
                    DiffItem::Update {
                        old: (_, old),
                        new: (key, new),
                    } => tell(key, Some(old), Some(new)),
                }
            }
            seen = fresh;
        };
        catch_up();
        self.0.spawn(async move {
            loop {
                changes.next().await;
                catch_up();
            }
        });
    }
}

fn name(key: &Key) -> Name {
    Name {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}
