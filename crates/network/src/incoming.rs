//! What comes over links from pods of other nodes.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;

use crate::link::{Accept, Open, Packet};
use crate::policy::{Direction, Policies};
use crate::stream::{Arrival, Stream};
use crate::{Network, Protocol, SocketError};

/// How long a pod that nobody here has heard of may take to be heard of before its connections are refused.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

impl Network {
    /// Whether a node may speak for an address: those of its own pods, by the range that it was given.
    fn is_of(&self, peer: &str, address: Ipv4Addr) -> bool {
        let table = self.table();
        let range = table.nodes.named(peer).and_then(|node| node.pods);
        range.is_some_and(|range| range.contains(address))
    }

    fn policies(&self) -> Policies {
        self.table().policies.clone()
    }
}

#[async_trait]
impl Accept for Network {
    async fn connect(&self, peer: &str, open: Open) -> Result<Stream, SocketError> {
        let (from, to) = (open.from, open.to);
        let client = *from.ip();
        if !self.is_of(peer, client) {
            return Err(SocketError::Refused);
        }
        let server = self.pod_at(*to.ip()).ok_or(SocketError::Unreachable)?;
        let policies = self.policies();
        if policies.isolates(*to.ip(), Direction::Ingress) {
            // Rules name pods by what is known of them; one that is not known yet could be anybody.
            let known = policies.know(client, &open.pod, HEARD_WITHIN).await;
            if !known || !policies.ingress(client, to, Protocol::Tcp).is_allowed() {
                return Err(SocketError::Refused);
            }
        }
        let arrival = Arrival {
            from,
            asked: to,
            to,
            bound: None,
            judged: true,
        };
        std::future::poll_fn(|cx| arrival.meet(&server, cx)).await
    }

    fn datagram(&self, peer: &str, packet: Packet) {
        let Packet { from, to, bytes } = packet;
        if !self.is_of(peer, *from.ip()) {
            return;
        }
        if let Some(server) = self.pod_at(*to.ip()) {
            server.deliver(from, to, bytes, &self.policies());
        }
    }
}
