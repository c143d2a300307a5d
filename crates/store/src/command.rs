//! What can be asked of the store, and its limits.

use bytes::Bytes;

use crate::Error;
use crate::Revision;

/// The most bytes that the keys and values of one command may have together.
pub const MAX_COMMAND_BYTES: usize = 4 << 20;
/// The most bytes of a key.
pub const MAX_KEY_BYTES: usize = 1 << 10;
/// The most conditions, and the most operations, of one command.
pub const MAX_OPS: usize = 4096;

/// A conditional change of the state: if all of `when` hold, all of `ops` are done, else none.
///
/// All changes of one command share one [`Revision`]. A command names a key at most once in `ops`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The conditions, judged against the state that the command meets when it is applied.
    pub when: Vec<When>,
    /// What is done, in this order.
    pub ops: Vec<Op>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The key was last modified by revision `is`; 0 means that it is absent.
    Revision {
        /// The key.
        key: Bytes,
        /// Its modification revision.
        is: Revision,
    },
    /// The lease exists and was last granted or kept alive by the command that gave it this
    /// [`Lease::renewed`](crate::Lease::renewed): it was not kept alive since one looked.
    Unrenewed {
        /// The lease.
        id: u64,
        /// What its `renewed` must be.
        renewed: u64,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// The key: not empty, at most [`MAX_KEY_BYTES`].
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease whose end deletes the key.
        lease: Option<u64>,
    },
    /// Deletes a key. Nothing happens if it is absent.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Creates a lease, or grants an existing one anew with this time to live.
    GrantLease {
        /// The lease's name, chosen by the caller.
        id: u64,
        /// Time to live in milliseconds, counted from when the command is applied; not 0.
        ttl_ms: u64,
    },
    /// Gives a lease its full time to live again.
    KeepAlive {
        /// The lease.
        id: u64,
    },
    /// Ends a lease and deletes its keys. Nothing happens if it does not exist.
    RevokeLease {
        /// The lease.
        id: u64,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// All conditions held and the operations are done.
    Applied {
        /// The command's revision; where it changed no key (say a [`Op::KeepAlive`]), the revision it found.
        revision: Revision,
    },
    /// A condition did not hold; nothing was changed.
    Refused {
        /// The keys whose [`When::Revision`] did not hold, with the modification revision they have (0: absent).
        current: Vec<(Bytes, Revision)>,
        /// The revision at which this was judged.
        revision: Revision,
    },
}

/// The identity of a command across retries: a command is applied at most once for an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

impl RequestId {
    /// A new random id.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl Command {
    /// A command that is done whatever the state.
    pub fn always(ops: Vec<Op>) -> Self {
        Self {
            when: Vec::new(),
            ops,
        }
    }

    /// Checks the limits. Every member does so before it proposes a command, so that no peer's mistake enters the log.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.when.len() > MAX_OPS || self.ops.len() > MAX_OPS {
            return Err(Error::Invalid(format!(
                "more than {MAX_OPS} conditions or operations"
            )));
        }
        if self.ops.is_empty() {
            return Err(Error::Invalid("no operation".to_owned()));
        }
        if self.size() > MAX_COMMAND_BYTES {
            let size = self.size();
            return Err(Error::Invalid(format!(
                "{size} bytes of keys and values; the limit is {MAX_COMMAND_BYTES}"
            )));
        }
        let mut keys = std::collections::BTreeSet::new();
        for op in &self.ops {
            match op {
                Op::Put { key, .. } | Op::Delete { key } => {
                    validate_key(key)?;
                    if !keys.insert(key) {
                        return Err(Error::Invalid(format!(
                            "key {} named twice",
                            key.escape_ascii()
                        )));
                    }
                }
                Op::GrantLease { id, ttl_ms: 0 } => {
                    return Err(Error::Invalid(format!(
                        "lease {id} with a time to live of 0"
                    )));
                }
                Op::GrantLease { .. } | Op::KeepAlive { .. } | Op::RevokeLease { .. } => {}
            }
        }
        for when in &self.when {
            if let When::Revision { key, .. } = when {
                validate_key(key)?;
            }
        }
        Ok(())
    }

    /// Bytes of keys and values.
    pub(crate) fn size(&self) -> usize {
        let ops = self.ops.iter().map(|op| match op {
            Op::Put { key, value, .. } => key.len().saturating_add(value.len()),
            Op::Delete { key } => key.len(),
            Op::GrantLease { .. } | Op::KeepAlive { .. } | Op::RevokeLease { .. } => 0,
        });
        let when = self.when.iter().map(|when| match when {
            When::Revision { key, .. } => key.len(),
            When::Unrenewed { .. } => 0,
        });
        ops.chain(when).fold(0, usize::saturating_add)
    }
}

fn validate_key(key: &Bytes) -> Result<(), Error> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Error::Invalid(format!(
            "a key of {} bytes; allowed are 1 to {MAX_KEY_BYTES}",
            key.len()
        )));
    }
    Ok(())
}
