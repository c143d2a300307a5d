//! `cargo xtask guests`: builds the example guests and puts them where the examples' manifests name them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::step;
use crate::{packages, project};

const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];

pub(crate) fn run() -> Result<()> {
    for (name, module) in build()? {
        println!("{name}: {}", module.display());
    }
    Ok(())
}

/// Builds all guests; gives each one's module by its name.
pub(crate) fn build() -> Result<BTreeMap<String, PathBuf>> {
    for target in TARGETS {
        add_target(target)?;
    }
    let manifest = project::examples().join("guests/Cargo.toml");
    let target_dir = project::target().join("guests");
    let mut modules = BTreeMap::new();
    for (target, names) in guests(&manifest)? {
        let mut command = project::cargo();
        command.args(["build", "--release", "--locked", "--target", &target]);
        command
            .arg("--manifest-path")
            .arg(&manifest)
            .arg("--target-dir")
            .arg(&target_dir);
        for name in &names {
            command.args(["--package", name]);
        }
        step::run(&format!("building the guests for {target}"), &mut command)?;
        for name in names {
            let module = target_dir
                .join(&target)
                .join("release")
                .join(format!("{name}.wasm"));
            modules.insert(name, module);
        }
    }
    for example in examples()? {
        place(&example, &modules)?;
    }
    Ok(modules)
}

/// The guests' names by their targets, as their packages say in `package.metadata.carob.target`.
fn guests(manifest: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let mut guests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata.packages {
        let target = package
            .metadata
            .pointer("/carob/target")
            .and_then(|target| target.as_str());
        match target {
            Some(target) if TARGETS.contains(&target) => {
                guests
                    .entry(target.to_owned())
                    .or_default()
                    .push(package.name.to_string());
            }
            _ => bail!(
                "{} does not say its target: want package.metadata.carob.target = {:?} or {:?}",
                package.manifest_path,
                TARGETS[0],
                TARGETS[1]
            ),
        }
    }
    Ok(guests)
}

/// Makes sure that Rust's standard library for `target` is installed.
fn add_target(target: &str) -> Result<()> {
    let sysroot = step::output(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(project::root()),
    )?;
    let library = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(target)
        .join("lib");
    if library.is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup
        .args(["target", "add", target])
        .current_dir(project::root());
    step::run(&format!("adding the target {target}"), &mut rustup).with_context(|| {
        format!(
            "the example guests need Rust's standard library for {target}, and rustup could not add it. With a \
             network and rustup (https://rustup.rs), run `rustup target add {target}`; with a Rust from elsewhere, \
             install its package of that target's standard library"
        )
    })
}

/// The directories that are sources of bundles.
fn examples() -> Result<Vec<PathBuf>> {
    let mut examples = Vec::new();
    let dir = project::examples();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("guests") {
            examples.push(path);
        }
    }
    examples.sort();
    Ok(examples)
}

/// Copies into the example those modules that its manifests name.
fn place(example: &Path, modules: &BTreeMap<String, PathBuf>) -> Result<()> {
    let mut manifests = String::new();
    for entry in fs::read_dir(example)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            manifests += &fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    for (name, module) in modules {
        let file = format!("{name}.wasm");
        if manifests.contains(&format!("image: ./{file}")) {
            packages::copy(module, &example.join(file))?;
        }
    }
    Ok(())
}
