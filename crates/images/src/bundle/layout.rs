//! The tar file around the OCI layout: written in one way only, so that reading can insist on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use serde_json::json;
use tar::{EntryType, Header};

use super::Config;
use crate::media::types;
use crate::{Descriptor, Digest, Error, Hasher, MAX_BLOB, MAX_MANIFEST, Manifest};

/// The layout's version file.
pub(super) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const BLOCK: u64 = 512;
/// Two blocks of zeros end the archive.
const END: u64 = 2 * BLOCK;
const MAX_BLOBS: usize = 100_000;

/// `index.json` for a bundle whose own manifest is `manifest`.
pub(super) fn index(config: &Config, manifest: &Descriptor) -> Result<Vec<u8>, Error> {
    let mut manifests = Vec::new();
    let placed = config
        .modules
        .iter()
        .map(|placed| (placed, types::WASM_CONFIG));
    for (placed, artifact_type) in
        placed.chain(config.trees.iter().map(|placed| (placed, types::TREE)))
    {
        let mut descriptor = placed.manifest.clone();
        descriptor.artifact_type = Some(artifact_type.to_owned());
        let name = placed.name()?.repository;
        descriptor
            .annotations
            .insert(types::REF_NAME.to_owned(), name);
        manifests.push(descriptor);
    }
    let mut own = manifest.clone();
    own.artifact_type = Some(types::BUNDLE.to_owned());
    manifests.push(own);
    let index = json!({"schemaVersion": 2, "mediaType": types::INDEX, "manifests": manifests});
    Ok(index.to_string().into_bytes())
}

fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// Writes a layout, entry after entry; the caller keeps their order.
pub(super) struct Writer<W> {
    out: W,
    written: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Writer<W> {
        Writer { out, written: 0 }
    }

    pub(super) fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.entry(name, content.len() as u64, content).map(|_| ())
    }

    /// Writes a blob; an error if `content` is not what `digest` and `size` say.
    pub(super) fn blob(
        &mut self,
        digest: &Digest,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let actual = self.entry(&blob_name(digest), size, content)?;
        if actual != *digest {
            return Err(io::Error::other(
                "the file changed while the bundle was built",
            ));
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<Digest> {
        self.out.write_all(header(name, size)?.as_bytes())?;
        let mut hasher = Hasher::default();
        let mut content = content.take(size);
        let copied = copy(&mut content, &mut |piece| {
            hasher.update(piece);
            self.out.write_all(piece)
        })?;
        if copied != size {
            return Err(io::Error::other(
                "the file changed while the bundle was built",
            ));
        }
        self.out
            .write_all(&[0; BLOCK as usize][..padding(size) as usize])?;
        self.written += BLOCK + size + padding(size);
        Ok(hasher.finish())
    }

    /// Ends the archive; gives its length.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.out.write_all(&[0; END as usize])?;
        self.out.flush()?;
        Ok(self.written + END)
    }
}

/// Where a blob's bytes are in the bundle's file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// A layout that was read: every blob hashes to its name, and the tar around them is as [`Writer`] writes it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) file: Arc<File>,
    pub(super) size: u64,
    pub(super) index: Vec<u8>,
    pub(super) blobs: BTreeMap<Digest, Extent>,
}

impl Layout {
    pub(super) fn read(
        mut file: File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Layout, Error> {
        let total = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        let mut reader = EntryReader {
            inner: io::BufReader::with_capacity(256 << 10, &file),
            at: 0,
            total,
        };
        let version = reader.small("oci-layout")?;
        if version != OCI_LAYOUT {
            return Err(Error::Bundle(
                "its OCI layout is of an unknown version".to_owned(),
            ));
        }
        let index = reader.small("index.json")?;
        let mut blobs = BTreeMap::new();
        while let Some((name, size)) = reader.header()? {
            let digest = name
                .strip_prefix("blobs/sha256/")
                .and_then(|hex| Digest::from_hex(hex).ok())
                .ok_or_else(|| {
                    Error::Bundle(format!("it holds {name:?}, which does not belong there"))
                })?;
            if blobs
                .last_key_value()
                .is_some_and(|(last, _)| *last >= digest)
                || blobs.len() == MAX_BLOBS
            {
                return Err(Error::Bundle(
                    "its blobs are out of order, or too many".to_owned(),
                ));
            }
            let offset = reader.at;
            let mut hasher = Hasher::default();
            reader.content(size, &mut |piece| hasher.update(piece))?;
            if hasher.finish() != digest {
                return Err(Error::Bundle(format!("{digest} is damaged or was altered")));
            }
            blobs.insert(digest, Extent { offset, size });
            progress(reader.at, total);
        }
        Ok(Layout {
            file: Arc::new(file),
            size: total,
            index,
            blobs,
        })
    }
}

struct EntryReader<R> {
    inner: R,
    at: u64,
    total: u64,
}

impl<R: Read> EntryReader<R> {
    /// The next entry's name and size, or `None` at the archive's proper end.
    fn header(&mut self) -> Result<Option<(String, u64)>, Error> {
        let mut header_read = Header::new_old();
        self.exact(header_read.as_mut_bytes())?;
        if header_read.as_bytes().iter().all(|b| *b == 0) {
            let mut second = [0; BLOCK as usize];
            self.exact(&mut second)?;
            if second.iter().any(|b| *b != 0) || self.at != self.total {
                return Err(Error::Bundle("something follows its end".to_owned()));
            }
            return Ok(None);
        }
        let size = header_read.entry_size();
        let name = header_read
            .path()
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned));
        let (Ok(size), Some(name)) = (size, name) else {
            return Err(Error::Bundle("it is damaged, or no bundle".to_owned()));
        };
        if size > MAX_BLOB || size > self.total - self.at {
            return Err(Error::Bundle("it is truncated".to_owned()));
        }
        let expected = header(&name, size).map_err(unreadable)?;
        if expected.as_bytes() != header_read.as_bytes() {
            return Err(Error::Bundle(format!(
                "the entry {name:?} is not as `carob bundle build` writes it: it is damaged or was altered, or the file is no bundle"
            )));
        }
        Ok(Some((name, size)))
    }

    fn content(&mut self, size: u64, take: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let copied = copy(&mut (&mut self.inner).take(size), &mut |piece| {
            take(piece);
            Ok(())
        });
        let copied = copied.map_err(unreadable)?;
        self.at += copied;
        if copied != size {
            return Err(Error::Bundle("it is truncated".to_owned()));
        }
        let mut rest = [0; BLOCK as usize];
        let rest = &mut rest[..padding(size) as usize];
        self.exact(rest)?;
        if rest.iter().any(|b| *b != 0) {
            return Err(Error::Bundle(
                "it is damaged or was altered between its entries".to_owned(),
            ));
        }
        Ok(())
    }

    /// The content of the next entry, which must be `name`.
    fn small(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        let (actual, size) = self.header()?.unwrap_or_default();
        if actual != name || size > MAX_MANIFEST {
            return Err(Error::Bundle(format!(
                "it has no {name} in its place; it is no bundle"
            )));
        }
        let mut content = Vec::with_capacity(size as usize);
        self.content(size, &mut |piece| content.extend_from_slice(piece))?;
        Ok(content)
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        match self.inner.read_exact(buffer) {
            Ok(()) => {
                self.at += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::Bundle("it is truncated, or no bundle".to_owned()))
            }
            Err(error) => Err(unreadable(error)),
        }
    }
}

fn unreadable(error: io::Error) -> Error {
    Error::Bundle(format!("it cannot be read: {error}"))
}

fn copy(reader: &mut impl Read, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let (mut piece, mut copied) = (vec![0; 128 << 10], 0);
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(copied),
            Ok(length) => {
                copied += length as u64;
                take(&piece[..length])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The manifest of a bundle with these YAML files.
pub(super) fn manifest(config: &Descriptor, layers: Vec<Descriptor>) -> Manifest {
    Manifest::of(Some(types::BUNDLE), config.clone(), layers)
}
