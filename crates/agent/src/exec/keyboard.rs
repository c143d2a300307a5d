//! A terminal's two ends, whoever's it is: what is typed there, and what is shown.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use network::pipe::Writer;
use runtime::output::Closed;
use runtime::{Output, Sink};
use tokio::time::timeout;

use super::tty::{self, Discipline};

/// How much of what was typed is taken in at once.
const KEYS: usize = 4 << 10;
/// What is shown where a key is dropped.
const BELL: Bytes = Bytes::from_static(b"\x07");
/// How long what is typed waits for who reads it, and its echo for who looks.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

/// What somebody types at.
pub(crate) struct Keyboard {
    discipline: Discipline,
    /// Where the echo is shown.
    display: Sink,
    /// What was typed was not taken in time.
    stuck: bool,
}

impl Keyboard {
    pub(crate) fn new(display: Sink) -> Self {
        Self {
            discipline: Discipline::default(),
            display,
            stuck: false,
        }
    }

    /// Takes in some bytes for who reads the pipe, if there is one; whether they interrupt him.
    pub(crate) async fn take(&mut self, bytes: &[u8], pipe: Option<&Writer>) -> bool {
        for keys in bytes.chunks(KEYS) {
            let typed = self.discipline.take(keys);
            let echo = show(&self.display, typed.echo.into());
            if typed.interrupt {
                // Nothing is waited for: neither that anybody reads, nor that somebody looks.
                let _ = echo.now_or_never();
                return true;
            }
            // Nor is it for long otherwise: ^C may be what is typed next.
            let _ = timeout(PATIENCE, echo).await;
            let Some(pipe) = pipe else {
                continue;
            };
            for piece in typed.input {
                self.stuck = !hand_over(pipe, piece.into(), self.stuck).await;
                if self.stuck {
                    let _ = show(&self.display, BELL).now_or_never();
                }
            }
        }
        false
    }
}

/// Has what was typed read, whole, so that nothing of others comes into its midst and no part of it is left over; whether
/// there was room in time. Where there was none before there is no waiting.
async fn hand_over(pipe: &Writer, piece: Bytes, stuck: bool) -> bool {
    let bytes = piece.len().max(1);
    let room = poll_fn(|cx| pipe.poll_room_for(cx, bytes));
    let has_room = match stuck {
        true => room.now_or_never().is_some(),
        false => timeout(PATIENCE, room).await.is_ok(),
    };
    if has_room {
        // Who has closed his input does not mind what is not read.
        let _ = match piece.is_empty() {
            true => pipe.end_read(),
            false => pipe.write(piece),
        };
    }
    has_room
}

/// Shows bytes as they are, once there is room.
async fn show(display: &Sink, bytes: Bytes) {
    if !bytes.is_empty() && poll_fn(|cx| display.poll_ready(cx)).await.is_ok() {
        // Where nobody looks any more there is nothing to be shown.
        let _ = display.write(bytes);
    }
}

/// What is printed, as a terminal shows it.
pub(crate) struct Display(pub(crate) Sink);

impl Output for Display {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.0.poll_ready(cx)
    }

    fn write(&self, chunk: Bytes) -> Result<(), Closed> {
        self.0.write(tty::shown(&chunk).into())
    }
}

#[cfg(test)]
mod tests {
    use network::pipe::pipe;
    use runtime::output::Capture;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_handed_over_whole_or_not_at_all() {
        let (writer, reader) = pipe(300);
        let display = Capture::new(1 << 10);
        let mut keyboard = Keyboard::new(Sink::new(display.clone()));
        let others = vec![b'o'; 100];
        writer.write(others.clone().into()).unwrap();
        assert!(writer.room().unwrap() > 100);
        let line = [&[b'x'; 200][..], b"\r"].concat();
        assert!(!keyboard.take(&line, Some(&writer)).await);
        assert!(display.text().ends_with("x\r\n\x07"));
        assert_eq!(reader.read(1 << 10).await.unwrap().unwrap(), others);
        assert!(reader.try_read(1).is_pending());
        // There is room now.
        assert!(!keyboard.take(&line, Some(&writer)).await);
        assert_eq!(reader.read(1 << 10).await.unwrap().unwrap().len(), 201);
        assert!(display.text().ends_with("x\r\n"));
    }
}
