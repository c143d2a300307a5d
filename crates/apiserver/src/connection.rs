//! Connections: TLS, HTTP/1.1 and HTTP/2, and their orderly end.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use client::tls::Subject;
use futures::future::BoxFuture;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::body::{self, AsItIs, Response};
use crate::identity::Identity;
use crate::negotiate;
use crate::payload::Payload;
use crate::socket::{Line, Socket};
use crate::users::CertifiedUser;
use crate::{ApiServer, health, mount, registry, respond};

/// How long a client has for its TLS handshake and for a request's head.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long open requests have to end once the server stops.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client is silent before it is asked whether it is still there, how often it is asked again, and after how
/// many questions without an answer it is gone.
const STILL_THERE: (Duration, Duration, u32) =
    (Duration::from_secs(30), Duration::from_secs(10), 3);

/// What a request's connection is: who speaks, and when it ends.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) identity: Identity,
    /// The user whose certificate was shown, where it is good only while the cluster keeps the user.
    pub(crate) user: Option<CertifiedUser>,
    /// The address of the other end; none of callers in this process.
    pub(crate) peer: Option<IpAddr>,
    /// The other end is on this machine: compressing for it only burns the CPU that both share.
    pub(crate) local: bool,
    /// By what it is noticed that the client is gone.
    pub(crate) line: Line,
    /// Fires when watches and other streams must end.
    pub(crate) shutdown: CancellationToken,
}

impl ApiServer {
    /// Serves HTTPS on a listener. Once `leaving` fires no more connections are taken; once `shutdown` does the
    /// watches end, and it returns when every connection is closed or after two seconds.
    ///
    /// One server may serve several listeners at once, each with its own tokens.
    pub fn serve(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        leaving: CancellationToken,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        // Boxed here, so that everything that serves is compiled with this crate and not with every
        // program that has a server.
        Box::pin(self.clone().accept(listener, tls, leaving, shutdown))
    }

    async fn accept(
        self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        leaving: CancellationToken,
        shutdown: CancellationToken,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        let graceful = GracefulShutdown::new();
        loop {
            let (stream, peer) = tokio::select! {
                () = leaving.cancelled() => break,
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Mostly "too many open files": it passes, and spinning would not help.
                        warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let server = self.clone();
            let acceptor = acceptor.clone();
            let watcher = graceful.watcher();
            let shutdown = shutdown.child_token();
            tokio::spawn(async move {
                let handshake = server.handshake(acceptor, stream, peer, shutdown);
                let Some((stream, connection)) = handshake.await else {
                    return;
                };
                let open = connection.shutdown.clone();
                let (revoked, broken) =
                    (server.until_revoked(&connection), connection.line.broken());
                let service = service_fn(move |request| {
                    let server = server.clone();
                    let connection = connection.clone();
                    async move { Ok::<_, Infallible>(server.receive(connection, request).await) }
                });
                let builder = builder();
                let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
                tokio::select! {
                    served = watcher.watch(served.into_owned()) => {
                        if let Err(error) = served {
                            debug!(%peer, error = %error, "connection ended");
                        }
                    }
                    () = revoked => {
                        debug!(%peer, "the user is revoked");
                        // Requests that are still being answered hear of it by this.
                        open.cancel();
                    }
                    // Whatever its requests wait for.
                    () = broken => debug!(%peer, "the client is gone"),
                }
            });
        }
        drop(listener);
        shutdown.cancelled().await;
        if tokio::time::timeout(DRAIN, graceful.shutdown())
            .await
            .is_err()
        {
            debug!("connections were still open when the server stopped");
        }
    }

    /// One request off the wire: mounts get it as it comes.
    async fn receive(&self, connection: Connection, request: Request<Incoming>) -> Response {
        let path = request.uri().path();
        // Copies of blobs are for the other servers, whatever the store's state.
        let early = !health::serves(path) && !mount::is_for_peers(path) && !*self.ready().borrow();
        let refused = if early {
            Some(registry::not_taken("this server is not ready yet"))
        } else {
            let revoked = connection.user.is_some() && connection.identity.is_anonymous();
            revoked.then(|| Status::unauthorized("Unauthorized"))
        };
        let gzip = !connection.local && negotiate::accepts_gzip(request.headers());
        if let Some(mount) = self.mount(path).filter(|_| refused.is_none()) {
            return Box::pin(self.serve_mount(mount, &connection.identity, request)).await;
        }
        let head = request.method() == Method::HEAD;
        let pretty = negotiate::pretty(request.uri(), request.headers());
        let request = request.map(Payload::Wire);
        let mut response = match refused {
            Some(status) => respond::status(&status),
            None => Box::pin(self.handle(connection, request)).await,
        };
        response
            .headers_mut()
            .entry(CACHE_CONTROL)
            .or_insert(const { HeaderValue::from_static("no-cache, private") });
        let as_it_is = response.extensions().get::<AsItIs>().is_some();
        if pretty && !as_it_is {
            response = body::indented(response).await;
        }
        match (head, gzip && !as_it_is) {
            (true, _) => body::bodiless(response),
            (false, true) => body::compress(response),
            (false, false) => response,
        }
    }
}

/// Has the system ask the other end of a silent connection whether it is there.
fn ask_if_still_there(stream: &TcpStream) -> rustix::io::Result<()> {
    let (silent, again, times) = STILL_THERE;
    sockopt::set_tcp_keepidle(stream, silent)?;
    sockopt::set_tcp_keepintvl(stream, again)?;
    sockopt::set_tcp_keepcnt(stream, times)?;
    sockopt::set_socket_keepalive(stream, true)
}

/// HTTP/1.1 and HTTP/2 by what the client speaks.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        // Each may bring a body. An informer's watches are one stream a resource.
        .max_concurrent_streams(1_000)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        // A client whose machine vanished must not hold its watches for ever.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(PATIENCE);
    builder
}

impl ApiServer {
    /// None: the other end is not a client of ours, or it cannot be said now who it is.
    async fn handshake(
        &self,
        acceptor: TlsAcceptor,
        stream: TcpStream,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Option<(tokio_rustls::server::TlsStream<Socket>, Connection)> {
        // Requests and events are small and each is waited for.
        let _ = stream.set_nodelay(true);
        // A watch, or a connection into a pod, may be silent for hours: its client may vanish without a word.
        let _ = ask_if_still_there(&stream);
        let local =
            stream.local_addr().is_ok_and(|own| own.ip() == peer.ip()) || peer.ip().is_loopback();
        let stream = Socket::new(stream);
        let line = stream.line();
        let stream = tokio::select! {
            () = shutdown.cancelled() => return None,
            done = tokio::time::timeout(PATIENCE, acceptor.accept(stream)) => match done {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    debug!(%peer, %error, "TLS handshake failed");
                    return None;
                }
                Err(_) => return None,
            },
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(|chain| chain.first());
        let subject = certificate.and_then(|der| Subject::of(der).ok());
        let user = subject.as_ref().and_then(CertifiedUser::of);
        let identity = match (&user, subject) {
            (Some(user), _) => self.certified(user).await.ok()?,
            (None, Some(subject)) => Identity::of_subject(subject),
            (None, None) => Identity::anonymous(),
        };
        let identity = match certificate {
            Some(der) => identity.by_certificate(der),
            None => identity,
        };
        let connection = Connection {
            identity,
            user,
            peer: Some(peer.ip()),
            local,
            line,
            shutdown,
        };
        Some((stream, connection))
    }

    /// Waits until the connection's user is revoked; for ever where it has none.
    pub(crate) fn until_revoked(
        &self,
        connection: &Connection,
    ) -> impl Future<Output = ()> + use<> {
        // One who is nobody already is refused at each request.
        let user = connection.user.clone();
        let user = user.filter(|_| !connection.identity.is_anonymous());
        let server = self.clone();
        async move {
            match user {
                Some(user) => server.revoked(&user).await,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silent_clients_are_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, (stream, _)) = (client.unwrap(), accepted.unwrap());
        assert!(!sockopt::socket_keepalive(&stream).unwrap());
        ask_if_still_there(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        let asked = (
            sockopt::tcp_keepidle(&stream).unwrap(),
            sockopt::tcp_keepintvl(&stream).unwrap(),
            sockopt::tcp_keepcnt(&stream).unwrap(),
        );
        assert_eq!(asked, STILL_THERE);
    }
}
