//! What both ends of a link agree on, and how each knows that the other is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use super::MOST_STREAMS;

/// Bytes of one stream that may be on their way, or wait at a reader that is slow.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;

/// Bytes of all streams of a link together: as many as HTTP/2 knows. Readers that do not read at all take a whole window
/// each, and with eight thousand of them nothing would move on the link; one pod's streams are
/// [reset](crate::budget::Budget::is_overdrawn) long before.
pub(super) const LINK_WINDOW: u32 = (1 << 31) - 1;

/// The longest frame. A longer one costs fewer headers, and makes the other streams wait longer.
pub(super) const LONGEST_FRAME: u32 = 64 << 10;

/// Bytes of one stream that HTTP/2 holds and has not yet sent.
pub(super) const UNSENT: usize = 256 << 10;

/// Bytes of a request's head.
const LARGEST_HEAD: u32 = 4096;

const PING_EVERY: Duration = Duration::from_secs(2);
const DEAD_AFTER: Duration = Duration::from_secs(5);
const IDLE_AFTER: Duration = Duration::from_secs(60);

pub(super) fn client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(LINK_WINDOW)
        .max_frame_size(LONGEST_FRAME)
        .max_send_buffer_size(UNSENT)
        .max_header_list_size(LARGEST_HEAD)
        .enable_push(false)
        // Frames for a stream that this end has ended meanwhile are no fault of the other end's.
        .max_local_error_reset_streams(None);
    builder
}

pub(super) fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(LINK_WINDOW)
        .max_frame_size(LONGEST_FRAME)
        .max_send_buffer_size(UNSENT)
        .max_header_list_size(LARGEST_HEAD)
        .max_concurrent_streams(MOST_STREAMS)
        .max_local_error_reset_streams(None)
        // Many pods may give up at once; each costs no more than a stream that lives.
        .max_pending_accept_reset_streams(MOST_STREAMS as usize);
    builder
}

/// Whether a link is in use.
#[derive(Debug, Default)]
pub(super) struct Usage {
    streams: AtomicUsize,
    touched: AtomicBool,
}

/// A stream that is open. It no longer counts once this is dropped.
#[derive(Debug)]
pub(super) struct InUse(Arc<Usage>);

impl Usage {
    /// Counts one more stream: none where there are too many.
    pub(super) fn begin(self: &Arc<Self>) -> Option<InUse> {
        let before = self.streams.fetch_add(1, Ordering::Relaxed);
        let in_use = InUse(self.clone());
        (before < MOST_STREAMS as usize).then_some(in_use)
    }

    /// Notes that something other than a stream used the link.
    pub(super) fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    fn was_idle(&self) -> bool {
        !self.touched.swap(false, Ordering::Relaxed) && self.streams.load(Ordering::Relaxed) == 0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends once the other end leaves a ping unanswered.
pub(super) async fn silent(pings: &mut PingPong) {
    while answers(pings).await {}
}

/// Ends once the other end leaves a ping unanswered (false) or nothing has used the link for a
/// while (true).
pub(super) async fn silent_or_idle(pings: &mut PingPong, usage: &Usage) -> bool {
    let mut idle = Duration::ZERO;
    while answers(pings).await {
        idle = match usage.was_idle() {
            true => idle + PING_EVERY,
            false => Duration::ZERO,
        };
        if idle >= IDLE_AFTER {
            return true;
        }
    }
    false
}

async fn answers(pings: &mut PingPong) -> bool {
    sleep(PING_EVERY).await;
    matches!(
        timeout(DEAD_AFTER, pings.ping(Ping::opaque())).await,
        Ok(Ok(_))
    )
}
