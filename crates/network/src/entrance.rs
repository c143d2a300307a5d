//! What comes into the pods' network by the node's own ports.
//!
//! Clients outside have no place in it: streams arrive with the client's own address, so that pods and their rules know
//! whom they have, and datagrams with that of the node's [gateway](Entrance::new), where the answers find back to.

mod datagrams;
mod ports;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::descriptors::{Place, Share};
use crate::link::{Links, OUTSIDE, Open};
use crate::policy::Policies;
use crate::services::{Backends, Name, Origin, PortRef};
use crate::stream::{Arrival, Stream, between};
use crate::table::{Published, Road};
use crate::{Network, PodNet, Protocol, SocketError, outside};

pub use ports::{BREATH, Ports, listen};

/// How long a client waits for its connection into the network.
const WITHIN: Duration = Duration::from_secs(15);

/// A port of the node at one of its addresses.
pub type At = (Protocol, SocketAddrV4);

/// Who wants a port of the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claimant {
    /// A Service, whose endpoints it leads to.
    Service(Name),
    /// A pod, one of whose ports it leads to.
    Pod(Name),
}

impl std::fmt::Display for Claimant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, of) = match self {
            Self::Service(of) => ("Service", of),
            Self::Pod(of) => ("Pod", of),
        };
        write!(f, "{kind} {}/{}", of.namespace, of.name)
    }
}

/// What a node's ports are wanted for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The ports that lead somewhere, and who has them.
    pub ports: BTreeMap<At, Claimant>,
    /// The pods that want a port which another has, and who that is.
    pub shut_out: BTreeMap<(At, Name), Claimant>,
}

/// Why a client does not reach a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// There is no such Service or port, it is only a name, or nobody is ready behind it.
    #[error("the service has no endpoints")]
    NoEndpoints,
    /// None of those who were tried took the connection.
    #[error(transparent)]
    Failed(#[from] SocketError),
}

/// Whom a client's connection may go to.
enum Way {
    /// That port of a pod.
    Pod(SocketAddrV4),
    /// A Service's backends, in this order.
    Service(Vec<SocketAddrV4>, Arc<Backends>),
}

impl Way {
    fn choose(backends: &Arc<Backends>, origin: Origin, client: SocketAddrV4) -> Self {
        let order = backends.choose(origin, *client.ip(), Instant::now());
        Self::Service(order, Arc::clone(backends))
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Service(order, _) if order.is_empty())
    }
}

/// The way in.
#[derive(Clone, Debug)]
pub struct Entrance {
    network: Network,
    gateway: PodNet,
    /// The node's sockets for clients, and for where they are led to outside.
    sockets: Arc<Share>,
}

impl Entrance {
    /// The way into a network whose node has a place in it as well: the source of what comes from the node's own
    /// loopback addresses, which to a pod are the pod's own. Whoever comes by this one has a share of the node's sockets.
    pub fn new(network: Network, gateway: PodNet) -> Self {
        let sockets = Share::of_all_clients(network.sockets());
        Self {
            network,
            gateway,
            sockets,
        }
    }

    /// Room for a socket of one more client, if there is any.
    pub fn place(&self) -> Option<Place> {
        self.sockets.take()
    }

    /// What the node's ports are wanted for.
    pub fn wanted(&self) -> Wanted {
        self.network.table().published_here()
    }

    /// Carries a connection that was made to a port of the node, until it ends.
    async fn pass(&self, socket: TcpStream, at: SocketAddrV4) {
        let client = match socket.peer_addr() {
            Ok(SocketAddr::V4(client)) => client,
            _ => return,
        };
        match tokio::time::timeout(WITHIN, self.connect(client, at)).await {
            Ok(Ok(stream)) => outside::carry(stream, socket).await,
            // As if nobody listened here.
            _ => drop(socket.set_zero_linger()),
        }
    }

    /// Connects a client to whatever a port of the node stands for; another backend is tried where one refuses.
    ///
    /// # Errors
    /// The last backend's, or [`SocketError::Refused`] where there is none.
    pub async fn connect(
        &self,
        client: SocketAddrV4,
        at: SocketAddrV4,
    ) -> Result<Stream, SocketError> {
        let way = match self.network.table().published(Protocol::Tcp, at) {
            None => return Err(SocketError::Refused),
            Some(Published::Pod(to)) => Way::Pod(to),
            Some(Published::Service(backends)) => Way::choose(backends, Origin::Outside, client),
        };
        self.set_out(client, Some(at), way).await
    }

    /// Connects a client to a port of a Service, whether or not that has an address or a port of the node; another backend
    /// is tried where one refuses.
    ///
    /// # Errors
    /// [`Unreached::NoEndpoints`] where there is nobody to ask, else what the last backend said.
    pub async fn connect_to_service(
        &self,
        client: SocketAddrV4,
        service: &Name,
        port: &PortRef,
    ) -> Result<Stream, Unreached> {
        let way = {
            let table = self.network.table();
            let backends = table.services.named(service, port);
            let backends = backends.ok_or(Unreached::NoEndpoints)?;
            // Traffic policies are about addresses and ports for the outside, which were not asked for.
            Way::choose(backends, Origin::InsideByOutside, client)
        };
        if way.is_empty() {
            return Err(Unreached::NoEndpoints);
        }
        Ok(self.set_out(client, None, way).await?)
    }

    /// Tries one after the other. The client asked for `at`, or for whoever answers.
    async fn set_out(
        &self,
        client: SocketAddrV4,
        at: Option<SocketAddrV4>,
        way: Way,
    ) -> Result<Stream, SocketError> {
        let (order, service) = match way {
            Way::Pod(to) => (vec![to], None),
            Way::Service(order, backends) => (order, Some(backends)),
        };
        // A pod is inside, whatever its node has said of it in the meantime.
        let may_leave = service.is_some();
        let mut failed = SocketError::Refused;
        for to in order {
            match self.reach(client, at, to, may_leave).await {
                Ok(stream) => {
                    if let Some(service) = service {
                        service.met(*client.ip(), to, Instant::now());
                    }
                    return Ok(stream);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn reach(
        &self,
        client: SocketAddrV4,
        at: Option<SocketAddrV4>,
        to: SocketAddrV4,
        may_leave: bool,
    ) -> Result<Stream, SocketError> {
        let from = self.source(client);
        if self.network.cidr().contains(*to.ip()) {
            return self.meet(from, to, self.rules(client, at)).await;
        }
        let road = self.network.table().road(*to.ip());
        let (near, far) = between(self.gateway.pod(), (from, at.unwrap_or(to)), (to, from));
        match (road, self.links()) {
            (Road::Outside, _) if may_leave && outside::is_possible_endpoint(*to.ip()) => {
                let place = self.place().ok_or(SocketError::PortsExhausted)?;
                outside::connect(near, far, to.into(), place).await
            }
            (Road::Link(peer), Some(links)) => {
                let pod = OUTSIDE.to_owned();
                links.open(&peer, Open { from, to, pod }, far).await?;
                Ok(near)
            }
            (Road::Outside | Road::Link(_) | Road::Nowhere, _) => Err(SocketError::Unreachable),
        }
    }

    /// Meets a pod of this node.
    async fn meet(
        &self,
        from: SocketAddrV4,
        to: SocketAddrV4,
        policies: Option<Policies>,
    ) -> Result<Stream, SocketError> {
        let server = self
            .network
            .pod_at(*to.ip())
            .ok_or(SocketError::Unreachable)?;
        let mut arrival = Arrival {
            from,
            asked: to,
            to,
            bound: None,
            policies,
            place: None,
        };
        std::future::poll_fn(|cx| arrival.meet(&server, cx)).await
    }

    /// What a client is to the pods.
    fn source(&self, client: SocketAddrV4) -> SocketAddrV4 {
        match client.ip().is_loopback() {
            true => SocketAddrV4::new(self.gateway.address(), client.port()),
            false => client,
        }
    }

    /// The rules that a client of a port, or of an Ingress, must pass here. A pod cannot shut out its own node:
    /// NetworkPolicy's words. To an Ingress the node's pods, too, come from the node's address, by its own sockets.
    fn rules(&self, client: SocketAddrV4, at: Option<SocketAddrV4>) -> Option<Policies> {
        let table = self.network.table();
        let is_nodes = at.is_some() && table.own_addresses().contains(client.ip());
        let exempt = client.ip().is_loopback() || is_nodes;
        (!exempt).then(|| table.policies.clone())
    }

    fn links(&self) -> Option<&Links> {
        self.gateway.pod().links()
    }
}
