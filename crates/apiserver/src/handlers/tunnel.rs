//! A connection into a pod, through the agent of its node.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use client::node::{PortForwardRequest, PortForwardResponse, PortForwardTarget};
use futures::stream::{self, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use tonic::Streaming;

use super::agents::Held;
use super::container::Agent;

/// Messages that wait for the agent.
const WAITING: usize = 4;
/// The most bytes of one message.
const CHUNK: usize = 32 << 10;

/// Connects to a pod's port.
///
/// # Errors
/// As `PortForward` in the node protocol says, or where the agent is not reached, or has too many connections already.
pub(super) async fn open(
    mut agent: Agent,
    target: PortForwardTarget,
) -> Result<(FromPod, ToPod), tonic::Status> {
    let held = agent.hold();
    let held = held.map_err(|full| tonic::Status::resource_exhausted(full.message))?;
    let (requests, mut queue) = mpsc::channel(WAITING);
    let first = PortForwardRequest {
        target: Some(target),
        ..PortForwardRequest::default()
    };
    let rest = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let requests_sent = stream::iter([first]).chain(rest);
    let responses = agent.client.port_forward(requests_sent).await?.into_inner();
    let from = FromPod {
        responses,
        unread: Bytes::new(),
        finished: false,
        _held: Arc::clone(&held),
    };
    let to = ToPod {
        requests: PollSender::new(requests),
        _held: held,
    };
    Ok((from, to))
}

/// The direction from the pod.
pub(super) struct FromPod {
    responses: Streaming<PortForwardResponse>,
    unread: Bytes,
    finished: bool,
    /// Last: what the responses had room for is free when it is given back.
    _held: Held,
}

impl FromPod {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        while !self.finished {
            let next = ready!(Pin::new(&mut self.responses).poll_next(cx));
            let broken_off = || io::Error::from(io::ErrorKind::ConnectionReset);
            let response = next.ok_or_else(broken_off)?.map_err(io::Error::other)?;
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
        let next = self.responses.message().await;
        next.map(drop).map_err(io::Error::other)
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
    _held: Held,
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
        std::future::poll_fn(|cx| self.poll_send(cx, finish)).await
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
        let sent = ready!(self.poll_send(cx, finish));
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
