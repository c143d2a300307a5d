//! What commands add to a container's files counts as if its guests had added it: they pay before they write.

use std::fs::File;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use runtime::Meter;
use runtime::meter::{Charge, NAME};
use tokio::io::AsyncWrite;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::super::view::View;
use super::Call;
use super::bridge::waited_for;
use super::streams::{CHUNK, Output};

/// What a command with a thread of its own pays from.
#[derive(Clone)]
pub(super) struct Purse {
    meter: Arc<Meter>,
    /// Cancelled once nobody waits for the command any more.
    left: CancellationToken,
}

impl Purse {
    pub(super) fn new(view: &View, left: &CancellationToken) -> Self {
        Self {
            meter: view.meter.clone(),
            left: left.clone(),
        }
    }

    /// Pays for bytes that are to be added, once that is allowed. The thread waits.
    ///
    /// # Errors
    /// `BrokenPipe` once nobody waits for the command any more.
    pub(super) fn pay(&self, bytes: u64) -> io::Result<Charge> {
        waited_for(&self.left)?;
        let paid = async {
            tokio::select! {
                biased;
                paid = self.meter.charge(bytes) => Ok(paid),
                () = self.left.cancelled() => Err(io::ErrorKind::BrokenPipe.into()),
            }
        };
        futures::executor::block_on(paid)
    }

    /// Pays for so many names that are to be made.
    ///
    /// # Errors
    /// As [`Purse::pay`]'s.
    pub(super) fn pay_names(&self, names: usize) -> io::Result<Charge> {
        self.pay(NAME.saturating_mul(names as u64))
    }

    pub(super) fn left(&self) -> &CancellationToken {
        &self.left
    }
}

impl Call {
    /// Pays for so many names that are to be made, once that is allowed.
    pub(super) async fn pay_names(&self, names: usize) -> Charge {
        let bytes = NAME.saturating_mul(names as u64);
        self.view.meter.charge(bytes).await
    }

    /// A file of the container to be written.
    pub(super) fn paid_file(&self, file: File) -> Output {
        Output::new(Paying {
            file: Arc::new(file),
            meter: self.view.meter.clone(),
            pays: None,
            under_way: None,
        })
    }
}

/// A file that is paid for as it is written.
struct Paying {
    file: Arc<File>,
    meter: Arc<Meter>,
    pays: Option<BoxFuture<'static, Charge>>,
    /// What was written last, and has been paid for until it is in the file.
    under_way: Option<JoinHandle<io::Result<()>>>,
}

impl Paying {
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(under_way) = &mut self.under_way else {
            return Poll::Ready(Ok(()));
        };
        let ended = ready!(under_way.poll_unpin(cx));
        self.under_way = None;
        Poll::Ready(ended.map_err(io::Error::other).flatten())
    }
}

impl AsyncWrite for Paying {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_written(cx))?;
        let most = bytes.len().min(CHUNK) as u64;
        let meter = &this.meter;
        let pays = this.pays.get_or_insert_with(|| {
            let meter = meter.clone();
            async move { meter.charge_some(1, most).await }.boxed()
        });
        let mut paid = ready!(pays.poll_unpin(cx));
        this.pays = None;
        let length = usize::try_from(paid.bytes()).unwrap_or(usize::MAX);
        let part = bytes[..bytes.len().min(length)].to_vec();
        let (length, file) = (part.len(), Arc::clone(&this.file));
        let own = paid.split(length as u64);
        paid.refund();
        // What is paid is held as long as it is being written, whoever still waits for that, and no longer.
        let write = move || {
            let _paid = own;
            (&*file).write_all(&part)
        };
        this.under_way = Some(spawn_blocking(write));
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_written(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_written(cx)
    }
}
