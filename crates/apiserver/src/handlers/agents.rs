//! The nodes' agents, as this server calls them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::{Resource, Status};
use client::node::MOST_HELD;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::Channel;

use crate::ApiServer;

/// What an agent is called for. Each has a connection of its own: what some leave unread on one does not hold up what
/// others do on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Logs, attached streams, metrics.
    Containers,
    /// Connections into pods.
    Connections,
}

/// A connection to an agent, which carries many calls.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) channel: Channel,
    calls: Arc<Semaphore>,
}

/// A call's place on its line: kept for as long as somebody may leave its answer unread.
pub(super) type Held = OwnedSemaphorePermit;

/// By what a call may be broken off: no two that an agent has are the same.
pub(super) fn call() -> u64 {
    rand::random::<u64>().max(1)
}

impl Line {
    fn new(channel: Channel) -> Self {
        let calls = Arc::new(Semaphore::new(MOST_HELD));
        Self { channel, calls }
    }

    /// Takes a place for a call.
    ///
    /// # Errors
    /// 429 where there is none.
    pub(super) fn hold(&self, node: &str) -> Result<Held, Status> {
        let held = Arc::clone(&self.calls).try_acquire_owned();
        held.map_err(|_| {
            let why = format!(
                "this server has {MOST_HELD} streams of node {node} open, which is the most at once"
            );
            Status::too_many_requests(why, 1)
        })
    }
}

/// Connections to agents, kept and shared: one for each node and purpose, to where the node last said that its agent
/// listens.
#[derive(Default)]
pub(crate) struct Agents(Mutex<BTreeMap<(String, Purpose), (SocketAddr, Line)>>);

impl Agents {
    /// The line that is kept, or else a new one. Those of nodes that are there no more go then: what comes anew is bounded
    /// by the nodes there are.
    fn line<E>(
        &self,
        (node, address): (&str, SocketAddr),
        purpose: Purpose,
        open: impl FnOnce() -> Result<Channel, E>,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<Line, E> {
        let key = (node.to_owned(), purpose);
        let mut lines = self.0.lock();
        let kept = lines.get(&key).filter(|(at, _)| *at == address);
        if let Some((_, line)) = kept {
            return Ok(line.clone());
        }
        let line = Line::new(open()?);
        lines.retain(|(node, _), _| is_there(node));
        lines.insert(key, (address, line.clone()));
        Ok(line)
    }
}

/// The line to a node's agent.
pub(super) fn line(
    server: &ApiServer,
    at: (&str, SocketAddr),
    purpose: Purpose,
) -> Result<Line, client::Error> {
    let inner = &server.inner;
    let open = || client::node::channel(at.1, &inner.config.identity);
    let nodes = Resource::of::<Node>();
    let is_there = |node: &str| inner.cache.get(nodes, None, node).is_some();
    inner.agents.line(at, purpose, open, is_there)
}

/// Where a node's agent listens: its InternalIP and the port that its status names.
pub(super) async fn agent_address(server: &ApiServer, name: &str) -> Result<SocketAddr, Status> {
    let resource = Resource::of::<Node>();
    let node = server
        .read(resource.key(None, name).as_bytes())
        .await?
        .ok_or_else(|| Status::not_found(resource, name))?;
    let node: Node = node.view().map_err(|e| Status::internal(e.to_string()))?;
    address_of(name, node)
}

/// The same of a node that is at hand.
pub(super) fn address_of(name: &str, node: Node) -> Result<SocketAddr, Status> {
    let status = node.status.unwrap_or_default();
    let address = status
        .addresses
        .iter()
        .flatten()
        .find(|a| a.type_ == "InternalIP")
        .and_then(|a| a.address.parse::<IpAddr>().ok());
    let port = status
        .daemon_endpoints
        .and_then(|d| d.kubelet_endpoint)
        .and_then(|e| u16::try_from(e.port).ok())
        .filter(|p| *p != 0);
    match (address, port) {
        (Some(address), Some(port)) => Ok(SocketAddr::new(address, port)),
        _ => Err(Status::internal(format!(
            "node {name} has not yet said where its agent listens"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::transport::Endpoint;

    use super::*;

    fn channel() -> Channel {
        Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
    }

    #[tokio::test]
    async fn a_node_has_one_line_for_each_purpose() {
        let agents = Agents::default();
        let line = |node, port, purpose, nodes: &[&str]| {
            let at = (node, SocketAddr::from(([127, 0, 0, 1], port)));
            let open = || Ok::<_, Infallible>(channel());
            let line = agents.line(at, purpose, open, |node| nodes.contains(&node));
            line.unwrap()
        };
        let same = |one: &Line, other: &Line| Arc::ptr_eq(&one.calls, &other.calls);
        let kept = || -> Vec<(String, Purpose)> { agents.0.lock().keys().cloned().collect() };
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let first = line("a", 1, Purpose::Containers, &["a"]);
        assert!(same(&first, &line("a", 1, Purpose::Containers, &["a"])));
        assert!(!same(&first, &line("a", 1, Purpose::Connections, &["a"])));
        // Another that says the same address does not share what it may hold.
        assert!(!same(
            &first,
            &line("b", 1, Purpose::Containers, &["a", "b"])
        ));
        assert_eq!(
            kept(),
            [
                (a.clone(), Purpose::Containers),
                (a.clone(), Purpose::Connections),
                (b.clone(), Purpose::Containers),
            ]
        );
        // However often the node says another one.
        for port in 2..100 {
            line("b", port, Purpose::Containers, &["a", "b"]);
        }
        assert_eq!(kept().len(), 3);
        let moved = line("a", 2, Purpose::Containers, &["a", "b"]);
        assert!(!same(&first, &moved));
        assert!(same(
            &moved,
            &line("a", 2, Purpose::Containers, &["a", "b"])
        ));
        // One that is gone, with the next that comes.
        line("c", 1, Purpose::Containers, &["b", "c"]);
        let c = "c".to_owned();
        assert_eq!(kept(), [(b, Purpose::Containers), (c, Purpose::Containers)]);
    }

    #[tokio::test]
    async fn a_line_has_so_many_places() {
        let line = Line::new(channel());
        // However it is shared.
        let shared = line.clone();
        let mut held: Vec<Held> = (0..MOST_HELD).map(|_| line.hold("n").unwrap()).collect();
        let full = shared.hold("n").unwrap_err();
        assert_eq!(full.code, 429);
        assert!(full.message.contains("node n "), "{}", full.message);
        held.pop();
        let again = shared.hold("n").unwrap();
        assert!(line.hold("n").is_err());
        drop((held, again));
        assert!(line.hold("n").is_ok());
    }
}
