//! The crate's errors.

/// Why a server could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Certificates.
    #[error(transparent)]
    Ca(#[from] crate::ca::CaError),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}
