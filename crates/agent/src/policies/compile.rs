//! A NetworkPolicy as addresses and ports can be judged by.
//!
//! The API lets in only what can be read. What cannot nevertheless lets nothing pass, and is named.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::selector::LabelSelector;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use network::policy::{Block, Group, Peers, Port, Ports, Rule};

use super::groups::{Groups, Scope};
use crate::ports::protocol;

/// A policy, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// The pods of its namespace that it is about.
    pub(super) selector: LabelSelector,
    /// What it lets in; `None` if it is not about that.
    pub(super) ingress: Option<Vec<Arc<Rule>>>,
    /// What it lets out; `None` if it is not about that.
    pub(super) egress: Option<Vec<Arc<Rule>>>,
    /// The groups that its rules name.
    pub(super) uses: BTreeSet<Group>,
}

/// Reads the policy. What of it has no effect is named in `ignored`.
pub(super) fn policy(
    spec: &NetworkPolicySpec,
    namespace: &str,
    groups: &mut Groups,
    ignored: &mut Vec<String>,
) -> Policy {
    let selector = match &spec.pod_selector {
        None => Ok(LabelSelector::everything()),
        some => LabelSelector::from_meta(some.as_ref()),
    };
    let selector = selector.unwrap_or_else(|why| {
        ignored.push(format!("spec.podSelector: {why}"));
        LabelSelector::nothing()
    });
    let (ingress, egress) = directions(spec);
    let mut reader = Reader {
        namespace,
        groups,
        uses: BTreeSet::new(),
        ignored,
    };
    let ingress = ingress.then(|| {
        let rules = spec.ingress.iter().flatten().enumerate();
        rules
            .map(|(i, r)| reader.rule(&format!("spec.ingress[{i}]"), &r.from, &r.ports))
            .collect()
    });
    let egress = egress.then(|| {
        let rules = spec.egress.iter().flatten().enumerate();
        rules
            .map(|(i, r)| reader.rule(&format!("spec.egress[{i}]"), &r.to, &r.ports))
            .collect()
    });
    Policy {
        selector,
        ingress,
        egress,
        uses: reader.uses,
    }
}

/// Whether the policy is about what comes in, and about what goes out. One that does not say so is about the first, and
/// about the second if it has rules for it.
fn directions(spec: &NetworkPolicySpec) -> (bool, bool) {
    match spec.policy_types.as_deref() {
        None | Some([]) => (true, spec.egress.as_ref().is_some_and(|e| !e.is_empty())),
        Some(types) => {
            let about = |name: &str| types.iter().any(|t| t == name);
            (about("Ingress"), about("Egress"))
        }
    }
}

struct Reader<'a> {
    namespace: &'a str,
    groups: &'a mut Groups,
    uses: BTreeSet<Group>,
    ignored: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn rule(
        &mut self,
        path: &str,
        peers: &Option<Vec<NetworkPolicyPeer>>,
        ports: &Option<Vec<NetworkPolicyPort>>,
    ) -> Arc<Rule> {
        let peers = match peers.as_deref() {
            None | Some([]) => Peers::Everyone,
            Some(peers) => self.peers(path, peers),
        };
        let ports = match ports.as_deref() {
            None | Some([]) => Ports::All,
            Some(ports) => Ports::Only(self.each(path, "port", ports, |_, p| port(p))),
        };
        Arc::new(Rule { peers, ports })
    }

    /// What comes of those that can be read; the others are named.
    fn each<T, U>(
        &mut self,
        path: &str,
        what: &str,
        items: &[T],
        read: impl Fn(&mut Self, &T) -> Result<U, String>,
    ) -> Vec<U> {
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match read(self, item) {
                Ok(one) => found.push(one),
                Err(why) => self.ignored.push(format!("{path}: {what} {index}: {why}")),
            }
        }
        found
    }

    fn peers(&mut self, path: &str, peers: &[NetworkPolicyPeer]) -> Peers {
        let (mut groups, mut blocks) = (BTreeSet::new(), Vec::new());
        for peer in self.each(path, "peer", peers, Self::peer) {
            match peer {
                Peer::Group(group) => _ = groups.insert(group),
                Peer::Block(block) => blocks.push(block),
            }
        }
        self.uses.extend(&groups);
        Peers::Only { groups, blocks }
    }

    fn peer(&mut self, peer: &NetworkPolicyPeer) -> Result<Peer, String> {
        let (namespaces, pods) = (&peer.namespace_selector, &peer.pod_selector);
        let scope = match (&peer.ip_block, namespaces, pods) {
            (Some(block), None, None) => return self::block(block).map(Peer::Block),
            (Some(_), ..) => return Err("both ipBlock and another peer".to_owned()),
            (None, None, None) => return Err("neither ipBlock nor a selector".to_owned()),
            (None, None, Some(_)) => Scope::Own(self.namespace.to_owned()),
            (None, selector, _) => Scope::Labelled(LabelSelector::from_meta(selector.as_ref())?),
        };
        let pods = match pods {
            None => LabelSelector::everything(),
            some => LabelSelector::from_meta(some.as_ref())?,
        };
        Ok(Peer::Group(self.groups.of(scope, pods)))
    }
}

enum Peer {
    Group(Group),
    Block(Block),
}

fn block(block: &IPBlock) -> Result<Block, String> {
    let except = block.except.iter().flatten().map(String::as_str);
    Block::new(&block.cidr, except).map_err(|e| e.to_string())
}

fn port(port: &NetworkPolicyPort) -> Result<Port, String> {
    let name = port.protocol.as_deref();
    let protocol = protocol(name)
        .ok_or_else(|| format!("protocol {} is not supported", name.unwrap_or("")))?;
    let number = |n: i32| u16::try_from(n).map_err(|_| format!("{n} is no port"));
    Ok(match &port.port {
        None => Port::Range(protocol, 0..=u16::MAX),
        Some(IntOrString::String(name)) => Port::Named(protocol, name.clone()),
        Some(IntOrString::Int(first)) => {
            let last = port.end_port.unwrap_or(*first);
            Port::Range(protocol, number(*first)?..=number(last)?)
        }
    })
}
