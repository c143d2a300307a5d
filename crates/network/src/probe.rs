//! Connections of the node itself to its pods' addresses, by which it finds out how they are.

use std::future::poll_fn;
use std::net::SocketAddrV4;
use std::pin::pin;

use crate::ports::EPHEMERAL;
use crate::stream::Arrival;
use crate::{Network, SocketError, Stream};

impl Network {
    /// Connects from the node to a pod's address, as a kubelet's probes do: no NetworkPolicy is asked, and who listens
    /// on the pod's loopback alone is not met. Pending while the listener's backlog is full.
    ///
    /// The pod sees the node's address at the other end or, before that is known, the first of the node's range.
    ///
    /// # Errors
    /// [`SocketError::Unreachable`] where the address is no pod's of this node, [`SocketError::Refused`] where nobody
    /// listens.
    pub async fn probe(&self, to: SocketAddrV4) -> Result<Stream, SocketError> {
        let server = self.pod_at(*to.ip()).ok_or(SocketError::Unreachable)?;
        let node = self.table().policies.get(*to.ip()).and_then(|p| p.node);
        // Nothing is told apart by the port, so that it need not be taken from anybody.
        let port = rand::random_range(EPHEMERAL);
        let arrival = Arrival {
            from: SocketAddrV4::new(node.unwrap_or(self.cidr().first()), port),
            asked: to,
            to,
            bound: None,
            judged: false,
        };
        poll_fn(|cx| arrival.meet(&server, cx)).await
    }

    /// [`probe`](Self::probe), but waits for somebody to listen: for a pod that has just been started, and will.
    ///
    /// # Errors
    /// [`SocketError::Unreachable`] where the address is no pod's of this node.
    pub async fn probe_once_listening(&self, to: SocketAddrV4) -> Result<Stream, SocketError> {
        let server = self.pod_at(*to.ip()).ok_or(SocketError::Unreachable)?;
        loop {
            let mut listened = pin!(server.listened.notified());
            // Before looking: somebody may begin to listen in between.
            listened.as_mut().enable();
            match self.probe(to).await {
                Err(SocketError::Refused) => listened.await,
                met => return met,
            }
        }
    }
}
