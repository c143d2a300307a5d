//! A call to an agent whose requests and responses both are streams.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::Stream;
use tonic::Streaming;
use tracing::debug;

use super::agents::Held;
use super::container::Agent;

/// Such a call, until the agent has ended it.
pub(super) struct Open<R> {
    responses: Streaming<R>,
    agent: Agent,
    /// By what it is broken off.
    call: u64,
    /// Last: what the responses had room for is free when it is given back.
    _held: Held,
}

impl<R> Open<R> {
    pub(super) fn new(responses: Streaming<R>, agent: Agent, call: u64, held: Held) -> Self {
        Self {
            responses,
            agent,
            call,
            _held: held,
        }
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<R, tonic::Status>>> {
        Pin::new(&mut self.responses).poll_next(cx)
    }

    /// The next response; `None` once the agent has ended the call. None is lost where the wait is given up.
    pub(super) async fn message(&mut self) -> Result<Option<R>, tonic::Status> {
        self.responses.message().await
    }

    /// Waits for the call's end, and reads what comes before it: the agent says that it has ended once all that it has sent
    /// is taken.
    pub(super) async fn ended(&mut self) -> Result<(), tonic::Status> {
        while self.message().await?.is_some() {}
        Ok(())
    }

    /// Ends a call that nobody reads any more: where it may come to its own end, after so long. Its place is given back
    /// once the agent has ended it, too.
    pub(super) async fn abandon(mut self, linger: Option<Duration>) {
        if let Some(linger) = linger
            && tokio::time::timeout(linger, self.ended()).await.is_ok()
        {
            return;
        }
        if let Err(error) = self.agent.break_off(self.call).await {
            // Where the agent is gone, so are its calls. Of any other only the answer can be given up.
            debug!(%error, "a call to an agent was not broken off");
            return;
        }
        // The end comes behind what was sent before.
        let _ = self.ended().await;
    }
}
