//! Moves bytes between a pod's pipes and the two bodies of a request.
//!
//! | pipes | request |
//! |---|---|
//! | the writer closes | `END_STREAM` |
//! | reset | `RST_STREAM` with `CONNECT_ERROR`, as RFC 9113 says of `CONNECT`; or the link ends |
//! | the reader is gone, and the writer has closed | after `END_STREAM`, `CANCEL` or `NO_ERROR` |

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::sync::oneshot;

use super::life::LONGEST_FRAME;
use crate::Stream;
use crate::budget::Budget;
use crate::pipe::{Broken, Reader, Writer};

/// A chunk shorter than this is copied. What arrives is a slice of a buffer that other streams'
/// frames share, and would keep all of it; what is sent would be a frame of its own.
const SHORT: usize = 4096;

/// How much short chunks are gathered into.
const GATHERED: usize = 16 << 10;

/// Moves bytes both ways until both directions have ended.
pub(super) async fn pump(far: Stream, send: SendStream<Bytes>, receive: RecvStream) {
    let (reader, writer, _port) = far.into_parts();
    let held = Held::within(writer.budget());
    let mut outward = Outward {
        reader,
        send,
        ending: None,
        done: false,
    };
    let mut inward = Inward {
        receive,
        writer,
        held,
        ended: false,
        discards: false,
        done: false,
    };
    if poll_fn(|cx| poll_both(&mut outward, &mut inward, cx))
        .await
        .is_err()
    {
        outward.reader.reset();
        inward.writer.reset();
        outward.send.send_reset(Reason::CONNECT_ERROR);
    }
}

/// The stream was reset, from one end or the other.
struct WasReset;

fn poll_both(
    outward: &mut Outward,
    inward: &mut Inward,
    cx: &mut Context<'_>,
) -> Poll<Result<(), WasReset>> {
    // What arrives comes first: whether the other end was reset is only known here.
    if !inward.done && inward.poll(cx)?.is_ready() {
        inward.done = true;
    }
    if !outward.done && outward.poll(cx)?.is_ready() {
        outward.done = true;
    }
    match outward.done && (inward.done || inward.discards) {
        true => Poll::Ready(Ok(())),
        false => Poll::Pending,
    }
}

/// From the pod to the other node.
struct Outward {
    reader: Reader,
    send: SendStream<Bytes>,
    /// The end was handed to HTTP/2, which drops the sender when it is on its way. A stream that is
    /// dropped before would lose what was written.
    ending: Option<oneshot::Receiver<()>>,
    done: bool,
}

/// No bytes, and a notice of when they are sent.
struct End(#[expect(dead_code, reason = "its drop is the notice")] oneshot::Sender<()>);

impl AsRef<[u8]> for End {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl Outward {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WasReset>> {
        if let Poll::Ready(reason) = self.send.poll_reset(cx) {
            return match reason {
                // The other end reads no more.
                Ok(Reason::NO_ERROR | Reason::CANCEL) => {
                    self.reader.close();
                    Poll::Ready(Ok(()))
                }
                _ => Poll::Ready(Err(WasReset)),
            };
        }
        loop {
            if let Some(ending) = &mut self.ending {
                return Pin::new(ending).poll(cx).map(|_| Ok(()));
            }
            let waiting = ready!(self.reader.poll_waiting(cx)).map_err(|_| WasReset)?;
            if waiting == 0 {
                let (sender, receiver) = oneshot::channel();
                let end = Bytes::from_owner(End(sender));
                self.send.send_data(end, true).map_err(|_| WasReset)?;
                self.ending = Some(receiver);
                continue;
            }
            // Capacity is asked for only when there is something to send: what one stream holds
            // is taken from the others.
            self.send
                .reserve_capacity(waiting.min(LONGEST_FRAME as usize));
            if self.send.capacity() == 0 {
                if self.reader.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(WasReset));
                }
                match ready!(self.send.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    _ => return Poll::Ready(Err(WasReset)),
                }
            }
            let chunk = gather(&self.reader, self.send.capacity())?;
            self.send.send_data(chunk, false).map_err(|_| WasReset)?;
        }
    }
}

/// Takes what waits: a long chunk as it is, short ones together. `most` is not 0.
fn gather(reader: &Reader, most: usize) -> Result<Bytes, WasReset> {
    let first = take(reader, most)?;
    let most = most.min(GATHERED);
    if first.len() >= SHORT.min(most) {
        return Ok(first);
    }
    let mut next = take(reader, most - first.len())?;
    if next.is_empty() {
        return Ok(first);
    }
    let mut gathered = BytesMut::with_capacity(most);
    gathered.extend_from_slice(&first);
    while !next.is_empty() {
        gathered.extend_from_slice(&next);
        next = take(reader, most - gathered.len())?;
    }
    Ok(gathered.freeze())
}

/// Up to `most` bytes of the first chunk that waits: none where none waits.
fn take(reader: &Reader, most: usize) -> Result<Bytes, WasReset> {
    if most == 0 {
        return Ok(Bytes::new());
    }
    match reader.try_read(most) {
        Poll::Ready(Ok(chunk)) => Ok(chunk.unwrap_or_default()),
        Poll::Ready(Err(_)) => Err(WasReset),
        Poll::Pending => Ok(Bytes::new()),
    }
}

/// From the other node to the pod.
struct Inward {
    receive: RecvStream,
    writer: Writer,
    /// What has arrived and does not fit into the pipe: never more than the stream's window, for
    /// capacity is given back when the pipe has it.
    held: Held,
    ended: bool,
    /// The pod reads no more.
    discards: bool,
    done: bool,
}

impl Inward {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WasReset>> {
        match self.writer.poll_broken(cx) {
            Poll::Ready(Broken::Reset) => return Poll::Ready(Err(WasReset)),
            Poll::Ready(Broken::Closed) => self.discards = true,
            Poll::Pending => {}
        }
        while !self.ended {
            match self.receive.poll_data(cx) {
                Poll::Ready(Some(Ok(bytes))) => self.held.push(bytes)?,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(WasReset)),
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => break,
            }
            // A full pipe does not keep what arrives in HTTP/2's hands, which count its frames.
            if let Poll::Ready(delivered) = self.deliver(cx) {
                delivered?;
            }
        }
        ready!(self.deliver(cx))?;
        match self.ended {
            true => {
                self.writer.close();
                Poll::Ready(Ok(()))
            }
            false => Poll::Pending,
        }
    }

    /// Hands over what is held, as far as there is room. Ready when nothing is held any more.
    fn deliver(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WasReset>> {
        while !self.held.is_empty() {
            let room = match self.discards {
                true => usize::MAX,
                false => match ready!(self.writer.poll_room(cx)) {
                    Ok(room) => room,
                    Err(Broken::Closed) => {
                        self.discards = true;
                        continue;
                    }
                    Err(Broken::Reset) => return Poll::Ready(Err(WasReset)),
                },
            };
            let chunk = self.held.take(room);
            let size = chunk.len();
            if !self.discards && self.writer.write(chunk) == Err(Broken::Reset) {
                return Poll::Ready(Err(WasReset));
            }
            // A stream that has ended in both directions has nothing to give back any more.
            let _ = self.receive.flow_control().release_capacity(size);
        }
        Poll::Ready(Ok(()))
    }
}

/// Chunks in order, the short ones in buffers of their own. They count against the budget of the pod that they are for.
struct Held {
    chunks: VecDeque<Bytes>,
    short: BytesMut,
    bytes: usize,
    budget: Option<Budget>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

impl Held {
    fn within(budget: Option<Budget>) -> Self {
        Self {
            chunks: VecDeque::new(),
            short: BytesMut::new(),
            bytes: 0,
            budget,
        }
    }

    fn release(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some(budget) = &self.budget {
            budget.release(bytes);
        }
    }

    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.short.is_empty()
    }

    /// Adds what came, for which the pipe has no room yet.
    ///
    /// # Errors
    /// Where the pod leaves so much unread that its streams would take the link from all others.
    fn push(&mut self, bytes: Bytes) -> Result<(), WasReset> {
        if let Some(budget) = &self.budget {
            if budget.is_overdrawn() {
                return Err(WasReset);
            }
            budget.hold(bytes.len());
        }
        self.bytes += bytes.len();
        if bytes.len() < SHORT {
            self.short.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.chunks.push_back(bytes);
        }
        Ok(())
    }

    /// Makes a chunk of the short ones. Their buffer is not used again: a chunk that a pod keeps
    /// keeps no other's memory.
    fn seal(&mut self) {
        if !self.short.is_empty() {
            let short = std::mem::take(&mut self.short);
            self.chunks.push_back(short.freeze());
        }
    }

    /// Up to `most` bytes, in the order they came.
    fn take(&mut self, most: usize) -> Bytes {
        if self.chunks.is_empty() {
            self.seal();
        }
        let Some(first) = self.chunks.front_mut() else {
            return Bytes::new();
        };
        let taken = first.split_to(most.min(first.len()));
        if first.is_empty() {
            self.chunks.pop_front();
        }
        self.release(taken.len());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_counts_and_is_too_much_at_last() {
        let budget = Budget::new(10);
        let mut held = Held::within(Some(budget.clone()));
        for _ in 0..3 {
            assert!(held.push(Bytes::from_static(&[0; 10])).is_ok());
        }
        assert!(held.push(Bytes::from_static(&[0; 10])).is_err());
        assert_eq!(held.take(25).len(), 25);
        assert!(held.push(Bytes::from_static(&[0; 10])).is_ok());
        assert!(budget.is_spent());
        drop(held);
        assert!(!budget.is_spent());
    }
}
