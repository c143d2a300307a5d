//! Programs of this repository that are measured as guests, built where they are asked for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use runtime::{Handler, ModuleSource};
use sha2::{Digest as _, Sha256};

/// For what a program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Built {
    /// A component of WASI 0.2.
    Component,
    /// This machine itself.
    Native,
}

const COMPONENT: &str = "wasm32-wasip2";

/// Builds the program in a directory of the repository, and says where `file` of it lies.
pub fn built(directory: &str, file: &str, what: Built) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut into = root.join("target/guests");
    let mut command = Command::new("cargo");
    command.args(["build", "--quiet", "--release", "--locked", "--target-dir"]);
    command.arg(&into);
    if what == Built::Component {
        command.args(["--target", COMPONENT]);
        into.push(COMPONENT);
    }
    let done = command.current_dir(root.join(directory)).status();
    ensure!(
        done.context("cargo")?.success(),
        "{directory} cannot be built: `rustup target add {COMPONENT}`?"
    );
    Ok(into.join("release").join(file))
}

/// What the runtime has to know of a module's file.
pub fn source(path: &Path) -> Result<ModuleSource> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(ModuleSource {
        path: path.to_owned(),
        digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))),
        keep: true,
        handler: Handler::default(),
    })
}
