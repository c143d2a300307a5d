//! The form of the log's files.
//!
//! A segment is a preallocated file of zeros into which frames are written one behind the other, each at a multiple
//! of [`ALIGN`] so that no sector with synced bytes is ever written again. A frame is what was written before one
//! `fdatasync`: a header and records, each with its CRC. A frame's header says up to where its segment was durable
//! when it was written; that tells a torn tail (nothing durable behind it) from a damaged middle.

use crate::codec::Encode;
use crate::codec::Malformed;
use crate::codec::Reader;
use crate::types::LogId;
use crate::types::Vote;

pub(super) const ALIGN: usize = 512;
const MAGIC: u32 = 0x6c62_6f72;
const HEADER: usize = 32;
const RECORD_HEADER: usize = 9;

/// The first record of every segment: with it the segments before are needed for their entries only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Where the segment before ended.
    pub(super) previous_end: u64,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
}

impl Encode for Head {
    fn encode(&self, out: &mut Vec<u8>) {
        self.previous_end.encode(out);
        self.vote.encode(out);
        self.committed.encode(out);
        self.purged.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            previous_end: u64::decode(from)?,
            vote: Option::decode(from)?,
            committed: Option::decode(from)?,
            purged: Option::decode(from)?,
        })
    }
}

/// What a record says.
#[derive(Debug)]
pub(super) enum Record {
    Head(Head),
    Vote(Vote),
    Committed(LogId),
    /// The entry's id and where its bytes lie in the segment.
    Entry {
        log_id: LogId,
        offset: usize,
        len: usize,
    },
    /// Only entries below this index remain.
    Truncate(u64),
    Purge(LogId),
}

mod kind {
    pub(super) const HEAD: u8 = 1;
    pub(super) const VOTE: u8 = 2;
    pub(super) const COMMITTED: u8 = 3;
    pub(super) const ENTRY: u8 = 4;
    pub(super) const TRUNCATE: u8 = 5;
    pub(super) const PURGE: u8 = 6;
}

/// A frame in the making.
pub(super) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; HEADER],
        }
    }

    pub(super) fn head(&mut self, head: &Head) {
        self.record(kind::HEAD, head);
    }

    pub(super) fn vote(&mut self, vote: &Vote) {
        self.record(kind::VOTE, vote);
    }

    pub(super) fn committed(&mut self, log_id: &LogId) {
        self.record(kind::COMMITTED, log_id);
    }

    pub(super) fn truncate(&mut self, next: u64) {
        self.record(kind::TRUNCATE, &next);
    }

    pub(super) fn purge(&mut self, log_id: &LogId) {
        self.record(kind::PURGE, log_id);
    }

    /// Adds an entry and returns where its bytes begin within the frame, and how many they are.
    pub(super) fn entry(&mut self, entry: &impl Encode) -> (usize, usize) {
        self.record(kind::ENTRY, entry)
    }

    fn record(&mut self, kind: u8, value: &impl Encode) -> (usize, usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_HEADER - 1]);
        self.bytes.push(kind);
        value.encode(&mut self.bytes);
        let len = self.bytes.len() - start - RECORD_HEADER;
        let crc = crc32fast::hash(&self.bytes[start + RECORD_HEADER - 1..]);
        put_u32(&mut self.bytes, start, len);
        self.bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        (start + RECORD_HEADER, len)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    /// Completes the header and pads to the alignment. `durable`: the segment's length that is synced already.
    pub(super) fn finish(mut self, segment: u64, durable: u64) -> Vec<u8> {
        let payload = self.bytes.len() - HEADER;
        self.bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        put_u32(&mut self.bytes, 8, payload);
        self.bytes[16..24].copy_from_slice(&durable.to_le_bytes());
        self.bytes[24..32].copy_from_slice(&segment.to_le_bytes());
        let crc = crc32fast::hash(&self.bytes[8..HEADER]);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self.bytes
            .resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        self.bytes
    }
}

fn put_u32(bytes: &mut [u8], at: usize, value: usize) {
    // Commands are bounded to a few MiB and a frame to a few more: this never saturates.
    bytes[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
}

struct Header {
    payload: usize,
    durable: u64,
}

fn header(segment: &[u8], number: u64, at: usize) -> Option<Header> {
    let bytes = segment.get(at..at.checked_add(HEADER)?)?;
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let long = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    let good = word(0)? == MAGIC && word(4)? == crc32fast::hash(&bytes[8..]) && long(24)? == number;
    good.then_some(Header {
        payload: word(8)? as usize,
        durable: long(16)?,
    })
}

/// The records of the frame at `at` and where the next frame would begin; `None` if no whole frame is there.
pub(super) fn read(segment: &[u8], number: u64, at: usize) -> Option<(Vec<Record>, usize)> {
    let header = header(segment, number, at)?;
    let start = at + HEADER;
    let end = start.checked_add(header.payload)?;
    let mut records = Vec::new();
    let mut position = start;
    while position < end {
        let (record, next) = record(segment.get(..end)?, position)?;
        records.push(record);
        position = next;
    }
    Some((records, end.next_multiple_of(ALIGN)))
}

fn record(frame: &[u8], at: usize) -> Option<(Record, usize)> {
    let fields = frame.get(at..at.checked_add(RECORD_HEADER)?)?;
    let len = u32::from_le_bytes(fields[0..4].try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(fields[4..8].try_into().ok()?);
    let offset = at + RECORD_HEADER;
    let end = offset.checked_add(len)?;
    let body = frame.get(offset..end)?;
    if crc32fast::hash(&frame[offset - 1..end]) != crc {
        return None;
    }
    let record = match fields[8] {
        kind::HEAD => Record::Head(Head::from_slice(body).ok()?),
        kind::VOTE => Record::Vote(Vote::from_slice(body).ok()?),
        kind::COMMITTED => Record::Committed(LogId::from_slice(body).ok()?),
        kind::ENTRY => Record::Entry {
            log_id: LogId::decode(&mut Reader::new(body)).ok()?,
            offset,
            len,
        },
        kind::TRUNCATE => Record::Truncate(u64::from_slice(body).ok()?),
        kind::PURGE => Record::Purge(LogId::from_slice(body).ok()?),
        _ => return None,
    };
    Some((record, end))
}

/// Whether a frame behind `at` proves that what lay at `at` was durable: then it is damage and no torn tail.
pub(super) fn durable_behind(segment: &[u8], number: u64, at: usize) -> bool {
    (at.next_multiple_of(ALIGN)..segment.len())
        .step_by(ALIGN)
        .filter_map(|position| header(segment, number, position))
        .any(|header| header.durable > at as u64)
}
