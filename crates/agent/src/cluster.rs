//! What the node hears of the cluster for its pods' network: Services, slices, nodes, and who may talk to whom.
//!
//! Each watch keeps its part of the network's table by deltas. Pods reach nothing beyond their node before all that rules
//! them was read once.

mod facts;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use client::{Client, Informer, Key, ListOptions, Object, View};
use imbl::ordmap::DiffItem;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use network::Network;
use network::services::{Name, Place};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::policies::{Changed, Index};

/// One node's picture of the cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    node: Arc<str>,
    network: Network,
    index: Arc<Mutex<Index>>,
}

impl Cluster {
    /// Nothing is known yet.
    pub(crate) fn new(node: &str, network: Network) -> Self {
        let index = Index::new();
        network.update(|table| {
            table.services.set_place(Place {
                node: node.to_owned(),
                zone: None,
            });
            table.policies = index.policies();
        });
        Self {
            node: node.into(),
            network,
            index: Arc::new(Mutex::new(index)),
        }
    }

    /// Follows the cluster. It never returns: drop it.
    pub(crate) async fn follow(self, client: Client) {
        let mut tasks = JoinSet::new();
        let all = ListOptions::default;
        let namespaces = Informer::<Namespace>::start(client.of(), all());
        let policies = Informer::<NetworkPolicy>::start(client.of(), all());
        let pods = Informer::<Pod>::start(client.of(), all());
        let nodes = Informer::<Node>::start(client.of(), all());
        let services = Informer::<Service>::start(client.of(), all());
        let slices = Informer::<EndpointSlice>::start(client.of(), all());
        // What rules mean is known before whom they mean: pods that are many are judged once.
        let cluster = self.clone();
        tasks.spawn(each(namespaces.clone(), move |key, _, new| {
            cluster.rules(|index| index.set_namespace(&key.name, new));
        }));
        namespaces.synced().await;
        let cluster = self.clone();
        tasks.spawn(each(policies.clone(), move |key, _, new| {
            cluster.rules(|index| index.set_policy(&key.namespace, &key.name, new));
        }));
        policies.synced().await;
        let cluster = self.clone();
        tasks.spawn(each(pods.clone(), move |key, old, new| {
            // What this node's pods are called is known here first: see `own_pod`.
            let early = |pod: &Pod| cluster.is_own(pod) && !has_address(pod);
            let same = old.is_none_or(|old| new.is_some_and(|new| new.uid() == old.uid()));
            if !(same && new.is_some_and(early)) {
                cluster.rules(|index| index.set_pod(&key.namespace, &key.name, new));
            }
        }));
        let cluster = self.clone();
        tasks.spawn(each(nodes.clone(), move |key, _, new| {
            cluster.node(key, new)
        }));
        let network = self.network.clone();
        tasks.spawn(each(services, move |key, _, new| {
            network.update(|table| {
                table
                    .services
                    .set_service(&name(key), new.and_then(facts::service))
            });
        }));
        let network = self.network.clone();
        tasks.spawn(each(slices, move |key, old, new| {
            slice(&network, key, old, new)
        }));
        nodes.synced().await;
        pods.synced().await;
        self.network.update(|table| table.outside = true);
        // None of them ends by itself: what one that panicked has missed, nobody would ever learn.
        if let Some(Err(error)) = tasks.join_next().await {
            tracing::error!(%error, "a task that follows the cluster ended");
        }
    }

    /// Takes up a pod of this node at its new address before anybody hears of that: its first connection is to be
    /// judged by its rules.
    pub(crate) fn own_pod(&self, pod: &Pod, address: Ipv4Addr) {
        let mut pod = pod.clone();
        let status = pod.status.get_or_insert_default();
        status.pod_ip = Some(address.to_string());
        let key = Key::of(&pod);
        self.rules(|index| index.set_pod(&key.namespace, &key.name, Some(&pod)));
    }

    fn is_own(&self, pod: &Pod) -> bool {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        node == Some(&*self.node)
    }

    fn rules(&self, change: impl FnOnce(&mut Index) -> Changed) {
        let changed = change(&mut self.index.lock());
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
    }
}

fn has_address(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.is_some_and(|status| status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty()))
}

fn name(key: &Key) -> Name {
    Name {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

fn slice(network: &Network, key: &Key, old: Option<&EndpointSlice>, new: Option<&EndpointSlice>) {
    let (before, after) = (
        old.and_then(facts::service_of),
        new.and_then(facts::service_of),
    );
    network.update(|table| {
        // A slice may be given to another Service.
        if let Some(service) = before.filter(|service| after.as_ref() != Some(service)) {
            table.services.set_slice(&service, &key.name, None);
        }
        if let Some((service, object)) = after.zip(new) {
            table
                .services
                .set_slice(&service, &key.name, Some(facts::slice(object)));
        }
    });
}

/// Tells of each object as it comes, changes and goes, those that are there at first among them.
async fn each<T: Object + Clone + PartialEq + Send + Sync + 'static>(
    informer: Informer<T>,
    mut tell: impl FnMut(&Key, Option<&T>, Option<&T>) + Send,
) {
    let mut changes = informer.subscribe();
    informer.synced().await;
    let mut seen = View::<T>::default();
    loop {
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
        changes.next().await;
    }
}
