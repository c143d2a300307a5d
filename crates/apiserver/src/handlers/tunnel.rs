//! A connection into a pod, through the agent of its node.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use client::node::{PortForwardRequest, PortForwardResponse, PortForwardTarget};
use futures::stream::{self, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use tonic::Streaming;
use tracing::debug;

use super::agents::{self, Held};
use super::container::Agent;

/// Messages that wait for the agent.
const WAITING: usize = 4;
/// The most bytes of one message.
const CHUNK: usize = 32 << 10;

/// How long a pod may take for the rest after both directions have ended in order.
const LINGER: Duration = Duration::from_secs(10);

/// Connects to a pod's port.
///
/// # Errors
/// As `PortForward` in the node protocol says, or where the agent is not reached, or has too many connections already.
pub(super) async fn open(
    mut agent: Agent,
    mut target: PortForwardTarget,
) -> Result<(FromPod, ToPod), tonic::Status> {
    let held = agent.hold();
    let held = held.map_err(|full| tonic::Status::resource_exhausted(full.message))?;
    target.call = agents::call();
    let shared = Arc::new(Shared {
        call: target.call,
        finished: AtomicBool::new(false),
    });
    let (requests, mut queue) = mpsc::channel(WAITING);
    let first = PortForwardRequest {
        target: Some(target),
        ..PortForwardRequest::default()
    };
    let rest = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let requests_sent = stream::iter([first]).chain(rest);
    let responses = agent.client.port_forward(requests_sent).await?.into_inner();
    let from = FromPod {
        open: Some(Open {
            responses,
            agent,
            _held: held,
        }),
        unread: Bytes::new(),
        finished: false,
        shared: Arc::clone(&shared),
    };
    let to = ToPod {
        requests: PollSender::new(requests),
        shared,
    };
    Ok((from, to))
}

/// What both directions know.
struct Shared {
    call: u64,
    /// The direction to the pod has ended in order.
    finished: AtomicBool,
}

/// The call, until the agent has ended it.
struct Open {
    responses: Streaming<PortForwardResponse>,
    agent: Agent,
    /// Last: what the responses had room for is free when it is given back.
    _held: Held,
}

impl Open {
    /// Waits for the call's end, and reads what comes before it: the agent says that it has ended once all that it has sent
    /// is taken.
    async fn ended(&mut self) -> Result<(), tonic::Status> {
        while self.responses.message().await?.is_some() {}
        Ok(())
    }

    /// Ends a call that nobody reads any more. Its place is given back once the agent has ended it, too.
    async fn abandon(mut self, call: u64, in_order: bool) {
        if in_order && tokio::time::timeout(LINGER, self.ended()).await.is_ok() {
            return;
        }
        if let Err(error) = self.agent.break_off(call).await {
            // Where the agent is gone, so are its calls. Of any other only the answer can be given up.
            debug!(%error, "a connection into a pod was not broken off");
            return;
        }
        // The end comes behind what the pod has sent before.
        let _ = self.ended().await;
    }
}

/// The direction from the pod. Dropped before the agent has ended the call, it breaks the connection off, but for what
/// the pod has yet to take where both directions had ended in order.
pub(super) struct FromPod {
    /// None once the agent has ended it.
    open: Option<Open>,
    unread: Bytes,
    finished: bool,
    shared: Arc<Shared>,
}

impl Drop for FromPod {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let in_order = self.finished && self.shared.finished.load(Ordering::Relaxed);
        // A server that ends breaks off everything.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(open.abandon(self.shared.call, in_order));
        }
    }
}

impl FromPod {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let broken_off = || io::Error::from(io::ErrorKind::ConnectionReset);
        while !self.finished {
            let open = self.open.as_mut().ok_or_else(broken_off)?;
            let next = ready!(Pin::new(&mut open.responses).poll_next(cx));
            let Some(Ok(response)) = next else {
                self.open = None;
                let why = next.and_then(Result::err);
                return Poll::Ready(Err(why.map_or_else(broken_off, io::Error::other)));
            };
            self.finished = response.finish;
            if !response.data.is_empty() {
                return Poll::Ready(Ok(Some(response.data)));
            }
        }
        Poll::Ready(Ok(None))
    }

    /// The next bytes; `None` once the pod has ended this direction.
    ///
    /// # Errors
    /// When the pod has reset the connection, or the agent is gone.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits, after this direction has ended, until the other has too, or the pod reads no more.
    ///
    /// # Errors
    /// When the pod has reset the connection, or the agent is gone.
    pub(super) async fn over(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            let ended = open.ended().await;
            self.open = None;
            ended.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl AsyncRead for FromPod {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            self.unread = ready!(self.poll_next(cx))?.unwrap_or_default();
        }
        let taken = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

/// The direction to the pod. Dropped before it was finished, it resets the connection.
pub(super) struct ToPod {
    requests: PollSender<PortForwardRequest>,
    shared: Arc<Shared>,
}

impl ToPod {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        request: impl FnOnce() -> PortForwardRequest,
    ) -> Poll<io::Result<()>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.requests.poll_reserve(cx)).map_err(gone)?;
        Poll::Ready(self.requests.send_item(request()).map_err(gone))
    }

    /// Sends bytes, as fast as the pod reads.
    ///
    /// # Errors
    /// When nothing can be sent any more.
    pub(super) async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while bytes.has_remaining() {
            let chunk = bytes.split_to(bytes.len().min(CHUNK));
            std::future::poll_fn(|cx| self.poll_send(cx, || data(chunk.clone()))).await?;
        }
        Ok(())
    }

    /// Ends this direction: the pod reads the end.
    ///
    /// # Errors
    /// When nothing can be sent any more.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_finish(cx)).await
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, finish))?;
        self.shared.finished.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ToPod {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
        let sent = ready!(self.poll_send(cx, || data(Bytes::copy_from_slice(chunk))));
        Poll::Ready(sent.map(|()| chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.requests.is_closed() {
            return Poll::Ready(Ok(()));
        }
        let sent = ready!(self.poll_finish(cx));
        self.requests.close();
        Poll::Ready(sent)
    }
}

fn data(data: Bytes) -> PortForwardRequest {
    PortForwardRequest {
        data,
        ..PortForwardRequest::default()
    }
}

fn finish() -> PortForwardRequest {
    PortForwardRequest {
        finish: true,
        ..PortForwardRequest::default()
    }
}
