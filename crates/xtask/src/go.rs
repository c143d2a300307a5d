//! Go programs, built by a Go toolchain that `packages` has fetched.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::step::Step;
use crate::{packages, project};

/// Makes the tools of an unpacked toolchain programs again, which archives of Python's kind do not say.
pub(crate) fn make_executable(toolchain: &Path) -> Result<()> {
    let mut directories = list(&toolchain.join("pkg/tool"))?;
    directories.push(toolchain.join("bin"));
    for directory in directories {
        for tool in list(&directory)? {
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("cannot make {} a program", tool.display()))?;
        }
    }
    Ok(())
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let paths: std::io::Result<_> = entries.map(|entry| Ok(entry?.path())).collect();
    Ok(paths?)
}

/// The digests of the sources that lie beside `module`.
pub(crate) fn sources(module: &Path) -> Result<String> {
    let source = module.parent().context("the module lies in no directory")?;
    let mut files = list(source)?;
    files.sort();
    let mut digests = Vec::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.ends_with(".go") || name == "go.mod") {
            let digest = packages::digest(&file);
            digests.push(digest.with_context(|| format!("cannot read {}", file.display()))?);
        }
    }
    Ok(digests.join(" "))
}

/// Builds the program that lies beside `module` for WASI preview 1: from Go's standard library alone, without a
/// network. What has been compiled once is kept below the target directory.
pub(crate) fn build(step: &Step, toolchain: &Path, module: &Path) -> Result<()> {
    let cache = project::target().join("go");
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let source = module.parent().context("the module lies in no directory")?;
    let mut command = Command::new(toolchain.join("bin/go"));
    command
        .args([
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags=-s -w",
            "-o",
        ])
        .arg(module)
        .arg(".")
        .current_dir(source)
        .env("GOROOT", toolchain)
        .env("GOPATH", cache.join("path"))
        .env("GOMODCACHE", cache.join("modules"))
        .env("GOCACHE", cache.join("compiled"))
        .env("GOENV", "off")
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOTELEMETRY", "off")
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm");
    step.run(&mut command)
}
