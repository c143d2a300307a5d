//! The two directions of a connection into a pod, as messages of the node protocol.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::node::{PortForwardRequest, PortForwardResponse};
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use network::pipe::Broken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

/// The most bytes of one message.
const CHUNK: usize = 64 << 10;

/// What comes out of a pod.
pub(super) type Responses = BoxStream<'static, Result<PortForwardResponse, Status>>;

/// Carries both directions for as long as the responses are asked for. Who drops them resets the connection.
pub(super) fn carry(
    connection: network::Stream,
    requests: impl Stream<Item = Result<PortForwardRequest, Status>> + Send + Unpin + 'static,
) -> Responses {
    let open = Arc::new(Open {
        connection,
        finished: AtomicBool::new(false),
    });
    let inward = AbortOnDropHandle::new(tokio::spawn(inward(requests, Arc::clone(&open))));
    let outward = Outward { open, inward };
    stream::try_unfold(outward, Outward::next).boxed()
}

struct Open {
    connection: network::Stream,
    /// The pod has ended its direction, and that was said.
    finished: AtomicBool,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Where both directions have ended in order, the pod may still read what is on its way.
        if !(self.finished.load(Ordering::Relaxed) && self.connection.writer.is_closed()) {
            self.connection.reset();
        }
    }
}

struct Outward {
    open: Arc<Open>,
    inward: AbortOnDropHandle<Result<(), Status>>,
}

impl Outward {
    async fn next(mut self) -> Result<Option<(PortForwardResponse, Self)>, Status> {
        if self.open.finished.load(Ordering::Relaxed) {
            let ended = (&mut self.inward).await;
            ended.map_err(|e| Status::internal(e.to_string()))??;
            return Ok(None);
        }
        let read = self.open.connection.reader.read(CHUNK).await;
        let data = read.map_err(|broken| Status::aborted(broken.to_string()))?;
        let finish = data.is_none();
        self.open.finished.store(finish, Ordering::Relaxed);
        let response = PortForwardResponse {
            finish,
            data: data.unwrap_or_default(),
        };
        Ok(Some((response, self)))
    }
}

/// Passes on what comes in until it ends, or the pod reads no more.
async fn inward(
    mut requests: impl Stream<Item = Result<PortForwardRequest, Status>> + Unpin,
    open: Arc<Open>,
) -> Result<(), Status> {
    let writer = &open.connection.writer;
    let broken = poll_fn(|cx| writer.poll_broken(cx));
    let passed = async {
        while let Some(Ok(request)) = requests.next().await {
            writer.send(request.data).await?;
            if request.finish {
                writer.close();
                return Ok(true);
            }
        }
        Ok(false)
    };
    let passed = tokio::select! {
        passed = passed => passed,
        why = broken => Err(why),
    };
    match passed {
        // The pod reads no more: it may have something to say still.
        Ok(true) | Err(Broken::Closed) => Ok(()),
        Err(Broken::Reset) => Err(Status::aborted(Broken::Reset.to_string())),
        Ok(false) => {
            open.connection.reset();
            Err(Status::cancelled("the requests have broken off"))
        }
    }
}
