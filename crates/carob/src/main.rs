//! `carob`: WebAssembly pods the way Kubernetes runs containers, in one binary.
//!
//! The command line, and the only place where the project's parts are put together. Every
//! subcommand is a file of its own; `cli` declares them, `main` dispatches.

use std::process::ExitCode;

use clap::Parser;

mod apply;
mod cli;
mod commands;
mod daemon;
mod interruption;
mod joining;
mod local;
mod logging;
mod output;
mod peer_http;
mod progress;
mod registry;
mod server;
mod target;
mod version;
mod worker;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code for "what was asked could not be done"; clap itself exits with 2 on wrong usage.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    if let Err(error) = version::check_platform() {
        eprintln!("error: {error}");
        return ExitCode::from(FAILED);
    }
    // The provider is process-wide state; libraries that build TLS configurations on their own
    // name it explicitly, tonic relies on this default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    output::end_quietly_when_nobody_reads();
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", in_one_line(&error));
            ExitCode::from(FAILED)
        }
    }
}

/// What went wrong and why, each cause once: some errors tell their own already.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let first = causes.next().unwrap_or_default();
    causes.fold(first, |said, cause| match said.ends_with(&cause) {
        true => said,
        false => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let io = || std::io::Error::other("disk full");
        let told = anyhow::Error::new(io()).context("a.wasm: disk full");
        assert_eq!(in_one_line(&told), "a.wasm: disk full");
        let untold = anyhow::Error::new(io())
            .context("cannot write")
            .context("b");
        assert_eq!(in_one_line(&untold), "b: cannot write: disk full");
    }
}
