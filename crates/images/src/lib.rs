//! References, content-addressed blobs, OCI artifacts, the cluster's registry, and bundles.
//!
//! This crate knows what an image *is* — a WebAssembly module or a tree of files, wrapped in an OCI
//! manifest — and never what becomes of one: it has no notion of pods, and knows nothing of wasmtime.
//!
//! | part | what it does |
//! |---|---|
//! | [`Reference`], [`Digest`] | the names of images and of content |
//! | [`Blobs`] | a directory of content-addressed files, each durable before it is there |
//! | [`Hold`] | keeps content from being taken away while somebody needs it |
//! | [`Artifact`], [`Wanted`] | decides what a manifest describes: a module, a tree, a container image |
//! | [`Upload`] | an artifact ready to be pushed: its blobs and its manifest |
//! | [`tree`] | packs and unpacks trees of files |
//! | [`pull()`] | fetches an image by a [`Source`] into [`Blobs`], every byte checked |
//! | [`registry`] | the OCI distribution API over [`Blobs`], with [`registry::Tags`] and [`registry::Peers`] as its seams |
//! | [`bundle`] | many modules, trees and Kubernetes manifests in one reproducible, verified file |
//!
//! Nothing that is read is trusted: sizes are bounded before memory is taken, digests are compared before
//! content is used, and no archive may name a path outside the directory it is unpacked into.

pub mod bundle;
pub mod registry;
pub mod tree;

mod artifact;
mod blobs;
mod digest;
mod error;
mod hold;
mod media;
mod pull;
mod reference;
mod upload;

pub use artifact::{Artifact, Encoding, LayerRef, ModuleKind, Wanted};
pub use blobs::{BlobWriter, Blobs, Stored};
pub use digest::{Digest, Hasher};
pub use error::Error;
pub use hold::Hold;
pub use media::{Descriptor, Manifest, Platform, types as media_types};
pub use pull::{Pulled, Reader, Source, pull};
pub use reference::{Name, Reference};
pub use upload::{Blob, Content, Upload};

/// The largest manifest, index or configuration that is read, in bytes (what the OCI specification asks
/// registries to accept at least).
pub const MAX_MANIFEST: u64 = 4 << 20;

/// The largest single blob that is taken, in bytes.
pub const MAX_BLOB: u64 = 4 << 30;
