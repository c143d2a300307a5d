//! A directory of content-addressed files.
//!
//! A file appears under its digest only when it is whole, hashed and on the disk: it is written under
//! `tmp/`, synced, renamed to `sha256/<hex>`, and the directory is synced. What lies under `tmp/` when the
//! directory is opened belongs to nobody and is removed. A blob goes the same way back: [`Blobs::set_aside`] moves it to
//! `tmp/`, where removing it may take its time.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::error::At;
use crate::hold::Holds;
use crate::{Digest, Error, Hasher};

/// A content-addressed store of blobs in one directory. Cheap to clone; one process has the directory.
#[derive(Clone, Debug)]
pub struct Blobs {
    pub(crate) dir: Arc<Path>,
    pub(crate) holds: Holds,
}

/// A blob that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// How much is copied at a time.
const PIECE: usize = 128 << 10;

/// How much is gathered before it is handed to the disk.
const BATCH: usize = 512 << 10;

/// How long content may come without a single byte. Who asked for it, and all who wait with him, would wait for ever.
const PATIENCE: Duration = Duration::from_secs(30);

impl Blobs {
    /// Opens the store in `dir`, which is made if it is missing. Leftovers of interrupted writes are removed.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Blobs, Error> {
        let dir = dir.into();
        let (content, temporary) = (dir.join("sha256"), dir.join("tmp"));
        fs::create_dir_all(&content).at(&content)?;
        fs::create_dir_all(&temporary).at(&temporary)?;
        for leftover in fs::read_dir(&temporary).at(&temporary)? {
            let path = leftover.at(&temporary)?.path();
            fs::remove_file(&path).at(&path)?;
        }
        sync_dir(&dir)?;
        Ok(Blobs {
            dir: dir.into(),
            holds: Holds::default(),
        })
    }

    /// Where the blob lies if it is there. The file is immutable: hard-link or open it, never write to it.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("sha256").join(digest.hex())
    }

    /// The blob's length in bytes if it is there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|m| m.len())
    }

    /// Whether the blob is there.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Starts a blob that comes in pieces, of at most `limit` bytes.
    pub fn writer(&self, limit: u64) -> Result<BlobWriter, Error> {
        let temporary = self.dir.join("tmp");
        let file = NamedTempFile::new_in(&temporary).at(&temporary)?;
        Ok(BlobWriter {
            blobs: self.clone(),
            content: Some(Content {
                file,
                hasher: Hasher::default(),
            }),
            batch: Vec::new(),
            size: 0,
            limit,
        })
    }

    /// Stores what `reader` gives, at most `limit` bytes; with `expected`, only if it hashes to that. Durable
    /// when this returns.
    pub async fn put(
        &self,
        mut reader: impl AsyncRead + Unpin,
        expected: Option<&Digest>,
        limit: u64,
    ) -> Result<Stored, Error> {
        let mut writer = self.writer(limit)?;
        let mut piece = vec![0; PIECE];
        loop {
            let unavailable =
                |why: String| Error::Unavailable(format!("reading the content of a blob: {why}"));
            let length = timeout(PATIENCE, reader.read(&mut piece))
                .await
                .map_err(|_| unavailable(format!("nothing came for {} s", PATIENCE.as_secs())))?
                .map_err(|error| unavailable(error.to_string()))?;
            if length == 0 {
                break;
            }
            writer.write(&piece[..length]).await?;
        }
        writer.finish(expected).await
    }

    /// Stores `content`. Durable when this returns.
    pub async fn put_bytes(&self, content: Bytes) -> Result<Stored, Error> {
        let (digest, size) = (Digest::of(&content), content.len() as u64);
        // Whoever stores a blob relies on it, so one that rotted on the disk is not taken for there.
        if self.read(&digest, size).await.is_ok() {
            return Ok(Stored { digest, size });
        }
        let mut writer = self.writer(size)?;
        writer.write(&content).await?;
        writer.finish(Some(&digest)).await
    }

    /// Reads a blob of at most `limit` bytes into memory, and checks it against its digest.
    pub async fn read(&self, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        let (path, digest) = (self.path(digest), *digest);
        blocking(move || {
            let file = open(&path, &digest)?;
            let mut content = Vec::new();
            file.take(limit + 1).read_to_end(&mut content).at(&path)?;
            if content.len() as u64 > limit {
                return Err(Error::TooLarge {
                    what: digest.to_string(),
                    limit,
                });
            }
            check(&digest, Digest::of(&content))?;
            Ok(Bytes::from(content))
        })
        .await
    }

    /// Reads the whole blob once and gives its path if it still hashes to its digest; one that does not is
    /// removed, so that it is fetched again, and [`Error::Mismatch`] returned.
    pub async fn verify(&self, digest: &Digest) -> Result<PathBuf, Error> {
        let (path, digest) = (self.path(digest), *digest);
        blocking(move || {
            let actual = hash_reader(open(&path, &digest)?).at(&path)?.digest;
            if actual != digest {
                fs::remove_file(&path).at(&path)?;
            }
            check(&digest, actual)?;
            Ok(path)
        })
        .await
    }

    /// Removes the blob; that it is not there is no error.
    pub async fn delete(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.path(digest);
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.at(&path),
        })
        .await
    }

    /// All blobs that are there, by digest.
    pub async fn list(&self) -> Result<Vec<Stored>, Error> {
        let dir = self.dir.join("sha256");
        blocking(move || {
            let mut blobs = Vec::new();
            for entry in fs::read_dir(&dir).at(&dir)? {
                let entry = entry.at(&dir)?;
                let Some(digest) = entry
                    .file_name()
                    .to_str()
                    .and_then(|n| Digest::from_hex(n).ok())
                else {
                    continue;
                };
                // A blob that is deleted while we look is simply not listed.
                if let Ok(metadata) = entry.metadata() {
                    blobs.push(Stored {
                        digest,
                        size: metadata.len(),
                    });
                }
            }
            blobs.sort_by_key(|blob| blob.digest);
            Ok(blobs)
        })
        .await
    }
}

/// A blob that is being written. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    /// Away while it is being written to; lost when that failed or was broken off.
    content: Option<Content>,
    /// What has not been handed to the disk yet.
    batch: Vec<u8>,
    size: u64,
    limit: u64,
}

#[derive(Debug)]
struct Content {
    file: NamedTempFile,
    hasher: Hasher,
}

impl Content {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).at(self.file.path())?;
        self.hasher.update(bytes);
        Ok(())
    }
}

impl BlobWriter {
    /// Appends `piece`. After an error nothing more can be written.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.size += piece.len() as u64;
        if self.size > self.limit {
            return Err(Error::TooLarge {
                what: "the blob".to_owned(),
                limit: self.limit,
            });
        }
        self.batch.extend_from_slice(piece);
        if self.batch.len() >= BATCH {
            let mut content = self.take()?;
            let batch = std::mem::take(&mut self.batch);
            let write = move || content.write(&batch).map(|()| content);
            self.content = Some(blocking(write).await?);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Content, Error> {
        let broken = || Error::Unavailable("an earlier write of the blob broke off".to_owned());
        self.content.take().ok_or_else(broken)
    }

    /// How many bytes have been written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the blob durable and puts it in its place, if it hashes to `expected`.
    pub async fn finish(mut self, expected: Option<&Digest>) -> Result<Stored, Error> {
        let (mut content, expected) = (self.take()?, expected.copied());
        blocking(move || {
            content.write(&self.batch)?;
            let Content { file, hasher } = content;
            let (digest, size) = (hasher.finish(), self.size);
            if let Some(expected) = expected {
                check(&expected, digest)?;
            }
            let path = self.blobs.path(&digest);
            file.as_file().sync_all().at(file.path())?;
            // Over a blob of the same digest this changes nothing but heals one that rotted.
            file.persist(&path).map_err(|error| error.error).at(&path)?;
            sync_dir(path.parent().expect("a blob lies in a directory"))?;
            Ok(Stored { digest, size })
        })
        .await
    }
}

fn open(path: &Path, digest: &Digest) -> Result<File, Error> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NotFound(digest.to_string()))
        }
        result => result.at(path),
    }
}

fn check(expected: &Digest, actual: Digest) -> Result<(), Error> {
    if *expected == actual {
        return Ok(());
    }
    Err(Error::Mismatch {
        expected: *expected,
        actual,
    })
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).at(dir)
}

/// Hashes all that `reader` gives.
pub(crate) fn hash_reader(mut reader: impl Read) -> io::Result<Stored> {
    let (mut hasher, mut size, mut piece) = (Hasher::default(), 0, vec![0; PIECE]);
    loop {
        match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                hasher.update(&piece[..length]);
                size += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Stored {
        digest: hasher.finish(),
        size,
    })
}

/// Runs `work` where it may wait for a disk.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Unavailable("the process is ending".to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("blobs")).unwrap();
        (dir, blobs)
    }

    #[tokio::test]
    async fn stored_listed_read_and_removed() {
        let (_dir, blobs) = blobs();
        let content = vec![7u8; 3 * PIECE + 1];
        let stored = blobs.put(&content[..], None, 1 << 20).await.unwrap();
        assert_eq!(
            stored,
            Stored {
                digest: Digest::of(&content),
                size: content.len() as u64
            }
        );
        assert_eq!(blobs.list().await.unwrap(), [stored]);
        assert_eq!(blobs.read(&stored.digest, 1 << 20).await.unwrap(), content);
        assert!(matches!(
            blobs.read(&stored.digest, 10).await,
            Err(Error::TooLarge { .. })
        ));
        assert_eq!(
            blobs.verify(&stored.digest).await.unwrap(),
            blobs.path(&stored.digest)
        );
        blobs.delete(&stored.digest).await.unwrap();
        blobs.delete(&stored.digest).await.unwrap();
        assert!(matches!(
            blobs.read(&stored.digest, 10).await,
            Err(Error::NotFound(_))
        ));
    }

    #[tokio::test]
    async fn what_does_not_match_or_fit_leaves_nothing() {
        let (dir, blobs) = blobs();
        let other = Digest::of(b"other");
        assert!(matches!(
            blobs.put(&b"this"[..], Some(&other), 99).await,
            Err(Error::Mismatch { .. })
        ));
        assert!(matches!(
            blobs.put(&b"this"[..], None, 3).await,
            Err(Error::TooLarge { .. })
        ));
        drop(blobs.writer(10).unwrap());
        assert!(blobs.list().await.unwrap().is_empty());
        assert_eq!(
            fs::read_dir(dir.path().join("blobs/tmp")).unwrap().count(),
            0
        );
    }

    #[tokio::test(start_paused = true)]
    async fn content_that_stalls_is_given_up() {
        let (dir, blobs) = blobs();
        let (mut sender, receiver) = tokio::io::duplex(64);
        let stalls = async move {
            use tokio::io::AsyncWriteExt;
            for _ in 0..4 {
                sender.write_all(b"slowly").await.unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
            std::future::pending::<()>().await;
        };
        let put = blobs.put(receiver, None, 99);
        let result = tokio::select! {
            result = put => result,
            () = stalls => unreachable!(),
        };
        assert!(matches!(result, Err(Error::Unavailable(_))));
        assert_eq!(
            fs::read_dir(dir.path().join("blobs/tmp")).unwrap().count(),
            0
        );
    }

    #[tokio::test]
    async fn rot_is_noticed_and_healed() {
        let (_dir, blobs) = blobs();
        let digest = blobs
            .put_bytes(Bytes::from_static(b"content"))
            .await
            .unwrap()
            .digest;
        fs::write(blobs.path(&digest), b"cantent").unwrap();
        assert!(matches!(
            blobs.read(&digest, 99).await,
            Err(Error::Mismatch { .. })
        ));
        blobs
            .put_bytes(Bytes::from_static(b"content"))
            .await
            .unwrap();
        assert!(blobs.verify(&digest).await.is_ok());
        fs::write(blobs.path(&digest), b"conten").unwrap();
        assert!(blobs.verify(&digest).await.is_err());
        assert!(!blobs.contains(&digest));
    }

    #[tokio::test]
    async fn leftovers_are_removed_at_opening() {
        let (dir, blobs) = blobs();
        let digest = blobs
            .put_bytes(Bytes::from_static(b"kept"))
            .await
            .unwrap()
            .digest;
        fs::write(dir.path().join("blobs/tmp/half"), b"half").unwrap();
        let again = Blobs::open(dir.path().join("blobs")).unwrap();
        assert!(again.contains(&digest));
        assert_eq!(
            fs::read_dir(dir.path().join("blobs/tmp")).unwrap().count(),
            0
        );
    }
}
