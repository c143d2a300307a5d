//! The one error type of the crate's boundary.

use std::path::PathBuf;

use crate::Revision;

/// Why the store could not do what was asked.
///
/// Errors about one command ([`Error::Invalid`], [`Error::LeaseNotFound`]) are final; the same command fails again.
/// [`Error::Unavailable`] is about the cluster at this moment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The watch asks for revisions that are no longer kept (HTTP 410 in Kubernetes' terms).
    /// A watch from `oldest` or later works.
    #[error(
        "revision {from} has been compacted; the oldest that a watch can start from is {oldest}"
    )]
    Compacted {
        /// The revision asked for.
        from: Revision,
        /// The oldest revision after which all events are kept.
        oldest: Revision,
    },

    /// No leader was found, or a majority did not answer, within the time allowed.
    /// A write that ends so may still take effect later; repeat it soon
    /// with [`Store::write_as`](crate::Store::write_as) and the same id to apply it once.
    #[error("the cluster is unavailable: {0}")]
    Unavailable(String),

    /// The command breaks a limit or is malformed; it was not proposed.
    #[error("invalid command: {0}")]
    Invalid(String),

    /// The command names a lease that does not exist (any more); nothing of it was applied.
    #[error("lease {0} does not exist")]
    LeaseNotFound(u64),

    /// The change of membership or leadership cannot be made.
    #[error("membership: {0}")]
    Membership(String),

    /// A file is damaged in a way that cannot be repaired without losing acknowledged writes.
    #[error("{path}: damaged: {reason}", path = path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong, and what to do about it.
        reason: String,
    },

    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// The certificates or the key cannot be used.
    #[error("tls: {0}")]
    Tls(String),

    /// The store has been shut down, or stopped itself after a failed write to its disk.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
