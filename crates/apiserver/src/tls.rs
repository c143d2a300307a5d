//! The server's side of TLS: the cluster's CA judges client certificates, which are optional.

use std::sync::Arc;

use client::tls::{ClientAuth, Error, Identity};

/// A TLS configuration that offers h2 and http/1.1, proves itself by `server` and asks for a client
/// certificate of the cluster's CA. A client without one comes in as `system:anonymous`; one with a
/// certificate of another CA is turned away in the handshake.
///
/// # Errors
/// When the PEM can't be read or its parts don't fit.
pub fn server_config(server: &Identity) -> Result<Arc<rustls::ServerConfig>, Error> {
    let mut config = server.server_config(ClientAuth::Optional)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
