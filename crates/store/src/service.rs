//! Raft's calls from other members.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::StreamExt;
use openraft::metrics::RaftMetrics;
use openraft::raft::StreamAppendError;
use openraft::raft::StreamAppendResult;
use openraft::raft::TransferLeaderRequest;
use openraft::storage::Snapshot;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::config::ELECTION_MAX;
use crate::leadership::Pulse;
use crate::machine::Machine;
use crate::newcomer::Newcomer;
use crate::proto;
use crate::proto::append_response::Result as Appended;
use crate::transfer;
use crate::types::SnapshotMeta;
use crate::types::TypeConfig;
use crate::wire;

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;

/// The server side of Raft's calls.
pub(crate) struct RaftService {
    pub(crate) raft: Raft,
    pub(crate) newcomer: Arc<Newcomer>,
    pub(crate) pulse: Arc<Pulse>,
}

#[tonic::async_trait]
impl proto::raft_server::Raft for RaftService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<proto::AppendResponse, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (newcomer, pulse) = (Arc::clone(&self.newcomer), Arc::clone(&self.pulse));
        let requests = futures::stream::unfold(request.into_inner(), move |mut requests| {
            let (newcomer, pulse) = (Arc::clone(&newcomer), Arc::clone(&pulse));
            async move {
                let request = requests
                    .message()
                    .await
                    .transpose()?
                    .and_then(wire::read_append_request);
                match request {
                    Ok(request) => {
                        pulse.call();
                        newcomer.heard(&request.vote, request.prev_log_id, request.leader_commit);
                        Some((request, requests))
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a stream of entries ends");
                        None
                    }
                }
            }
        });
        let answers = self.raft.stream_append(requests);
        let (newcomer, pulse) = (Arc::clone(&self.newcomer), Arc::clone(&self.pulse));
        let answers = answers.then(move |answer| {
            let (newcomer, pulse) = (Arc::clone(&newcomer), Arc::clone(&pulse));
            async move {
                newcomer.stored().await;
                match answer {
                    Ok(result) => {
                        heard(&pulse, &result);
                        Ok(append_response(result))
                    }
                    Err(fatal) => Err(Status::unavailable(fatal.to_string())),
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::AppendRequest>,
    ) -> Result<Response<proto::AppendResponse>, Status> {
        let request = wire::read_append_request(request.into_inner())?;
        self.pulse.call();
        self.newcomer
            .heard(&request.vote, request.prev_log_id, request.leader_commit);
        let previous = request.prev_log_id;
        let last = request
            .entries
            .last()
            .map(|entry| entry.log_id)
            .or(previous);
        let result = self.raft.append_entries(request).await;
        let response = result.map_err(|error| Status::unavailable(error.to_string()))?;
        self.newcomer.stored().await;
        if previous.is_none() && response.is_conflict() {
            return Err(Status::internal("a conflict with nothing before"));
        }
        let result = response.into_stream_result(previous, last);
        heard(&self.pulse, &result);
        Ok(Response::new(append_response(result)))
    }

    async fn vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        let request = request.into_inner();
        let pre_vote = request.pre_vote;
        let request = wire::read_vote_request(request)?;
        if self.newcomer.must_not_vote() {
            return Err(Status::failed_precondition(
                "this member is catching up and does not vote yet",
            ));
        }
        let result = if pre_vote {
            self.raft.pre_vote(request).await
        } else {
            self.raft.vote(request).await
        };
        let response = result.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::vote_response(response)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotPiece>>,
    ) -> Result<Response<proto::SnapshotResponse>, Status> {
        let (vote, checkpoint) = transfer::assemble(request.into_inner()).await?;
        let vote = vote.ok_or_else(|| Status::invalid_argument("no vote"))?;
        self.pulse.call();
        self.newcomer
            .heard(&vote, checkpoint.applied, checkpoint.applied);
        let meta = SnapshotMeta {
            last_log_id: checkpoint.applied,
            last_membership: checkpoint.membership,
        };
        let snapshot = Snapshot {
            meta,
            snapshot: Arc::new(checkpoint.state),
        };
        let result = self.raft.install_full_snapshot(vote, snapshot).await;
        let response = result.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        self.newcomer.stored().await;
        Ok(Response::new(proto::SnapshotResponse {
            vote: Some(wire::vote(response.vote)),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferResponse>, Status> {
        let request = request.into_inner();
        let from = wire::read_vote(request.from)?;
        let term = from.leader_id.term;
        let request =
            TransferLeaderRequest::new(from, request.to, request.last.map(wire::read_log_id));
        let to = *request.to_node_id();
        let result = self.raft.handle_transfer_leader(request).await;
        let result = result.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        let mut accepted = result.is_ok();
        if accepted && to == *self.raft.node_id() {
            // A member that ends may stop between standing for election and being elected: only one that is has taken over.
            let elected = |metrics: &RaftMetrics<TypeConfig>| {
                metrics.current_term > term && metrics.current_leader.is_some()
            };
            let wait = self.raft.wait(Some(ELECTION_MAX));
            accepted = wait.metrics(elected, "elected").await.is_ok();
        }
        Ok(Response::new(proto::TransferResponse { accepted }))
    }
}

/// Whoever was deposed is no leader that was heard: its followers' clocks must not stand still for it.
fn heard(pulse: &Pulse, result: &StreamAppendResult<TypeConfig>) {
    if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
        pulse.beat();
    }
}

fn append_response(result: StreamAppendResult<TypeConfig>) -> proto::AppendResponse {
    let (result, log_id, vote) = match result {
        Ok(log_id) => (Appended::Stored, log_id, None),
        Err(StreamAppendError::Conflict(at)) => (Appended::Conflict, Some(at), None),
        Err(StreamAppendError::HigherVote(vote)) => (Appended::HigherVote, None, Some(vote)),
    };
    proto::AppendResponse {
        result: result.into(),
        log_id: log_id.map(wire::log_id),
        vote: vote.map(wire::vote),
    }
}
