//! Who may talk to whom: NetworkPolicies, as far as addresses, ports and protocols go.
//!
//! A pod is isolated in a direction, or not. If it is, only what one of its [rules](Rule) lets pass
//! may pass in that direction; if not, everything. A connection needs both: the client's rules for
//! what goes out and the server's for what comes in. Answers to what was let pass always may.
//! Nothing here knows labels: whoever does says which pods belong to which [`Group`] and have which
//! rules.
//!
//! The rules are those of `networking.k8s.io/v1`; where they leave a choice, an address block means
//! pods' addresses as well as others. Pods have IPv4 addresses; what lies outside may have IPv6 ones.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Notify;

mod rule;
#[cfg(test)]
mod tests;

use rule::Packet;
pub use rule::{Block, Group, MalformedBlock, NamedPort, Peers, Port, Ports, Rule};

use crate::Protocol;

/// Which way, as the pod that has the rules sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

/// Whether something may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// The destination lets it not in, or the source not out.
    Denied(Direction),
}

impl Verdict {
    /// Whether it may pass.
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }
}

/// What may pass in one direction of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Everything: no policy is about the pod in this direction.
    #[default]
    None,
    /// What any of these lets pass; nothing if there are none.
    Only(Vec<Arc<Rule>>),
}

/// All that judging needs of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPolicy {
    /// The pod's uid.
    pub uid: String,
    /// What may come in.
    pub ingress: Isolation,
    /// What may go out.
    pub egress: Isolation,
    /// What it belongs to, for others' rules.
    pub groups: BTreeSet<Group>,
    /// What its ports are called, for its own and others' rules.
    pub ports: Vec<NamedPort>,
    /// The address of the pod's node, from where probes come.
    pub node: Option<Ipv4Addr>,
}

impl PodPolicy {
    fn isolates(&self) -> bool {
        self.ingress != Isolation::None || self.egress != Isolation::None
    }

    fn calls(&self, name: &str, protocol: Protocol, number: u16) -> bool {
        self.ports
            .iter()
            .any(|p| p.number == number && p.protocol == protocol && p.name == name)
    }
}

#[derive(Debug, Default)]
struct Pods {
    by_address: HashMap<Ipv4Addr, Arc<PodPolicy>>,
    /// Those that any rules are about: mostly few.
    isolated: BTreeSet<Ipv4Addr>,
    /// Nobody may talk to anybody else.
    is_shut: bool,
}

impl Pods {
    fn get(&self, address: &Ipv4Addr) -> Option<&Arc<PodPolicy>> {
        self.by_address.get(address)
    }

    fn set(&mut self, address: Ipv4Addr, policy: Option<Arc<PodPolicy>>) {
        match policy.as_ref().is_some_and(|policy| policy.isolates()) {
            true => self.isolated.insert(address),
            false => self.isolated.remove(&address),
        };
        match policy {
            Some(policy) => self.by_address.insert(address, policy),
            None => self.by_address.remove(&address),
        };
    }
}

/// The pods' policies, by address. Clones are handles to the same.
///
/// A judgement is two look-ups by address and a walk through the rules of the two pods, however
/// many pods there are and however many of them a rule means.
#[derive(Clone, Debug, Default)]
pub struct Policies(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    pods: RwLock<Pods>,
    changed: Notify,
}

impl Policies {
    /// Takes up pods' policies in the place of what was known of these addresses; `None` forgets
    /// one. Every judgement is made by all of it or by nothing of it.
    pub fn update(&self, changes: impl IntoIterator<Item = (Ipv4Addr, Option<PodPolicy>)>) {
        // Made outside of the lock: judgements wait for nothing but the exchange.
        let changes: Vec<_> = changes
            .into_iter()
            .map(|(address, policy)| (address, policy.map(Arc::new)))
            .collect();
        {
            let mut pods = self.0.pods.write();
            for (address, policy) in changes {
                pods.set(address, policy);
            }
        }
        self.0.changed.notify_waiters();
    }

    /// Whether every pod is shut off from all others, whatever the rules: as long as nobody knows them all. What is open
    /// already goes on.
    pub fn shut(&self, is_shut: bool) {
        self.0.pods.write().is_shut = is_shut;
    }

    /// The address of a pod's node, where it is known.
    pub(crate) fn node_of(&self, pod: Ipv4Addr) -> Option<Ipv4Addr> {
        self.get(pod)?.node
    }

    /// Waits until a pod's policy is known at its address; whether it came to be so in time. An address may have been
    /// another pod's a moment ago.
    pub async fn know(&self, address: Ipv4Addr, uid: &str, within: Duration) -> bool {
        let known = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                // Before it looks: a change in between is not to be missed.
                changed.as_mut().enable();
                if self.get(address).is_some_and(|pod| pod.uid == uid) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(within, known).await.is_ok()
    }

    /// Whether rules are about a pod in a direction.
    pub fn isolates(&self, address: Ipv4Addr, direction: Direction) -> bool {
        let pods = self.0.pods.read();
        let isolation = pods.get(&address).map(|pod| match direction {
            Direction::Ingress => &pod.ingress,
            Direction::Egress => &pod.egress,
        });
        matches!(isolation, Some(Isolation::Only(_)))
    }

    /// The pods in a range that any rules are about.
    pub(crate) fn isolated(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<Ipv4Addr> {
        self.0
            .pods
            .read()
            .isolated
            .range(from..=to)
            .copied()
            .collect()
    }

    /// What is known of an address.
    pub fn get(&self, address: Ipv4Addr) -> Option<Arc<PodPolicy>> {
        self.0.pods.read().get(&address).cloned()
    }

    /// How many pods are known.
    pub fn pods(&self) -> usize {
        self.0.pods.read().by_address.len()
    }

    /// Judges both ends, as far as they are known: the source's first.
    ///
    /// The destination is that of a pod or outside; a Service's address has been resolved before.
    pub fn judge(&self, from: Ipv4Addr, to: SocketAddrV4, protocol: Protocol) -> Verdict {
        match self.egress(from, to, protocol) {
            Verdict::Allowed => self.ingress(from, to, protocol),
            denied => denied,
        }
    }

    /// Judges whether the source lets it out: what the client's node asks. No pod is shut off from itself; what to a pod are
    /// its own loopback addresses is not asked for.
    pub fn egress(&self, from: Ipv4Addr, to: impl Into<SocketAddr>, protocol: Protocol) -> Verdict {
        let to = to.into();
        let pods = self.0.pods.read();
        if pods.is_shut && IpAddr::V4(from) != to.ip() {
            return Verdict::Denied(Direction::Egress);
        }
        let Some(Isolation::Only(rules)) = pods.get(&from).map(|pod| &pod.egress) else {
            return Verdict::Allowed;
        };
        let destination = match to.ip() {
            IpAddr::V4(ip) => pods.get(&ip).map(|pod| &**pod),
            // No pod has one.
            IpAddr::V6(_) => None,
        };
        let packet = Packet {
            peer: to.ip(),
            peer_pod: destination,
            protocol,
            port: to.port(),
            destination,
        };
        if IpAddr::V4(from) == to.ip() || rules.iter().any(|rule| rule.allows(&packet)) {
            return Verdict::Allowed;
        }
        Verdict::Denied(Direction::Egress)
    }

    /// Judges whether the destination lets it in: what the server's node asks. Whoever speaks for the server's node itself
    /// does not ask.
    pub fn ingress(&self, from: Ipv4Addr, to: SocketAddrV4, protocol: Protocol) -> Verdict {
        let pods = self.0.pods.read();
        if pods.is_shut && from != *to.ip() {
            return Verdict::Denied(Direction::Ingress);
        }
        let Some(destination) = pods.get(to.ip()).map(|pod| &**pod) else {
            return Verdict::Allowed;
        };
        let Isolation::Only(rules) = &destination.ingress else {
            return Verdict::Allowed;
        };
        let packet = Packet {
            peer: from.into(),
            peer_pod: pods.get(&from).map(|pod| &**pod),
            protocol,
            port: to.port(),
            destination: Some(destination),
        };
        if from == *to.ip() || rules.iter().any(|rule| rule.allows(&packet)) {
            return Verdict::Allowed;
        }
        Verdict::Denied(Direction::Ingress)
    }
}
