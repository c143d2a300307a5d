//! The decider: what a command does to the state. It reads no clock, does no I/O and draws no lots, so that
//! every member comes to the same state. Conditions are judged here and nowhere else.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::Command;
use crate::Entry;
use crate::Event;
use crate::EventKind;
use crate::Lease;
use crate::Op;
use crate::RequestId;
use crate::Revision;
use crate::State;
use crate::When;
use crate::answers::WINDOW;

/// A command on its way through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) id: RequestId,
    /// The log index that the author had seen applied when it made this proposal.
    pub(crate) seen: u64,
    pub(crate) command: Arc<Command>,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x} ({} ops)", self.id.0, self.command.ops.len())
    }
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; as [`Written::Applied`](crate::Written::Applied).
    Applied {
        /// The revision of the command.
        revision: Revision,
    },
    /// Not done; as [`Written::Refused`](crate::Written::Refused).
    Refused {
        /// The keys whose condition did not hold and the modification revision they have.
        current: Vec<(Bytes, Revision)>,
        /// The revision at which this was judged.
        revision: Revision,
    },
    /// Not done: an operation names a lease that does not exist.
    LeaseNotFound {
        /// The lease.
        id: u64,
    },
    /// Not judged: the proposal is so old that its answer may have been forgotten.
    TooOld,
}

/// What applying a command came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The answer for whoever sent the command.
    pub outcome: Outcome,
    /// The changes, for the watchers; empty unless keys changed.
    pub events: Vec<Event>,
}

impl Applied {
    fn unchanged(outcome: Outcome) -> Self {
        Self {
            outcome,
            events: Vec::new(),
        }
    }
}

/// Applies the proposal of log entry `index`, unless its id was already answered: then the same answer is given again.
pub(crate) fn apply_once(state: &mut State, index: u64, proposal: &Proposal) -> Applied {
    if let Some(outcome) = state.answers.get(proposal.id) {
        return Applied::unchanged(outcome.clone());
    }
    if index >= proposal.seen.saturating_add(WINDOW) {
        return Applied::unchanged(Outcome::TooOld);
    }
    let applied = apply(state, state.revision + 1, &proposal.command);
    state
        .answers
        .insert(index, proposal.id, applied.outcome.clone());
    applied
}

/// Applies `command` as `revision`. The revision is consumed only if a key changes.
pub fn apply(state: &mut State, revision: Revision, command: &Command) -> Applied {
    if let Some(current) = refusal(state, &command.when) {
        return Applied::unchanged(Outcome::Refused {
            current,
            revision: state.revision,
        });
    }
    if let Some(id) = missing_lease(state, &command.ops) {
        return Applied::unchanged(Outcome::LeaseNotFound { id });
    }
    let mut change = Change {
        state,
        revision,
        events: Vec::new(),
    };
    for op in &command.ops {
        change.perform(op);
    }
    let events = change.events;
    if !events.is_empty() {
        state.revision = revision;
    }
    Applied {
        outcome: Outcome::Applied {
            revision: state.revision,
        },
        events,
    }
}

/// The keys whose condition fails, or `None` if all conditions hold.
fn refusal(state: &State, when: &[When]) -> Option<Vec<(Bytes, Revision)>> {
    let mut failed = false;
    let mut current = Vec::new();
    for when in when {
        match when {
            When::Revision { key, is } => {
                let modified = state.get(key).map_or(0, |entry| entry.modified);
                if modified != *is {
                    failed = true;
                    current.push((key.clone(), modified));
                }
            }
            When::Unrenewed { id, renewed } => {
                failed |= state
                    .lease(*id)
                    .is_none_or(|lease| lease.renewed != *renewed);
            }
        }
    }
    failed.then_some(current)
}

/// The first lease that an operation needs and that neither exists nor is granted earlier in the same command.
fn missing_lease(state: &State, ops: &[Op]) -> Option<u64> {
    let mut granted = Vec::new();
    let mut revoked = Vec::new();
    for op in ops {
        let needed = match op {
            Op::GrantLease { id, .. } => {
                granted.push(*id);
                revoked.retain(|other| other != id);
                continue;
            }
            Op::RevokeLease { id } => {
                revoked.push(*id);
                granted.retain(|other| other != id);
                continue;
            }
            Op::Put {
                lease: Some(id), ..
            }
            | Op::KeepAlive { id } => *id,
            Op::Put { lease: None, .. } | Op::Delete { .. } => continue,
        };
        let exists = granted.contains(&needed)
            || (state.leases.contains_key(&needed) && !revoked.contains(&needed));
        if !exists {
            return Some(needed);
        }
    }
    None
}

/// The operations of one command under way.
struct Change<'a> {
    state: &'a mut State,
    revision: Revision,
    events: Vec<Event>,
}

impl Change<'_> {
    fn perform(&mut self, op: &Op) {
        match op {
            Op::Put { key, value, lease } => self.put(key, value, *lease),
            Op::Delete { key } => self.delete(key),
            Op::GrantLease { id, ttl_ms } => self.renew(*id, *ttl_ms),
            Op::KeepAlive { id } => {
                if let Some(ttl_ms) = self.state.lease(*id).map(|lease| lease.ttl_ms) {
                    self.renew(*id, ttl_ms);
                }
            }
            Op::RevokeLease { id } => self.revoke(*id),
        }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: Option<u64>) {
        let previous = self.state.get(key).cloned();
        let created = previous
            .as_ref()
            .map_or(self.revision, |entry| entry.created);
        let entry = Entry {
            value: value.clone(),
            created,
            modified: self.revision,
            lease,
        };
        self.unlease(key, previous.as_ref());
        if let Some(lease) = lease {
            self.state.leased.insert((lease, key.clone()));
        }
        self.state.entries.insert(key.clone(), entry);
        let kind = EventKind::Put {
            value: value.clone(),
            created,
        };
        self.events.push(Event {
            revision: self.revision,
            key: key.clone(),
            kind,
            previous,
        });
    }

    fn delete(&mut self, key: &Bytes) {
        let Some(previous) = self.state.entries.remove(key) else {
            return;
        };
        self.unlease(key, Some(&previous));
        let previous = Some(previous);
        self.events.push(Event {
            revision: self.revision,
            key: key.clone(),
            kind: EventKind::Delete,
            previous,
        });
    }

    fn unlease(&mut self, key: &Bytes, entry: Option<&Entry>) {
        if let Some(lease) = entry.and_then(|entry| entry.lease) {
            self.state.leased.remove(&(lease, key.clone()));
        }
    }

    fn renew(&mut self, id: u64, ttl_ms: u64) {
        self.state.renewals += 1;
        let renewed = self.state.renewals;
        self.state.leases.insert(id, Lease { ttl_ms, renewed });
    }

    fn revoke(&mut self, id: u64) {
        self.state.leases.remove(&id);
        let from = (id, Bytes::new());
        let keys: Vec<Bytes> = self
            .state
            .leased
            .range(from..)
            .take_while(|(lease, _)| *lease == id)
            .map(|(_, key)| key.clone())
            .collect();
        for key in keys {
            self.delete(&key);
        }
    }
}

#[cfg(test)]
mod tests;
