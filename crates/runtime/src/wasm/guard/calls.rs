//! A file's stream, which has the system called on threads that only its workload's calls are made on at a time.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamResult,
};

use crate::gate::{Account, Turn};

pub(super) struct Own<S> {
    stream: S,
    account: Arc<Account>,
    /// While something is under way, or may be.
    turn: Option<Turn>,
}

impl<S> Own<S> {
    pub(super) fn new(stream: S, account: Arc<Account>) -> Self {
        Self {
            stream,
            account,
            turn: None,
        }
    }

    fn over(&mut self) {
        if let Some(turn) = self.turn.take() {
            turn.over();
        }
    }

    /// Has something done to its end. Where whoever asked goes away before, the turn stays with what is under way.
    async fn whole<'a, T, F>(&'a mut self, what: impl FnOnce(&'a mut S) -> F) -> T
    where
        F: Future<Output = T>,
    {
        if self.turn.is_none() {
            self.turn = Some(self.account.turn().await);
        }
        let Self { stream, turn, .. } = self;
        let mut what = pin!(what(stream));
        let done = std::future::poll_fn(|cx| match &*turn {
            Some(turn) => turn.enter(|| what.as_mut().poll(cx)),
            None => what.as_mut().poll(cx),
        });
        let done = done.await;
        if let Some(turn) = turn.take() {
            turn.over();
        }
        done
    }
}

#[async_trait]
impl InputStream for Own<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let held = self.turn.is_some();
        let account = &self.account;
        let turn = self.turn.get_or_insert_with(|| account.turn_now());
        let read = turn.enter(|| self.stream.read(size));
        // Where there is nothing yet, it was begun by this or before.
        let is_under_way = read.as_ref().is_ok_and(Bytes::is_empty) && (held || size > 0);
        if !is_under_way {
            self.over();
        }
        read
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.whole(|stream| stream.blocking_read(size)).await
    }

    async fn cancel(&mut self) {
        self.whole(|stream| stream.cancel()).await;
    }
}

#[async_trait]
impl OutputStream for Own<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let account = &self.account;
        let turn = self.turn.get_or_insert_with(|| account.turn_now());
        let written = turn.enter(|| self.stream.write(bytes));
        if written.is_err() {
            self.over();
        }
        written
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.whole(|stream| stream.blocking_write_and_flush(bytes))
            .await
    }

    async fn cancel(&mut self) {
        self.whole(|stream| stream.cancel()).await;
    }
}

#[async_trait]
impl<S: Pollable + ?Sized> Pollable for Own<Box<S>> {
    async fn ready(&mut self) {
        self.whole(|stream| stream.ready()).await;
    }
}
