//! What a manifest describes.
//!
//! Several producers wrap WebAssembly in OCI artifacts, each in its own way; one function tells them
//! apart, by media types alone:
//!
//! | producer | config media type | layers |
//! |---|---|---|
//! | CNCF (`wkg`, `wash`, ours) | `application/vnd.wasm.config.v0+json` | one `application/wasm` |
//! | Spin | OCI image config | `application/vnd.wasm.content.layer.v1+wasm`, beside data and its own config |
//! | runwasi, old | OCI image config | one `application/vnd.bytecodealliance.wasm.….layer.v0+wasm` |
//! | trees of files (ours, `oras push`) | anything but an image's | one tar archive |
//! | container images | OCI's or docker's image config | tar archives |

use crate::media::types;
use crate::{Descriptor, Error, Manifest};

/// What a manifest turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifact {
    /// A WebAssembly module: the layer that holds its bytes.
    Module(Descriptor),
    /// A tree of files: the layer that holds the archive.
    Tree(LayerRef),
    /// A container image. One of a single layer can be mounted as a tree; none can be run.
    Container(Vec<LayerRef>),
    /// The Kubernetes manifests of a bundle.
    Bundle,
}

/// An archive layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRef {
    /// Where its bytes are.
    pub descriptor: Descriptor,
    /// How they are compressed.
    pub encoding: Encoding,
}

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Plain,
    /// By gzip.
    Gzip,
}

/// What an image is going to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A container's program.
    Module,
    /// A volume's files.
    Tree,
}

/// The two binary formats of WebAssembly, told apart by their first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// A core module, version 1.
    Core,
    /// A component, the binary format's layer 1.
    Component,
}

impl ModuleKind {
    /// What the bytes that a file begins with say it is.
    pub fn of(preamble: &[u8]) -> Result<ModuleKind, Error> {
        match preamble {
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(ModuleKind::Core),
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(ModuleKind::Component),
            [0, b'a', b's', b'm', a, b, c, d, ..] => Err(Error::NotWasm(format!(
                "its binary format {a:02x} {b:02x} {c:02x} {d:02x} is neither a core module's nor a component's"
            ))),
            [0, b'a', b's', b'm', ..] => Err(Error::NotWasm("it ends within its first eight bytes".to_owned())),
            [0x7f, b'E', b'L', b'F', ..] => Err(Error::NotWasm("it is a native program (ELF)".to_owned())),
            [] => Err(Error::NotWasm("it is empty".to_owned())),
            _ if is_text_format(preamble) => Err(Error::NotWasm(
                "it is WebAssembly's text format; translate it with `wat2wasm` or `wasm-tools parse`".to_owned(),
            )),
            _ => Err(Error::NotWasm("it does not begin with \\0asm".to_owned())),
        }
    }

    /// The value of `os` in a CNCF artifact's configuration.
    pub(crate) fn os(self) -> &'static str {
        match self {
            ModuleKind::Core => "wasip1",
            ModuleKind::Component => "wasip2",
        }
    }
}

fn is_text_format(preamble: &[u8]) -> bool {
    let text = preamble.trim_ascii_start();
    text.starts_with(b"(modu") || text.starts_with(b"(comp") || text.starts_with(b";;")
}

impl Artifact {
    /// Decides what `manifest` describes. An index is refused: choose a manifest from it first, by
    /// [`Artifact::choose`].
    pub fn recognise(manifest: &Manifest) -> Result<Artifact, Error> {
        if manifest.is_index() {
            return Err(Error::malformed("manifest", "it is an index of manifests"));
        }
        let config = manifest
            .config
            .as_ref()
            .ok_or_else(|| Error::malformed("manifest", "it has no config"))?;
        if manifest.artifact_type.as_deref() == Some(types::BUNDLE) {
            return Ok(Artifact::Bundle);
        }
        let modules: Vec<&Descriptor> = manifest
            .layers
            .iter()
            .filter(|layer| is_wasm(layer))
            .collect();
        match modules[..] {
            [module] => return Ok(Artifact::Module(module.clone())),
            [] => {}
            _ => {
                return Err(Error::NotWasm(format!(
                    "it holds {} modules; an image is one (a Spin application of several components must be pushed component by component)",
                    modules.len()
                )));
            }
        }
        let archives: Option<Vec<LayerRef>> = manifest.layers.iter().map(LayerRef::of).collect();
        let is_image = matches!(
            config.media_type.as_str(),
            types::IMAGE_CONFIG | types::DOCKER_CONFIG
        ) && manifest.artifact_type.as_deref() != Some(types::TREE);
        match archives {
            Some(layers) if is_image => Ok(Artifact::Container(layers)),
            Some(layers) => match <[LayerRef; 1]>::try_from(layers) {
                Ok([layer]) => Ok(Artifact::Tree(layer)),
                Err(layers) => Err(Error::NotTree(format!(
                    "the artifact has {} layers; a tree has one",
                    layers.len()
                ))),
            },
            None => Err(Error::NotWasm(unknown(manifest, config))),
        }
    }

    /// The manifest of an index that can be used here: the one for WebAssembly, else the only one.
    pub fn choose(index: &Manifest) -> Result<&Descriptor, Error> {
        let for_wasm = |d: &&Descriptor| {
            d.platform
                .as_ref()
                .is_some_and(|p| p.architecture == "wasm")
        };
        match (index.manifests.iter().find(for_wasm), &index.manifests[..]) {
            (Some(descriptor), _) => Ok(descriptor),
            (None, [only]) => Ok(only),
            (None, []) => Err(Error::malformed("index", "it lists no manifest")),
            (None, several) => Err(Error::NotWasm(format!(
                "it is an index of {} images, none of them for the architecture wasm",
                several.len()
            ))),
        }
    }

    /// The layer to fetch for what is wanted, or why this artifact does not serve.
    pub fn layer(&self, wanted: Wanted) -> Result<LayerRef, Error> {
        match (self, wanted) {
            (Artifact::Module(descriptor), Wanted::Module) => Ok(LayerRef {
                descriptor: descriptor.clone(),
                encoding: Encoding::Plain,
            }),
            (Artifact::Tree(layer), Wanted::Tree) => Ok(layer.clone()),
            (Artifact::Container(layers), Wanted::Tree) => match &layers[..] {
                [layer] => Ok(layer.clone()),
                _ => Err(Error::NotTree(format!(
                    "it is a container image of {} layers; a tree has one",
                    layers.len()
                ))),
            },
            (Artifact::Container(_), Wanted::Module) => {
                Err(Error::NotWasm("it is a Linux container image".to_owned()))
            }
            (Artifact::Tree(_), Wanted::Module) => Err(Error::NotWasm(
                "it is a tree of files; use it as an image volume".to_owned(),
            )),
            (Artifact::Module(_), Wanted::Tree) => Err(Error::NotTree(
                "it is a WebAssembly module; use it as a container's image".to_owned(),
            )),
            (Artifact::Bundle, Wanted::Module) => Err(Error::NotWasm(
                "it is a bundle's manifests; use `carob deploy`".to_owned(),
            )),
            (Artifact::Bundle, Wanted::Tree) => Err(Error::NotTree(
                "it is a bundle's manifests; use `carob deploy`".to_owned(),
            )),
        }
    }
}

impl LayerRef {
    fn of(descriptor: &Descriptor) -> Option<LayerRef> {
        let encoding = match descriptor.media_type.as_str() {
            types::TAR => Encoding::Plain,
            types::TAR_GZIP | types::DOCKER_TAR_GZIP => Encoding::Gzip,
            _ => return None,
        };
        Some(LayerRef {
            descriptor: descriptor.clone(),
            encoding,
        })
    }
}

fn is_wasm(layer: &Descriptor) -> bool {
    matches!(
        layer.media_type.as_str(),
        types::WASM | types::SPIN_WASM | types::RUNWASI_COMPONENT | types::RUNWASI_MODULE
    )
}

fn unknown(manifest: &Manifest, config: &Descriptor) -> String {
    let layers: Vec<&str> = manifest
        .layers
        .iter()
        .take(4)
        .map(|layer| layer.media_type.as_str())
        .collect();
    format!(
        "the artifact's config is {} and its layers are [{}]",
        manifest
            .artifact_type
            .as_deref()
            .unwrap_or(&config.media_type),
        layers.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> Descriptor {
        Descriptor::of(media_type, media_type.as_bytes())
    }

    fn manifest(config: &str, layers: &[&str]) -> Manifest {
        Manifest::of(
            None,
            descriptor(config),
            layers.iter().map(|l| descriptor(l)).collect(),
        )
    }

    #[test]
    fn every_producer_is_recognised() {
        for (config, layers, module) in [
            (types::WASM_CONFIG, &[types::WASM][..], types::WASM),
            (
                types::IMAGE_CONFIG,
                &[types::RUNWASI_COMPONENT],
                types::RUNWASI_COMPONENT,
            ),
            (
                types::IMAGE_CONFIG,
                &[
                    types::SPIN_CONFIG,
                    types::SPIN_WASM,
                    "application/vnd.wasm.content.layer.v1+data",
                ],
                types::SPIN_WASM,
            ),
        ] {
            let artifact = Artifact::recognise(&manifest(config, layers)).unwrap();
            assert_eq!(artifact, Artifact::Module(descriptor(module)));
            assert!(artifact.layer(Wanted::Module).is_ok());
            assert!(matches!(
                artifact.layer(Wanted::Tree),
                Err(Error::NotTree(_))
            ));
        }
    }

    #[test]
    fn a_container_image_says_what_it_is_and_what_to_do() {
        for config in [types::IMAGE_CONFIG, types::DOCKER_CONFIG] {
            let artifact = Artifact::recognise(&manifest(
                config,
                &[types::TAR_GZIP, types::DOCKER_TAR_GZIP],
            ))
            .unwrap();
            let error = artifact.layer(Wanted::Module).unwrap_err().to_string();
            assert!(error.contains("not a WebAssembly module"), "{error}");
            assert!(error.contains("carob push"), "{error}");
            assert!(artifact.layer(Wanted::Tree).is_err());
        }
        let one = Artifact::recognise(&manifest(types::IMAGE_CONFIG, &[types::TAR_GZIP])).unwrap();
        assert_eq!(one.layer(Wanted::Tree).unwrap().encoding, Encoding::Gzip);
    }

    #[test]
    fn trees_have_one_archive() {
        let one = Artifact::recognise(&manifest(types::EMPTY, &[types::TAR])).unwrap();
        assert!(matches!(one, Artifact::Tree(_)));
        assert!(matches!(one.layer(Wanted::Module), Err(Error::NotWasm(_))));
        assert!(Artifact::recognise(&manifest(types::EMPTY, &[types::TAR, types::TAR])).is_err());
        assert!(Artifact::recognise(&manifest(types::EMPTY, &["text/plain"])).is_err());
        assert!(
            Artifact::recognise(&manifest(
                types::SPIN_CONFIG,
                &[types::SPIN_WASM, types::SPIN_WASM]
            ))
            .is_err()
        );
    }

    #[test]
    fn an_index_is_searched_for_wasm() {
        let mut index = Manifest::of(None, descriptor(types::EMPTY), vec![]);
        index.config = None;
        index.media_type = Some(types::INDEX.to_owned());
        assert!(Artifact::choose(&index).is_err());
        let mut linux = descriptor("linux");
        linux.platform = Some(Platform {
            architecture: "amd64".into(),
            os: "linux".into(),
        });
        index.manifests = vec![linux.clone()];
        assert_eq!(Artifact::choose(&index).unwrap(), &linux);
        index.manifests.push(linux.clone());
        assert!(matches!(Artifact::choose(&index), Err(Error::NotWasm(_))));
        let mut wasm = descriptor("wasm");
        wasm.platform = Some(Platform {
            architecture: "wasm".into(),
            os: "wasip1".into(),
        });
        index.manifests.push(wasm.clone());
        assert_eq!(Artifact::choose(&index).unwrap(), &wasm);
    }

    #[test]
    fn preambles() {
        assert_eq!(
            ModuleKind::of(b"\0asm\x01\0\0\0..").unwrap(),
            ModuleKind::Core
        );
        assert_eq!(
            ModuleKind::of(b"\0asm\x0d\0\x01\0..").unwrap(),
            ModuleKind::Component
        );
        for bad in [
            &b""[..],
            b"\0asm",
            b"\0asm\x02\0\0\0",
            b"\x7fELF\x02\x01\x01\0",
            b"(module)",
            b"#!/bin/sh",
        ] {
            assert!(
                matches!(ModuleKind::of(bad), Err(Error::NotWasm(_))),
                "{bad:?}"
            );
        }
    }

    use crate::Platform;
}
