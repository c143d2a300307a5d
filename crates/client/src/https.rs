//! A transport over HTTPS to any of a cluster's servers.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt, Full};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use parking_lot::RwLock;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Body, BoxFuture, Error, Transport};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a server may take for TCP and TLS until the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server may take for the head of its answer to a read until the next is tried.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection whose other end is silent for this long is asked whether it lives …
const KEEPALIVE: Duration = Duration::from_secs(5);
/// … this often, this far apart. What was sent must be acknowledged within the product of both
/// plus the silence: a watch of a machine that vanished breaks within 8 s.
const KEEPALIVE_PROBES: u32 = 3;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(60);

/// Sends requests to one of several servers, the one that answered last.
///
/// The next one is tried when no connection comes about, and when the answer is 503 with a
/// `Retry-After` header, by which a server says that it has not taken the request (it is not
/// ready, or knows no leader). Any other failure may have come after the request was carried out:
/// then only GET and HEAD go to the next server (also after a 503 without that header, or when no
/// answer begins for a while), and everything else is the caller's to judge. The server of a request
/// that is given up without an answer is asked last from then on.
pub struct HttpsTransport {
    http: legacy::Client<Connector, Full<Bytes>>,
    servers: RwLock<Servers>,
    authorization: Option<HeaderValue>,
}

#[derive(Clone)]
struct Servers {
    all: Arc<[Authority]>,
    /// The index of the one that answered last.
    preferred: usize,
}

impl std::fmt::Debug for HttpsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpsTransport")
            .field("servers", &self.servers())
            .finish_non_exhaustive()
    }
}

impl HttpsTransport {
    /// A transport to these servers, each `https://HOST:PORT`, tried in this order at first.
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no server, or one is not such a URL.
    pub fn new<S: AsRef<str>>(
        servers: impl IntoIterator<Item = S>,
        tls: ClientConfig,
    ) -> Result<Self, Error> {
        let all = parse_all(servers)?;
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(Connector {
                tcp: tcp(),
                tls: TlsConnector::from(Arc::new(tls)),
            });
        Ok(HttpsTransport {
            http,
            servers: RwLock::new(Servers { all, preferred: 0 }),
            authorization: None,
        })
    }

    /// Sends this bearer token with every request that has no `Authorization` of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it can't stand in a header.
    pub fn with_bearer(mut self, token: &str) -> Result<Self, Error> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::Invalid("the bearer token holds control characters".to_owned()))?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Replaces the list of servers. The one in use stays so if it is still listed.
    ///
    /// # Errors
    /// As [`Self::new`]; the old list stays then.
    pub fn set_servers<S: AsRef<str>>(
        &self,
        servers: impl IntoIterator<Item = S>,
    ) -> Result<(), Error> {
        let all = parse_all(servers)?;
        let mut current = self.servers.write();
        let used = current.all.get(current.preferred);
        let preferred = all
            .iter()
            .position(|server| Some(server) == used)
            .unwrap_or(0);
        *current = Servers { all, preferred };
        Ok(())
    }

    /// The servers, each `https://HOST:PORT`.
    #[must_use]
    pub fn servers(&self) -> Vec<String> {
        let servers = self.servers.read();
        servers
            .all
            .iter()
            .map(|server| format!("https://{server}"))
            .collect()
    }

    fn prefer(&self, servers: &Servers, at: usize) {
        let mut current = self.servers.write();
        // Another list may have been set meanwhile.
        if Arc::ptr_eq(&current.all, &servers.all) {
            current.preferred = at;
        }
    }

    async fn send_to_any(&self, mut request: Request<Bytes>) -> Result<Response<Body>, Error> {
        if let Some(value) = &self.authorization {
            let headers = request.headers_mut();
            headers
                .entry(header::AUTHORIZATION)
                .or_insert_with(|| value.clone());
        }
        let servers = self.servers.read().clone();
        let count = servers.all.len();
        let mut refused = None;
        let mut failed = None;
        for step in 0..count {
            let at = (servers.preferred + step) % count;
            let mut unanswered = Unanswered {
                transport: self,
                servers: &servers,
                next: Some((at + 1) % count),
            };
            let is_last = step + 1 == count;
            let answer = self.begin(&servers.all[at], &request, is_last).await;
            unanswered.next = None;
            match answer {
                Ok(response) if is_refused(request.method(), &response) => {
                    refused = Some(response);
                }
                Ok(response) => {
                    if at != servers.preferred {
                        self.prefer(&servers, at);
                    }
                    return Ok(response);
                }
                Err(failure) => {
                    tracing::debug!(server = %servers.all[at], error = %failure.error, "no answer");
                    if !failure.may_go_on(request.method()) {
                        self.prefer(&servers, (at + 1) % count);
                        return Err(failure.error);
                    }
                    failed = Some(failure.error);
                }
            }
        }
        match (refused, failed) {
            (Some(response), _) => Ok(response),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::Invalid("no server is known".to_owned())),
        }
    }

    /// Sends to one server. A read that other servers could answer does not wait for ever.
    async fn begin(
        &self,
        server: &Authority,
        request: &Request<Bytes>,
        is_last: bool,
    ) -> Result<Response<Body>, Failure> {
        let answer = self.send_to(server, request);
        if is_last || !is_read(request.method()) {
            return answer.await;
        }
        match tokio::time::timeout(HEAD_TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure {
                error: Error::transport(
                    format!("https://{server}"),
                    format!("no answer within {HEAD_TIMEOUT:?}"),
                ),
                unsent: false,
            }),
        }
    }

    async fn send_to(
        &self,
        server: &Authority,
        request: &Request<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        let context = format!("https://{server}");
        let uri = Uri::builder()
            .scheme("https")
            .authority(server.clone())
            .path_and_query(
                request
                    .uri()
                    .path_and_query()
                    .map_or("/", |path| path.as_str()),
            )
            .build()
            .map_err(|error| Failure {
                error: Error::Invalid(format!("{}: {error}", request.uri())),
                unsent: false,
            })?;
        let mut outgoing = Request::new(Full::new(request.body().clone()));
        *outgoing.method_mut() = request.method().clone();
        *outgoing.headers_mut() = request.headers().clone();
        *outgoing.uri_mut() = uri;
        match self.http.request(outgoing).await {
            Ok(response) => Ok(response.map(|body| {
                body.map_err(move |error| Error::transport(context.clone(), error))
                    .boxed_unsync()
            })),
            Err(error) => Err(Failure {
                unsent: error.is_connect(),
                error: Error::transport(context, root_cause(error)),
            }),
        }
    }
}

/// A request that waits for its answer. If it is dropped meanwhile, its server may hang.
struct Unanswered<'a> {
    transport: &'a HttpsTransport,
    servers: &'a Servers,
    next: Option<usize>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(next) = self.next {
            self.transport.prefer(self.servers, next);
        }
    }
}

impl Transport for HttpsTransport {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, Error>> {
        Box::pin(self.send_to_any(request))
    }
}

struct Failure {
    error: Error,
    /// No connection came about, so that the request can't have been taken.
    unsent: bool,
}

impl Failure {
    fn may_go_on(&self, method: &Method) -> bool {
        let valid = !matches!(self.error, Error::Invalid(_));
        valid && (self.unsent || is_read(method))
    }
}

/// Whether another server may be asked: this one has not taken the request, or does not answer a
/// read.
fn is_refused(method: &Method, response: &Response<Body>) -> bool {
    let unavailable = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    unavailable && (is_read(method) || response.headers().contains_key(header::RETRY_AFTER))
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Makes TCP connections that break where the other end's machine vanishes.
pub(crate) fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(KEEPALIVE + KEEPALIVE_INTERVAL * KEEPALIVE_PROBES));
    tcp
}

/// hyper's own errors say only "client error (Connect)" or "tcp connect error": the innermost one says why.
pub(crate) fn root_cause(error: impl std::error::Error) -> BoxError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text.into()
}

fn parse_all<S: AsRef<str>>(
    servers: impl IntoIterator<Item = S>,
) -> Result<Arc<[Authority]>, Error> {
    let all: Arc<[Authority]> = servers
        .into_iter()
        .map(|server| parse(server.as_ref()))
        .collect::<Result<_, _>>()?;
    if all.is_empty() {
        return Err(Error::Invalid("no server is known".to_owned()));
    }
    Ok(all)
}

fn parse(server: &str) -> Result<Authority, Error> {
    let wrong = |why: &str| {
        Error::Invalid(format!(
            "server {server:?}: {why}; a server is given as https://HOST:PORT"
        ))
    };
    let uri: Uri = server.parse().map_err(|_| wrong("not a URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong("not https"));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(wrong("it has a path"));
    }
    match uri.authority() {
        Some(authority) if !authority.as_str().contains('@') => Ok(authority.clone()),
        _ => Err(wrong("no plain host")),
    }
}

/// Makes TLS connections.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    tls: TlsConnector,
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tcp = self.tcp.call(uri.clone());
        let tls = self.tls.clone();
        Box::pin(async move {
            let connect = async {
                let host = uri.host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let name = ServerName::try_from(host.to_owned())?;
                let tcp = tcp.await?.into_inner();
                let tls = tls.connect(name, tcp).await?;
                Ok(Stream(TokioIo::new(tls)))
            };
            match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
                Ok(connected) => connected,
                Err(_) => Err(format!("no connection within {CONNECT_TIMEOUT:?}").into()),
            }
        })
    }
}

/// A TLS connection, as hyper wants it.
struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_https_urls() {
        for (text, wrong) in [
            ("https://127.0.0.1:6443", None),
            ("https://[::1]:6443/", None),
            ("http://127.0.0.1:6443", Some("not https")),
            ("127.0.0.1:6443", Some("not https")),
            ("https://127.0.0.1:6443/k8s", Some("it has a path")),
            ("https://user@127.0.0.1", Some("no plain host")),
            ("not a url", Some("not a URL")),
        ] {
            match (parse(text), wrong) {
                (Ok(_), None) => {}
                (Err(error), Some(wrong)) => assert!(error.to_string().contains(wrong), "{error}"),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }
}
