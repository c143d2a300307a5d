//! Bundles: modules, trees of files and the Kubernetes manifests that name them, in one file.
//!
//! The file is an uncompressed tar of an OCI image layout, so that other tools can read it:
//!
//! ```text
//! oci-layout
//! index.json              every manifest below, modules and trees first, the bundle's own last
//! blobs/sha256/<hex>      in the order of their digests
//! ```
//!
//! Each module is a CNCF Wasm artifact, each tree a tree artifact. The bundle's own manifest has the artifact
//! type `application/vnd.carob.bundle.v1`; its layers are the YAML files, byte for byte as they were written,
//! with their paths as titles, and its configuration says which artifact stands behind which path of the
//! source directory:
//!
//! ```json
//! {"modules": [{"path": "web.wasm", "manifest": {…descriptor…}}], "trees": [{"path": "share", "manifest": {…}}]}
//! ```
//!
//! Every byte of the file follows from the content of its blobs, which is how [`Bundle::open`] notices any
//! change: it computes what the file must be, and compares.

mod build;
mod documents;
mod layout;
mod open;
mod source;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use build::build;
pub use documents::Document;
pub use open::Bundle;

use crate::{Descriptor, Digest, Error, Name};

/// How far a long step has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A module or a tree of the source is being read.
    Reading {
        /// Its path in the source directory.
        path: String,
    },
    /// Content is being written, or checked.
    Bytes {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The modules, by path.
    pub modules: Vec<Item>,
    /// The trees of files, by path.
    pub trees: Vec<Item>,
    /// The Kubernetes manifests, by file.
    pub manifests: Vec<ManifestFile>,
    /// The file's length in bytes.
    pub size: u64,
}

/// A module or a tree in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its path in the source directory.
    pub path: String,
    /// `NAME@sha256:…`: what replaces the path when the bundle is deployed.
    pub image: String,
    /// The length of the module or of the tree's archive, in bytes.
    pub size: u64,
}

/// A file of Kubernetes manifests in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManifestFile {
    /// Its path in the source directory.
    pub file: String,
    /// Its objects in order, as `Kind/name`.
    pub objects: Vec<String>,
}

/// Reads the objects of a YAML (or JSON) text. `file` is its name in errors and in the objects' places.
pub fn documents(file: &str, text: &str) -> Result<Vec<Document>, Error> {
    documents::parse(file, text)
}

/// Opens the bundle `file`, verifies all of it, and says what it holds.
pub fn inspect(file: &std::path::Path) -> Result<Summary, Error> {
    Ok(Bundle::open(file, &mut |_| {})?.summary())
}

/// The bundle's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    modules: Vec<Placed>,
    trees: Vec<Placed>,
}

/// An artifact and the path for which it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Placed {
    path: String,
    manifest: Descriptor,
}

impl Placed {
    /// The name under which the artifact is pushed.
    fn name(&self) -> Result<Name, Error> {
        Name::pinned(&repository(&self.path), self.manifest.digest)
    }
}

/// The repository for the artifact of `path`: the path without `.wasm`, made to fit the rules for names.
fn repository(path: &str) -> String {
    let stem = path.strip_suffix(".wasm").unwrap_or(path);
    let mut components = Vec::new();
    for component in stem.to_lowercase().split('/') {
        let words: Vec<&str> = component
            .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
            .filter(|word| !word.is_empty())
            .collect();
        if !words.is_empty() {
            components.push(words.join("-"));
        }
    }
    let name = components.join("/");
    match name.len() {
        0 => "unnamed".to_owned(),
        1..=255 => name,
        // Too long for a repository: told apart by its digest, which also names what is in it.
        _ => format!("path-{}", &Digest::of(path.as_bytes()).hex()[..16]),
    }
}

/// A path as it stands in a manifest, `./…`, as the plain relative path it means.
fn normalise(path: &str) -> Result<String, String> {
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                return Err(format!(
                    "{path} leads outside the bundle's directory, or seems to"
                ));
            }
            other => components.push(other),
        }
    }
    if components.is_empty() {
        return Err(format!(
            "{path} is the bundle's own directory; put the files into one below it"
        ));
    }
    Ok(components.join("/"))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, items) in [("modules", &self.modules), ("trees", &self.trees)] {
            if items.is_empty() {
                continue;
            }
            writeln!(f, "{title}:")?;
            for item in items {
                writeln!(
                    f,
                    "  {:<32} {:>12} bytes  {}",
                    item.path, item.size, item.image
                )?;
            }
        }
        writeln!(f, "manifests:")?;
        for file in &self.manifests {
            writeln!(f, "  {:<32} {}", file.file, file.objects.join(", "))?;
        }
        write!(f, "{} bytes in all", self.size)
    }
}

#[cfg(test)]
mod tests;
