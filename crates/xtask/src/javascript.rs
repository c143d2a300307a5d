//! Makes a component of the JavaScript in `examples/javascript`, by ComponentizeJS from npm.
//!
//! npm installs what the lock file there names, each package by its digest, and is let run none of their scripts. The
//! installation is hundreds of megabytes: it goes once the component is made, which stays until one of its sources changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;
use sha2::{Digest, Sha256};

use crate::{packages, project, step};

/// What the component is made of, in the example's directory.
const SOURCES: [&str; 3] = ["package.json", "package-lock.json", "words.js"];
const COMPONENT: &str = "words.wasm";
const COMPONENTIZE: &str = "node_modules/@bytecodealliance/componentize-js/src/cli.js";

/// The crate by which our own guests have WASI's interfaces, and the interfaces' version there.
const INTERFACES: &str = "wasip2";
const THERE: &str = "0.2.12";
/// The version of which ComponentizeJS' engine exports its handler. It is a part of the export's name: in a world of any
/// other nothing is found. What was added in between, this engine does not ask for.
const ENGINE: &str = "0.2.10";

/// Makes the component, unless it was made of these very sources.
pub(crate) fn build() -> Result<()> {
    let example = project::examples().join("javascript");
    let dir = project::target().join("packages/javascript");
    let (stamp, component) = (dir.join(".made"), example.join(COMPONENT));
    let made_of = digest(&example)?;
    if component.exists() && fs::read_to_string(&stamp).is_ok_and(|text| text == made_of) {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    for source in SOURCES {
        packages::copy(&example.join(source), &dir.join(source))?;
    }
    install(&dir)?;
    write_world(&interfaces()?, &dir.join("wit"))?;
    let mut componentize = Command::new("node");
    componentize
        .args([COMPONENTIZE, "--wit", "wit", "--world-name", "function"])
        .args(["-o", COMPONENT, "words.js"])
        .current_dir(&dir);
    step::run("making a component of words.js", &mut componentize)?;
    packages::copy(&dir.join(COMPONENT), &component)?;
    fs::remove_dir_all(dir.join("node_modules"))?;
    fs::write(&stamp, made_of).with_context(|| format!("cannot write {}", stamp.display()))
}

fn install(dir: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(dir);
    step::run("installing ComponentizeJS from npm's registry", &mut npm)
}

/// The directory of WASI's interfaces.
fn interfaces() -> Result<PathBuf> {
    let guests = project::examples().join("guests/Cargo.toml");
    let metadata = MetadataCommand::new()
        .manifest_path(&guests)
        .exec()
        .with_context(|| format!("cannot read {}", guests.display()))?;
    let mut packages = metadata.packages.iter();
    let package = packages.find(|package| package.name.as_str() == INTERFACES);
    let manifest = &package
        .context("no guest has WASI's interfaces")?
        .manifest_path;
    Ok(manifest.with_file_name("wit").join("deps").into())
}

/// The world that the component is made for: it is asked by HTTP. What it imports is the engine's own affair.
fn write_world(interfaces: &Path, wit: &Path) -> Result<()> {
    let deps = wit.join("deps");
    fs::create_dir_all(&deps).with_context(|| format!("cannot make {}", deps.display()))?;
    for entry in
        fs::read_dir(interfaces).with_context(|| format!("cannot read {}", interfaces.display()))?
    {
        let entry = entry?;
        let package = fs::read_to_string(entry.path())?.replace(THERE, ENGINE);
        fs::write(deps.join(entry.file_name()), package)?;
    }
    let world = format!(
        "package carob:example;\n\nworld function {{\n  export wasi:http/incoming-handler@{ENGINE};\n}}\n"
    );
    fs::write(wit.join("world.wit"), world).context("cannot write the component's world")
}

fn digest(example: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for source in SOURCES {
        let path = example.join(source);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    Ok(hex::encode(hasher.finalize()))
}
