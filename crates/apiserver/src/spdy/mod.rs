//! SPDY/3.1: many streams over one connection, as `kubectl` speaks it for port-forward (and exec) inside of a WebSocket or
//! after `Upgrade: SPDY/3.1`. Its source is draft-mbelshe-httpbis-spdy-00 with the session's window of 3.1.
//!
//! [`frame`] reads and writes frames without any I/O, [`Connection`] gives the streams that a client opens. Only the
//! server's part is here: clients open streams, servers do not.
//!
//! Two things are as Kubernetes' clients need them, and not as the draft has them:
//!
//! - These clients keep no windows: they neither send WINDOW_UPDATE nor heed it. So a peer's window counts only once it
//!   has shown to have one. Until then, and for what comes in at all times, the connection itself holds back who
//!   sends too much: a stream that nobody reads stops its connection.
//! - A stream is taken or refused by whoever accepts it, so SYN_REPLY waits for [`Stream::reply`].

mod connection;
mod dictionary;
pub mod frame;
mod header;
mod inbound;
mod outgoing;
mod shared;
mod stream;
#[cfg(test)]
mod tests;
mod window;

pub use connection::Connection;
pub use header::Headers;
pub use stream::{Broken, Reader, Stream, Writer};

/// The most streams that are open at once.
const MOST_STREAMS: usize = 2048;

/// Why a stream is refused or ends at once: RST_STREAM's status.
pub mod status {
    /// The other end broke the protocol.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// A frame for a stream that is not there.
    pub const INVALID_STREAM: u32 = 2;
    /// The stream was not processed.
    pub const REFUSED_STREAM: u32 = 3;
    /// Its maker does not want it any more.
    pub const CANCEL: u32 = 5;
    /// A window grew beyond what a window can be.
    pub const FLOW_CONTROL_ERROR: u32 = 7;
}
