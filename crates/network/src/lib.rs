//! The pods' virtual network.
//!
//! No operating-system socket is involved: a node has one [`Network`], every pod on it one
//! [`PodNet`] with an address, a port space and a loopback of its own. Streams are
//! [bounded pipes](pipe) of reference-counted chunks, so that data moves between two pods of a
//! node without being copied.
//!
//! The crate knows neither pods' lifecycles nor wasmtime: whoever runs something inside a pod
//! holds its [`PodNet`] and opens sockets on it.

mod budget;
pub mod conformance;
mod datagram;
mod node;
pub mod pipe;
mod ports;
mod stream;
mod wakers;

pub use datagram::{Datagram, Datagrams, LARGEST};
pub use node::{AddressError, Cidr, Network, PodNet};
pub use ports::Bound;
pub use stream::{BUFFER, Connecting, Listener, MOST_WAITING, Stream, StreamPort};

/// Why a socket could not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// The port is taken on this address.
    #[error("address in use")]
    AddressInUse,
    /// The address is none of the pod's own.
    #[error("cannot assign requested address")]
    NotBindable,
    /// Every ephemeral port of the pod is taken.
    #[error("no free port")]
    PortsExhausted,
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No pod of this node has the address.
    #[error("no route to host")]
    Unreachable,
    /// A datagram of more than [`LARGEST`] bytes.
    #[error("datagram too large")]
    TooLarge,
}
