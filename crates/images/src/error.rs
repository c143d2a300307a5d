//! The one error type of this crate.

use std::path::{Path, PathBuf};

use crate::{Digest, MAX_MANIFEST};

/// What can be wrong with an image, a bundle or the content behind them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no image reference.
    #[error("invalid image reference {text:?}: {reason}")]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The text is no digest.
    #[error("invalid digest {text:?}: want sha256: and 64 lower-case hexadecimal digits")]
    Digest {
        /// What was given.
        text: String,
    },
    /// No such image or blob.
    #[error("{0} not found")]
    NotFound(String),
    /// The source wants other credentials, or any at all.
    #[error("access to {0} denied")]
    Denied(String),
    /// The other end cannot be reached, or cannot serve now. Trying again later may help.
    #[error("{0}")]
    Unavailable(String),
    /// Content that does not hash to the digest by which it was asked for or announced.
    #[error("content does not match its digest: want {expected}, got {actual}")]
    Mismatch {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// Content of another length than its descriptor announces.
    #[error("{digest} is {actual} bytes long; its descriptor says {expected}")]
    Size {
        /// Whose length is wrong.
        digest: Digest,
        /// The length announced, in bytes.
        expected: u64,
        /// The length found, in bytes.
        actual: u64,
    },
    /// More bytes than are taken.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: String,
        /// How many bytes are taken at most.
        limit: u64,
    },
    /// The image is something else than a WebAssembly module.
    #[error(
        "not a WebAssembly module: {0}. Build the program for a wasm32-wasi target and push it with `carob push MODULE.wasm NAME`"
    )]
    NotWasm(String),
    /// The image is something else than a tree of files.
    #[error("not a tree of files: {0}")]
    NotTree(String),
    /// A manifest, an index or a configuration that cannot be read as one.
    #[error("invalid {what}: {reason}")]
    Malformed {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive that holds what it must not.
    #[error("refusing archive: {0}")]
    Archive(String),
    /// A bundle that is damaged, was altered or is none.
    #[error("refusing bundle: {0}")]
    Bundle(String),
    /// A Kubernetes manifest of a bundle that cannot be used.
    #[error("{file}:{line}: {reason}")]
    Manifest {
        /// The file, relative to the bundle's directory.
        file: String,
        /// The line in it, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// Why that failed.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn malformed(what: impl Into<String>, reason: impl std::fmt::Display) -> Error {
        Error::Malformed {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn too_large_manifest(what: impl Into<String>) -> Error {
        Error::TooLarge {
            what: what.into(),
            limit: MAX_MANIFEST,
        }
    }
}

/// Gives an I/O error the path it is about.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for Result<T, std::io::Error> {
    fn at(self, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })
    }
}
