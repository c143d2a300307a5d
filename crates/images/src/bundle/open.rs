//! A bundle is verified and read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::documents::{self, Document, Named};
use super::layout::{self, Layout};
use super::{Config, Item, ManifestFile, Placed, Progress, Summary, normalise};
use crate::error::At as _;
use crate::media::types;
use crate::upload::FilePart;
use crate::{
    Artifact, Blob, Content, Descriptor, Digest, Encoding, Error, MAX_MANIFEST, Manifest,
    ModuleKind, Name, Upload, Wanted, tree,
};

/// A bundle, all of which has been verified: every digest and length, every reference, every module's and
/// archive's form, and that there is nothing else in the file.
#[derive(Debug)]
pub struct Bundle {
    layout: Layout,
    config: Config,
    documents: Vec<Document>,
    files: Vec<String>,
    layers: BTreeMap<Digest, Descriptor>,
}

impl Bundle {
    /// Opens the bundle `path` and verifies all of it. Nothing of a bundle that does not pass may be used.
    pub fn open(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Bundle, Error> {
        let file = File::open(path).at(path)?;
        let layout = Layout::read(file, &mut |done, total| {
            progress(Progress::Bytes { done, total })
        })?;
        let mut used = BTreeSet::new();
        let index = Manifest::parse(&layout.index)?;
        let own = index
            .manifests
            .last()
            .ok_or_else(|| damaged("its index is empty"))?;
        let manifest = Manifest::parse(&layout.document(own, &mut used)?)?;
        if Artifact::recognise(&manifest)? != Artifact::Bundle {
            return Err(Error::Bundle(
                "it is an OCI layout, but none of a bundle".to_owned(),
            ));
        }
        let config = manifest
            .config
            .as_ref()
            .ok_or_else(|| damaged("it has no configuration"))?;
        let config: Config = serde_json::from_slice(&layout.document(config, &mut used)?)
            .map_err(|error| damaged(format!("its configuration: {error}")))?;
        let descriptor = Descriptor::new(types::MANIFEST, own.digest, own.size);
        if layout::index(&config, &descriptor)? != layout.index {
            return Err(damaged("its index is not that of its content"));
        }
        let mut bundle = Bundle {
            layout,
            config,
            documents: Vec::new(),
            files: Vec::new(),
            layers: BTreeMap::new(),
        };
        bundle.check_artifacts(&mut used)?;
        bundle.read_documents(&manifest.layers, &mut used)?;
        if let Some(extra) = bundle
            .layout
            .blobs
            .keys()
            .find(|digest| !used.contains(digest))
        {
            return Err(damaged(format!("nothing refers to {extra}")));
        }
        Ok(bundle)
    }

    /// The objects in the order of their files, with every path replaced by `NAME@sha256:…`.
    pub fn manifests(&self) -> &[Document] {
        &self.documents
    }

    /// What must be pushed into the cluster's registry before the objects can be applied: the modules and
    /// trees, each with its name.
    pub fn uploads(&self) -> Result<Vec<(Name, Upload)>, Error> {
        let placed = self.config.modules.iter().chain(&self.config.trees);
        placed
            .map(|placed| Ok((placed.name()?, self.upload(&placed.manifest)?)))
            .collect()
    }

    /// What the bundle holds.
    pub fn summary(&self) -> Summary {
        let item = |placed: &Placed| Item {
            path: placed.path.clone(),
            image: placed
                .name()
                .map(|name| name.to_string())
                .unwrap_or_default(),
            size: self
                .layers
                .get(&placed.manifest.digest)
                .map_or(0, |layer| layer.size),
        };
        let file = |file: &String| ManifestFile {
            file: file.clone(),
            objects: self
                .documents
                .iter()
                .filter(|d| d.file == *file)
                .map(Document::title)
                .collect(),
        };
        Summary {
            modules: self.config.modules.iter().map(item).collect(),
            trees: self.config.trees.iter().map(item).collect(),
            manifests: self.files.iter().map(file).collect(),
            size: self.layout.size,
        }
    }

    fn upload(&self, manifest: &Descriptor) -> Result<Upload, Error> {
        let bytes = self.layout.document(manifest, &mut BTreeSet::new())?;
        let mut blobs = Vec::new();
        for descriptor in Manifest::parse(&bytes)?.references() {
            let extent = self.layout.extent(descriptor)?;
            blobs.push(Blob {
                descriptor: descriptor.clone(),
                content: Content::File {
                    file: self.layout.file.clone(),
                    offset: extent.offset,
                    length: extent.size,
                },
            });
        }
        Ok(Upload {
            blobs,
            manifest: bytes,
            digest: manifest.digest,
        })
    }

    fn check_artifacts(&mut self, used: &mut BTreeSet<Digest>) -> Result<(), Error> {
        for (placed, wanted) in [
            (&self.config.modules, Wanted::Module),
            (&self.config.trees, Wanted::Tree),
        ] {
            if !placed.is_sorted_by(|a, b| a.path < b.path) {
                return Err(damaged("its paths are out of order"));
            }
            for Placed { path, manifest } in placed {
                if normalise(path).as_ref() != Ok(path) || manifest.media_type != types::MANIFEST {
                    return Err(damaged(format!(
                        "{path:?} is no path of a module or a tree"
                    )));
                }
                let document = Manifest::parse(&self.layout.document(manifest, used)?)?;
                for descriptor in document.references() {
                    self.layout.extent(descriptor)?;
                    used.insert(descriptor.digest);
                }
                let layer = Artifact::recognise(&document)?.layer(wanted)?;
                self.layout
                    .check_layer(&layer.descriptor, layer.encoding, wanted)?;
                self.layers.insert(manifest.digest, layer.descriptor);
            }
        }
        Ok(())
    }

    fn read_documents(
        &mut self,
        layers: &[Descriptor],
        used: &mut BTreeSet<Digest>,
    ) -> Result<(), Error> {
        let mut images = BTreeMap::new();
        for placed in &self.config.modules {
            images.insert(
                Named::Module(placed.path.clone()),
                placed.name()?.to_string(),
            );
        }
        for placed in &self.config.trees {
            images.insert(Named::Tree(placed.path.clone()), placed.name()?.to_string());
        }
        let mut unnamed: BTreeSet<Named> = images.keys().cloned().collect();
        for layer in layers {
            let file = layer
                .annotations
                .get(types::TITLE)
                .filter(|file| normalise(file).as_ref() == Ok(file));
            let (Some(file), types::YAML) = (file, layer.media_type.as_str()) else {
                return Err(damaged("one of its manifests has no name, or is no YAML"));
            };
            if self.files.last().is_some_and(|last| last >= file) {
                return Err(damaged("its manifests are out of order"));
            }
            let text = self.layout.document(layer, used)?;
            let text =
                std::str::from_utf8(&text).map_err(|_| damaged(format!("{file} is not UTF-8")))?;
            for mut document in documents::parse(file, text)? {
                document.rewrite(&mut |named| {
                    unnamed.remove(named);
                    images
                        .get(named)
                        .cloned()
                        .ok_or_else(|| format!("{named:?} is not in the bundle"))
                })?;
                self.documents.push(document);
            }
            self.files.push(file.clone());
        }
        match unnamed.first() {
            Some(named) => Err(damaged(format!("no manifest names {named:?}"))),
            None => Ok(()),
        }
    }
}

impl Layout {
    fn extent(&self, descriptor: &Descriptor) -> Result<layout::Extent, Error> {
        let extent = self.blobs.get(&descriptor.digest).copied();
        let extent = extent.ok_or_else(|| damaged(format!("{} is missing", descriptor.digest)))?;
        if extent.size != descriptor.size {
            return Err(Error::Size {
                digest: descriptor.digest,
                expected: descriptor.size,
                actual: extent.size,
            });
        }
        Ok(extent)
    }

    /// The content of a small blob, which is now used.
    fn document(
        &self,
        descriptor: &Descriptor,
        used: &mut BTreeSet<Digest>,
    ) -> Result<Bytes, Error> {
        let extent = self.extent(descriptor)?;
        if extent.size > MAX_MANIFEST {
            return Err(Error::too_large_manifest(descriptor.digest.to_string()));
        }
        used.insert(descriptor.digest);
        let mut content = vec![0; extent.size as usize];
        self.file
            .read_exact_at(&mut content, extent.offset)
            .map_err(|error| damaged(format!("it cannot be read: {error}")))?;
        Ok(content.into())
    }

    fn check_layer(
        &self,
        layer: &Descriptor,
        encoding: Encoding,
        wanted: Wanted,
    ) -> Result<(), Error> {
        let extent = self.extent(layer)?;
        let mut content = FilePart {
            file: self.file.clone(),
            offset: extent.offset,
            left: extent.size,
        };
        match wanted {
            Wanted::Module => {
                let mut preamble = Vec::new();
                content
                    .take(8)
                    .read_to_end(&mut preamble)
                    .map_err(|error| damaged(error.to_string()))?;
                ModuleKind::of(&preamble).map(drop)
            }
            Wanted::Tree => tree::check(
                BufReader::new(&mut content),
                encoding,
                &tree::Limits::default(),
            )
            .map(drop),
        }
    }
}

fn damaged(reason: impl Into<String>) -> Error {
    Error::Bundle(format!("it is damaged or was altered: {}", reason.into()))
}
