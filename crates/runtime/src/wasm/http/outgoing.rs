//! `wasi:http/outgoing-handler` on the pod's virtual network.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use network::{PodNet, SocketError, Stream};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep, timeout};
use tracing::Instrument as _;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::target::{Target, origin_form};
use super::tls;
use crate::gate::Account;
use crate::wasm::sockets::{ResolveError, Sockets};

/// What is waited for by a guest that sets no timeouts, for each of them.
const PATIENCE: Duration = Duration::from_secs(600);

/// The largest chunk of a body that a guest hands over at once.
const CHUNK: usize = 64 << 10;

/// Bytes of a response's head, and that wait in either direction of a connection.
const LARGEST_HEAD: usize = 64 << 10;

/// Makes one guest's requests, at its expense.
#[derive(Clone)]
pub(in crate::wasm) struct Outgoing {
    pub(in crate::wasm) sockets: Sockets,
    pub(in crate::wasm) account: Arc<Account>,
    pub(in crate::wasm) tls: Arc<ClientConfig>,
}

type Answered = Result<Response<WasiBody>, Error>;
/// What must run until a response's body is read.
type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;
type Driven = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Driven,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Driven), Error>> + Send> {
        let this = self.clone();
        Box::new(this.send(request, Timeouts::of(options)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        match failed(error) {
            Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
            Error::ConnectionTerminated => ErrorCode::ConnectionTerminated,
            _ => ErrorCode::HttpProtocolError,
        }
    }
}

/// How long the steps of an exchange may take.
#[derive(Clone, Copy)]
struct Timeouts {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Timeouts {
    fn of(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        Self {
            connect: options.connect_timeout.unwrap_or(PATIENCE),
            first_byte: options.first_byte_timeout.unwrap_or(PATIENCE),
            between_bytes: options.between_bytes_timeout.unwrap_or(PATIENCE),
        }
    }
}

impl Outgoing {
    /// Makes a request. What is returned with its response must be kept until the response is read.
    async fn send(
        self,
        request: Request<WasiBody>,
        timeouts: Timeouts,
    ) -> Result<(Response<WasiBody>, Driven), Error> {
        let (give, given) = oneshot::channel();
        let (held, released) = oneshot::channel::<Infallible>();
        let account = self.account.clone();
        let exchange = async move {
            tokio::select! {
                biased;
                // The guest wants no answer any more.
                _ = released => {}
                () = self.exchange(request, timeouts, give) => {}
            }
        };
        // In the gate: a guest pays for its TLS, too.
        account.spawn(exchange.in_current_span());
        let response = given.await.map_err(|_| Error::ConnectionTerminated)??;
        let hold = async move {
            let _held = held;
            pending().await
        };
        Ok((response, Box::new(hold)))
    }

    async fn exchange(
        self,
        request: Request<WasiBody>,
        timeouts: Timeouts,
        give: oneshot::Sender<Answered>,
    ) {
        match Box::pin(self.begin(request, timeouts)).await {
            Ok((response, rest)) => {
                if give.send(Ok(response)).is_ok() {
                    rest.await;
                }
            }
            // Whoever is not there any more needs no reason.
            Err(error) => drop(give.send(Err(error))),
        }
    }

    /// Has the response's head, and what must run until its body is read.
    async fn begin(
        self,
        mut request: Request<WasiBody>,
        timeouts: Timeouts,
    ) -> Result<(Response<WasiBody>, Rest), Error> {
        let target = Target::of(request.uri())?;
        *request.uri_mut() = origin_form(request.uri())?;
        let connecting = timeout(timeouts.connect, self.connect(&target));
        let io = connecting.await.map_err(|_| Error::ConnectionTimeout)??;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| failed(&error))?;
        let mut rest = Box::pin(async move {
            // Its failure is the request's or the body's, too.
            let _ = connection.await;
        });
        let mut driven = false;
        let mut sending = pin!(timeout(timeouts.first_byte, sender.send_request(request)));
        let response = poll_fn(|cx| {
            if let Poll::Ready(response) = sending.as_mut().poll(cx) {
                return Poll::Ready(response);
            }
            if driven || rest.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            driven = true;
            sending.as_mut().poll(cx)
        });
        let response = response.await.map_err(|_| Error::ConnectionReadTimeout)?;
        let response = response.map_err(|error| failed(&error))?;
        if !super::fits(response.headers()) {
            return Err(Error::HttpResponseHeaderSectionSize(None));
        }
        let response = response.map(|body| Timed::new(body, timeouts.between_bytes).boxed_unsync());
        let rest: Rest = match driven {
            true => Box::pin(std::future::ready(())),
            false => rest,
        };
        Ok((response, rest))
    }

    async fn connect(&self, target: &Target) -> Result<Box<dyn Io>, Error> {
        let net = self.sockets.net.as_ref().ok_or(Error::HttpRequestDenied)?;
        let bare = target
            .host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'));
        let host = bare.unwrap_or(&target.host);
        let found = self.sockets.resolver.resolve(host).await;
        let addresses = found.map_err(unresolved)?;
        let io = first(net, &addresses, target.port).await?.into_io();
        Ok(match target.tls {
            true => Box::new(tls::connect(self.tls.clone(), &target.host, io).await?),
            false => Box::new(io),
        })
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to the first of these addresses that takes one.
async fn first(net: &PodNet, addresses: &[IpAddr], port: u16) -> Result<Stream, Error> {
    let mut failed = Error::DestinationNotFound;
    for address in addresses {
        match net.connect((*address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = unconnected(error),
        }
    }
    Err(failed)
}

fn unresolved(error: ResolveError) -> Error {
    match error {
        ResolveError::NoNetwork => Error::HttpRequestDenied,
        ResolveError::Unanswered => Error::DnsTimeout,
        ResolveError::Invalid => Error::HttpRequestUriInvalid,
        ResolveError::Unknown => Error::DnsError {
            rcode: Some("NXDOMAIN".to_owned()),
            info_code: None,
        },
    }
}

fn unconnected(error: SocketError) -> Error {
    match error {
        SocketError::Refused => Error::ConnectionRefused,
        SocketError::TimedOut => Error::ConnectionTimeout,
        SocketError::Unreachable => Error::DestinationIpUnroutable,
        SocketError::PortsExhausted => Error::ConnectionLimitReached,
        SocketError::AddressInUse | SocketError::NotBindable | SocketError::TooLarge => {
            Error::InternalError(Some(error.to_string()))
        }
    }
}

fn failed(error: &hyper::Error) -> Error {
    use std::error::Error as _;
    if let Some(own) = error.source().and_then(|e| e.downcast_ref::<ErrorCode>()) {
        return own.clone().into();
    }
    if error.is_incomplete_message() {
        return Error::HttpResponseIncomplete;
    }
    if error.is_parse_too_large() {
        return Error::HttpResponseHeaderSectionSize(None);
    }
    if error.is_parse() {
        return Error::HttpProtocolError;
    }
    if error.is_closed()
        || error.is_canceled()
        || error.source().is_some_and(|e| e.is::<std::io::Error>())
    {
        return Error::ConnectionTerminated;
    }
    Error::HttpProtocolError
}

/// A response's body whose parts must not be too long in coming.
struct Timed {
    body: Incoming,
    between: Duration,
    /// Runs only while the body is waited for.
    due: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    fn new(body: Incoming, between: Duration) -> Self {
        let due = None;
        Self { body, between, due }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.due = None;
            let frame = frame.map(|frame| frame.map_err(|error| failed(&error)));
            return Poll::Ready(frame);
        }
        let between = self.between;
        let due = self.due.get_or_insert_with(|| Box::pin(sleep(between)));
        due.as_mut()
            .poll(cx)
            .map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
