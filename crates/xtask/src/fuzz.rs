//! `cargo xtask fuzz`: the proofs with random cases, for as long as one likes.

use anyhow::{Result, ensure};
use clap::Args;

use crate::{project, step};

#[derive(Args)]
pub(crate) struct Arguments {
    /// How long each of them goes on
    #[arg(default_value_t = 30)]
    seconds: u64,
    /// Only those whose names contain this
    name: Option<String>,
}

/// Where they are: the package and the test.
const PROOFS: &[(&str, &str)] = &[
    ("api", "proofs"),
    ("apiserver", "requests"),
    ("network", "proofs"),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.seconds > 0, "it takes a second at least");
    for (package, test) in PROOFS {
        let mut proofs = project::cargo();
        proofs.args(["test", "--release", "--package", package, "--test", test]);
        proofs.arg("--").args(&arguments.name);
        proofs.env("PROOF_SECONDS", arguments.seconds.to_string());
        step::stream(&mut proofs)?;
    }
    Ok(())
}
