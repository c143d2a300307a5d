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
pub(super) type Held = Arc<OwnedSemaphorePermit>;

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
        held.map(Arc::new).map_err(|_| {
            let why = format!(
                "this server has {MOST_HELD} streams of node {node} open, which is the most at once"
            );
            Status::too_many_requests(why, 1)
        })
    }
}

/// Connections to agents, kept and shared.
#[derive(Default)]
pub(crate) struct Agents(Mutex<BTreeMap<(SocketAddr, Purpose), Line>>);

impl Agents {
    pub(super) fn line(
        &self,
        address: SocketAddr,
        purpose: Purpose,
        identity: &client::tls::Identity,
    ) -> Result<Line, client::Error> {
        let mut lines = self.0.lock();
        if let Some(line) = lines.get(&(address, purpose)) {
            return Ok(line.clone());
        }
        let line = Line::new(client::node::channel(address, identity)?);
        lines.insert((address, purpose), line.clone());
        Ok(line)
    }
}

/// Where a node's agent listens: its InternalIP and the port that its status names.
pub(super) async fn agent_address(server: &ApiServer, name: &str) -> Result<SocketAddr, Status> {
    let resource = Resource::of::<Node>();
    let node = server
        .read(resource.key(None, name).as_bytes())
        .await?
        .ok_or_else(|| Status::not_found(resource, name))?;
    let node: Node = node.view().map_err(|e| Status::internal(e.to_string()))?;
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
    use tonic::transport::Endpoint;

    use super::*;

    #[tokio::test]
    async fn a_line_has_so_many_places() {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let line = Line::new(channel);
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
