//! `cargo xtask test`: everything that can be tested on this machine.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::{guests, kubectl, packages, project, step};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Passed on to `cargo test`, such as a test's name
    #[arg(last = true)]
    rest: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut left_out = Vec::new();
    match kubectl::version() {
        Ok(version) => eprintln!("kubectl {version}"),
        Err(reason) if env::var_os("CI").is_some_and(|ci| ci == "true") => {
            bail!("in CI the tests with kubectl must run, and {reason}")
        }
        Err(reason) => left_out.push(format!("EVERYTHING THAT NEEDS KUBECTL: {reason}")),
    }
    if !has_python() {
        left_out.push("the Python client: there is no python3 with venv".to_owned());
    }
    guests::build()?;
    for package in packages::fetch_all()? {
        left_out.push(format!("what needs {package}, which cannot be fetched"));
    }
    // Said twice: nobody scrolls back for the first.
    warn(&left_out);
    // One graph for the binary and the tests: built alone, the binary would not need the features
    // that the tests add to its dependencies, and everything would be compiled twice.
    let mut build = project::cargo();
    step::stream(build.args(["build", "--release", "--workspace", "--bins", "--tests"]))?;
    let mut tests = project::cargo();
    tests
        .args(["test", "--release", "--workspace"])
        .args(&arguments.rest);
    tests.env("CAROB", project::carob());
    let result = step::stream(&mut tests);
    warn(&left_out);
    result
}

/// Whether the Python client can be installed; in CI its test runs and says why it cannot.
fn has_python() -> bool {
    let asked = Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .output();
    asked.is_ok_and(|output| output.status.success())
}

fn warn(left_out: &[String]) {
    for part in left_out {
        eprintln!("\nWARNING: LEFT OUT: {part}\n");
    }
}
