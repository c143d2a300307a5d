//! The log's files and their names.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use crate::Error;

/// The usual size of a segment. One command larger than this has a segment of its own size.
pub(super) const SEGMENT_BYTES: u64 = 16 << 20;
/// The size of a member's very first segment, which a new cluster waits for.
pub(super) const FIRST_SEGMENT_BYTES: u64 = 2 << 20;
const ZEROS: usize = 1 << 20;

/// A segment's path.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.wal"))
}

/// The numbers of all segments in `dir`, in order.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(dir).map_err(|error| Error::io(dir, error))? {
        let name = file.map_err(|error| Error::io(dir, error))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".wal"));
        numbers.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Creates a segment: zeros, really written, so that a later `fdatasync` has no metadata to write. Durable on return.
pub(super) fn create(dir: &Path, number: u64, bytes: u64) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path(dir, number))?;
    let zeros = vec![0; ZEROS];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(ZEROS as u64) as usize;
        file.write_all(&zeros[..now])?;
        left -= now as u64;
    }
    file.sync_all()?;
    sync_dir(dir)?;
    Ok(file)
}

pub(super) fn open(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path(dir, number))
}

/// Writes zeros from `at` to the end of `segment`, whose present bytes are `bytes`, and syncs.
pub(super) fn clear_tail(segment: &File, bytes: &[u8], at: usize) -> io::Result<()> {
    let tail = bytes.get(at..).unwrap_or_default();
    let chunks = tail.chunks(ZEROS);
    let zeros = vec![0; ZEROS];
    let mut clean = true;
    for (number, chunk) in chunks
        .enumerate()
        .filter(|(_, chunk)| *chunk != &zeros[..chunk.len()])
    {
        segment.write_all_at(&zeros[..chunk.len()], (at + number * ZEROS) as u64)?;
        clean = false;
    }
    if clean { Ok(()) } else { segment.sync_data() }
}

/// Makes created and removed names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
