//! What the two tasks of a connection and its streams share.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::inbound::Inlet;
use super::outgoing::{Credit, Outgoing};
use super::window::{INITIAL, Window};

/// What both directions and all streams know.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) out: Outgoing,
    /// The window of all streams together.
    pub(super) session: Window,
    pub(super) streams: Mutex<Streams>,
}

#[derive(Debug)]
pub(super) struct Streams {
    pub(super) open: BTreeMap<u32, Entry>,
    /// The last that the client opened.
    pub(super) last: u32,
    /// What a stream's window is at first.
    pub(super) initial: i64,
    /// The client keeps windows.
    pub(super) enforced: bool,
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Entry {
    /// None: the client has ended its direction.
    pub(super) inbound: Option<Arc<Inlet>>,
    pub(super) window: Arc<Window>,
    pub(super) credit: Arc<Credit>,
    /// Our direction has ended.
    pub(super) finished: bool,
}

impl Shared {
    pub(super) fn new(out: Outgoing) -> Self {
        Self {
            out,
            session: Window::new(INITIAL, false),
            streams: Mutex::new(Streams {
                open: BTreeMap::new(),
                last: 0,
                initial: INITIAL,
                enforced: false,
            }),
        }
    }

    /// Our direction of a stream has ended.
    pub(super) fn finished(&self, stream: u32) {
        let mut streams = self.streams.lock();
        if let Some(entry) = streams.open.get_mut(&stream) {
            entry.finished = true;
            if entry.inbound.is_none() {
                streams.open.remove(&stream);
            }
        }
    }

    /// Lets a stream go; whether it was open.
    pub(super) fn forget(&self, stream: u32) -> bool {
        let entry = self.streams.lock().open.remove(&stream);
        if let Some(entry) = &entry {
            entry.window.break_off();
        }
        entry.is_some()
    }

    /// The client keeps windows: from now on they count.
    pub(super) fn enforce(&self) {
        let mut streams = self.streams.lock();
        if !std::mem::replace(&mut streams.enforced, true) {
            streams.open.values().for_each(|e| e.window.enforce());
            self.session.enforce();
        }
    }

    pub(super) fn initial(&self, value: u32) {
        let mut streams = self.streams.lock();
        let value = i64::from(value.min(i32::MAX as u32));
        let by = value - std::mem::replace(&mut streams.initial, value);
        for entry in streams.open.values() {
            entry.window.grow(by);
        }
    }

    /// Nothing can be written any more, or is read.
    pub(super) fn break_off(&self) {
        let open = std::mem::take(&mut self.streams.lock().open);
        open.values().for_each(|entry| entry.window.break_off());
        self.session.break_off();
    }
}
