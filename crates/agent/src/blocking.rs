//! Work that may wait for a disk, away from the threads that must not.

use std::io;

/// Runs `work` where it may block.
///
/// # Errors
/// Those of `work`, or that the process is ending.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
