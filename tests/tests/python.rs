//! The Python client for Kubernetes, as it comes from PyPI, against a real cluster.
//!
//! It is installed into an environment of its own below `target`, at pinned versions, each file by its digest.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use carob_tests::{Case, Cluster, Outcome, succeed};
use libtest_mimic::Failed;

const CASES: &[Case] = &[("the_python_client_works", works)];

fn main() {
    let mut python = Command::new("python3");
    python.args(["-c", "import ensurepip, venv"]);
    let there = succeed(&mut python).is_ok() || std::env::var_os("CI").is_some();
    carob_tests::run_if(there, "python3 with venv is missing", CASES);
}

/// What is installed, and what it does.
const REQUIREMENTS: &str = "tests/clients/requirements.txt";
const SCRIPT: &str = "tests/clients/python.py";

fn works(cluster: &Cluster) -> Outcome {
    let python = environment()?;
    let mut script = Command::new(python);
    script
        .arg(carob_tests::root().join(SCRIPT))
        .env("KUBECONFIG", cluster.kubeconfig());
    succeed(&mut script).map(drop)
}

/// The interpreter of an environment that has the client.
fn environment() -> Result<PathBuf, Failed> {
    let root = carob_tests::root();
    let dir = root.join("target/python-client");
    let (python, done) = (dir.join("bin/python"), dir.join("requirements.txt"));
    let wanted = fs::read(root.join(REQUIREMENTS))?;
    // Written last: an installation that was interrupted is made anew.
    if python.exists() && fs::read(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&dir);
    succeed(&mut make)
        .map_err(|error| because("python3 with its module venv is needed", &error))?;
    let mut install = Command::new(&python);
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args([
            "--only-binary",
            ":all:",
            "--require-hashes",
            "--requirement",
        ])
        .arg(root.join(REQUIREMENTS));
    succeed(&mut install)
        .map_err(|error| because("pip cannot install the Kubernetes client from PyPI", &error))?;
    fs::write(&done, wanted)?;
    Ok(python)
}

fn because(what: &str, error: &Failed) -> Failed {
    format!("{what}: {}", error.message().unwrap_or_default()).into()
}
