//! Where things are in the repository.

use std::env;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2);
    root.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// The directory of everything that is built.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The release binary.
pub(crate) fn carob() -> PathBuf {
    target().join("release/carob")
}

/// The directory of the examples.
pub(crate) fn examples() -> PathBuf {
    root().join("examples")
}

/// Cargo, the same one that runs this, at the repository's root.
///
/// It hears nothing of what `cargo run` tells this program about its package: build scripts that look at that would run
/// again, and all that needs them be compiled again, whenever Cargo is called now by this and now by hand.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The command that builds the release binary and these others, as the tests build them: of the whole workspace, with the
/// features that tests add to dependencies. Built otherwise, most of them would be compiled anew here, and again for the
/// next test. Cargo adds these features only where it builds a test: the one that needs least.
pub(crate) fn build(bins: &[String]) -> Command {
    let mut command = cargo();
    command.args(["build", "--release", "--workspace", "--test", "tidy"]);
    for bin in iter::once("carob").chain(bins.iter().map(String::as_str)) {
        command.args(["--bin", bin]);
    }
    command
}
