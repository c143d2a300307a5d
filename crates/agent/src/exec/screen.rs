//! The screen of a container that has a terminal of its own (`tty: true`). All who are attached to it see the same: what is
//! printed and what is typed. That is its log, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use runtime::output::Closed;
use runtime::{Output, Sink};
use tokio::sync::watch;

use super::Terminal;
use super::keyboard::Display;

/// Of one instance. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Inner>);

struct Inner {
    /// Until the instance has ended. This lock is held while something is written, so that all see the same order. It is taken
    /// before that of `state`, which is never held while the log is written: who only asks does not wait for a disk.
    log: Mutex<Option<Box<dyn Output>>>,
    state: Mutex<State>,
    ended: watch::Sender<bool>,
}

struct State {
    /// The instance has ended.
    is_over: bool,
    /// Those that look at it, by numbers that are theirs alone.
    viewers: BTreeMap<u64, Sink>,
    /// The next one's number.
    next: u64,
    terminal: Terminal,
    interrupted: bool,
}

impl Screen {
    /// Nobody looks at it yet. The terminal is what the instance before it had.
    pub(crate) fn new(log: impl Output, terminal: Terminal) -> Self {
        Self(Arc::new(Inner {
            log: Mutex::new(Some(Box::new(log))),
            state: Mutex::new(State {
                is_over: false,
                viewers: BTreeMap::new(),
                next: 0,
                terminal,
                interrupted: false,
            }),
            ended: watch::Sender::new(false),
        }))
    }

    /// Where the guest prints to.
    pub(crate) fn printed(&self) -> Box<dyn Output> {
        Box::new(Display(Sink::new(self.clone())))
    }

    /// Shows what comes from now on to one more, until he has gone or the answer is dropped.
    pub(crate) fn show_to(&self, viewer: Sink) -> Shown {
        let mut state = self.0.state.lock();
        let number = state.next;
        if !state.is_over {
            state.next += 1;
            state.viewers.insert(number, viewer);
        }
        Shown {
            screen: self.clone(),
            number,
        }
    }

    /// The terminal that somebody looks at it by has this size now: the next instance is told, as a guest has no signal by
    /// which it could be told again.
    pub(crate) fn resize(&self, columns: u32, lines: u32) {
        if columns > 0 && lines > 0 {
            self.0.state.lock().terminal.size = Some((columns, lines));
        }
    }

    /// The terminal as it was last.
    pub(crate) fn terminal(&self) -> Terminal {
        self.0.state.lock().terminal
    }

    /// Somebody has interrupted the guest.
    pub(crate) fn interrupt(&self) {
        self.0.state.lock().interrupted = true;
    }

    /// Whether somebody has.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.0.state.lock().interrupted
    }

    /// Nothing is shown any more: the guest has ended.
    pub(crate) fn end(&self) {
        let mut log = self.0.log.lock();
        // Its last line is written by this.
        drop(log.take());
        let viewers = {
            let mut state = self.0.state.lock();
            state.is_over = true;
            std::mem::take(&mut state.viewers)
        };
        drop(log);
        drop(viewers);
        self.0.ended.send_replace(true);
    }

    /// Waits until the guest has ended.
    pub(crate) async fn ended(&self) {
        let mut ended = self.0.ended.subscribe();
        // The sender is part of `self`, so that this cannot fail.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// What is written is shown as it is. As at any terminal, who prints waits for those who look.
impl Output for Screen {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let mut is_full = false;
        self.0.state.lock().viewers.retain(|_, viewer| {
            let ready = viewer.poll_ready(cx);
            is_full |= ready.is_pending();
            !matches!(ready, Poll::Ready(Err(Closed)))
        });
        match is_full {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }

    fn write(&self, chunk: Bytes) -> Result<(), Closed> {
        let log = self.0.log.lock();
        if let Some(log) = log.as_deref() {
            // A log takes everything.
            let _ = log.write(chunk.clone());
        }
        let mut state = self.0.state.lock();
        state
            .viewers
            .retain(|_, viewer| viewer.write(chunk.clone()).is_ok());
        Ok(())
    }
}

/// A viewer to whom a screen is shown for as long as this is there: a guest that prints nothing would never find out that he
/// has gone.
#[must_use]
pub(crate) struct Shown {
    screen: Screen,
    number: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        let viewer = self.screen.0.state.lock().viewers.remove(&self.number);
        // Not under the lock.
        drop(viewer);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use network::pipe::pipe;
    use runtime::output::Capture;
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn all_see_the_same_and_the_log_does() {
        let log = Capture::new(1 << 10);
        let screen = Screen::new(log.clone(), Terminal::default());
        let printed = screen.printed();
        printed.write("a\n".into()).unwrap();
        let (one, other) = (Capture::new(1 << 10), Capture::new(1 << 10));
        let _one = screen.show_to(Sink::new(one.clone()));
        printed.write("b\n".into()).unwrap();
        let _other = screen.show_to(Sink::new(other.clone()));
        // An echo has its line's end already.
        screen.write("c\r\n".into()).unwrap();
        assert_eq!(screen.ended().now_or_never(), None);
        screen.end();
        screen.ended().await;
        screen.write("d".into()).unwrap();
        let _late = screen.show_to(Sink::new(other.clone()));
        screen.write("e".into()).unwrap();
        assert_eq!(log.text(), "a\r\nb\r\nc\r\n");
        assert_eq!(one.text(), "b\r\nc\r\n");
        assert_eq!(other.text(), "c\r\n");
    }

    #[tokio::test]
    async fn who_prints_waits_for_who_looks() {
        let screen = Screen::new(Capture::new(1 << 10), Terminal::default());
        let ready = || poll_fn(|cx| screen.poll_ready(cx)).now_or_never();
        assert_eq!(ready(), Some(Ok(())));
        let (writer, reader) = pipe(1);
        let _shown = screen.show_to(Sink::new(writer));
        screen.write("a".into()).unwrap();
        assert_eq!(ready(), None);
        assert_eq!(reader.read(9).await.unwrap().unwrap(), "a");
        assert_eq!(ready(), Some(Ok(())));
        screen.write("b".into()).unwrap();
        assert_eq!(ready(), None);
        // Who has gone is not waited for.
        drop(reader);
        assert_eq!(ready(), Some(Ok(())));
        screen.write("c".into()).unwrap();
    }

    #[test]
    fn viewers_that_leave_are_forgotten_though_nobody_prints() {
        let screen = Screen::new(Capture::new(0), Terminal::default());
        let viewers = || screen.0.state.lock().viewers.len();
        let stays = Capture::new(1 << 10);
        let stayed = screen.show_to(Sink::new(stays.clone()));
        for _ in 0..3 {
            let (writer, _reader) = pipe(1);
            let shown = screen.show_to(Sink::new(writer));
            assert_eq!(viewers(), 2);
            drop(shown);
            assert_eq!(viewers(), 1);
        }
        screen.write("a".into()).unwrap();
        assert_eq!(stays.text(), "a");
        screen.end();
        drop(stayed);
        assert_eq!(viewers(), 0);
    }

    #[test]
    fn who_asks_does_not_wait_for_the_log() {
        /// Asks, while it is written.
        struct Log(Arc<Mutex<Option<Screen>>>);
        impl Output for Log {
            fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
                Poll::Ready(Ok(()))
            }

            fn write(&self, _: Bytes) -> Result<(), Closed> {
                let screen = self.0.lock().take().unwrap();
                assert!(screen.0.state.try_lock().is_some());
                Ok(())
            }
        }
        let asks = Arc::new(Mutex::new(None));
        let screen = Screen::new(Log(asks.clone()), Terminal::default());
        *asks.lock() = Some(screen.clone());
        screen.write("a".into()).unwrap();
        assert!(asks.lock().is_none());
    }

    #[test]
    fn the_terminal_is_as_it_was_last() {
        let screen = Screen::new(Capture::new(0), Terminal::default());
        for (columns, lines) in [(0, 0), (80, 24), (0, 9), (100, 30), (100, 0)] {
            screen.resize(columns, lines);
        }
        assert_eq!(screen.terminal().size, Some((100, 30)));
        assert!(!screen.is_interrupted());
        screen.interrupt();
        assert!(screen.is_interrupted());
    }
}
