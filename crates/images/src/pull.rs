//! Fetching an image from wherever it is.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::blobs::blocking;
use crate::{
    Artifact, Blobs, Descriptor, Digest, Encoding, Error, MAX_BLOB, Manifest, ModuleKind, Name,
    Wanted,
};

/// Content as it arrives.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// A registry, as far as pulling needs it. What it gives is not trusted.
///
/// An implementation answers [`Error::NotFound`], [`Error::Denied`] or [`Error::Unavailable`] where those fit.
#[async_trait]
pub trait Source: Send + Sync {
    /// The manifest or index under `name`'s digest, or else its tag. Send an `Accept` of all four media types
    /// of manifests. At most [`crate::MAX_MANIFEST`] bytes need be read.
    async fn manifest(&self, name: &Name) -> Result<Bytes, Error>;

    /// The blob `digest` in `name`'s repository.
    async fn blob(&self, name: &Name, digest: &Digest) -> Result<Reader, Error>;
}

/// An image that is in the blobs now, whole and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// A WebAssembly module.
    Module {
        /// The manifest's digest: the image's identity (`imageID`).
        manifest: Digest,
        /// The blob that is the module.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// Which of the two binary formats it has.
        kind: ModuleKind,
    },
    /// A tree of files.
    Tree {
        /// The manifest's digest: the image's identity.
        manifest: Digest,
        /// The blob that is the archive.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// How the archive is compressed.
        encoding: Encoding,
    },
}

impl Pulled {
    /// The manifest's digest.
    pub fn manifest(&self) -> &Digest {
        match self {
            Pulled::Module { manifest, .. } | Pulled::Tree { manifest, .. } => manifest,
        }
    }

    /// The digest of the module or of the tree's archive.
    pub fn digest(&self) -> &Digest {
        match self {
            Pulled::Module { digest, .. } | Pulled::Tree { digest, .. } => digest,
        }
    }
}

/// Fetches the image `name` into `blobs`, if it serves as what is `wanted`. What is there already is not
/// fetched again; every byte is checked against a digest, the first of them the one in `name` if it has one.
pub async fn pull(
    name: &Name,
    wanted: Wanted,
    source: &dyn Source,
    blobs: &Blobs,
) -> Result<Pulled, Error> {
    let (mut digest, mut manifest) = fetch_manifest(name, source, blobs).await?;
    if manifest.is_index() {
        let chosen = Artifact::choose(&manifest)?.clone();
        let mut pinned = name.clone();
        pinned.digest = Some(chosen.digest);
        (digest, manifest) = fetch_manifest(&pinned, source, blobs).await?;
    }
    let layer = Artifact::recognise(&manifest)?.layer(wanted)?;
    fetch_blob(name, &layer.descriptor, source, blobs).await?;
    let Descriptor {
        digest: content,
        size,
        ..
    } = layer.descriptor;
    match wanted {
        Wanted::Tree => Ok(Pulled::Tree {
            manifest: digest,
            digest: content,
            size,
            encoding: layer.encoding,
        }),
        Wanted::Module => Ok(Pulled::Module {
            manifest: digest,
            digest: content,
            size,
            kind: kind(blobs, &content).await?,
        }),
    }
}

async fn fetch_manifest(
    name: &Name,
    source: &dyn Source,
    blobs: &Blobs,
) -> Result<(Digest, Manifest), Error> {
    if let Some(digest) = &name.digest
        && let Ok(bytes) = blobs.read(digest, crate::MAX_MANIFEST).await
    {
        return Ok((*digest, Manifest::parse(&bytes)?));
    }
    let bytes = source.manifest(name).await?;
    let manifest = Manifest::parse(&bytes)?;
    let digest = Digest::of(&bytes);
    if let Some(expected) = name.digest
        && expected != digest
    {
        return Err(Error::Mismatch {
            expected,
            actual: digest,
        });
    }
    blobs.put_bytes(bytes).await?;
    Ok((digest, manifest))
}

async fn fetch_blob(
    name: &Name,
    descriptor: &Descriptor,
    source: &dyn Source,
    blobs: &Blobs,
) -> Result<(), Error> {
    let Descriptor { digest, size, .. } = descriptor;
    if *size > MAX_BLOB {
        return Err(Error::TooLarge {
            what: digest.to_string(),
            limit: MAX_BLOB,
        });
    }
    let actual = match blobs.size(digest) {
        Some(actual) if blobs.verify(digest).await.is_ok() => actual,
        _ => {
            let reader = source.blob(name, digest).await?;
            // One byte more than announced is enough to see that there is more.
            blobs
                .put(reader.take(size + 1), Some(digest), MAX_BLOB)
                .await?
                .size
        }
    };
    if actual != *size {
        return Err(Error::Size {
            digest: *digest,
            expected: *size,
            actual,
        });
    }
    Ok(())
}

async fn kind(blobs: &Blobs, digest: &Digest) -> Result<ModuleKind, Error> {
    use std::io::Read as _;

    use crate::error::At as _;
    let path = blobs.path(digest);
    blocking(move || {
        let mut preamble = Vec::new();
        let file = std::fs::File::open(&path).at(&path)?;
        file.take(8).read_to_end(&mut preamble).at(&path)?;
        ModuleKind::of(&preamble)
    })
    .await
}
