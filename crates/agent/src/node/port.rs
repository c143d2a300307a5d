//! The node's port: one listener, where the protocol that the other end offers tells another node's link from a call.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use client::tls::{ClientAuth, Identity, Subject};
use network::Network;
use network::link::{ALPN, Accept, Links, Peer};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A connection with whoever has shown a certificate of the cluster's.
pub(super) type Connection = TlsStream<TcpStream>;

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Handshakes under way: who begins them and goes no further takes no more of the agent than these.
const MOST_HANDSHAKES: usize = 256;
/// How long nothing is accepted once the process has run out of file descriptors.
const BREATH: Duration = Duration::from_millis(100);
const CALLS: &[u8] = b"h2";

/// The links that this node dials to others as itself.
///
/// # Errors
/// When the identity cannot be used.
pub(crate) fn links(identity: &Identity) -> Result<Links, client::tls::Error> {
    Ok(Links::new(&identity.peer_config()?, Box::new(is_node)))
}

fn is_node(peer: &Peer, shown: &[CertificateDer<'_>]) -> bool {
    node(shown).is_some_and(|name| name == peer.name)
}

/// The node that showed these certificates.
fn node(shown: &[CertificateDer<'_>]) -> Option<String> {
    let subject = Subject::of(shown.first()?).ok()?;
    subject.node().map(str::to_owned)
}

/// What answers at the node's port under this identity.
///
/// # Errors
/// When the identity cannot be used.
pub(super) fn acceptor(identity: &Identity) -> Result<TlsAcceptor, client::tls::Error> {
    let mut config = identity.server_config(ClientAuth::Required)?;
    config.alpn_protocols = vec![ALPN.to_vec(), CALLS.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts for as long as anybody takes the calls. Links are served here and now.
pub(super) async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    network: Network,
    calls: mpsc::Sender<io::Result<Connection>>,
) {
    let room = Arc::new(Semaphore::new(MOST_HANDSHAKES));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let socket = tokio::select! {
            accepted = listener.accept() => accepted,
            () = calls.closed() => return,
        };
        let Ok((socket, _)) = socket else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let (tls, network, calls) = (tls.clone(), network.clone(), calls.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, shake(socket, tls)).await;
            drop(permit);
            match shaken {
                Ok(Ok(connection)) => dispatch(connection, network, calls).await,
                Ok(Err(error)) => tracing::debug!(%error, "no handshake at the node's port"),
                Err(_) => tracing::debug!("a handshake at the node's port took too long"),
            }
        });
    }
}

async fn shake(socket: TcpStream, tls: TlsAcceptor) -> io::Result<Connection> {
    socket.set_nodelay(true)?;
    tls.accept(socket).await
}

async fn dispatch(
    connection: Connection,
    network: Network,
    calls: mpsc::Sender<io::Result<Connection>>,
) {
    let (_, session) = connection.get_ref();
    if session.alpn_protocol() != Some(ALPN) {
        // Nobody takes calls any more: the agent is ending.
        let _ = calls.send(Ok(connection)).await;
        return;
    }
    let Some(peer) = node(session.peer_certificates().unwrap_or_default()) else {
        tracing::warn!("somebody who is no node asked for a link");
        return;
    };
    let accept: Arc<dyn Accept> = Arc::new(network);
    tokio::select! {
        ended = network::link::serve(connection, peer.clone(), accept) => {
            if let Err(error) = ended {
                tracing::debug!(peer, error = &error as &dyn std::error::Error, "a link broke");
            }
        }
        () = calls.closed() => {}
    }
}
