//! The bytes of everything that goes to disk or to a peer: integers little-endian, lists and strings behind their
//! length. Decoding takes nothing on trust: a length is checked against what is left before anything is allocated.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::Command;
use crate::Entry;
use crate::Op;
use crate::Outcome;
use crate::RequestId;
use crate::When;
use crate::apply::Proposal;
use crate::types::LogEntry;
use crate::types::LogId;
use crate::types::Membership;
use crate::types::Payload;
use crate::types::Peer;
use crate::types::StoredMembership;
use crate::types::Vote;
use crate::types::log_id;

/// The bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(&'static str);

impl Malformed {
    pub(crate) fn new(what: &'static str) -> Self {
        Self(what)
    }
}

impl From<Malformed> for std::io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, malformed)
    }
}

type Result<T> = std::result::Result<T, Malformed>;

/// A value with a form in bytes.
pub(crate) trait Encode: Sized {
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(from: &mut Reader<'_>) -> Result<Self>;

    fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Decodes all of `bytes`.
    fn from_slice(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        if reader.is_empty() {
            Ok(value)
        } else {
            Err(Malformed("end"))
        }
    }
}

/// Reads values off the front of a slice.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        self.take(N, what)?.try_into().map_err(|_| Malformed(what))
    }

    /// A list's length, refused unless that many items of at least `least` bytes can follow.
    fn count(&mut self, least: usize, what: &'static str) -> Result<usize> {
        let count = u32::decode(self)? as usize;
        if count.saturating_mul(least) > self.rest.len() {
            Err(Malformed(what))
        } else {
            Ok(count)
        }
    }
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn decode(from: &mut Reader<'_>) -> Result<Self> {
                Ok(Self::from_le_bytes(from.array(stringify!($type))?))
            }
        }
    )*};
}

integer!(u8, u16, u32, u64, u128);

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        match u8::decode(from)? {
            0 => Ok(None),
            1 => Ok(Some(T::decode(from)?)),
            _ => Err(Malformed("option")),
        }
    }
}

/// Always a copy of its own: a slice of a received message would keep the whole message in memory.
impl Encode for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        put_slice(out, self);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        let len = from.count(1, "bytes")?;
        Ok(Self::copy_from_slice(from.take(len, "bytes")?))
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        put_slice(out, self.as_bytes());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        let len = from.count(1, "string")?;
        let bytes = from.take(len, "string")?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| Malformed("string"))
    }
}

/// A length as the encoding has it. Lengths are bounded far below this wherever they enter.
fn put_len(out: &mut Vec<u8>, len: usize) {
    u32::try_from(len).unwrap_or(u32::MAX).encode(out);
}

fn put_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_list<T: Encode>(out: &mut Vec<u8>, list: &[T]) {
    put_len(out, list.len());
    for item in list {
        item.encode(out);
    }
}

fn list<T: Encode>(from: &mut Reader<'_>, least: usize, what: &'static str) -> Result<Vec<T>> {
    let count = from.count(least, what)?;
    (0..count).map(|_| T::decode(from)).collect()
}

impl Encode for LogId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.leader_id.term.encode(out);
        self.index.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        Ok(log_id(u64::decode(from)?, u64::decode(from)?))
    }
}

impl Encode for Vote {
    fn encode(&self, out: &mut Vec<u8>) {
        self.leader_id.term.encode(out);
        self.leader_id.voted_for.encode(out);
        out.push(u8::from(self.committed));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        let (term, voted_for) = (u64::decode(from)?, u64::decode(from)?);
        match u8::decode(from)? {
            0 => Ok(Self::new(term, voted_for)),
            1 => Ok(Self::new_committed(term, voted_for)),
            _ => Err(Malformed("vote")),
        }
    }
}

impl Encode for Peer {
    fn encode(&self, out: &mut Vec<u8>) {
        self.name.encode(out);
        self.address.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            name: String::decode(from)?,
            address: String::decode(from)?,
        })
    }
}

impl Encode for Membership {
    fn encode(&self, out: &mut Vec<u8>) {
        put_len(out, self.get_joint_config().len());
        for config in self.get_joint_config() {
            put_list(out, &config.iter().copied().collect::<Vec<u64>>());
        }
        put_len(out, self.nodes().count());
        for (id, peer) in self.nodes() {
            id.encode(out);
            peer.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        let configs = from.count(4, "membership")?;
        let configs: Vec<BTreeSet<u64>> = (0..configs)
            .map(|_| Ok(list::<u64>(from, 8, "voters")?.into_iter().collect()))
            .collect::<Result<_>>()?;
        let nodes = from.count(16, "nodes")?;
        let nodes: BTreeMap<u64, Peer> = (0..nodes)
            .map(|_| Ok((u64::decode(from)?, Peer::decode(from)?)))
            .collect::<Result<_>>()?;
        Self::new(configs, nodes).map_err(|_| Malformed("membership"))
    }
}

impl Encode for StoredMembership {
    fn encode(&self, out: &mut Vec<u8>) {
        self.log_id().encode(out);
        // The membership of a member that knows none cannot be made by `Membership::new`.
        let known = (self.membership().nodes().next().is_some()).then(|| self.membership().clone());
        known.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        let log_id = Option::<LogId>::decode(from)?;
        let membership = Option::<Membership>::decode(from)?.unwrap_or_default();
        Ok(Self::new(log_id, membership))
    }
}

impl Encode for When {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Revision { key, is } => {
                out.push(0);
                key.encode(out);
                is.encode(out);
            }
            Self::Unrenewed { id, renewed } => {
                out.push(1);
                id.encode(out);
                renewed.encode(out);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        match u8::decode(from)? {
            0 => Ok(Self::Revision {
                key: Bytes::decode(from)?,
                is: u64::decode(from)?,
            }),
            1 => Ok(Self::Unrenewed {
                id: u64::decode(from)?,
                renewed: u64::decode(from)?,
            }),
            _ => Err(Malformed("condition")),
        }
    }
}

impl Encode for Op {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Put { key, value, lease } => {
                out.push(0);
                key.encode(out);
                value.encode(out);
                lease.encode(out);
            }
            Self::Delete { key } => {
                out.push(1);
                key.encode(out);
            }
            Self::GrantLease { id, ttl_ms } => {
                out.push(2);
                id.encode(out);
                ttl_ms.encode(out);
            }
            Self::KeepAlive { id } => {
                out.push(3);
                id.encode(out);
            }
            Self::RevokeLease { id } => {
                out.push(4);
                id.encode(out);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        match u8::decode(from)? {
            0 => Ok(Self::Put {
                key: Bytes::decode(from)?,
                value: Bytes::decode(from)?,
                lease: Option::decode(from)?,
            }),
            1 => Ok(Self::Delete {
                key: Bytes::decode(from)?,
            }),
            2 => Ok(Self::GrantLease {
                id: u64::decode(from)?,
                ttl_ms: u64::decode(from)?,
            }),
            3 => Ok(Self::KeepAlive {
                id: u64::decode(from)?,
            }),
            4 => Ok(Self::RevokeLease {
                id: u64::decode(from)?,
            }),
            _ => Err(Malformed("operation")),
        }
    }
}

impl Encode for Proposal {
    fn encode(&self, out: &mut Vec<u8>) {
        self.id.0.encode(out);
        self.seen.encode(out);
        put_list(out, &self.command.when);
        put_list(out, &self.command.ops);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        let id = RequestId(u128::decode(from)?);
        let seen = u64::decode(from)?;
        let when = list(from, 13, "conditions")?;
        let ops = list(from, 5, "operations")?;
        Ok(Self {
            id,
            seen,
            command: Arc::new(Command { when, ops }),
        })
    }
}

impl Encode for LogEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.log_id.encode(out);
        match &self.payload {
            Payload::Blank => out.push(0),
            Payload::Normal(proposal) => {
                out.push(1);
                proposal.encode(out);
            }
            Payload::Membership(membership) => {
                out.push(2);
                membership.encode(out);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        let log_id = LogId::decode(from)?;
        let payload = match u8::decode(from)? {
            0 => Payload::Blank,
            1 => Payload::Normal(Proposal::decode(from)?),
            2 => Payload::Membership(Membership::decode(from)?),
            _ => return Err(Malformed("log entry")),
        };
        Ok(Self { log_id, payload })
    }
}

impl Encode for Outcome {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Applied { revision } => {
                out.push(0);
                revision.encode(out);
            }
            Self::Refused { current, revision } => {
                out.push(1);
                put_len(out, current.len());
                for (key, modified) in current {
                    key.encode(out);
                    modified.encode(out);
                }
                revision.encode(out);
            }
            Self::LeaseNotFound { id } => {
                out.push(2);
                id.encode(out);
            }
            Self::TooOld => out.push(3),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        match u8::decode(from)? {
            0 => Ok(Self::Applied {
                revision: u64::decode(from)?,
            }),
            1 => {
                let count = from.count(12, "refusals")?;
                let current = (0..count)
                    .map(|_| Ok((Bytes::decode(from)?, u64::decode(from)?)))
                    .collect::<Result<_>>()?;
                Ok(Self::Refused {
                    current,
                    revision: u64::decode(from)?,
                })
            }
            2 => Ok(Self::LeaseNotFound {
                id: u64::decode(from)?,
            }),
            3 => Ok(Self::TooOld),
            _ => Err(Malformed("outcome")),
        }
    }
}

impl Encode for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.created.encode(out);
        self.modified.encode(out);
        self.lease.encode(out);
        self.value.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        let (created, modified) = (u64::decode(from)?, u64::decode(from)?);
        let lease = Option::decode(from)?;
        Ok(Self {
            value: Bytes::decode(from)?,
            created,
            modified,
            lease,
        })
    }
}

#[cfg(test)]
mod tests;
