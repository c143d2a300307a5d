//! The records of the copy and their names.
//!
//! A value is cut into pieces of a few KiB, because sled moves larger ones into files that it never syncs.

use sled::Batch;

use crate::Lease;
use crate::codec::Encode;
use crate::codec::Malformed;
use crate::codec::Reader;
use crate::types::LogId;
use crate::types::StoredMembership;

/// The longest piece of a value: sixteen of them and their keys stay well below what sled keeps inline in a page.
pub(super) const PIECE: usize = 4 << 10;

pub(super) mod kind {
    pub(in crate::copy) const META: u8 = b'm';
    pub(in crate::copy) const ENTRY: u8 = b'e';
    pub(in crate::copy) const LEASE: u8 = b'l';
    pub(in crate::copy) const ANSWERS: u8 = b'a';
}

pub(super) struct Meta {
    pub(super) applied: Option<LogId>,
    pub(super) membership: StoredMembership,
    pub(super) revision: u64,
    pub(super) renewals: u64,
    /// Over all entries: what was lost without sled noticing is noticed here.
    pub(super) fingerprint: u64,
}

impl Encode for Meta {
    fn encode(&self, out: &mut Vec<u8>) {
        self.applied.encode(out);
        self.membership.encode(out);
        self.revision.encode(out);
        self.renewals.encode(out);
        self.fingerprint.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            applied: Option::decode(from)?,
            membership: StoredMembership::decode(from)?,
            revision: u64::decode(from)?,
            renewals: u64::decode(from)?,
            fingerprint: u64::decode(from)?,
        })
    }
}

pub(super) fn lease_bytes(lease: &Lease) -> Vec<u8> {
    let mut out = lease.ttl_ms.to_vec();
    lease.renewed.encode(&mut out);
    out
}

fn pieces(bytes: usize) -> usize {
    bytes.div_ceil(PIECE).max(1)
}

/// The length comes first, so that the pieces of one record lie side by side.
pub(super) fn name(kind: u8, key: &[u8], piece: usize) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len() + 7);
    name.push(kind);
    name.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
    name.extend_from_slice(key);
    name.extend_from_slice(&u32::try_from(piece).unwrap_or(u32::MAX).to_be_bytes());
    name
}

/// Writes a record in pieces, and removes the pieces behind them that a record of `old` bytes had.
pub(super) fn put(batch: &mut Batch, kind: u8, key: &[u8], record: &[u8], old: usize) {
    let count = pieces(record.len());
    for piece in 0..count {
        let from = piece * PIECE;
        let to = record.len().min(from + PIECE);
        batch.insert(name(kind, key, piece), &record[from..to]);
    }
    for piece in count..pieces(old) {
        batch.remove(name(kind, key, piece));
    }
}

pub(super) fn remove(batch: &mut Batch, kind: u8, key: &[u8], old: usize) {
    for piece in 0..pieces(old) {
        batch.remove(name(kind, key, piece));
    }
}

/// An entry's share of the fingerprint, which is the wrapping sum of all.
pub(super) fn fingerprint(key: &[u8], record: &[u8]) -> u64 {
    let (key, record) = (crc32fast::hash(key), crc32fast::hash(record));
    (u64::from(key) << 32 | u64::from(record)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
