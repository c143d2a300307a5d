//! What containers print: one directory a container, files in the CRI's form (`TIME STREAM F|P TEXT`).
//!
//! The files of an instance are numbered, `ATTEMPT.NUMBER.log`: rotation begins the next number and removes the oldest,
//! so that whoever reads one is never overtaken by a renaming. Files stay until the pod's object is gone.

mod line;
mod read;
mod write;

pub(crate) use line::{Line, Stream};
pub(crate) use read::{Options, Reading, last};
pub(crate) use write::{Log, Progress};

use std::io;
use std::path::{Path, PathBuf};

use crate::remove::{list, remove_file};

/// A file's size at which the next one is begun.
const FILE_SIZE: u64 = 10 << 20;
/// How many files of an instance are kept.
const FILES: usize = 5;

/// The numbers of the files that an instance has in `dir`, ascending.
fn numbers(dir: &Path, attempt: u32) -> io::Result<Vec<u64>> {
    let prefix = format!("{attempt}.");
    let mut all = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
        other => other?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|n| n.strip_prefix(&prefix)?.strip_suffix(".log")?.parse().ok());
        all.extend(number);
    }
    all.sort_unstable();
    Ok(all)
}

fn file(dir: &Path, attempt: u32, number: u64) -> PathBuf {
    dir.join(format!("{attempt}.{number}.log"))
}

/// Removes the logs of all instances before `oldest`, unless somebody else does.
///
/// # Errors
/// When the file system says no.
pub(crate) fn prune(dir: &Path, oldest: u32) -> io::Result<()> {
    before(dir, oldest)?
        .iter()
        .try_for_each(|file| remove_file(file))
}

/// The logs of all instances before `oldest`.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn before(dir: &Path, oldest: u32) -> io::Result<Vec<PathBuf>> {
    list(dir, |name| {
        let attempt = name.and_then(|name| name.split('.').next()?.parse::<u32>().ok());
        attempt.is_some_and(|attempt| attempt < oldest)
    })
}
