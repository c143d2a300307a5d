//! Tries what a guest may expect of files, clocks and random numbers, and says of each whether it holds.
//!
//!     inspector [DIRECTORY [PATH...]]
//!
//! Files are tried in a new directory in DIRECTORY, which is the working directory if none is given; it is removed in
//! the end. Each PATH is to be refused, as one that leads out of the mount that it begins in. The first thing that
//! does not hold ends it with exit code 1.

mod directories;
mod escapes;
mod files;
mod others;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why something does not hold.
type Verdict = Result<(), Box<dyn Error>>;

/// Something that should hold, tried in an empty directory.
type Check = (&'static str, fn(&Path) -> Verdict);

/// Ends a check where a condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err(format!($($why)+).into());
        }
    };
}
use ensure;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let directory = arguments.next().unwrap_or_else(|| ".".into());
    let checks = [files::CHECKS, directories::CHECKS, escapes::CHECKS, others::CHECKS].concat();
    for (name, check) in checks {
        if !told(name, inside(&directory, check)) {
            return ExitCode::FAILURE;
        }
    }
    for path in arguments {
        let name = format!("{} leads nowhere", path.display());
        if !told(&name, escapes::is_refused(&path)) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Prints a verdict; whether it is a good one.
fn told(name: &str, verdict: Verdict) -> bool {
    match &verdict {
        Ok(()) => println!("ok: {name}"),
        Err(why) => println!("FAILED: {name}: {why}"),
    }
    verdict.is_ok()
}

/// Runs a check in a directory of its own.
fn inside(directory: &Path, check: fn(&Path) -> Verdict) -> Verdict {
    let own = directory.join("inspected");
    fs::create_dir(&own)?;
    let verdict = check(&own);
    fs::remove_dir_all(&own)?;
    verdict
}
