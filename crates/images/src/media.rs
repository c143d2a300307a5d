//! OCI's documents, as far as they are read here: descriptors, manifests and indexes.
//!
//! Source: the OCI image specification 1.1, `manifest.md`, `image-index.md`, `descriptor.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, MAX_MANIFEST};

/// The media types that are understood.
pub mod types {
    /// A manifest of one image or artifact.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// A list of manifests.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's form of a manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's form of an index.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The configuration of a container image.
    pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker's form of a container image's configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// The empty configuration, `{}`.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// The configuration of CNCF's Wasm artifact.
    pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
    /// The layer of CNCF's Wasm artifact: the module's raw bytes.
    pub const WASM: &str = "application/wasm";
    /// A module in a Spin application.
    pub const SPIN_WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";
    /// A Spin application's own configuration.
    pub const SPIN_CONFIG: &str = "application/vnd.fermyon.spin.application.v1+config";
    /// A module in runwasi's old layout, a component.
    pub const RUNWASI_COMPONENT: &str =
        "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
    /// A module in runwasi's old layout, a core module.
    pub const RUNWASI_MODULE: &str = "application/vnd.bytecodealliance.wasm.module.layer.v0+wasm";
    /// A directory as a tar archive.
    pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A directory as a gzipped tar archive.
    pub const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// Docker's form of a gzipped tar archive.
    pub const DOCKER_TAR_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// The artifact type of a tree of files.
    pub const TREE: &str = "application/vnd.carob.tree.v1";
    /// The artifact type of a bundle's Kubernetes manifests.
    pub const BUNDLE: &str = "application/vnd.carob.bundle.v1";
    /// The configuration of a bundle: which module stands behind which path.
    pub const BUNDLE_CONFIG: &str = "application/vnd.carob.bundle.config.v1+json";
    /// One file of Kubernetes manifests in a bundle.
    pub const YAML: &str = "application/yaml";
    /// What carries a layer's file name, by convention of all OCI tools.
    pub const TITLE: &str = "org.opencontainers.image.title";
    /// What carries an image's name in a layout's index.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
}

/// Names content: its type, digest and length in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's media type.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// In an index: the artifact type of the manifest named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// In an index: what the manifest's image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Whatever else is known, such as a file's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Names `content`.
    pub fn of(media_type: &str, content: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(content), content.len() as u64)
    }

    /// Names content by its digest and length.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `wasm`, `amd64`, …
    #[serde(default)]
    pub architecture: String,
    /// `wasip1`, `wasip2`, `wasi`, `linux`, …
    #[serde(default)]
    pub os: String,
}

/// A manifest or an index: the fields of both, as told apart by [`Manifest::is_index`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Which of the two this is. Older tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What the artifact is, where its configuration does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// A manifest's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Descriptor>,
    /// A manifest's content, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Descriptor>,
    /// An index's manifests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Descriptor>,
    /// What this is about: a signature's image, for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Whatever else is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads a manifest or an index of at most [`MAX_MANIFEST`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, Error> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(Error::too_large_manifest("a manifest"));
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| Error::malformed("manifest", error))?;
        if manifest.schema_version != 2 {
            return Err(Error::malformed(
                "manifest",
                format!(
                    "schemaVersion {} is not understood, only 2",
                    manifest.schema_version
                ),
            ));
        }
        if manifest.config.is_some() && !manifest.manifests.is_empty() {
            return Err(Error::malformed(
                "manifest",
                "it has both a config and manifests",
            ));
        }
        Ok(manifest)
    }

    /// A manifest of `config` and `layers`.
    pub fn of(
        artifact_type: Option<&str>,
        config: Descriptor,
        layers: Vec<Descriptor>,
    ) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(types::MANIFEST.to_owned()),
            artifact_type: artifact_type.map(str::to_owned),
            config: Some(config),
            layers,
            manifests: Vec::new(),
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether this is a list of manifests.
    pub fn is_index(&self) -> bool {
        match self.media_type.as_deref() {
            Some(types::INDEX | types::DOCKER_INDEX) => true,
            Some(_) => false,
            None => self.config.is_none(),
        }
    }

    /// The media type to serve this under.
    pub fn content_type(&self) -> &str {
        match &self.media_type {
            Some(media_type) => media_type,
            None if self.is_index() => types::INDEX,
            None => types::MANIFEST,
        }
    }

    /// All content that must be there for this to be complete, besides a subject, which need not be.
    pub fn references(&self) -> impl Iterator<Item = &Descriptor> {
        self.config
            .iter()
            .chain(&self.layers)
            .chain(&self.manifests)
    }

    /// The bytes that are pushed and digested.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest holds only strings, numbers, lists and maps")
    }
}
