//! What the log's files say after a stop or a crash.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::Slot;
use super::frame;
use super::frame::Head;
use super::frame::Record;
use super::segment;
use crate::Error;
use crate::types::LogId;
use crate::types::Vote;
use crate::types::log_id;

/// The log as found on disk.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// The index of the first slot.
    pub(super) first: u64,
    pub(super) slots: VecDeque<Slot>,
    /// The segments and the highest entry index in each.
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Where the last segment's frames end; meaningless without segments.
    pub(super) end: u64,
    /// A segment that was prepared and not used yet.
    pub(super) spare: Option<(u64, File)>,
}

pub(super) struct Segment {
    pub(super) file: Arc<File>,
    pub(super) bytes: u64,
    pub(super) last_index: u64,
}

/// Reads all segments in order. Clears a torn tail behind the last synced frame; refuses a damaged middle.
pub(super) fn recover(dir: &Path) -> Result<Recovered, Error> {
    let mut found = Recovered::default();
    let numbers = segment::list(dir)?;
    let mut expected: Option<u64> = None;
    for (at, &number) in numbers.iter().enumerate() {
        let path = segment::path(dir, number);
        if expected.is_some_and(|expected| expected != number) {
            let missing = segment::path(dir, expected.unwrap_or_default());
            return Err(Error::damaged(
                missing,
                "this segment of the log is missing, later ones are there; restore it, or empty this member's directory and let it join anew",
            ));
        }
        expected = Some(number + 1);
        let file = segment::open(dir, number).map_err(|error| Error::io(&path, error))?;
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
        let last = at + 1 == numbers.len();
        if frame::read(&bytes, number, 0).is_none()
            && last
            && !frame::durable_behind(&bytes, number, 0)
        {
            // Prepared and never used, or its first write was torn: nothing in it was ever acknowledged.
            segment::clear_tail(&file, &bytes, 0).map_err(|error| Error::io(&path, error))?;
            found.spare = (bytes.len() as u64 == segment::SEGMENT_BYTES).then_some((number, file));
            continue;
        }
        found.end = replay(&mut found, &path, number, &bytes, at == 0)?;
        if last_used(&numbers, at, dir)? {
            segment::clear_tail(&file, &bytes, found.end as usize)
                .map_err(|error| Error::io(&path, error))?;
        }
        let last_index = (found.first + found.slots.len() as u64).saturating_sub(1);
        let entry = Segment {
            file: Arc::new(file),
            bytes: bytes.len() as u64,
            last_index,
        };
        found.segments.insert(number, entry);
    }
    finish(found, dir)
}

/// Whether no segment behind `numbers[at]` has been written to.
fn last_used(numbers: &[u64], at: usize, dir: &Path) -> Result<bool, Error> {
    let Some(&next) = numbers.get(at + 1) else {
        return Ok(true);
    };
    let path = segment::path(dir, next);
    let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
    Ok(frame::read(&bytes, next, 0).is_none() && !frame::durable_behind(&bytes, next, 0))
}

/// Replays one segment and returns where its frames end.
fn replay(
    found: &mut Recovered,
    path: &Path,
    number: u64,
    bytes: &[u8],
    oldest: bool,
) -> Result<u64, Error> {
    let mut position = 0;
    while let Some((records, next)) = frame::read(bytes, number, position) {
        for record in records {
            found.take(record, path, number, position == 0 && !oldest)?;
        }
        position = next;
    }
    if frame::durable_behind(bytes, number, position) {
        let reason = format!(
            "unreadable at byte {position}, though synced writes follow; restore the file, or empty this member's directory and let it join anew"
        );
        return Err(Error::damaged(path, reason));
    }
    Ok(position as u64)
}

impl Recovered {
    fn take(
        &mut self,
        record: Record,
        path: &Path,
        number: u64,
        continues: bool,
    ) -> Result<(), Error> {
        match record {
            Record::Head(Head {
                previous_end,
                vote,
                committed,
                purged,
            }) => {
                if continues && previous_end != self.end {
                    let reason = format!(
                        "the segment before ends at byte {}, it had {previous_end}; restore it, or empty this member's directory and let it join anew",
                        self.end
                    );
                    return Err(Error::damaged(path, reason));
                }
                (self.vote, self.committed) = (vote, committed);
                self.purge(purged);
            }
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Committed(log_id) => self.committed = Some(log_id),
            Record::Entry {
                log_id,
                offset,
                len,
            } => {
                if self.slots.is_empty() {
                    self.first = log_id.index;
                }
                let next = self.first + self.slots.len() as u64;
                if log_id.index != next {
                    let reason = format!("entry {} where entry {next} belongs", log_id.index);
                    return Err(Error::damaged(path, reason));
                }
                self.slots.push_back(Slot {
                    term: log_id.leader_id.term,
                    serial: 0,
                    segment: number,
                    offset: offset as u64,
                    len,
                });
            }
            Record::Truncate(next) => self
                .slots
                .truncate(next.saturating_sub(self.first) as usize),
            Record::Purge(log_id) => self.purge(Some(log_id)),
        }
        Ok(())
    }

    fn purge(&mut self, purged: Option<LogId>) {
        let Some(purged) = purged else {
            return;
        };
        while !self.slots.is_empty() && self.first <= purged.index {
            self.slots.pop_front();
            self.first += 1;
        }
        if self.slots.is_empty() {
            self.first = purged.index + 1;
        }
        self.purged = Some(purged);
    }
}

fn finish(mut found: Recovered, dir: &Path) -> Result<Recovered, Error> {
    let begins = found.purged.map_or(0, |purged| purged.index + 1);
    if !found.slots.is_empty() && found.first != begins {
        let reason = format!(
            "the log begins at entry {}, it should begin at {begins}: segments are missing; restore them, or empty this member's directory and let it join anew",
            found.first
        );
        return Err(Error::damaged(dir, reason));
    }
    // What is committed is noted when it is known, which may be before the last entries of it are on this disk.
    let last = match found.slots.back() {
        Some(slot) => Some(log_id(
            slot.term,
            found.first + found.slots.len() as u64 - 1,
        )),
        None => found.purged,
    };
    found.committed = found.committed.min(last);
    Ok(found)
}
