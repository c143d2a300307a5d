//! Mutual TLS between members, both ways by the cluster's CA, and only with certificates of servers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use crate::Error;
use crate::Tls;

/// The organisation that a member's certificate must have.
const SERVERS: &str = "system:carob:servers";
/// Members are near each other: who takes longer is none.
const HANDSHAKE: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(1);
/// How many connections may be between acceptance and the end of their handshake.
const HANDSHAKES: usize = 64;

pub(crate) type Accepted = tokio_rustls::server::TlsStream<TcpStream>;
pub(crate) type Connected = tokio_rustls::client::TlsStream<TcpStream>;

/// Both ends' configuration.
#[derive(Clone)]
pub(crate) struct Identity {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Identity {
    pub(crate) fn new(tls: &Tls) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = server_config(tls, &provider)?;
        let mut client = client_config(tls, &provider)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }

    /// Connects to the member at `address`.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<Connected> {
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = self
                .connector
                .connect(ServerName::from(address.ip()), stream)
                .await?;
            check_peer(stream.get_ref().1.peer_certificates())?;
            Ok(stream)
        };
        tokio::time::timeout(CONNECT, connect)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Accepts connections until the receiver is dropped. Whoever is no server gets no further than the handshake.
    pub(crate) fn accept(self, listener: TcpListener) -> mpsc::Receiver<Accepted> {
        let (connections, accepted) = mpsc::channel(HANDSHAKES);
        tokio::spawn(async move {
            let mut pending = VecDeque::new();
            loop {
                let stream = tokio::select! {
                    stream = listener.accept() => stream,
                    () = connections.closed() => return,
                };
                let stream = match stream {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, most likely: waiting is all that helps.
                        tracing::warn!(%error, "a raft connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                pending.retain(|task: &AbortOnDropHandle<()>| !task.is_finished());
                // The oldest goes: connections that say nothing must not keep members out.
                if pending.len() >= HANDSHAKES {
                    pending.pop_front();
                }
                let (acceptor, connections) = (self.acceptor.clone(), connections.clone());
                pending.push_back(AbortOnDropHandle::new(tokio::spawn(async move {
                    match handshake(&acceptor, stream).await {
                        Ok(stream) => drop(connections.send(stream).await),
                        Err(error) => tracing::info!(%error, "a raft connection was refused"),
                    }
                })));
            }
        });
        accepted
    }
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    let accept = acceptor.accept(stream);
    let stream = tokio::time::timeout(HANDSHAKE, accept)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    check_peer(stream.get_ref().1.peer_certificates())?;
    Ok(stream)
}

/// The CA has vouched for the certificate already; this tells servers from nodes and users.
fn check_peer(certificates: Option<&[CertificateDer<'_>]>) -> io::Result<()> {
    let denied = |reason: String| io::Error::new(io::ErrorKind::PermissionDenied, reason);
    let leaf = certificates
        .and_then(|chain| chain.first())
        .ok_or_else(|| denied("no certificate".to_owned()))?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| denied(error.to_string()))?;
    let server = leaf
        .subject()
        .iter_organization()
        .any(|name| name.as_str().is_ok_and(|name| name == SERVERS));
    if server {
        Ok(())
    } else {
        Err(denied(format!("{} is not of {SERVERS}", leaf.subject())))
    }
}

fn server_config(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<ServerConfig, Error> {
    let roots = Arc::new(roots(tls)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(unusable)?;
    let (chain, key) = own(tls)?;
    ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(unusable)
}

fn client_config(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, Error> {
    let (chain, key) = own(tls)?;
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots(tls)?)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)
}

fn roots(tls: &Tls) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&tls.ca_pem) {
        roots
            .add(certificate.map_err(unusable)?)
            .map_err(unusable)?;
    }
    Ok(roots)
}

fn own(tls: &Tls) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = CertificateDer::pem_slice_iter(&tls.cert_pem)
        .collect::<Result<_, _>>()
        .map_err(unusable)?;
    Ok((
        chain,
        PrivateKeyDer::from_pem_slice(&tls.key_pem).map_err(unusable)?,
    ))
}

fn unusable(error: impl std::fmt::Display) -> Error {
    Error::Tls(error.to_string())
}
