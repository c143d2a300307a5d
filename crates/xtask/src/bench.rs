//! `cargo xtask bench`: measures, in release builds.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{MetadataCommand, TargetKind};
use clap::Args;

use crate::{guests, project, step};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The benchmarks to run; all of them if none is named
    names: Vec<String>,
    /// Only say which there are
    #[arg(long)]
    list: bool,
    /// Passed on to the one that is named, such as its sizes
    #[arg(last = true)]
    rest: Vec<OsString>,
}

/// The package that holds the benchmarks, each a program of its own.
const PACKAGE: &str = "carob-bench";

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let all = benchmarks()?;
    if arguments.list {
        all.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    if let Some(unknown) = arguments.names.iter().find(|name| !all.contains(name)) {
        bail!(
            "there is no benchmark {unknown:?}; there are: {}",
            all.join(", ")
        );
    }
    if !arguments.rest.is_empty() && arguments.names.len() != 1 {
        bail!("arguments are for one benchmark: name it");
    }
    let chosen = if arguments.names.is_empty() {
        &all
    } else {
        &arguments.names
    };
    guests::build()?;
    step::stream(&mut project::build(chosen))?;
    let mut failed = Vec::new();
    for name in chosen {
        let mut command = Command::new(project::target().join("release").join(name));
        command
            .args(&arguments.rest)
            .env("CAROB", project::carob())
            .current_dir(project::root());
        if let Err(error) = step::stream(&mut command) {
            eprintln!("{error:#}");
            failed.push(name.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("these benchmarks failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The names of all benchmarks.
fn benchmarks() -> Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(project::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot read the workspace")?;
    let mut names: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| package.name.as_str() == PACKAGE)
        .flat_map(|package| &package.targets)
        .filter(|target| target.kind.contains(&TargetKind::Bin))
        .map(|target| target.name.clone())
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("bench/ holds no benchmark");
    }
    Ok(names)
}
