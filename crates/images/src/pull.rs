//! Fetching an image from wherever it is.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::blobs::blocking;
use crate::{
    Artifact, Blobs, Descriptor, Digest, Encoding, Error, Hold, MAX_BLOB, Manifest, ModuleKind,
    Name, Wanted,
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
        /// The index's digest, if one led to the manifest.
        index: Option<Digest>,
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
        /// The index's digest, if one led to the manifest.
        index: Option<Digest>,
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
    /// The index's digest, if one led to the manifest.
    pub fn index(&self) -> Option<&Digest> {
        match self {
            Pulled::Module { index, .. } | Pulled::Tree { index, .. } => index.as_ref(),
        }
    }

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
/// The content is held from before it was looked for.
pub async fn pull(
    name: &Name,
    wanted: Wanted,
    source: &dyn Source,
    blobs: &Blobs,
) -> Result<(Pulled, Hold), Error> {
    let (mut digest, mut manifest) = fetch_manifest(name, source, blobs).await?;
    let index = manifest.is_index().then_some(digest);
    if index.is_some() {
        let chosen = Artifact::choose(&manifest)?.clone();
        let mut pinned = name.clone();
        pinned.digest = Some(chosen.digest);
        (digest, manifest) = fetch_manifest(&pinned, source, blobs).await?;
    }
    let layer = Artifact::recognise(&manifest)?.layer(wanted)?;
    let hold = blobs.hold(&layer.descriptor.digest);
    fetch_blob(name, &layer.descriptor, source, blobs).await?;
    let Descriptor {
        digest: content,
        size,
        ..
    } = layer.descriptor;
    let pulled = match wanted {
        Wanted::Tree => Pulled::Tree {
            index,
            manifest: digest,
            digest: content,
            size,
            encoding: layer.encoding,
        },
        Wanted::Module => Pulled::Module {
            index,
            manifest: digest,
            digest: content,
            size,
            kind: kind(blobs, &content).await?,
        },
    };
    Ok((pulled, hold))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Cursor;

    use parking_lot::Mutex;

    use super::*;
    use crate::{Platform, media_types};

    const MODULE: &[u8] = b"\0asm\x0d\0\x01\0component";

    #[derive(Default)]
    struct Memory {
        tags: BTreeMap<String, Digest>,
        content: BTreeMap<Digest, Vec<u8>>,
        asked: Mutex<Vec<Digest>>,
    }

    impl Memory {
        fn add(&mut self, media_type: &str, content: &[u8]) -> Descriptor {
            let descriptor = Descriptor::of(media_type, content);
            self.content.insert(descriptor.digest, content.to_vec());
            descriptor
        }

        fn image(&mut self, tag: &str, config: &str, layer: &str, content: &[u8]) -> Descriptor {
            let manifest = Manifest::of(
                None,
                self.add(config, b"{}"),
                vec![self.add(layer, content)],
            );
            let descriptor = self.add(media_types::MANIFEST, &manifest.encode());
            self.tags.insert(tag.to_owned(), descriptor.digest);
            descriptor
        }
    }

    #[async_trait]
    impl Source for Memory {
        async fn manifest(&self, name: &Name) -> Result<Bytes, Error> {
            let by_tag = || self.tags.get(name.tag_or_latest()).copied();
            let digest = name
                .digest
                .or_else(by_tag)
                .ok_or_else(|| Error::NotFound(name.to_string()))?;
            self.asked.lock().push(digest);
            Ok(self.content[&digest].clone().into())
        }

        async fn blob(&self, _: &Name, digest: &Digest) -> Result<Reader, Error> {
            self.asked.lock().push(*digest);
            Ok(Box::pin(Cursor::new(self.content[digest].clone())))
        }
    }

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        (dir, blobs)
    }

    async fn try_pull(
        text: &str,
        wanted: Wanted,
        source: &Memory,
        blobs: &Blobs,
    ) -> Result<Pulled, Error> {
        let pulled = pull(&text.parse().unwrap(), wanted, source, blobs).await;
        pulled.map(|(pulled, hold)| {
            assert_eq!(hold.digest(), pulled.digest());
            pulled
        })
    }

    #[tokio::test]
    async fn a_module_is_fetched_once() {
        let (mut source, (_dir, blobs)) = (Memory::default(), blobs());
        let manifest = source
            .image("v1", media_types::WASM_CONFIG, media_types::WASM, MODULE)
            .digest;
        let want = Pulled::Module {
            index: None,
            manifest,
            digest: Digest::of(MODULE),
            size: MODULE.len() as u64,
            kind: ModuleKind::Component,
        };
        assert_eq!(
            try_pull("web:v1", Wanted::Module, &source, &blobs)
                .await
                .unwrap(),
            want
        );
        assert_eq!(blobs.read(want.digest(), 99).await.unwrap(), MODULE);
        source.asked.lock().clear();
        assert_eq!(
            try_pull(&format!("web@{manifest}"), Wanted::Module, &source, &blobs)
                .await
                .unwrap(),
            want
        );
        assert!(
            source.asked.lock().is_empty(),
            "a pinned image needs nobody"
        );
        assert!(matches!(
            try_pull("web:v2", Wanted::Module, &source, &blobs).await,
            Err(Error::NotFound(_))
        ));
        assert!(matches!(
            try_pull("web:v1", Wanted::Tree, &source, &blobs).await,
            Err(Error::NotTree(_))
        ));
    }

    #[tokio::test]
    async fn an_index_leads_to_the_module() {
        let (mut source, (_dir, blobs)) = (Memory::default(), blobs());
        let mut linux = source.image(
            "x",
            media_types::IMAGE_CONFIG,
            media_types::TAR_GZIP,
            b"layer",
        );
        linux.platform = Some(Platform {
            architecture: "amd64".into(),
            os: "linux".into(),
        });
        let mut wasm = source.image("y", media_types::WASM_CONFIG, media_types::WASM, MODULE);
        wasm.platform = Some(Platform {
            architecture: "wasm".into(),
            os: "wasip2".into(),
        });
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [linux, wasm]}).to_string();
        let index = source.add(media_types::INDEX, index.as_bytes());
        source.tags.insert("all".to_owned(), index.digest);
        let pulled = try_pull("web:all", Wanted::Module, &source, &blobs)
            .await
            .unwrap();
        assert_eq!(pulled.manifest(), &wasm.digest);
        assert_eq!(pulled.index(), Some(&index.digest));
        source.asked.lock().clear();
        let pinned = format!("web@{}", index.digest);
        let again = try_pull(&pinned, Wanted::Module, &source, &blobs).await;
        assert_eq!(again.unwrap(), pulled);
        assert!(
            source.asked.lock().is_empty(),
            "an index that is here needs nobody either"
        );
        let error = try_pull("web:x", Wanted::Module, &source, &blobs)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("not a WebAssembly module: it is a Linux container image"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_a_source_gives_is_not_trusted() {
        let (mut source, (_dir, blobs)) = (Memory::default(), blobs());
        let good = source
            .image("v1", media_types::WASM_CONFIG, media_types::WASM, MODULE)
            .digest;
        source
            .content
            .insert(Digest::of(MODULE), b"\0asm\x0d\0\x01\0evil".to_vec());
        assert!(matches!(
            try_pull("web:v1", Wanted::Module, &source, &blobs).await,
            Err(Error::Mismatch { .. })
        ));
        assert!(!blobs.contains(&Digest::of(MODULE)));
        source
            .content
            .insert(good, manifest_of(&mut Memory::default()));
        let (_other_dir, other) = self::blobs();
        let pinned = format!("web@{good}");
        assert!(matches!(
            try_pull(&pinned, Wanted::Module, &source, &other).await,
            Err(Error::Mismatch { .. })
        ));
        source.image(
            "text",
            media_types::WASM_CONFIG,
            media_types::WASM,
            b"(module)",
        );
        assert!(matches!(
            try_pull("web:text", Wanted::Module, &source, &other).await,
            Err(Error::NotWasm(_))
        ));
    }

    fn manifest_of(memory: &mut Memory) -> Vec<u8> {
        let digest = memory
            .image(
                "other",
                media_types::WASM_CONFIG,
                media_types::WASM,
                b"other",
            )
            .digest;
        memory.content[&digest].clone()
    }

    #[tokio::test]
    async fn wrong_lengths_are_refused() {
        let (mut source, (_dir, blobs)) = (Memory::default(), blobs());
        for size in [MODULE.len() as u64 - 1, MODULE.len() as u64 + 1, u64::MAX] {
            let mut layer = source.add(media_types::WASM, MODULE);
            layer.size = size;
            let manifest = Manifest::of(
                None,
                source.add(media_types::WASM_CONFIG, b"{}"),
                vec![layer],
            );
            let digest = source.add(media_types::MANIFEST, &manifest.encode()).digest;
            let result = try_pull(&format!("web@{digest}"), Wanted::Module, &source, &blobs).await;
            assert!(
                matches!(
                    result,
                    Err(Error::Size { .. } | Error::Mismatch { .. } | Error::TooLarge { .. })
                ),
                "{result:?}"
            );
        }
    }
}
