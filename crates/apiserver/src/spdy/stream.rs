//! One stream of a connection.

use std::sync::Arc;

use bytes::Bytes;

use super::frame::{Frame, LONGEST_DATA};
use super::header::Headers;
use super::inbound::Outlet;
use super::outgoing::{Credit, Place};
use super::shared::Shared;
use super::status;
use super::window::Window;

/// The stream was reset, or its connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream has broken off")]
pub struct Broken;

/// A stream that the client has opened.
#[derive(Debug)]
pub struct Stream {
    /// What it is about.
    pub headers: Headers,
    /// What the client sends.
    pub reader: Reader,
    /// What the client gets.
    pub writer: Writer,
}

impl Stream {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.writer.id
    }

    /// Takes the stream: before that the client sends nothing. One that is dropped instead is refused.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn reply(&mut self) -> Result<(), Broken> {
        let reply = Frame::SynReply {
            stream: self.writer.id,
            fin: false,
            headers: Headers::default(),
        };
        self.writer.shared.out.send(reply).await?;
        self.writer.abandoned = status::CANCEL;
        Ok(())
    }
}

/// The direction from the client.
#[derive(Debug)]
pub struct Reader {
    pub(super) inbound: Outlet,
    pub(super) credit: Arc<Credit>,
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    /// Waits for bytes: `None` once the client has ended its direction. No bytes are lost where the wait is given up.
    ///
    /// # Errors
    /// When the stream was reset, or its connection is gone.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Broken> {
        let read = self.inbound.read().await?;
        if let Some(bytes) = &read {
            self.credit.owe(bytes.len(), &self.shared.out);
        }
        Ok(read)
    }
}

/// The direction to the client. One that is dropped before it was finished resets the stream.
#[derive(Debug)]
pub struct Writer {
    pub(super) id: u32,
    pub(super) window: Arc<Window>,
    pub(super) shared: Arc<Shared>,
    /// Where the end waits to be written.
    pub(super) place: Place,
    /// What is said where it is dropped.
    pub(super) abandoned: u32,
    pub(super) finished: bool,
}

impl Writer {
    /// Sends bytes as the client's window and the connection have room for them.
    ///
    /// # Errors
    /// When the stream was reset, or has ended in this direction, or its connection is gone.
    pub async fn write(&self, mut bytes: Bytes) -> Result<(), Broken> {
        if self.finished {
            return Err(Broken);
        }
        while !bytes.is_empty() {
            let wanted = self.window.take(bytes.len().min(LONGEST_DATA)).await?;
            let taken = self.shared.session.take(wanted).await?;
            self.window.grow((wanted - taken) as i64);
            let frame = Frame::Data {
                stream: self.id,
                fin: false,
                bytes: bytes.split_to(taken),
            };
            self.shared.out.send(frame).await?;
        }
        Ok(())
    }

    /// Waits until the stream is reset, or its connection is gone.
    pub async fn broken(&self) {
        self.window.broken().await;
    }

    /// Ends this direction in order.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let end = Frame::Data {
            stream: self.id,
            fin: true,
            bytes: Bytes::new(),
        };
        self.shared.out.last(end, Arc::clone(&self.place));
        self.shared.finished(self.id);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What the client has reset needs no answer.
        if !self.finished && self.shared.forget(self.id) {
            let reset = Frame::RstStream {
                stream: self.id,
                status: self.abandoned,
            };
            self.shared.out.last(reset, Arc::clone(&self.place));
        }
    }
}
