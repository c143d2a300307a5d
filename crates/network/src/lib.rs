//! The pods' virtual network.
//!
//! No operating-system socket is involved: a node has one [`Network`], every pod on it one
//! [`PodNet`] with an address, a port space and a loopback of its own. Streams are
//! [bounded pipes](pipe) of reference-counted chunks, so that data moves between two pods of a
//! node without being copied.
//!
//! The crate knows neither pods' lifecycles nor wasmtime: whoever runs something inside a pod
//! holds its [`PodNet`] and opens sockets on it.

mod node;
pub mod pipe;
mod wakers;

pub use node::{AddressError, Cidr, Network, PodNet};
