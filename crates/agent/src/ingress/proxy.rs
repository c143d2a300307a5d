//! The way of a request to the pods behind its Service, and of the answer back.

use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use network::descriptors::Place;
use network::entrance::{Entrance, Unreached};
use network::{SocketError, Stream};
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::headers::{self, Client};
use super::quiet::{Busy, Pulse};
use super::rules::{Backend, Router, Target};

/// The most that the head of a request or an answer takes, in bytes.
pub(super) const LARGEST_HEAD: usize = 64 << 10;

/// How much, and how long, is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Clients' connections at a time. Further ones take the place of idle ones, else wait to be accepted.
    pub(crate) connections: usize,
    /// Connections at a time that went over to WebSockets. Further ones are answered 503.
    pub(crate) upgraded: usize,
    /// Requests at a time. Further ones are answered 503.
    pub(crate) requests: usize,
    /// For a client's TLS and its first request's head together.
    pub(crate) head: Duration,
    /// For a client's next request, of which the head is to be there by then.
    pub(crate) idle: Duration,
    /// For a client to take what there is of its answers, and the last of them when its connection ends.
    pub(crate) unread: Duration,
    /// For a connection to a pod.
    pub(crate) connect: Duration,
    /// For a pod's answer, from when it has got the last of the request.
    pub(crate) answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            upgraded: 4_096,
            requests: 8_192,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            unread: Duration::from_secs(60),
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
        }
    }
}

/// The way to Services.
#[async_trait]
pub(crate) trait Connector: Send + Sync {
    /// Connects a client to a port of a Service.
    async fn connect(&self, client: SocketAddrV4, backend: &Backend) -> Result<Stream, Unreached>;

    /// Room for a client's socket, if the node has any.
    fn place(&self) -> Option<Place>;
}

#[async_trait]
impl Connector for Entrance {
    async fn connect(&self, client: SocketAddrV4, backend: &Backend) -> Result<Stream, Unreached> {
        self.connect_to_service(client, &backend.service, &backend.port)
            .await
    }

    fn place(&self) -> Option<Place> {
        Self::place(self)
    }
}

/// What an answer is made of.
pub(super) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What serves all connections.
pub(crate) struct Proxy {
    router: RwLock<Arc<Router>>,
    connector: Arc<dyn Connector>,
    requests: Arc<Semaphore>,
    upgraded: Arc<Semaphore>,
    pub(super) limits: Limits,
}

/// Why a request is not passed on.
#[derive(Debug)]
struct Refusal(StatusCode, &'static str);

impl Proxy {
    /// Without rules: whatever is asked for is not found.
    pub(crate) fn new(connector: Arc<dyn Connector>, limits: Limits) -> Self {
        Self {
            router: RwLock::default(),
            connector,
            requests: Arc::new(Semaphore::new(limits.requests)),
            upgraded: Arc::new(Semaphore::new(limits.upgraded)),
            limits,
        }
    }

    /// Room for a client's socket, if the node has any.
    pub(super) fn place(&self) -> Option<Place> {
        self.connector.place()
    }

    /// Requests go by other rules from now on.
    pub(crate) fn set_router(&self, router: Router) {
        *self.router.write() = Arc::new(router);
    }

    /// Answers a request, for which its connection is busy.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        client: Client,
        busy: Busy,
    ) -> Response<Body> {
        let passed = self.pass_on(request, client, busy).await;
        passed.unwrap_or_else(|refusal| refusal.response())
    }

    async fn pass_on(
        &self,
        mut request: Request<Incoming>,
        client: Client,
        mut busy: Busy,
    ) -> Result<Response<Body>, Refusal> {
        if request.method() == Method::CONNECT {
            let why = "tunnels are not made here";
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, why));
        }
        let over = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let host = headers::host(&head).map_err(|why| Refusal(StatusCode::BAD_REQUEST, why))?;
        let backend = self.backend(host.to_str().unwrap_or_default(), head.uri.path())?;
        let place = place_of(&self.requests)?;
        let upgrade = headers::upgrade(&head);
        let over = match &upgrade {
            // Its socket stays when its connection is one of requests no more.
            Some(_) => {
                let socket = self.place().ok_or_else(Refusal::full)?;
                Some((over, (place_of(&self.upgraded)?, socket)))
            }
            None => None,
        };
        let head = headers::onward(head, host, client, upgrade);
        let stream = self.connect(client.address, &backend).await?;
        let (mut answer, driver) = self.ask(stream, Request::from_parts(head, body)).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return switch(answer, over, driver, busy);
        }
        headers::strip(answer.headers_mut());
        // The client may never take as much as its beginning.
        busy.given();
        Ok(answer.map(|body| {
            let answer = Answer {
                body,
                busy,
                _driver: driver,
                _place: place,
            };
            answer.boxed_unsync()
        }))
    }

    fn backend(&self, host: &str, path: &str) -> Result<Backend, Refusal> {
        let router = self.router.read().clone();
        match router.route(host, path) {
            Some(Target::Service(backend)) => Ok(backend.clone()),
            Some(Target::Unserved) => {
                let why = "the backend that the Ingress names cannot be asked";
                Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, why))
            }
            None => {
                let why = "no Ingress has a rule for this host and path";
                Err(Refusal(StatusCode::NOT_FOUND, why))
            }
        }
    }

    async fn connect(&self, client: SocketAddrV4, backend: &Backend) -> Result<Stream, Refusal> {
        let connecting = self.connector.connect(client, backend);
        let late = Refusal(
            StatusCode::GATEWAY_TIMEOUT,
            "no pod took the connection in time",
        );
        match tokio::time::timeout(self.limits.connect, connecting).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(Unreached::NoEndpoints)) => {
                let why = "nobody is ready behind the Service";
                Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, why))
            }
            Err(_) | Ok(Err(Unreached::Failed(SocketError::TimedOut))) => Err(late),
            Ok(Err(Unreached::Failed(_))) => {
                let why = "no pod behind the Service took the connection";
                Err(Refusal(StatusCode::BAD_GATEWAY, why))
            }
        }
    }

    /// Asks a pod. The connection lives as long as what drives it is kept.
    async fn ask(
        &self,
        stream: Stream,
        request: Request<Incoming>,
    ) -> Result<(Response<Incoming>, Driver), Refusal> {
        let failed = |error: hyper::Error| {
            tracing::debug!(%error, "a pod did not answer an Ingress' request");
            Refusal(
                StatusCode::BAD_GATEWAY,
                "the pod did not answer as HTTP has it",
            )
        };
        let io = TokioIo::new(stream.into_io());
        let mut builder = http1::Builder::new();
        builder.max_buf_size(LARGEST_HEAD);
        let (mut sender, connection) = builder.handshake(io).await.map_err(failed)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // Whoever reads the answer hears of an error, too.
            let _ = connection.with_upgrades().await;
        }));
        let pulse = Pulse::new();
        let beat = pulse.clone();
        let request = request.map(|body| Asked { body, pulse: beat });
        tokio::select! {
            answer = sender.send_request(request) => Ok((answer.map_err(failed)?, driver)),
            () = pulse.silent(self.limits.answer) => {
                let why = "the pod did not answer in time";
                Err(Refusal(StatusCode::GATEWAY_TIMEOUT, why))
            }
        }
    }
}

/// A place among so many at a time.
fn place_of(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    let place = places.clone().try_acquire_owned();
    place.map_err(|_| Refusal::full())
}

/// What moves the bytes of a connection to a pod; the connection ends with it.
type Driver = AbortOnDropHandle<()>;

/// Both sides go over to WebSockets, which are carried until one of them ends.
fn switch(
    mut answer: Response<Incoming>,
    client: Option<(OnUpgrade, (OwnedSemaphorePermit, Place))>,
    driver: Driver,
    busy: Busy,
) -> Result<Response<Body>, Refusal> {
    let to = answer.headers().get(http::header::UPGRADE).cloned();
    let to = to.filter(headers::is_websocket);
    let (Some((client, place)), Some(to)) = (client, to) else {
        let why = "the pod went over to another protocol unasked";
        return Err(Refusal(StatusCode::BAD_GATEWAY, why));
    };
    let pod = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let _held = (driver, place);
        let Ok((client, pod)) = tokio::try_join!(client, pod) else {
            return;
        };
        // From here on it is no connection of requests.
        drop(busy);
        let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
        // However it ends, it ends for both.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
    });
    headers::strip(answer.headers_mut());
    headers::go_over(answer.headers_mut(), to);
    Ok(answer.map(|_| Empty::new().map_err(|never| match never {}).boxed_unsync()))
}

impl Refusal {
    fn full() -> Self {
        let why = "the node has too many requests at the moment";
        Self(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    fn response(self) -> Response<Body> {
        let text = Full::from(format!("{}\n", self.1));
        let mut response = Response::new(text.map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = self.0;
        let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, plain);
        response
    }
}

/// A request's body, which is seen to go on.
struct Asked {
    body: Incoming,
    pulse: Pulse,
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.pulse.beat();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body. The connection to the pod ends with it, at the latest.
struct Answer {
    body: Incoming,
    busy: Busy,
    _driver: Driver,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // More is asked for once there is room for it: on the client's connection, and in its stream where that has several.
        self.busy.taken();
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.busy.given();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
