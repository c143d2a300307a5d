//! Connections of the node itself into its pods: what `kubectl port-forward`, the API server's proxy and probes are
//! made of. No policy is asked about them: as in Kubernetes, a node reaches its own pods.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::node::Pod;
use crate::ports::{Bound, EPHEMERAL};
use crate::stream::Arrival;
use crate::{Family, Network, Protocol, SocketError, Stream};

/// Ports of connections that are the node's own. They say which is which and are taken from nobody: one may come again
/// while its first connection is still open.
#[derive(Debug, Default)]
pub(crate) struct OwnPorts(AtomicU16);

impl OwnPorts {
    /// `node` with the next port.
    pub(crate) fn next(&self, node: Ipv4Addr) -> SocketAddrV4 {
        let step = self.0.fetch_add(1, Ordering::Relaxed) % EPHEMERAL.len() as u16;
        SocketAddrV4::new(node, EPHEMERAL.start() + step)
    }
}

impl Network {
    /// Connects to a port of a pod's own loopback, as something inside of the pod would: the pod sees 127.0.0.1 at the
    /// other end or, where nobody listens there, `::1`. Waits while the listener's backlog is full.
    ///
    /// # Errors
    /// [`SocketError::Unreachable`] where no pod of this node has the address, [`SocketError::Refused`] where nobody
    /// listens on its loopback or on all of its addresses.
    pub async fn enter(&self, address: Ipv4Addr, port: u16) -> Result<Stream, SocketError> {
        let pod = self.pod_at(address).ok_or(SocketError::Unreachable)?;
        match enter_by(Family::V4, &pod, port).await {
            Err(SocketError::Refused) => enter_by(Family::V6, &pod, port).await,
            met => met,
        }
    }

    /// Connects to a port of a pod's address from the node, as a kubelet does: the pod sees the node's address or, where
    /// that is not known or would be loopback to the pod, the node's place in its pods' range. Waits while the
    /// listener's backlog is full.
    ///
    /// # Errors
    /// [`SocketError::Unreachable`] where no pod of this node has the address, [`SocketError::Refused`] where nobody
    /// listens there.
    pub async fn reach(&self, to: SocketAddrV4) -> Result<Stream, SocketError> {
        let pod = self.pod_at(*to.ip()).ok_or(SocketError::Unreachable)?;
        let node = {
            let table = self.table();
            let node = table.policies.node_of(*to.ip());
            node.filter(|ip| !ip.is_loopback()).or(table.gateway)
        };
        let mut arrival = Arrival {
            from: self.own_address(node.unwrap_or(self.cidr().first())),
            asked: to,
            to,
            bound: None,
            policies: None,
            place: None,
        };
        poll_fn(|cx| arrival.meet(&pod, cx)).await
    }

    /// Waits for somebody to listen at a port of a pod's address: for a pod that has just been started, and will.
    ///
    /// # Errors
    /// [`SocketError::Unreachable`] where the address is no pod's of this node.
    pub async fn listening(&self, to: SocketAddrV4) -> Result<(), SocketError> {
        let pod = self.pod_at(*to.ip()).ok_or(SocketError::Unreachable)?;
        loop {
            let mut listened = pin!(pod.listened.notified());
            // Before looking: somebody may begin to listen in between.
            listened.as_mut().enable();
            if pod.ports.lock().backlog(Family::V4, to).is_some() {
                return Ok(());
            }
            listened.await;
        }
    }
}

async fn enter_by(family: Family, pod: &Arc<Pod>, port: u16) -> Result<Stream, SocketError> {
    let loopback = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let bound = Bound::new(pod, Protocol::Tcp, family.outer(loopback(0)))?;
    let bound = Arc::new(bound);
    let mut arrival = Arrival {
        from: bound.source_for(Ipv4Addr::LOCALHOST),
        asked: loopback(port),
        to: loopback(port),
        bound: Some(&bound),
        policies: None,
        place: None,
    };
    poll_fn(|cx| arrival.meet(pod, cx)).await
}
