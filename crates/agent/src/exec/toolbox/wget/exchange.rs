//! One request by the pod's network, and what is answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::header::HeaderMap;
use ::http::{Method, Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use network::{SocketError, Stream};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::super::nslookup::resolve;
use super::super::{Call, Stop, failed, words};

/// Bytes of a response's head, and that wait in either direction of a connection.
const LARGEST_HEAD: usize = 64 << 10;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What a server is asked.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// Whether any certificate will do.
    pub(super) trusting: bool,
    /// How long each step may take.
    pub(super) patience: Duration,
    pub(super) quiet: bool,
}

/// An answer, and the connection that the rest of it comes by.
pub(super) struct Exchange {
    pub(super) response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

impl Asked {
    /// Asks the server of a URL.
    ///
    /// # Errors
    /// When it cannot be found, reached or understood.
    pub(super) async fn of(self, call: &mut Call, url: &Url) -> Result<Exchange, Stop> {
        let late = |_| failed("download timed out");
        let io = self.connect(call, url).await?;
        let handshake = http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .handshake(TokioIo::new(io));
        let (mut sender, connection) = handshake.await.map_err(|error| answerless(&error))?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // Its failure is the request's or the body's, too.
            let _ = connection.await;
        }));
        let mut request = Request::builder()
            .method(self.method)
            .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .body(Full::new(self.body.unwrap_or_default()))
            .map_err(|error| failed(error.to_string()))?;
        *request.headers_mut() = self.headers;
        let response = timeout(self.patience, sender.send_request(request)).await;
        let response = response
            .map_err(late)?
            .map_err(|error| answerless(&error))?;
        Ok(Exchange {
            response,
            _connection: connection,
        })
    }

    async fn connect(&self, call: &mut Call, url: &Url) -> Result<Box<dyn Io>, Stop> {
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or(80);
        let late = |_| failed("download timed out");
        let found = timeout(self.patience, resolve(call, bare)).await;
        let addresses = found
            .map_err(late)??
            .map_err(|_| failed(format!("bad address '{bare}'")))?;
        let stream = self.first(call, host, &addresses, port).await?.into_io();
        if url.scheme() != "https" {
            return Ok(Box::new(stream));
        }
        let config = match self.trusting {
            true => client::tls::trusting_anybody().map_err(|e| failed(e.to_string()))?,
            false => Arc::clone(&call.view.tls),
        };
        let name = ServerName::try_from(bare.to_owned()).map_err(|e| failed(e.to_string()))?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        let tls = timeout(self.patience, connecting).await.map_err(late)?;
        let tls = tls.map_err(|e| failed(format!("TLS error from peer: {}", words(&e))))?;
        Ok(Box::new(tls))
    }

    /// A connection to the first of these addresses that takes one.
    async fn first(
        &self,
        call: &mut Call,
        host: &str,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<Stream, Stop> {
        let mut why = failed(format!("bad address '{host}'"));
        let Some(net) = call.view.net.clone() else {
            return Err(why);
        };
        for address in addresses {
            let to = SocketAddr::new(*address, port);
            if !self.quiet {
                call.say(&format!("Connecting to {host}:{port} ({to})\n"))
                    .await;
            }
            match timeout(self.patience, net.connect(to)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => why = unreached(to, error),
                Err(_) => why = unreached(to, SocketError::TimedOut),
            }
        }
        Err(why)
    }
}

fn unreached(to: SocketAddr, error: SocketError) -> Stop {
    let why = match error {
        SocketError::Refused => "Connection refused".to_owned(),
        SocketError::TimedOut => "Connection timed out".to_owned(),
        SocketError::Unreachable => "No route to host".to_owned(),
        other => other.to_string(),
    };
    failed(format!("can't connect to remote host ({}): {why}", to.ip()))
}

fn answerless(error: &hyper::Error) -> Stop {
    match error.is_incomplete_message() || error.is_closed() {
        true => failed("error getting response"),
        false => failed(format!("error getting response: {error}")),
    }
}
