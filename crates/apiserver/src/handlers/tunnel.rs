//! A connection into a pod, through the agent of its node.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use client::node::{PortForwardRequest, PortForwardResponse, PortForwardTarget};
use futures::stream::{self, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::agents;
use super::container::Agent;
use super::open::Open;

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
    let call = target.call;
    let sent_all = Arc::new(AtomicBool::new(false));
    let (requests, mut queue) = mpsc::channel(WAITING);
    let first = PortForwardRequest {
        target: Some(target),
        ..PortForwardRequest::default()
    };
    let rest = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let requests_sent = stream::iter([first]).chain(rest);
    let responses = agent.client.port_forward(requests_sent).await?.into_inner();
    let from = FromPod {
        open: Some(Open::new(responses, agent, call, held)),
        unread: Bytes::new(),
        finished: false,
        sent_all: Arc::clone(&sent_all),
    };
    let to = ToPod {
        requests: PollSender::new(requests),
        sent_all,
    };
    Ok((from, to))
}

/// The direction from the pod. Dropped before the agent has ended the call, it breaks the connection off, but for what
/// the pod has yet to take where both directions had ended in order.
pub(super) struct FromPod {
    /// None once the agent has ended it.
    open: Option<Open<PortForwardResponse>>,
    unread: Bytes,
    finished: bool,
    /// The direction to the pod has ended in order.
    sent_all: Arc<AtomicBool>,
}

impl Drop for FromPod {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let in_order = self.finished && self.sent_all.load(Ordering::Relaxed);
        // A server that ends breaks off everything.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(open.abandon(in_order.then_some(LINGER)));
        }
    }
}

impl FromPod {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let broken_off = || io::Error::from(io::ErrorKind::ConnectionReset);
        while !self.finished {
            let open = self.open.as_mut().ok_or_else(broken_off)?;
            let next = ready!(open.poll_next(cx));
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
    /// This direction has ended in order.
    sent_all: Arc<AtomicBool>,
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
        self.sent_all.store(true, Ordering::Relaxed);
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
