//! One client's connection: which HTTP it speaks, its requests, its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use network::{Stream, StreamIo};
use tokio::time::timeout;

use super::request;
use super::server::Server;

/// How long a client may take for a request's head, and a connection be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// Bytes of a request's head, and that wait in either direction of a connection.
const LARGEST_HEAD: usize = 64 << 10;

/// Requests on one HTTP/2 connection at a time.
const MOST_STREAMS: u32 = 100;

/// What a client that is silent for so long is asked for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(60);

/// How an HTTP/2 connection begins whose client knew before that it would be one (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve(server: Arc<Server>, stream: Stream) {
    let mut io = stream.into_io();
    let stream = io.stream().clone();
    let served = async {
        let stop = server.stop.clone();
        let version = tokio::select! {
            biased;
            version = timeout(HEAD_WITHIN, version(&mut io)) => version,
            () = stop.begun() => return,
        };
        match version {
            Ok(Some(Version::Http1)) => http1(server, io).await,
            Ok(Some(Version::Http2)) => http2(server, io).await,
            Ok(None) | Err(_) => {}
        }
    };
    tokio::select! {
        biased;
        // A client that is gone is noticed even while nothing is read from it or written to it.
        _ = poll_fn(|cx| stream.writer.poll_broken(cx)) => {}
        () = served => {}
    }
}

enum Version {
    Http1,
    Http2,
}

/// What the first bytes say, which are left to be read again. `None` where none come.
async fn version(io: &mut StreamIo) -> Option<Version> {
    let mut read = BytesMut::new();
    let version = loop {
        let known = read.len().min(PREFACE.len());
        if read[..known] != PREFACE[..known] {
            break Version::Http1;
        }
        if known == PREFACE.len() {
            break Version::Http2;
        }
        let more = io.stream().reader.read(LARGEST_HEAD).await;
        read.extend_from_slice(&more.ok()??);
    };
    io.unread(read.freeze());
    Some(version)
}

async fn http1(server: Arc<Server>, io: StreamIo) {
    let stop = server.stop.clone();
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(
            TokioIo::new(io),
            service_fn(|request| answer(&server, request)),
        );
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = stop.begun() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    log(ended);
}

async fn http2(server: Arc<Server>, io: StreamIo) {
    let stop = server.stop.clone();
    let serving = http2::Builder::new(OnAccount(server.clone()))
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(LARGEST_HEAD as u32)
        .max_send_buf_size(LARGEST_HEAD)
        .initial_connection_window_size(LARGEST_HEAD as u32)
        .initial_stream_window_size(LARGEST_HEAD as u32)
        .serve_connection(
            TokioIo::new(io),
            service_fn(|request| answer(&server, request)),
        );
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = stop.begun() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    log(ended);
}

fn answer(
    server: &Arc<Server>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<hyper::Response<super::answer::Answer>, Infallible>> + Send + use<>
{
    let server = server.clone();
    async move { Ok(request::answer(server, request).await) }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Runs an HTTP/2 connection's streams.
#[derive(Clone)]
struct OnAccount(Arc<Server>);

impl<F> hyper::rt::Executor<F> for OnAccount
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        self.0.spawn(work);
    }
}
