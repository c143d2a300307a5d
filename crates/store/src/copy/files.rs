//! The directories of the copy: one generation of it is in use.

use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use crate::wal::sync_dir;

const CACHE_BYTES: u64 = 4 << 20;
/// How often, and how many times, to wait for sled's threads of a copy that was just closed.
const LOCK_EVERY: Duration = Duration::from_millis(20);
const LOCK_TRIES: usize = 250;

pub(super) fn path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{generation:016x}"))
}

pub(super) fn generations(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut generations = Vec::new();
    for file in std::fs::read_dir(dir).map_err(|error| Error::io(dir, error))? {
        let name = file.map_err(|error| Error::io(dir, error))?.file_name();
        let number = name.to_str().filter(|name| name.len() == 16);
        generations.extend(number.and_then(|name| u64::from_str_radix(name, 16).ok()));
    }
    generations.sort_unstable();
    Ok(generations)
}

/// Why a generation cannot be used.
pub(super) enum Unusable {
    /// Nothing is known about its contents.
    InUse(io::Error),
    /// It is damaged or was not finished.
    NotWhole(String),
}

/// Opens or creates the sled database in `path` and makes its files durable; also returns the file that sled keeps
/// everything in.
pub(super) fn open(path: &Path) -> Result<(sled::Db, File), Unusable> {
    for _ in 0..LOCK_TRIES {
        match try_open(path) {
            Err(Unusable::InUse(_)) => std::thread::park_timeout(LOCK_EVERY),
            opened => return opened,
        }
    }
    try_open(path)
}

fn try_open(path: &Path) -> Result<(sled::Db, File), Unusable> {
    // sled panics on some damage rather than returning an error.
    let open = || {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let db = config.open()?;
        db.flush()?;
        Ok(db)
    };
    let db: sled::Db = match std::panic::catch_unwind(open) {
        Ok(Ok(db)) => db,
        Ok(Err(sled::Error::Io(error))) if !is_damage(&error) => {
            return Err(Unusable::InUse(error));
        }
        Ok(Err(error)) => return Err(Unusable::NotWhole(error.to_string())),
        Err(_) => return Err(Unusable::NotWhole("sled panicked while opening".to_owned())),
    };
    let durable = || {
        let file = File::options()
            .read(true)
            .write(true)
            .open(path.join("db"))?;
        file.sync_all()?;
        File::open(path.join("conf"))?.sync_all()?;
        sync_dir(path)?;
        sync_dir(path.parent().unwrap_or(path))?;
        Ok(file)
    };
    Ok((db, durable().map_err(Unusable::InUse)?))
}

/// Whether the error is about what was read; sled's lock and the system's refusals are not.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}

/// Renames what cannot be used, so that it can still be looked at.
pub(super) fn move_aside(dir: &Path, generation: u64) -> Result<(), Error> {
    let from = path(dir, generation);
    let names = (0_u32..).map(|number| dir.join(format!("{generation:016x}.damaged.{number}")));
    let mut free = names.filter(|aside| !aside.exists());
    let aside = free.next().unwrap_or_else(|| from.clone());
    tracing::warn!(path = %aside.display(), "the copy of the state cannot be used and was moved aside");
    std::fs::rename(&from, &aside).map_err(|error| Error::io(from, error))
}
