//! The other servers' copies: made before anything is acknowledged, used when ours is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;

use super::Inner;
use crate::{Digest, Error, MAX_BLOB, MAX_MANIFEST, Manifest, Stored};

/// How long one server may take for a blob: this, and a second for each MiB.
const PATIENCE: Duration = Duration::from_secs(10);

impl Inner {
    /// Returns when a majority of all servers, this one among them, has the blob on disk. The others are served
    /// too, but not waited for.
    pub(super) async fn replicate(&self, blob: &Stored) -> Result<(), Error> {
        let names = self.peers.names();
        let needed = names.len().div_ceil(2);
        if needed == 0 {
            return Ok(());
        }
        let Stored { digest, size } = *blob;
        let mut copies = FuturesUnordered::new();
        for peer in names {
            let (peers, path) = (self.peers.clone(), self.blobs.path(&digest));
            // Spawned, so that a copy goes on when enough others are there, or the client has left.
            copies.push(tokio::spawn(async move {
                let copy = async {
                    if !peers.has(&peer, &digest).await? {
                        peers.put(&peer, &digest, size, &path).await?;
                    }
                    Ok::<(), Error>(())
                };
                match timeout(PATIENCE + Duration::from_secs(size >> 20), copy).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(format!("{peer}: {error}")),
                    Err(_) => Err(format!("{peer}: no answer in time")),
                }
            }));
        }
        let (mut there, mut reasons) = (0, Vec::new());
        while let Some(copy) = copies.next().await {
            match copy {
                Ok(Ok(())) => there += 1,
                Ok(Err(reason)) => reasons.push(reason),
                Err(error) => reasons.push(error.to_string()),
            }
            if there == needed {
                return Ok(());
            }
        }
        Err(Error::Unavailable(format!(
            "{digest} is on too few servers' disks to be safe: {}",
            reasons.join("; ")
        )))
    }

    /// Makes sure that this server has the blob, if need be by asking the others one after the other.
    pub(super) async fn fetch(&self, digest: &Digest) -> Result<Stored, Error> {
        if let Some(size) = self.blobs.size(digest) {
            return Ok(Stored {
                digest: *digest,
                size,
            });
        }
        let mut unreachable = Vec::new();
        for peer in self.peers.names() {
            let answer = match timeout(PATIENCE, self.peers.get(&peer, digest)).await {
                Ok(Ok(Some(reader))) => self.blobs.put(reader, Some(digest), MAX_BLOB).await,
                Ok(Ok(None)) => continue,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(Error::Unavailable("no answer in time".to_owned())),
            };
            match answer {
                Ok(stored) => return Ok(stored),
                Err(error) => {
                    tracing::warn!(peer, %digest, %error, "cannot fetch a blob");
                    unreachable.push(format!("{peer}: {error}"));
                }
            }
        }
        match unreachable.is_empty() {
            true => Err(Error::NotFound(digest.to_string())),
            // It may well be there, on a server that cannot be asked now.
            false => Err(Error::Unavailable(format!(
                "cannot fetch {digest}: {}",
                unreachable.join("; ")
            ))),
        }
    }

    pub(super) async fn fill(&self, digests: &[Digest]) -> Result<usize, Error> {
        let (mut fetched, mut first_error) = (0, None);
        for digest in digests {
            if self.blobs.contains(digest) {
                continue;
            }
            match self.fetch(digest).await {
                Ok(_) => fetched += 1,
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => Ok(fetched),
        }
    }

    pub(super) async fn wanted(&self) -> Result<Vec<Digest>, Error> {
        let mut wanted = BTreeSet::new();
        let mut pending = Vec::new();
        for repository in self.tags.repositories().await? {
            pending.extend(
                self.tags
                    .list(&repository)
                    .await?
                    .into_iter()
                    .map(|(_, digest)| digest),
            );
        }
        while let Some(digest) = pending.pop() {
            if !wanted.insert(digest) {
                continue;
            }
            self.fetch(&digest).await?;
            let manifest = Manifest::parse(&self.blobs.read(&digest, MAX_MANIFEST).await?)?;
            pending.extend(manifest.manifests.iter().map(|manifest| manifest.digest));
            wanted.extend(
                manifest
                    .config
                    .iter()
                    .chain(&manifest.layers)
                    .map(|blob| blob.digest),
            );
        }
        Ok(wanted.into_iter().collect())
    }
}
