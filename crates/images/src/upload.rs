//! Artifacts that are ready to be pushed. Nothing here talks to a registry: whoever pushes sends each blob
//! that the registry lacks, then the manifest.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::blobs::hash_reader;
use crate::error::At;
use crate::media::types;
use crate::{Descriptor, Digest, Error, MAX_BLOB, Manifest, ModuleKind, tree};

/// An artifact as it is pushed: first every blob, then the manifest.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The content that the manifest names.
    pub blobs: Vec<Blob>,
    /// The manifest's bytes, of media type [`types::MANIFEST`].
    pub manifest: Bytes,
    /// The manifest's digest: what `NAME@…` pins.
    pub digest: Digest,
}

/// One blob of an [`Upload`].
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its digest and length.
    pub descriptor: Descriptor,
    /// Where its bytes are.
    pub content: Content,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// In a file that is kept open: `length` bytes from `offset` on. Its name may go meanwhile; should its
    /// bytes change, the registry notices by the digest.
    File {
        /// Which file.
        file: Arc<File>,
        /// Where in it, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
}

impl Content {
    /// Reads the bytes from the beginning.
    pub fn open(&self) -> Box<dyn Read + Send> {
        match self {
            Content::Bytes(bytes) => Box::new(io::Cursor::new(bytes.clone())),
            Content::File {
                file,
                offset,
                length,
            } => Box::new(FilePart {
                file: file.clone(),
                offset: *offset,
                left: *length,
            }),
        }
    }
}

/// Reads part of a file without moving its position, which others may use.
pub(crate) struct FilePart {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) left: u64,
}

impl Read for FilePart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.file.read_at(&mut buffer[..length], self.offset)?;
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

impl Upload {
    /// The CNCF Wasm artifact of the module in the file `path`. The same module always gives the same artifact.
    pub fn module(path: &Path) -> Result<Upload, Error> {
        let mut file = File::open(path).at(path)?;
        let mut preamble = Vec::new();
        file.by_ref().take(8).read_to_end(&mut preamble).at(path)?;
        let kind = ModuleKind::of(&preamble)?;
        file.rewind().at(path)?;
        let stored = hash_reader((&file).take(MAX_BLOB + 1)).at(path)?;
        if stored.size > MAX_BLOB {
            return Err(Error::TooLarge {
                what: path.display().to_string(),
                limit: MAX_BLOB,
            });
        }
        Ok(Upload::new(
            None,
            (types::WASM_CONFIG, wasm_config(kind, &stored.digest)),
            Descriptor::new(types::WASM, stored.digest, stored.size),
            file,
        ))
    }

    /// The tree artifact of the directory `dir`, whose archive is written to the new file `archive`.
    pub fn tree(dir: &Path, archive: &Path) -> Result<Upload, Error> {
        let out = File::create(archive).at(archive)?;
        tree::pack(dir, io::BufWriter::new(out))?;
        let file = File::open(archive).at(archive)?;
        let stored = hash_reader(&file).at(archive)?;
        Ok(Upload::new(
            Some(types::TREE),
            (types::EMPTY, Bytes::from_static(b"{}")),
            Descriptor::new(types::TAR, stored.digest, stored.size),
            file,
        ))
    }

    fn new(
        artifact_type: Option<&str>,
        (config_type, config): (&str, Bytes),
        layer: Descriptor,
        file: File,
    ) -> Upload {
        let config_descriptor = Descriptor::of(config_type, &config);
        let manifest = Manifest::of(
            artifact_type,
            config_descriptor.clone(),
            vec![layer.clone()],
        )
        .encode();
        let content = Content::File {
            file: Arc::new(file),
            offset: 0,
            length: layer.size,
        };
        Upload {
            blobs: vec![
                Blob {
                    descriptor: config_descriptor,
                    content: Content::Bytes(config),
                },
                Blob {
                    descriptor: layer,
                    content,
                },
            ],
            digest: Digest::of(&manifest),
            manifest: manifest.into(),
        }
    }
}

/// The configuration that CNCF's artifact guidance asks for. `created` is fixed, so that the same module
/// has the same digest whenever it is pushed.
fn wasm_config(kind: ModuleKind, layer: &Digest) -> Bytes {
    let config = serde_json::json!({
        "architecture": "wasm",
        "created": "1970-01-01T00:00:00Z",
        "layerDigests": [layer],
        "os": kind.os(),
    });
    config.to_string().into()
}
