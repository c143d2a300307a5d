//! What is known of images, over the agent's restarts.
//!
//! Losing it costs pulls, or makes content look new, and nothing else: so it need not be durable, and what cannot be
//! written or read is no failure.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::blocking;

/// A file that is replaced whole whenever there is anything new to say.
pub(super) struct Saved<T> {
    path: PathBuf,
    /// As it was last written, held while it is being written.
    last: tokio::sync::Mutex<T>,
}

impl<T> Saved<T>
where
    T: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + 'static,
{
    /// The file at this path, and what an earlier agent wrote to it.
    pub(super) fn open(path: PathBuf) -> (Self, T) {
        let bytes = fs::read(&path).ok();
        let read: Option<T> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
        let read = read.unwrap_or_default();
        let last = tokio::sync::Mutex::new(read.clone());
        (Self { path, last }, read)
    }

    /// Writes what `now` says. That is asked only when nobody else writes, so that an earlier state never replaces a
    /// later one; whatever lock it needs is not held while the disk is waited for.
    pub(super) async fn save(&self, now: impl FnOnce() -> T + Send) {
        let mut last = self.last.lock().await;
        let now = now();
        if *last == now {
            return;
        }
        let (path, bytes) = (self.path.clone(), serde_json::to_vec(&now));
        let written = blocking(move || write_whole(&path, &bytes.map_err(io::Error::other)?));
        match written.await {
            Ok(()) => *last = now,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "what is known of images cannot be written");
            }
        }
    }
}

/// Writes a file so that it is there as a whole or as it was.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn the_last_state_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("count.json");
        let (saved, count) = Saved::<u32>::open(path.clone());
        assert_eq!(count, 0);
        let (saved, count) = (Arc::new(saved), Arc::new(Mutex::new(count)));
        let all = (0..20).map(|_| {
            let (saved, count) = (saved.clone(), count.clone());
            async move {
                *count.lock() += 1;
                saved.save(|| *count.lock()).await;
            }
        });
        futures::future::join_all(all).await;
        assert_eq!(Saved::<u32>::open(path.clone()).1, 20);
        fs::write(&path, "{\"half").unwrap();
        assert_eq!(Saved::<u32>::open(path).1, 0);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/count.json");
        let (saved, _) = Saved::<u32>::open(path.clone());
        saved.save(|| 7).await;
        fs::create_dir(dir.path().join("missing")).unwrap();
        saved.save(|| 7).await;
        assert_eq!(Saved::<u32>::open(path).1, 7);
    }
}
