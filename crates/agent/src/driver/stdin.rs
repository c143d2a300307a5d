//! The standard input of containers that have one, and who writes to it.

use std::sync::Arc;

use bytes::Bytes;
use client::node::StdinTarget;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Container;
use network::pipe::{Writer, pipe};
use runtime::{Running, Stdin};

use super::Driver;
use super::log::{Refusal, container_of};

/// What waits for a guest that does not read.
const WAITING: usize = 64 << 10;

/// The end of an instance's standard input that others write to.
#[derive(Clone)]
pub(crate) struct Input {
    writer: Arc<Writer>,
    /// It ends with the first who writes to it.
    once: bool,
}

/// What to start the container with, and what is kept of it.
pub(super) fn open(spec: &Container) -> (Stdin, Option<Input>) {
    if spec.stdin != Some(true) {
        return (Stdin::Empty, None);
    }
    let (writer, reader) = pipe(WAITING);
    let input = Input {
        writer: Arc::new(writer),
        once: spec.stdin_once == Some(true),
    };
    (Stdin::Pipe(reader), Some(input))
}

/// A running container that takes input.
pub(crate) struct Attached {
    input: Input,
    running: Running,
}

impl Driver {
    /// The standard input that a request means; `None` where its container has ended already.
    ///
    /// # Errors
    /// When there is no such pod or container, or it takes no input, or not yet.
    pub(crate) fn stdin(&self, target: &StdinTarget) -> Result<Option<Attached>, Refusal> {
        let StdinTarget {
            namespace,
            pod: name,
            uid,
            container,
            ..
        } = target;
        let cell = self.find(namespace, name, uid)?;
        let state = cell.state.lock();
        let spec = container_of(&state.pod, name, container)?;
        if spec.stdin != Some(true) {
            return Err(Refusal::NotYet(format!(
                "container \"{container}\" in pod \"{name}\" takes no standard input: its spec does not say `stdin: true`"
            )));
        }
        let open = state
            .running
            .get(container)
            .zip(state.inputs.get(container));
        if let Some((instance, input)) = open {
            return Ok(Some(Attached::to(input, &instance.running)));
        }
        let ended = |c: &crate::pod::Container| c.ended.is_some();
        if state.observed.get(container).is_some_and(ended) {
            return Ok(None);
        }
        Err(Refusal::NotYet(format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start"
        )))
    }
}

impl Attached {
    /// One that writes to an instance's input.
    pub(super) fn to(input: &Input, running: &Running) -> Self {
        Self {
            input: input.clone(),
            running: running.clone(),
        }
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.input.writer
    }

    /// Passes chunks on until they end, or the container does.
    pub(crate) async fn pass(&self, chunks: impl Stream<Item = Bytes>) {
        let all = async {
            let mut chunks = std::pin::pin!(chunks);
            while let Some(chunk) = chunks.next().await {
                // A guest that has closed its input does not mind what is not read.
                if self.input.writer.send(chunk).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = all => {}
            _ = self.running.wait() => {}
        }
    }
}

impl Drop for Attached {
    /// However the writer ends, also by a connection that breaks.
    fn drop(&mut self) {
        if self.input.once {
            self.input.writer.close();
        }
    }
}
