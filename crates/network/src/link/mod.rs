//! Links between nodes, on which their pods' streams and datagrams travel.
//!
//! A link is one TLS connection that speaks HTTP/2. Each stream of a pod is one `CONNECT` request
//! on it, whose bodies are the two directions; HTTP/2's flow control holds back the writer of one
//! stream without holding back the others. All datagrams share one request. A node dials one link
//! to each node that its pods talk to ([`Links`]), and serves those that others dial ([`serve`]):
//! two nodes whose pods talk to each other both ways have two links.
//!
//! How requests are worded is in `request.rs`, how datagrams are framed in `frame.rs`, how bytes
//! move between a pod's pipes and a request's bodies in `pump.rs`.

mod datagrams;
mod dial;
pub mod frame;
mod life;
mod pump;
pub mod request;
mod serve;
mod slot;
#[cfg(test)]
pub(crate) mod tests;

use std::net::{SocketAddr, SocketAddrV4};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{SocketError, Stream};

pub use dial::{Judge, Links};
pub use serve::serve;

/// What TLS' ALPN calls a link, by which a port tells it from its other services.
pub const ALPN: &[u8] = b"carob-link/1";

/// The most streams on one link at a time.
pub const MOST_STREAMS: u32 = 100_000;

/// The longest name of a pod in an [`Open`], in bytes.
pub const LONGEST_POD: usize = 128;

/// Stands for a pod's uid where the client is none, but somebody outside or the node itself.
pub const OUTSIDE: &str = "outside";

/// A node to link to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The node's name.
    pub name: String,
    /// Where it serves links. Its certificate must carry the IP address.
    pub address: SocketAddr,
}

/// A stream that a pod of the dialing node asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The client's end.
    pub from: SocketAddrV4,
    /// What it connects to: an address of the serving node.
    pub to: SocketAddrV4,
    /// The client pod's uid, or [`OUTSIDE`]: up to [`LONGEST_POD`] visible ASCII characters.
    pub pod: String,
}

/// A datagram on its way between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// Whom it is for: an address of the serving node.
    pub to: SocketAddrV4,
    /// Its bytes, at most [`LARGEST`](crate::LARGEST).
    pub bytes: Bytes,
}

/// What a serving node does with what comes over links. `peer` is the name of the node that
/// dialed, from its certificate; what it says about its pods is to be judged by that.
#[async_trait]
pub trait Accept: Send + Sync + 'static {
    /// Makes the connection to the pod and returns the end that the link is to hold. It has ten
    /// seconds, and is dropped when the client gives up.
    ///
    /// # Errors
    /// [`SocketError::Refused`] where nobody listens or a policy forbids it,
    /// [`SocketError::Unreachable`] where no pod is. Any other is an unreachable pod to the client.
    async fn connect(&self, peer: &str, open: Open) -> Result<Stream, SocketError>;

    /// Takes a datagram. It must not block.
    fn datagram(&self, peer: &str, packet: Packet);
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection could not be made.
    #[error("connecting")]
    Connect(#[source] std::io::Error),
    /// The connection took too long to be made.
    #[error("no link in time")]
    Slow,
    /// The other end has a certificate of the cluster's, but is not the node that was asked for.
    #[error("{0} is another node")]
    Stranger(SocketAddr),
    /// The other end serves no links.
    #[error("{0} serves no links")]
    NoLinks(SocketAddr),
    /// The other end has answered no ping.
    #[error("the other end is silent")]
    Silent,
    /// The connection broke, or the other end broke HTTP/2's rules.
    #[error("link broken")]
    Broken(#[from] h2::Error),
}
