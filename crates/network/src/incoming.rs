//! What comes over links from pods of other nodes.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;

use crate::link::{Accept, OUTSIDE, Open, Packet};
use crate::policy::{Direction, Policies};
use crate::stream::{Arrival, Stream};
use crate::{Family, Network, SocketError};

/// How long a pod that nobody here has heard of may take to be heard of before its connections are refused.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

impl Network {
    /// Whether a node may speak for an address: those of its own pods, by the range that it was given.
    fn is_of(&self, peer: &str, address: Ipv4Addr) -> bool {
        let table = self.table();
        let range = table.nodes.named(peer).and_then(|node| node.pods);
        range.is_some_and(|range| range.contains(address))
    }

    /// Whether an address is no pod's and no loopback's, of which each pod has its own.
    fn is_outside(&self, address: Ipv4Addr) -> bool {
        !address.is_loopback() && self.table().nodes.of_pod(address).is_none()
    }

    /// Whether this node is one of several on one machine, as on a local cluster: what another of them lets in from the
    /// machine itself comes from this node's own machine, which its pods cannot shut out.
    fn shares_a_machine(&self) -> bool {
        self.table()
            .own_addresses()
            .iter()
            .any(Ipv4Addr::is_loopback)
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
        // Clients outside come by the ports of any node; pods by their own alone.
        let is_outside = open.pod == OUTSIDE && self.is_outside(client);
        if !is_outside && !self.is_of(peer, client) {
            return Err(SocketError::Refused);
        }
        let server = self.pod_at(*to.ip()).ok_or(SocketError::Unreachable)?;
        let policies = self.policies();
        let is_hosts = open.pod == OUTSIDE && !is_outside && self.shares_a_machine();
        if !is_hosts && policies.isolates(*to.ip(), Direction::Ingress) {
            // Rules name pods by what is known of them; one that is not known yet could be anybody.
            let known = open.pod == OUTSIDE || policies.know(client, &open.pod, HEARD_WITHIN).await;
            if !known {
                return Err(SocketError::Refused);
            }
        }
        let mut arrival = Arrival {
            from,
            asked: to,
            to,
            bound: None,
            policies: Some(policies).filter(|_| !is_hosts),
            place: None,
        };
        std::future::poll_fn(|cx| arrival.meet(&server, cx)).await
    }

    fn datagram(&self, peer: &str, packet: Packet) {
        let Packet { from, to, bytes } = packet;
        if !self.is_of(peer, *from.ip()) {
            return;
        }
        if let Some(server) = self.pod_at(*to.ip()) {
            server.deliver(Family::V4, from, to, bytes, &self.policies());
        }
    }
}
