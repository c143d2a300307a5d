//! Connections from outside into a pod's network.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use client::node::{PortForwardFrom, PortForwardTarget};
use network::{SocketError, Stream};
use tonic::Status;

use super::Driver;
use super::log::Refusal;

/// How long a listener may leave a connection waiting to be made.
const PATIENCE: Duration = Duration::from_secs(10);

impl Driver {
    /// The address of the pod that a request means.
    ///
    /// # Errors
    /// When there is no such pod, or it has no address: not yet, or not any more.
    fn address(&self, target: &PortForwardTarget) -> Result<Ipv4Addr, Refusal> {
        let PortForwardTarget {
            namespace,
            pod: name,
            uid,
            ..
        } = target;
        let cell = self.find(namespace, name, uid)?;
        let state = cell.state.lock();
        let address = state.net.as_ref().map(network::PodNet::address);
        address.ok_or_else(|| Refusal::NotYet(format!("pod {name} is not running")))
    }

    /// Connects to the port that a request means.
    ///
    /// # Errors
    /// As `PortForward` in the node protocol says.
    pub(crate) async fn enter(&self, target: &PortForwardTarget) -> Result<Stream, Status> {
        let port = u16::try_from(target.port).ok().filter(|port| *port != 0);
        let port =
            port.ok_or_else(|| Status::invalid_argument("port must be between 1 and 65535"))?;
        let from = PortForwardFrom::try_from(target.from)
            .map_err(|e| Status::invalid_argument(format!("from: {e}")))?;
        let address = self.address(target)?;
        let network = &self.0.tools.network;
        let connecting = async {
            match from {
                PortForwardFrom::Loopback => network.enter(address, port).await,
                PortForwardFrom::Node => network.reach(SocketAddrV4::new(address, port)).await,
            }
        };
        let connected = tokio::time::timeout(PATIENCE, connecting).await;
        connected
            .unwrap_or(Err(SocketError::TimedOut))
            .map_err(|error| Status::unavailable(error.to_string()))
    }
}
