//! A descriptor that tells of termination.
//!
//! It is as the reading end of a pipe to which nobody ever writes and whose other end is closed when termination
//! begins: so POSIX' programs wait for a process that ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Fuse, FusedFuture as _};
use wasmtime_wasi::p1::types::Errno;

use super::Result;
use crate::running::Stop;

/// Becomes readable, with nothing to read, once termination has begun.
pub(super) struct Termination {
    /// Waits for it, across calls: whoever polls last is woken.
    begun: Fuse<BoxFuture<'static, ()>>,
    pub(super) nonblocking: bool,
}

impl Termination {
    pub(super) fn new(stop: Arc<Stop>, nonblocking: bool) -> Self {
        let begun = async move { stop.begun().await };
        Self {
            begun: begun.boxed().fuse(),
            nonblocking,
        }
    }

    pub(super) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.begun.is_terminated() {
            true => Poll::Ready(()),
            false => self.begun.poll_unpin(cx),
        }
    }

    /// Waits for termination to begin, which ends what can be read.
    ///
    /// # Errors
    /// [`Errno::Again`] where it is non-blocking and termination has not begun.
    pub(super) async fn end(&mut self) -> Result<()> {
        let nonblocking = self.nonblocking;
        poll_fn(|cx| match self.poll_begun(cx) {
            Poll::Pending if nonblocking => Poll::Ready(Err(Errno::Again.into())),
            begun => begun.map(Ok),
        })
        .await
    }
}
