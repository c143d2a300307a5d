//! A state on its way to another member: a header, then its records in pieces of bounded size.

use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::StreamExt;
use tonic::Status;

use crate::Entry;
use crate::Lease;
use crate::Outcome;
use crate::RequestId;
use crate::State;
use crate::codec::Encode;
use crate::codec::Malformed;
use crate::codec::Reader;
use crate::copy::Checkpoint;
use crate::proto::SnapshotHeader;
use crate::proto::SnapshotPiece;
use crate::types::StoredMembership;
use crate::types::Vote;
use crate::wire;

/// A piece is closed when it reaches this size.
const PIECE_BYTES: usize = 1 << 20;

enum Record {
    Entry(Bytes, Entry),
    Lease(u64, Lease),
    Answer(u64, RequestId, Outcome),
}

impl Encode for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry(key, entry) => {
                out.push(0);
                key.encode(out);
                entry.encode(out);
            }
            Self::Lease(id, lease) => {
                out.push(1);
                id.encode(out);
                lease.ttl_ms.encode(out);
                lease.renewed.encode(out);
            }
            Self::Answer(index, id, outcome) => {
                out.push(2);
                index.encode(out);
                id.0.encode(out);
                outcome.encode(out);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::decode(from)? {
            0 => Ok(Self::Entry(Bytes::decode(from)?, Entry::decode(from)?)),
            1 => {
                let (id, ttl_ms, renewed) =
                    (u64::decode(from)?, u64::decode(from)?, u64::decode(from)?);
                Ok(Self::Lease(id, Lease { ttl_ms, renewed }))
            }
            2 => Ok(Self::Answer(
                u64::decode(from)?,
                RequestId(u128::decode(from)?),
                Outcome::decode(from)?,
            )),
            _ => Err(Malformed::new("record of a snapshot")),
        }
    }
}

/// Cuts a checkpoint into pieces, as they are asked for.
pub(crate) fn pieces(
    checkpoint: Checkpoint,
    vote: Option<Vote>,
) -> impl Stream<Item = SnapshotPiece> + Send {
    let Checkpoint {
        state,
        applied,
        membership,
    } = checkpoint;
    let header = SnapshotHeader {
        vote: vote.map(wire::vote),
        last: applied.map(wire::log_id),
        membership: membership.to_vec(),
        revision: state.revision,
        renewals: state.renewals,
    };
    let first = SnapshotPiece {
        header: Some(header),
        records: Vec::new(),
        total: None,
    };
    let answers: Vec<_> = state
        .answers
        .after(None)
        .map(|(at, id, outcome)| (at, id, outcome.clone()))
        .collect();
    let entries = state
        .entries
        .into_iter()
        .map(|(key, entry)| Record::Entry(key, entry));
    let leases = state
        .leases
        .into_iter()
        .map(|(id, lease)| Record::Lease(id, lease));
    let answers = answers
        .into_iter()
        .map(|(index, id, outcome)| Record::Answer(index, id, outcome));
    let mut records = entries.chain(leases).chain(answers);
    let mut total = 0;
    let mut done = false;
    let rest = std::iter::from_fn(move || {
        if done {
            return None;
        }
        let mut piece = SnapshotPiece::default();
        let mut bytes = 0;
        while bytes < PIECE_BYTES {
            let Some(record) = records.next() else {
                done = true;
                piece.total = Some(total);
                break;
            };
            let record = record.to_vec();
            bytes += record.len();
            total += 1;
            piece.records.push(record);
        }
        Some(piece)
    });
    futures::stream::iter(std::iter::once(first).chain(rest))
}

/// Puts the pieces together again.
pub(crate) async fn assemble<S>(pieces: S) -> Result<(Option<Vote>, Checkpoint), Status>
where
    S: Stream<Item = Result<SnapshotPiece, Status>>,
{
    let malformed = |error: Malformed| Status::invalid_argument(error.to_string());
    let mut pieces = std::pin::pin!(pieces);
    let header = pieces
        .next()
        .await
        .transpose()?
        .and_then(|piece| piece.header);
    let header = header.ok_or_else(|| Status::invalid_argument("a snapshot without header"))?;
    let mut state = State {
        revision: header.revision,
        renewals: header.renewals,
        ..State::default()
    };
    let mut count = 0;
    let mut complete = false;
    while let Some(piece) = pieces.next().await.transpose()? {
        for record in piece.records {
            count += 1;
            match Record::from_slice(&record).map_err(malformed)? {
                Record::Entry(key, entry) => state.restore(key, entry),
                Record::Lease(id, lease) => drop(state.leases.insert(id, lease)),
                Record::Answer(index, id, outcome) => state.answers.insert(index, id, outcome),
            }
        }
        complete |= piece.total == Some(count);
    }
    if !complete {
        return Err(Status::data_loss("the snapshot was cut off"));
    }
    state.compacted = state.revision;
    let membership = StoredMembership::from_slice(&header.membership).map_err(malformed)?;
    let applied = header.last.map(wire::read_log_id);
    let vote = header
        .vote
        .map(|vote| wire::read_vote(Some(vote)))
        .transpose()?;
    Ok((
        vote,
        Checkpoint {
            state,
            applied,
            membership,
        },
    ))
}

/// The checkpoint of a snapshot as openraft hands it out.
pub(crate) fn checkpoint(meta: &crate::types::SnapshotMeta, state: &Arc<State>) -> Checkpoint {
    Checkpoint {
        state: State::clone(state),
        applied: meta.last_log_id,
        membership: meta.last_membership.clone(),
    }
}
