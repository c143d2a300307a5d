//! Between the messages of the protocol and Raft's types.

use tonic::Status;

use crate::codec::Encode;
use crate::proto;
use crate::types;
use crate::types::LogEntry;
use crate::types::TypeConfig;

type AppendEntriesRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;

/// The most bytes of one message in either direction: the largest command, or as many entries as one request takes,
/// with room for their ids.
pub(crate) const MAX_MESSAGE_BYTES: usize = 12 << 20;

impl From<types::LogId> for proto::LogId {
    fn from(log_id: types::LogId) -> Self {
        Self { term: log_id.leader_id.term, index: log_id.index }
    }
}

impl From<proto::LogId> for types::LogId {
    fn from(log_id: proto::LogId) -> Self {
        types::log_id(log_id.term, log_id.index)
    }
}

impl From<types::Vote> for proto::Vote {
    fn from(vote: types::Vote) -> Self {
        Self { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<proto::Vote> for types::Vote {
    fn from(vote: proto::Vote) -> Self {
        if vote.committed {
            Self::new_committed(vote.term, vote.voted_for)
        } else {
            Self::new(vote.term, vote.voted_for)
        }
    }
}

/// Reads a vote that must be there.
pub(crate) fn vote(vote: Option<proto::Vote>) -> Result<types::Vote, Status> {
    vote.map(types::Vote::from).ok_or_else(|| Status::invalid_argument("no vote"))
}

pub(crate) fn append_request(request: AppendEntriesRequest) -> proto::AppendRequest {
    proto::AppendRequest {
        vote: Some(request.vote.into()),
        previous: request.prev_log_id.map(Into::into),
        committed: request.leader_commit.map(Into::into),
        entries: request.entries.iter().map(Encode::to_vec).collect(),
    }
}

pub(crate) fn read_append_request(request: proto::AppendRequest) -> Result<AppendEntriesRequest, Status> {
    let entries: Result<Vec<_>, _> = request.entries.iter().map(|entry| LogEntry::from_slice(entry)).collect();
    Ok(AppendEntriesRequest {
        vote: vote(request.vote)?,
        prev_log_id: request.previous.map(Into::into),
        leader_commit: request.committed.map(Into::into),
        entries: entries.map_err(|error| Status::invalid_argument(error.to_string()))?,
    })
}

pub(crate) fn vote_request(request: &VoteRequest, pre_vote: bool) -> proto::VoteRequest {
    proto::VoteRequest {
        vote: Some(request.vote.into()),
        last: request.last_log_id.map(Into::into),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub(crate) fn read_vote_request(request: proto::VoteRequest) -> Result<VoteRequest, Status> {
    let mut read = VoteRequest::new(vote(request.vote)?, request.last.map(Into::into));
    read.leadership_transfer = request.leadership_transfer;
    Ok(read)
}

pub(crate) fn vote_response(response: VoteResponse) -> proto::VoteResponse {
    proto::VoteResponse {
        vote: Some(response.vote.into()),
        granted: response.vote_granted,
        last: response.last_log_id.map(Into::into),
    }
}

pub(crate) fn read_vote_response(response: proto::VoteResponse) -> Result<VoteResponse, Status> {
    Ok(VoteResponse::new(vote(response.vote)?, response.last.map(Into::into), response.granted))
}
