//! The pods' virtual network.
//!
//! No operating-system socket is involved but in the [links](link) between nodes and on the way to the outside: a node has
//! one [`Network`], every pod on it one [`PodNet`] with an address, a port space and a loopback of its own. Streams are
//! [bounded pipes](pipe) of reference-counted chunks, so that data moves between two pods of a
//! node without being copied.
//!
//! The crate knows neither pods' lifecycles nor wasmtime: whoever runs something inside a pod
//! holds its [`PodNet`] and opens sockets on it.

mod budget;
mod claims;
pub mod conformance;
mod connect;
mod datagram;
pub mod descriptors;
pub mod dns;
mod enter;
pub mod entrance;
mod family;
pub mod host_ports;
mod incoming;
mod io;
mod lately;
pub mod link;
pub mod names;
mod node;
pub mod nodes;
mod outside;
mod passing;
pub mod pipe;
pub mod policy;
mod ports;
mod resolve;
pub mod services;
mod stream;
mod table;
pub mod wakers;

pub use connect::Connecting;
pub use datagram::{Datagram, Datagrams, LARGEST};
pub use family::Family;
pub use io::StreamIo;
pub use node::{AddressError, Cidr, Network, PodNet};
pub use ports::Bound;
pub use resolve::ResolveError;
pub use stream::{BUFFER, Listener, MOST_WAITING, Stream, StreamPort};
pub use table::Table;

/// How bytes travel. Each protocol has a port space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Why a socket could not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// The port is taken on this address.
    #[error("address in use")]
    AddressInUse,
    /// The address is none of the pod's own.
    #[error("cannot assign requested address")]
    NotBindable,
    /// Every ephemeral port of the pod is taken, or all that it may have of the node's own sockets.
    #[error("no free port")]
    PortsExhausted,
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The other end did not answer in time.
    #[error("connection timed out")]
    TimedOut,
    /// Nobody has the address.
    #[error("no route to host")]
    Unreachable,
    /// A datagram of more than [`LARGEST`] bytes.
    #[error("datagram too large")]
    TooLarge,
}
