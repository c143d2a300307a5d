//! The protocol between servers and agents (`proto/node.proto`): stubs of both ends.

use std::{net::SocketAddr, time::Duration};

use tonic::transport::{Channel, Endpoint};

use crate::{Error, tls::Identity};

#[expect(missing_docs, reason = "generated; the .proto file documents it")]
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
        .connect_timeout(Duration::from_secs(2))
        .tcp_keepalive(Some(Duration::from_secs(5)))
        .connect_lazy())
}
