//! Clients' connections: accepted, bounded, and spoken HTTP/1.1 or HTTP/2 on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use network::entrance::BREATH;
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::certificates::Certificates;
use super::headers::Client;
use super::proxy::{LARGEST_HEAD, Limits, Proxy};
use super::quiet::{End, Patience};
use super::room::{Place, Room};

/// Requests that a client may have at a time on one connection.
const STREAMS: u32 = 128;
/// How long a client is silent before it is asked whether it is still there.
const STILL_THERE: Duration = Duration::from_secs(30);
/// How long there is for a first request that crosses the word that its connection ends.
const CROSSING: Duration = Duration::from_secs(1);

/// How TLS is spoken: by the certificates as they are at each handshake.
///
/// # Errors
/// When the provider cannot speak the protocol's versions.
pub(super) fn tls(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(certificates.provider().clone());
    let builder = builder.with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A place where clients come in.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    /// The port as clients see it.
    pub(super) port: u16,
    /// How TLS is spoken there, where it is.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// The places for connections, of all doors.
    pub(super) room: Arc<Room>,
}

impl Door {
    /// Accepts connections. It never returns: drop it. Those that were accepted go on.
    pub(super) async fn serve(self, proxy: Arc<Proxy>) {
        loop {
            let (socket, client) = match self.listener.accept().await {
                Ok((socket, SocketAddr::V4(client))) => (socket, client),
                Ok(_) => continue,
                Err(_) => {
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let client = Client {
                address: client,
                port: self.port,
                tls: self.tls.is_some(),
            };
            // Those that come after this one wait to be accepted.
            let taken = self.room.until(|| proxy.place()).await;
            let connection = Connection {
                proxy: proxy.clone(),
                client,
                place: self.room.enter().await,
            };
            let (room, tls) = (self.room.clone(), self.tls.clone());
            tokio::spawn(async move {
                connection.serve(socket, tls).await;
                drop(taken);
                room.left();
            });
        }
    }
}

/// A client's connection.
struct Connection {
    proxy: Arc<Proxy>,
    client: Client,
    place: Place,
}

impl Connection {
    async fn serve(self, socket: TcpStream, tls: Option<Arc<ServerConfig>>) {
        let _ = socket.set_nodelay(true);
        // A client may vanish without a word while a long answer waits for its next part.
        let _ = sockopt::set_socket_keepalive(&socket, true);
        let _ = sockopt::set_tcp_keepidle(&socket, STILL_THERE);
        let Some(config) = tls else {
            return self.speak(socket).await;
        };
        let shaking = TlsAcceptor::from(config).accept(socket);
        let shaken = tokio::select! {
            shaken = shaking => shaken,
            _ = self.place.activity().end(self.patience()) => return,
        };
        match shaken {
            Ok(stream) => self.speak(stream).await,
            Err(error) => tracing::debug!(%error, "an Ingress' client does not speak TLS"),
        }
    }

    fn patience(&self) -> Patience {
        let limits = self.proxy.limits;
        Patience {
            first: limits.head,
            then: limits.idle,
            unread: limits.unread,
        }
    }

    /// For a connection whose client is told that it ends. One on which nothing was said yet is ended without a word.
    fn last_patience(&self) -> Patience {
        let limits = self.proxy.limits;
        Patience {
            first: CROSSING,
            // What was answered may be waiting for the client to read it.
            then: limits.unread,
            unread: limits.unread,
        }
    }

    async fn speak<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: I) {
        let limits = self.proxy.limits;
        let activity = self.place.activity();
        let (proxy, client, used) = (self.proxy.clone(), self.client, activity.clone());
        let service = service_fn(move |request| {
            let (proxy, busy) = (proxy.clone(), used.begin());
            async move { Ok::<_, Infallible>(proxy.answer(request, client, busy).await) }
        });
        let builder = builder(limits);
        let serving = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::pin!(serving);
        let end = tokio::select! {
            // What was answered goes out before the connection is looked at as one at rest.
            biased;
            // Clients come and go as they like.
            _ = serving.as_mut() => return,
            end = activity.end(self.patience()) => end,
        };
        if end == End::Unread {
            return;
        }
        // An answer counts as given once the last of it was handed on, though it may not yet fit the client's socket.
        serving.as_mut().graceful_shutdown();
        activity.leave();
        tokio::select! {
            biased;
            _ = serving => {}
            _ = activity.end(self.last_patience()) => {}
        }
    }
}

fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Hyper's would count the wait for a head to begin, too: patience with the connection is bound enough.
        .header_read_timeout(None::<Duration>)
        .max_buf_size(LARGEST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(LARGEST_HEAD as u32)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(STILL_THERE)
        .keep_alive_timeout(limits.head);
    builder
}

#[cfg(test)]
mod tests;
