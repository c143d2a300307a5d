//! Datagrams, all of a link on one stream, as [frames](super::frame).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Packet;
use super::frame::{self, Frames};

/// Bytes that wait for a link; what comes beyond them is lost.
const MOST_WAITING: usize = 1 << 20;
/// What one waiting datagram costs beyond its bytes.
const OVERHEAD: usize = 128;
/// Datagrams that are sent together have no more bytes than this, but for the last one.
const TOGETHER: usize = 64 << 10;
/// How long the stream stays without datagrams.
const IDLE_AFTER: Duration = Duration::from_secs(10);

/// Datagrams that wait to be sent to a peer.
#[derive(Default)]
pub(super) struct Outgoing {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    packets: VecDeque<Packet>,
    used: usize,
    /// Somebody sends what waits.
    sending: bool,
}

impl Outgoing {
    /// Takes a datagram, or drops it where too many wait. True says that the caller has to see
    /// to it that they are sent.
    pub(super) fn push(&self, packet: Packet) -> bool {
        let mut waiting = self.waiting.lock();
        let size = packet.bytes.len() + OVERHEAD;
        if waiting.used + size > MOST_WAITING {
            return false;
        }
        waiting.used += size;
        waiting.packets.push_back(packet);
        self.more.notify_one();
        !std::mem::replace(&mut waiting.sending, true)
    }

    /// Waits for datagrams. False says that none came, and that the next one's sender has to see
    /// to it again.
    pub(super) async fn any(&self) -> bool {
        loop {
            if !self.waiting.lock().packets.is_empty() {
                return true;
            }
            if timeout(IDLE_AFTER, self.more.notified()).await.is_err() {
                let mut waiting = self.waiting.lock();
                waiting.sending = !waiting.packets.is_empty();
                return waiting.sending;
            }
        }
    }

    /// Sends some of what waits once the stream takes bytes: `None` says that it is gone.
    pub(super) async fn send(&self, stream: &mut SendStream<Bytes>) -> Option<()> {
        // They wait here, where too many are dropped, until there is room for the first byte.
        room(stream, 1).await?;
        let mut bytes = self.take();
        while !bytes.is_empty() {
            let room = room(stream, bytes.len()).await?;
            let part = bytes.split_to(room.min(bytes.len()));
            stream.send_data(part, false).ok()?;
        }
        Some(())
    }

    fn take(&self) -> Bytes {
        let mut waiting = self.waiting.lock();
        let mut bytes = BytesMut::new();
        while bytes.len() < TOGETHER
            && let Some(packet) = waiting.packets.pop_front()
        {
            waiting.used -= packet.bytes.len() + OVERHEAD;
            frame::encode(&packet, &mut bytes);
        }
        bytes.freeze()
    }

    pub(super) fn drop_all(&self) {
        let mut waiting = self.waiting.lock();
        waiting.packets.clear();
        waiting.used = 0;
    }
}

/// Waits until some of `wanted` bytes may be sent: `None` says that the stream is gone.
async fn room(stream: &mut SendStream<Bytes>, wanted: usize) -> Option<usize> {
    stream.reserve_capacity(wanted);
    while stream.capacity() == 0 {
        poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
    }
    Some(stream.capacity())
}

/// Hands over what comes, until the stream ends or a frame is malformed.
pub(super) async fn receive(mut stream: RecvStream, each: impl Fn(Packet)) {
    let mut frames = Frames::default();
    while let Some(Ok(bytes)) = stream.data().await {
        frames.push(&bytes);
        if stream.flow_control().release_capacity(bytes.len()).is_err() {
            return;
        }
        loop {
            match frames.decode() {
                Ok(Some(packet)) => each(packet),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::link::frame::FRAMING;

    pub(in crate::link) fn datagram(size: usize) -> Packet {
        Packet {
            from: "10.0.0.1:5000".parse().unwrap(),
            to: "10.0.0.2:53".parse().unwrap(),
            bytes: Bytes::from(vec![7; size]),
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let outgoing = Outgoing::default();
        assert!(outgoing.push(datagram(0)), "the first sender sends");
        for _ in 0..100_000 {
            assert!(!outgoing.push(datagram(0)));
        }
        assert!(outgoing.waiting.lock().packets.len() <= MOST_WAITING / OVERHEAD);
        assert!(outgoing.take().len() < TOGETHER + FRAMING);
        outgoing.drop_all();
        outgoing.push(datagram(1));
        assert_eq!(outgoing.take().len(), FRAMING + 1);
    }
}
