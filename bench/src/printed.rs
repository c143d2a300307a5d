//! What guests print, for whoever started them.

use std::task::{Context, Poll};

use bytes::Bytes;
use runtime::output::{Closed, Output};
use tokio::sync::mpsc::UnboundedSender;

/// Tells what a guest prints as soon as it does.
#[derive(Debug)]
pub struct Printed(pub UnboundedSender<Bytes>);

impl Output for Printed {
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn write(&self, chunk: Bytes) -> Result<(), Closed> {
        self.0.send(chunk).map_err(|_| Closed)
    }
}
