//! Getting something done by the leader, whoever it is and wherever one asks.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::errors::RaftError;
use tokio::time::Instant;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::Error;
use crate::Member;
use crate::Outcome;
use crate::apply::Proposal;
use crate::codec::Encode;
use crate::copy::Checkpoint;
use crate::members;
use crate::network::Lane;
use crate::network::Peers;
use crate::proto;
use crate::service::Raft;
use crate::transfer;
use crate::types::Peer;

/// How long a write or a barrier is tried again across elections.
pub(crate) const TRY_FOR: Duration = Duration::from_secs(5);
/// How long a change of membership may take, with the new member's catching up.
pub(crate) const TRY_MEMBERSHIP_FOR: Duration = Duration::from_secs(60);
const AGAIN_AFTER: Duration = Duration::from_millis(10);
const AGAIN_AFTER_AT_MOST: Duration = Duration::from_millis(100);

/// What is asked of the leader. It may be asked more than once: each of these is safe to repeat.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Write(Proposal),
    Barrier,
    AddMember(Member),
    RemoveMember(u64),
}

/// The leader's answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Outcome(Outcome),
    /// The log index that a reader must see applied.
    Barrier(u64),
    Done,
}

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever was asked does not lead, or did not answer: ask again.
    Again(String),
    /// Asking again would not help.
    Final(Error),
}

/// Asks leaders.
#[derive(Clone)]
pub(crate) struct Forwarder {
    pub(crate) id: u64,
    pub(crate) raft: Raft,
    pub(crate) peers: Peers,
}

/// Where to turn to, as this member knows at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leader {
    Unknown,
    Here,
    At(SocketAddr),
}

impl Forwarder {
    /// Asks until somebody has answered or `limit` has passed.
    pub(crate) async fn ask(&self, ask: &Ask, limit: Duration) -> Result<Answer, Error> {
        let deadline = Instant::now() + limit;
        let mut again_after = AGAIN_AFTER;
        loop {
            let reason = match tokio::time::timeout_at(deadline, self.attempt(ask)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failure::Final(error))) => return Err(error),
                Ok(Err(Failure::Again(reason))) => reason,
                Err(_) => return Err(unavailable(limit, "no majority answered")),
            };
            if Instant::now() + again_after >= deadline {
                return Err(unavailable(limit, &reason));
            }
            tokio::time::sleep(again_after).await;
            again_after = (again_after * 2).min(AGAIN_AFTER_AT_MOST);
        }
    }

    /// One attempt with whoever leads now; given up when leadership changes under it.
    async fn attempt(&self, ask: &Ask) -> Result<Answer, Failure> {
        let mut metrics = self.raft.server_metrics();
        let (term, leader) = {
            let now = metrics.borrow_and_update();
            (now.vote.leader_id.term, self.leader(&now))
        };
        let changed = async {
            while metrics.changed().await.is_ok() {
                let now = metrics.borrow_and_update();
                if now.vote.leader_id.term != term || self.leader(&now) != leader {
                    return;
                }
            }
            // Raft has stopped; the attempt itself says so.
            std::future::pending().await
        };
        let attempt = async {
            match &leader {
                Leader::Unknown => std::future::pending().await,
                Leader::Here => perform(&self.raft, ask).await,
                Leader::At(address) => self.perform_at(*address, ask).await,
            }
        };
        tokio::select! {
            result = attempt => result,
            () = changed => Err(Failure::Again("the leader changed".to_owned())),
        }
    }

    fn leader(
        &self,
        metrics: &openraft::metrics::RaftServerMetrics<crate::types::TypeConfig>,
    ) -> Leader {
        let Some(leader) = metrics.current_leader else {
            return Leader::Unknown;
        };
        if leader == self.id {
            return Leader::Here;
        }
        let peer = metrics.membership_config.membership().get_node(&leader);
        peer.and_then(|peer: &Peer| peer.address.parse().ok())
            .map_or(Leader::Unknown, Leader::At)
    }

    async fn perform_at(&self, address: SocketAddr, ask: &Ask) -> Result<Answer, Failure> {
        match ask {
            Ask::Write(proposal) => {
                let request = proto::WriteRequest {
                    proposal: proposal.to_vec(),
                };
                let response = self
                    .peers
                    .forward(address, Lane::Data)
                    .write(request)
                    .await
                    .map_err(failure)?;
                let outcome = Outcome::from_slice(&response.into_inner().outcome);
                outcome
                    .map(Answer::Outcome)
                    .map_err(|error| Failure::Again(error.to_string()))
            }
            Ask::Barrier => {
                let request = proto::BarrierRequest {};
                let response = self
                    .peers
                    .forward(address, Lane::Control)
                    .barrier(request)
                    .await
                    .map_err(failure)?;
                Ok(Answer::Barrier(response.into_inner().index))
            }
            Ask::AddMember(member) => {
                let request = proto::AddMemberRequest {
                    id: member.id,
                    name: member.name.clone(),
                    address: member.address.to_string(),
                    voter: member.voter,
                };
                self.peers
                    .forward(address, Lane::Control)
                    .add_member(request)
                    .await
                    .map_err(failure)?;
                Ok(Answer::Done)
            }
            Ask::RemoveMember(id) => {
                let request = proto::RemoveMemberRequest { id: *id };
                self.peers
                    .forward(address, Lane::Control)
                    .remove_member(request)
                    .await
                    .map_err(failure)?;
                Ok(Answer::Done)
            }
        }
    }
}

fn unavailable(limit: Duration, reason: &str) -> Error {
    Error::Unavailable(format!("{reason} (tried for {} s)", limit.as_secs()))
}

/// Does it here, if this member leads.
pub(crate) async fn perform(raft: &Raft, ask: &Ask) -> Result<Answer, Failure> {
    match ask {
        Ask::Write(proposal) => match raft.client_write(proposal.clone()).await {
            Ok(response) => Ok(Answer::Outcome(response.data)),
            Err(error) => Err(write_failure(error)),
        },
        Ask::Barrier => match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(Answer::Barrier(read.log_id().index)),
            Err(RaftError::Fatal(fatal)) => Err(Failure::Final(Error::Stopped(fatal.to_string()))),
            Err(RaftError::APIError(error)) => Err(Failure::Again(error.to_string())),
        },
        Ask::AddMember(member) => members::add(raft, member).await.map(|()| Answer::Done),
        Ask::RemoveMember(id) => members::remove(raft, *id).await.map(|()| Answer::Done),
    }
}

pub(crate) fn write_failure(
    error: RaftError<crate::types::TypeConfig, ClientWriteError<crate::types::TypeConfig>>,
) -> Failure {
    match error {
        RaftError::Fatal(fatal) => Failure::Final(Error::Stopped(fatal.to_string())),
        // A discarded entry may still be committed by another leader: the request's id makes asking again safe.
        RaftError::APIError(
            ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_),
        ) => Failure::Again("the leader changed".to_owned()),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            use openraft::errors::ChangeMembershipError as Change;
            match error {
                Change::InProgress(_) | Change::UncommittedLeaderLog(_) => {
                    Failure::Again(error.to_string())
                }
                _ => Failure::Final(Error::Membership(error.to_string())),
            }
        }
        RaftError::APIError(error @ ClientWriteError::PreconditionFailed(_)) => {
            Failure::Again(error.to_string())
        }
    }
}

fn failure(status: Status) -> Failure {
    match status.code() {
        Code::InvalidArgument => Failure::Final(Error::Invalid(status.message().to_owned())),
        Code::FailedPrecondition => Failure::Final(Error::Membership(status.message().to_owned())),
        _ => Failure::Again(format!(
            "the leader could not be asked: {}",
            status.message()
        )),
    }
}

/// Answers other members.
pub(crate) struct ForwardService {
    pub(crate) raft: Raft,
}

impl ForwardService {
    async fn perform(&self, ask: Ask) -> Result<Answer, Status> {
        let work: Pin<Box<dyn Future<Output = _> + Send + '_>> =
            Box::pin(perform(&self.raft, &ask));
        work.await.map_err(|failure| match failure {
            Failure::Again(reason) => Status::unavailable(reason),
            Failure::Final(error @ Error::Invalid(_)) => {
                Status::invalid_argument(error.to_string())
            }
            Failure::Final(Error::Membership(reason)) => Status::failed_precondition(reason),
            Failure::Final(error) => Status::unavailable(error.to_string()),
        })
    }
}

#[tonic::async_trait]
impl proto::forward_server::Forward for ForwardService {
    type StateStream = Pin<Box<dyn Stream<Item = Result<proto::SnapshotPiece, Status>> + Send>>;

    async fn write(
        &self,
        request: Request<proto::WriteRequest>,
    ) -> Result<Response<proto::WriteResponse>, Status> {
        let proposal = Proposal::from_slice(&request.into_inner().proposal);
        let proposal = proposal.map_err(|error| Status::invalid_argument(error.to_string()))?;
        proposal
            .command
            .validate()
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        match self.perform(Ask::Write(proposal)).await? {
            Answer::Outcome(outcome) => Ok(Response::new(proto::WriteResponse {
                outcome: outcome.to_vec(),
            })),
            other => Err(Status::internal(format!("{other:?}"))),
        }
    }

    async fn barrier(
        &self,
        _: Request<proto::BarrierRequest>,
    ) -> Result<Response<proto::BarrierResponse>, Status> {
        match self.perform(Ask::Barrier).await? {
            Answer::Barrier(index) => Ok(Response::new(proto::BarrierResponse { index })),
            other => Err(Status::internal(format!("{other:?}"))),
        }
    }

    async fn add_member(
        &self,
        request: Request<proto::AddMemberRequest>,
    ) -> Result<Response<proto::MembershipResponse>, Status> {
        let proto::AddMemberRequest {
            id,
            name,
            address,
            voter,
        } = request.into_inner();
        let address = address
            .parse()
            .map_err(|_| Status::invalid_argument(format!("address {address:?}")))?;
        self.perform(Ask::AddMember(Member {
            id,
            name,
            address,
            voter,
        }))
        .await?;
        Ok(Response::new(proto::MembershipResponse {}))
    }

    async fn remove_member(
        &self,
        request: Request<proto::RemoveMemberRequest>,
    ) -> Result<Response<proto::MembershipResponse>, Status> {
        self.perform(Ask::RemoveMember(request.into_inner().id))
            .await?;
        Ok(Response::new(proto::MembershipResponse {}))
    }

    async fn state(
        &self,
        _: Request<proto::StateRequest>,
    ) -> Result<Response<Self::StateStream>, Status> {
        let state = self.raft.with_state_machine(|machine| {
            let current = machine.checkpoint();
            Box::pin(async move { current })
        });
        let checkpoint: Checkpoint = state
            .await
            .map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        Ok(Response::new(Box::pin(
            transfer::pieces(checkpoint, None).map(Ok),
        )))
    }
}
