//! How files get into the cache's directory, and out of it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Writes a file so that it is there as a whole or not at all, after a power cut too, and says where it is. What is not
/// kept has the name of one that is being written, of which nothing is left by the next start.
pub(super) fn store(path: &Path, bytes: &[u8], keep: bool) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Who compiles a module is alone with its digest, so that this name is nobody else's.
    let new = path.with_file_name(format!(".{name}"));
    // Another file each time: one that could not be removed may still be mapped.
    remove(&new)?;
    let stored = write(&new, bytes, keep).and_then(|()| match keep {
        true => fs::rename(&new, path).map(|()| path.to_owned()),
        false => Ok(new.clone()),
    });
    if stored.is_err() {
        // Nothing else ever would before the next start, and room may be what was lacking.
        let _ = fs::remove_file(&new);
    }
    stored
}

fn write(new: &Path, bytes: &[u8], synced: bool) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    file.write_all(bytes)?;
    match synced {
        true => file.sync_data(),
        false => Ok(()),
    }
}

/// Removes a file; that it is not there is no error.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_stored_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("module");
        store(&path, b"first", true).unwrap();
        store(&path, b"second", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        // A directory is not replaced by a file.
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(store(&taken, b"third", true).is_err());
        let names = fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<_> = names.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["module", "taken"]);
    }
}
