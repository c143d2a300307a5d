//! A response's body, and the instance that is still writing it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::server::Server;

/// A running instance: done once its handler has returned.
pub(super) type Instance = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A response's body. The instance runs while the body is read, on the same task: dropping the body, as hyper does when
/// the client is gone, is the instance's end.
pub(super) struct Answer {
    body: HyperOutgoingBody,
    instance: Option<Instance>,
    /// Whether the instance has failed: what it did not write must not look as if it ended well.
    broken: Arc<AtomicBool>,
    /// Bytes of the body that are yet to come, where that is known.
    left: Option<u64>,
    ended: bool,
    server: Arc<Server>,
}

impl Answer {
    /// The host's own answer in words.
    pub(super) fn plain(
        server: &Arc<Server>,
        status: StatusCode,
        words: &'static str,
    ) -> Response<Self> {
        let body = Full::new(Bytes::from_static(words.as_bytes()));
        let body = body.map_err(Error::from).boxed_unsync();
        let mut response = Response::new(Self {
            body,
            instance: None,
            broken: Arc::default(),
            left: None,
            ended: false,
            server: server.clone(),
        });
        *response.status_mut() = status;
        response
    }

    /// What a guest answers to a request of this method, `instance` being the rest of its run.
    pub(super) fn of(
        server: &Arc<Server>,
        method: &Method,
        response: Response<HyperOutgoingBody>,
        instance: Option<Instance>,
        broken: Arc<AtomicBool>,
    ) -> Response<Self> {
        let left = match bodiless(method, response.status()) {
            true => Some(0),
            false => length(response.headers()),
        };
        response.map(|body| Self {
            body,
            instance,
            broken,
            left,
            ended: false,
            server: server.clone(),
        })
    }

    fn run(&mut self, cx: &mut Context<'_>) {
        if let Some(instance) = &mut self.instance
            && instance.as_mut().poll(cx).is_ready()
        {
            self.instance = None;
        }
    }

    fn is_complete(&self) -> bool {
        self.ended || self.left == Some(0) || self.body.is_end_stream()
    }
}

fn bodiless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

fn length(headers: &http::HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending() {
            this.run(cx);
            polled = Pin::new(&mut this.body).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let written = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.left = this.left.map(|left| left.saturating_sub(written));
            }
            Poll::Ready(None) => {
                // Most have nothing left to do but return.
                this.run(cx);
                if this.broken.load(Ordering::Acquire) {
                    return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
                }
                this.ended = true;
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none() && self.body.is_end_stream()
    }

    /// Where the guest says a length, that is what the client is told.
    fn size_hint(&self) -> SizeHint {
        match self.left {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // A handler may go on after its response was sent; not after its client went away.
        if let Some(rest) = self.instance.take()
            && self.is_complete()
        {
            self.server.spawn(rest);
        }
    }
}
