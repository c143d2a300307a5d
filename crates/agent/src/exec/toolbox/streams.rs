//! A command's streams, which the commands that it runs share with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{Call, Stop, shown};

/// What is read at once.
pub(super) const CHUNK: usize = 64 << 10;

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Where a command reads from. Clones read the same stream.
///
/// It is locked for one poll only, and all who share it are of one task: so that whoever is woken is the one who waits.
#[derive(Clone)]
pub(super) struct Input(Arc<Mutex<Reader>>);

impl Input {
    pub(super) fn new(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(reader))))
    }

    /// One that is at its end.
    pub(super) fn empty() -> Self {
        Self::new(tokio::io::empty())
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_read(cx, into)
    }
}

/// Where a command writes to. Clones write the same stream, as [`Input`]'s read one.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Writer>>);

impl Output {
    pub(super) fn new(writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(writer))))
    }

    /// One that drops what is written.
    pub(super) fn sink() -> Self {
        Self::new(tokio::io::sink())
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_shutdown(cx)
    }
}

impl Call {
    /// Writes to the standard output.
    ///
    /// # Errors
    /// What ends the command, unless it has something else to do.
    pub(super) async fn print(&mut self, text: impl AsRef<[u8]>) -> Result<(), Stop> {
        let written = self.stdout.write_all(text.as_ref()).await;
        written.map_err(Stop::Output)
    }

    /// Says something on the standard error. That nobody takes it changes nothing else.
    pub(super) async fn say(&mut self, text: &str) {
        // Whoever wants no messages has their reason.
        if self.stderr.write_all(text.as_bytes()).await.is_ok() {
            let _ = self.stderr.flush().await;
        }
    }

    /// Says what is wrong, and of which command.
    pub(super) async fn complain(&mut self, why: &str) {
        let line = shown(&format!("{}: {why}", self.name));
        self.say(&format!("{line}\n")).await;
    }

    /// Copies all of a stream to the standard output; what is returned is an error of reading.
    ///
    /// # Errors
    /// As [`Call::print`]'s.
    pub(super) async fn copy(&mut self, mut from: Input) -> Result<io::Result<()>, Stop> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk).await {
                Ok(0) => return Ok(Ok(())),
                Ok(read) => self.print(&chunk[..read]).await?,
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Has all that was written taken.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        let _ = self.stderr.flush().await;
        self.stdout.flush().await.map_err(Stop::Output)
    }
}
