//! The protocol between servers and agents (`proto/node.proto`): stubs of both ends.

use std::{net::SocketAddr, time::Duration};

use tonic::transport::{Channel, Endpoint};

use crate::{
    Error,
    tls::{Identity, Subject},
};

pub use crate::tls::SERVERS;

/// By what the refusal to attach to a container ends that has not started or has ended: a program
/// that only passes input on has nothing to complain of then.
pub const NOT_RUNNING: &str = "is not running";

/// What one call may have on its way in either direction before its reader takes it, in bytes.
pub const STREAM_WINDOW: u32 = 128 << 10;
/// The same of all calls on one connection: so many that some whose readers take nothing do not hold up the others.
pub const CONNECTION_WINDOW: u32 = 64 << 20;
/// How many calls whose readers may take nothing a server has at once on one connection: so many do not use up what all
/// of them may have on their way, and one more is answered still.
pub const MOST_HELD: usize = (CONNECTION_WINDOW / STREAM_WINDOW) as usize - 32;
/// How many calls one connection carries at once: each connection into a pod is one.
pub const MOST_STREAMS: u32 = 10_000;

#[expect(
    missing_docs,
    clippy::allow_attributes,
    reason = "generated; the .proto file documents it"
)]
mod generated {
    tonic::include_proto!("carob.node.v1");
}

pub use generated::*;

/// A channel to the agent at `address`, made at its first use.
///
/// # Errors
/// When the identity can't be used for TLS.
pub fn channel(address: SocketAddr, identity: &Identity) -> Result<Channel, Error> {
    let context = || format!("node agent at {address}");
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .and_then(|endpoint| endpoint.tls_config(identity.tonic_client(&address.ip().to_string())))
        .map_err(|error| Error::transport(context(), error))?;
    Ok(endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_timeout(Duration::from_secs(2))
        .tcp_keepalive(Some(Duration::from_secs(5)))
        .connect_lazy())
}

/// Lets only servers pass: what an agent does with every call, over TLS that demands a
/// certificate of the cluster's CA.
///
/// # Errors
/// `UNAUTHENTICATED` without a certificate, `PERMISSION_DENIED` for anyone else's.
pub fn admit_server<T>(request: &tonic::Request<T>) -> Result<(), tonic::Status> {
    let chain = request.peer_certs();
    let leaf = chain
        .as_ref()
        .and_then(|chain| chain.first())
        .ok_or_else(|| tonic::Status::unauthenticated("a client certificate is needed"))?;
    let subject =
        Subject::of(leaf).map_err(|error| tonic::Status::unauthenticated(error.to_string()))?;
    if subject.organizations.iter().any(|group| group == SERVERS) {
        return Ok(());
    }
    let name = subject.common_name;
    Err(tonic::Status::permission_denied(format!(
        "{name} is no server of this cluster"
    )))
}
