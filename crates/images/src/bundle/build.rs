//! A source directory becomes a bundle.

use std::collections::BTreeMap;
use std::io::{BufWriter, Read};
use std::path::Path;

use bytes::Bytes;

use super::layout::{self, OCI_LAYOUT, Writer};
use super::source::Source;
use super::{Bundle, Config, Placed, Progress, Summary};
use crate::error::At;
use crate::media::types;
use crate::{Blob, Content, Descriptor, Digest, Error, Upload};

/// Builds the bundle of the directory `dir` into the file `out`, which is replaced only when all is well.
/// The same source gives the same file, bit for bit, wherever and whenever it is built.
pub fn build(dir: &Path, out: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Summary, Error> {
    let source = Source::read(dir)?;
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let staging = tempfile::Builder::new()
        .prefix(".bundle-")
        .tempdir_in(parent)
        .at(parent)?;
    let mut blobs = BTreeMap::new();
    let mut config = Config::default();
    for path in &source.modules {
        progress(Progress::Reading { path: path.clone() });
        let upload = Upload::module(&source.root.join(path))?;
        config.modules.push(place(path, upload, &mut blobs));
    }
    for (number, path) in source.trees.iter().enumerate() {
        progress(Progress::Reading { path: path.clone() });
        let archive = staging.path().join(format!("tree-{number}"));
        let upload = Upload::tree(&source.root.join(path), &archive)?;
        config.trees.push(place(path, upload, &mut blobs));
    }
    let mut layers = Vec::new();
    for (file, text) in &source.manifests {
        let mut layer = add(types::YAML, Bytes::from(text.clone()), &mut blobs);
        layer
            .annotations
            .insert(types::TITLE.to_owned(), file.clone());
        layers.push(layer);
    }
    let encoded =
        serde_json::to_vec(&config).map_err(|error| Error::malformed("configuration", error))?;
    let config_descriptor = add(types::BUNDLE_CONFIG, encoded.into(), &mut blobs);
    let manifest = layout::manifest(&config_descriptor, layers).encode();
    let descriptor = add(types::MANIFEST, manifest.into(), &mut blobs);

    let staged = staging.path().join("bundle");
    write(
        &staged,
        &layout::index(&config, &descriptor)?,
        &blobs,
        progress,
    )?;
    // What was written must be what every reader will accept.
    let summary = Bundle::open(&staged, &mut |_| {})?.summary();
    std::fs::rename(&staged, out).at(out)?;
    Ok(summary)
}

type Blobs = BTreeMap<Digest, (u64, Content)>;

fn add(media_type: &str, content: Bytes, blobs: &mut Blobs) -> Descriptor {
    let descriptor = Descriptor::of(media_type, &content);
    blobs.insert(
        descriptor.digest,
        (descriptor.size, Content::Bytes(content)),
    );
    descriptor
}

fn place(path: &str, upload: Upload, blobs: &mut Blobs) -> Placed {
    for Blob {
        descriptor,
        content,
    } in upload.blobs
    {
        blobs.insert(descriptor.digest, (descriptor.size, content));
    }
    Placed {
        path: path.to_owned(),
        manifest: add(types::MANIFEST, upload.manifest, blobs),
    }
}

fn write(
    file: &Path,
    index: &[u8],
    blobs: &Blobs,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let total = blobs.values().map(|(size, _)| size).sum();
    let mut done = 0;
    let out = std::fs::File::create(file).at(file)?;
    let mut writer = Writer::new(BufWriter::with_capacity(256 << 10, &out));
    writer.file("oci-layout", OCI_LAYOUT).at(file)?;
    writer.file("index.json", index).at(file)?;
    for (digest, (size, content)) in blobs {
        let mut content = content.open();
        let counted = Counting {
            inner: &mut content,
            done: &mut done,
            total,
            progress,
        };
        writer.blob(digest, *size, counted).at(file)?;
    }
    writer.finish().at(file)?;
    out.sync_all().at(file)
}

/// Reports what passes through.
struct Counting<'a, R> {
    inner: R,
    done: &'a mut u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        *self.done += length as u64;
        (self.progress)(Progress::Bytes {
            done: *self.done,
            total: self.total,
        });
        Ok(length)
    }
}
