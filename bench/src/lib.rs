//! What the benchmarks share: a cluster of real processes that is taken down whatever happens, what
//! its processes cost, and the form in which figures are printed.
//!
//! Each benchmark is a program of its own. It prints one line of conditions, then one line
//! `NAME: VALUE UNIT` for each figure, followed by `(RATIO × PEER)` where a peer was measured in
//! the same run. A slow run is a figure, not a failure; only what could not be measured fails.
//! The binary that is measured is named by `CAROB`, which `cargo xtask bench` sets.

mod cluster;
mod cost;
mod figures;
pub mod first;
mod guests;
pub mod metrics;
mod modules;
pub mod pods;
mod printed;

pub use cluster::{Cluster, Part, Process};
pub use cost::{Holdings, Memory, age, cpu_seconds, holdings, memory, raise_open_files};
pub use figures::{Conditions, Samples, figure};
pub use guests::{Built, built, source};
pub use modules::{NOTHING, SLEEPING, SPINNING, pod, push};
pub use printed::Printed;

use std::future::Future;
use std::process::ExitCode;

use anyhow::{Context, Result};

/// Runs a benchmark, and prints why it could not be done if so.
pub fn main(benchmark: impl Future<Output = Result<()>>) -> ExitCode {
    let run = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("no runtime")?
            .block_on(benchmark)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
