//! A bundle's source directory: which files are manifests, and what they name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::documents::{Named, parse};
use crate::error::At;
use crate::{Error, MAX_MANIFEST};

/// What a source directory comes to.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) root: PathBuf,
    /// The YAML files: path in the directory, and text.
    pub(super) manifests: Vec<(String, String)>,
    /// The modules' paths.
    pub(super) modules: BTreeSet<String>,
    /// The trees' paths.
    pub(super) trees: BTreeSet<String>,
}

const MAX_DEPTH: usize = 64;

impl Source {
    /// Looks through `dir`. `*.yaml` and `*.yml` anywhere in it are manifests, except in hidden directories
    /// and in those that a volume mounts: what lies there is a program's data.
    pub(super) fn read(dir: &Path) -> Result<Source, Error> {
        let root = dir.canonicalize().at(dir)?;
        if !root.is_dir() {
            return Err(Error::Bundle(format!(
                "{} is not a directory",
                dir.display()
            )));
        }
        let mut files = Vec::new();
        find(&root, "", 0, &mut files)?;
        // Shallow ones first: they name the trees that hide what lies deeper.
        files.sort_by_key(|file| (file.matches('/').count(), file.clone()));
        let mut manifests = Vec::new();
        let mut trees = BTreeSet::new();
        for file in files {
            if is_inside(&file, &trees) {
                continue;
            }
            let text = read_text(&root, &file)?;
            // A file that does not parse may still turn out to be data; it is judged below.
            for document in parse(&file, &text).unwrap_or_default() {
                trees.extend(document.trees());
            }
            manifests.push((file, text));
        }
        manifests.retain(|(file, _)| !is_inside(file, &trees));
        let mut source = Source {
            root,
            manifests,
            modules: BTreeSet::new(),
            trees: BTreeSet::new(),
        };
        // Still shallow ones first: if one cannot be read, the data that it would have named is not blamed.
        source.judge(dir)?;
        source.manifests.sort();
        Ok(source)
    }

    /// Reads the manifests again, now for good, and checks that what they name is there.
    fn judge(&mut self, dir: &Path) -> Result<(), Error> {
        let mut objects = 0;
        for (file, text) in &self.manifests {
            for document in parse(file, text)? {
                for named in document.named()? {
                    check(&self.root, &named).map_err(|reason| document.error(&named, reason))?;
                    match named {
                        Named::Module(path) => self.modules.insert(path),
                        Named::Tree(path) => self.trees.insert(path),
                    };
                }
                objects += 1;
            }
        }
        if objects == 0 {
            return Err(Error::Bundle(format!(
                "{} holds no Kubernetes manifest (*.yaml)",
                dir.display()
            )));
        }
        Ok(())
    }
}

fn check(root: &Path, named: &Named) -> Result<(), String> {
    let (Named::Module(path) | Named::Tree(path)) = named;
    let file = root.join(path);
    let real = file.canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("./{path} is not there"),
        _ => format!("./{path}: {error}"),
    })?;
    if !real.starts_with(root) {
        return Err(format!("./{path} leads outside the bundle's directory"));
    }
    match named {
        Named::Module(_) if real.is_dir() => {
            Err(format!("./{path} is a directory; an image is a .wasm file"))
        }
        Named::Module(_) => crate::Upload::module(&file)
            .map(drop)
            .map_err(|error| format!("./{path}: {error}")),
        Named::Tree(_) if real.is_dir() => Ok(()),
        Named::Tree(_) => Err(format!(
            "./{path} is a file; an image volume is a directory"
        )),
    }
}

fn is_inside(file: &str, trees: &BTreeSet<String>) -> bool {
    let mut path = file;
    while let Some((parent, _)) = path.rsplit_once('/') {
        if trees.contains(parent) {
            return true;
        }
        path = parent;
    }
    false
}

fn find(root: &Path, below: &str, depth: usize, files: &mut Vec<String>) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Bundle(format!("{below} is nested too deep")));
    }
    let dir = root.join(below);
    for entry in fs::read_dir(&dir).at(&dir)? {
        let entry = entry.at(&dir)?;
        let kind = entry.file_type().at(&dir)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue; // no path in a manifest can name it
        };
        if name.starts_with('.') {
            continue;
        }
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if kind.is_dir() {
            find(root, &path, depth + 1, files)?;
        } else if path.ends_with(".yaml") || path.ends_with(".yml") {
            files.push(path);
        }
    }
    Ok(())
}

fn read_text(root: &Path, file: &str) -> Result<String, Error> {
    let path = root.join(file);
    let mut bytes = Vec::new();
    File::open(&path)
        .at(&path)?
        .take(MAX_MANIFEST + 1)
        .read_to_end(&mut bytes)
        .at(&path)?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(Error::too_large_manifest(file));
    }
    String::from_utf8(bytes).map_err(|error| Error::Manifest {
        file: file.to_owned(),
        line: 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count(),
        reason: "this is not UTF-8".to_owned(),
    })
}
