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

pub(crate) fn log_id(log_id: types::LogId) -> proto::LogId {
    proto::LogId {
        term: log_id.leader_id.term,
        index: log_id.index,
    }
}

pub(crate) fn read_log_id(log_id: proto::LogId) -> types::LogId {
    types::log_id(log_id.term, log_id.index)
}

pub(crate) fn vote(vote: types::Vote) -> proto::Vote {
    proto::Vote {
        term: vote.leader_id.term,
        voted_for: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

/// Reads a vote that must be there.
pub(crate) fn read_vote(vote: Option<proto::Vote>) -> Result<types::Vote, Status> {
    let vote = vote.ok_or_else(|| Status::invalid_argument("no vote"))?;
    Ok(if vote.committed {
        types::Vote::new_committed(vote.term, vote.voted_for)
    } else {
        types::Vote::new(vote.term, vote.voted_for)
    })
}

pub(crate) fn append_request(request: AppendEntriesRequest) -> proto::AppendRequest {
    proto::AppendRequest {
        vote: Some(vote(request.vote)),
        previous: request.prev_log_id.map(log_id),
        committed: request.leader_commit.map(log_id),
        entries: request.entries.iter().map(Encode::to_vec).collect(),
    }
}

pub(crate) fn read_append_request(
    request: proto::AppendRequest,
) -> Result<AppendEntriesRequest, Status> {
    let entries: Result<Vec<_>, _> = request
        .entries
        .iter()
        .map(|entry| LogEntry::from_slice(entry))
        .collect();
    Ok(AppendEntriesRequest {
        vote: read_vote(request.vote)?,
        prev_log_id: request.previous.map(read_log_id),
        leader_commit: request.committed.map(read_log_id),
        entries: entries.map_err(|error| Status::invalid_argument(error.to_string()))?,
    })
}

pub(crate) fn vote_request(request: &VoteRequest, pre_vote: bool) -> proto::VoteRequest {
    proto::VoteRequest {
        vote: Some(vote(request.vote)),
        last: request.last_log_id.map(log_id),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub(crate) fn read_vote_request(request: proto::VoteRequest) -> Result<VoteRequest, Status> {
    let mut read = VoteRequest::new(read_vote(request.vote)?, request.last.map(read_log_id));
    read.leadership_transfer = request.leadership_transfer;
    Ok(read)
}

pub(crate) fn vote_response(response: VoteResponse) -> proto::VoteResponse {
    proto::VoteResponse {
        vote: Some(vote(response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(log_id),
    }
}

pub(crate) fn read_vote_response(response: proto::VoteResponse) -> Result<VoteResponse, Status> {
    Ok(VoteResponse::new(
        read_vote(response.vote)?,
        response.last.map(read_log_id),
        response.granted,
    ))
}
