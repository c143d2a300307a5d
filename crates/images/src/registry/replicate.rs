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
/// How long the last ones may take to say whether they have a blob that a majority lacks.
const MOMENT: Duration = Duration::from_secs(1);

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

    /// Makes sure that this server has the blob, if need be by fetching it from one of the others.
    ///
    /// What has been acknowledged is on a majority of the servers. So a majority without the blob proves that
    /// it is not there, whatever those would say that cannot be asked; the rest is given a moment nevertheless,
    /// for a server may have come back with an empty disk.
    pub(super) async fn fetch(&self, digest: &Digest) -> Result<Stored, Error> {
        if let Some(size) = self.blobs.size(digest) {
            return Ok(Stored {
                digest: *digest,
                size,
            });
        }
        let names = self.peers.names();
        let servers = names.len() + 1;
        let mut answers: FuturesUnordered<_> = names
            .into_iter()
            .map(|peer| async move { (self.peers.has(&peer, digest).await, peer) })
            .collect();
        let (mut without, mut reasons) = (1, Vec::new());
        loop {
            let is_proved = without > servers / 2;
            let patience = if is_proved { MOMENT } else { PATIENCE };
            match timeout(patience, answers.next()).await {
                Ok(Some((Ok(true), peer))) => match self.copy_from(&peer, digest).await {
                    Ok(stored) => return Ok(stored),
                    Err(error) => {
                        tracing::warn!(peer, %digest, %error, "cannot fetch a blob");
                        reasons.push(format!("{peer}: {error}"));
                    }
                },
                Ok(Some((Ok(false), _))) => without += 1,
                Ok(Some((Err(error), peer))) => reasons.push(format!("{peer}: {error}")),
                Ok(None) | Err(_) if is_proved => return Err(Error::NotFound(digest.to_string())),
                Ok(None) | Err(_) => {
                    reasons.extend((!answers.is_empty()).then(|| "no answer in time".to_owned()));
                    let reasons = reasons.join("; ");
                    return Err(Error::Unavailable(format!(
                        "cannot fetch {digest}: {reasons}"
                    )));
                }
            }
        }
    }

    async fn copy_from(&self, peer: &str, digest: &Digest) -> Result<Stored, Error> {
        let late = |_| Error::Unavailable("no answer in time".to_owned());
        let reader = timeout(PATIENCE, self.peers.get(peer, digest))
            .await
            .map_err(late)??;
        let reader = reader.ok_or_else(|| Error::NotFound(digest.to_string()))?;
        self.blobs.put(reader, Some(digest), MAX_BLOB).await
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

    /// All that the tags lead to, and the first error among the manifests that could not be read: such a one is
    /// wanted itself, but what it names is not known.
    pub(super) async fn wanted(&self) -> Result<(BTreeSet<Digest>, Option<Error>), Error> {
        let (mut wanted, mut lost) = (BTreeSet::new(), None);
        let mut pending = Vec::new();
        for repository in self.tags.repositories().await? {
            let tags = self.tags.list(&repository).await?;
            pending.extend(tags.into_iter().map(|(_, digest)| digest));
        }
        while let Some(digest) = pending.pop() {
            if !wanted.insert(digest) {
                continue;
            }
            match self.manifest(&digest).await {
                Ok(manifest) => {
                    pending.extend(manifest.manifests.iter().map(|manifest| manifest.digest));
                    let blobs = manifest.config.iter().chain(&manifest.layers);
                    wanted.extend(blobs.map(|blob| blob.digest));
                }
                Err(error) => {
                    tracing::warn!(%digest, %error, "a manifest cannot be read");
                    lost.get_or_insert(error);
                }
            }
        }
        Ok((wanted, lost))
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest, Error> {
        self.fetch(digest).await?;
        Manifest::parse(&self.blobs.read(digest, MAX_MANIFEST).await?)
    }
}
