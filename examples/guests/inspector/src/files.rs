//! Single files: what is in them and what is said of them.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::{Check, Verdict, ensure};

pub const CHECKS: &[Check] = &[
    ("a file is made once", made_once),
    ("what is written is read", written),
    ("a file that is opened to be read is not written to", read_only),
    ("what is appended comes last", appended),
    ("a position is sought", sought),
    ("a file is cut and grows", cut),
    ("a file is described", described),
    ("a file's times are told and set", timed),
    ("a file that is open outlives its name", unlinked),
];

fn made_once(dir: &Path) -> Verdict {
    let path = dir.join("new");
    let missing = File::open(&path).err().map(|error| error.kind());
    ensure!(missing == Some(ErrorKind::NotFound), "opened before it was there: {missing:?}");
    File::create_new(&path)?;
    let again = File::create_new(&path).err().map(|error| error.kind());
    ensure!(again == Some(ErrorKind::AlreadyExists), "made again: {again:?}");
    ensure!(fs::read(&path)?.is_empty(), "it is not empty");
    Ok(())
}

fn written(dir: &Path) -> Verdict {
    let path = dir.join("file");
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(&path, &bytes)?;
    ensure!(fs::read(&path)? == bytes, "other bytes were read");
    fs::write(&path, "short")?;
    let text = fs::read_to_string(&path)?;
    ensure!(text == "short", "what was longer before is {text:?}");
    File::open(&path)?.sync_all()?;
    Ok(())
}

fn read_only(dir: &Path) -> Verdict {
    let path = dir.join("file");
    fs::write(&path, "text")?;
    ensure!(File::open(&path)?.write(b"other").is_err(), "it was written to");
    let mut only = OpenOptions::new().write(true).open(&path)?;
    ensure!(only.read(&mut [0; 4]).is_err(), "one that is opened to be written to was read");
    ensure!(fs::read(&path)? == b"text", "it has changed");
    Ok(())
}

fn appended(dir: &Path) -> Verdict {
    let path = dir.join("log");
    fs::write(&path, "one ")?;
    let mut log = OpenOptions::new().append(true).open(&path)?;
    log.write_all(b"two ")?;
    // Somebody else's writes are not written over.
    OpenOptions::new().append(true).open(&path)?.write_all(b"three ")?;
    log.write_all(b"four")?;
    let text = fs::read_to_string(&path)?;
    ensure!(text == "one two three four", "it is {text:?}");
    Ok(())
}

fn sought(dir: &Path) -> Verdict {
    let path = dir.join("file");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
    file.write_all(b"0123456789")?;
    for (to, position, next) in [
        (SeekFrom::Start(3), 3, b'3'),
        (SeekFrom::Current(2), 6, b'6'),
        (SeekFrom::Current(-4), 3, b'3'),
        (SeekFrom::End(-1), 9, b'9'),
    ] {
        let reached = file.seek(to)?;
        ensure!(reached == position, "{to:?} leads to {reached}");
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        ensure!(byte[0] == next, "after {to:?} comes {byte:?}");
        ensure!(file.stream_position()? == position + 1, "a read has not moved on");
    }
    let before = file.seek(SeekFrom::Current(-20)).err().map(|error| error.kind());
    ensure!(before == Some(ErrorKind::InvalidInput), "before the beginning: {before:?}");
    file.seek(SeekFrom::Start(12))?;
    file.write_all(b"x")?;
    let bytes = fs::read(&path)?;
    ensure!(bytes == b"0123456789\0\0x", "beyond the end was written {bytes:?}");
    Ok(())
}

fn cut(dir: &Path) -> Verdict {
    let path = dir.join("file");
    fs::write(&path, "0123456789")?;
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(4)?;
    ensure!(fs::read(&path)? == b"0123", "cut to four it is {:?}", fs::read(&path)?);
    file.set_len(6)?;
    ensure!(fs::read(&path)? == b"0123\0\0", "grown to six it is {:?}", fs::read(&path)?);
    ensure!(file.metadata()?.len() == 6, "its length is {}", file.metadata()?.len());
    Ok(())
}

fn described(dir: &Path) -> Verdict {
    let path = dir.join("file");
    fs::write(&path, "12345")?;
    let by_name = fs::metadata(&path)?;
    let by_file = File::open(&path)?.metadata()?;
    for metadata in [by_name, by_file] {
        ensure!(metadata.is_file() && !metadata.is_dir() && !metadata.is_symlink(), "{metadata:?}");
        ensure!(metadata.len() == 5, "{metadata:?}");
    }
    ensure!(fs::metadata(dir)?.is_dir(), "its directory is none");
    Ok(())
}

fn timed(dir: &Path) -> Verdict {
    let path = dir.join("file");
    let file = File::create(&path)?;
    let (new, now) = (file.metadata()?.modified()?, SystemTime::now());
    let apart = now.duration_since(new).or_else(|_| new.duration_since(now))?;
    ensure!(apart < Duration::from_secs(5), "the wall clock is {apart:?} away from a new file's time");
    let modified = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_000);
    let accessed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_100_000_000);
    file.set_times(FileTimes::new().set_modified(modified).set_accessed(accessed))?;
    let metadata = fs::metadata(&path)?;
    ensure!(metadata.modified()? == modified, "modified at {:?}", metadata.modified()?);
    ensure!(metadata.accessed()? == accessed, "accessed at {:?}", metadata.accessed()?);
    Ok(())
}

fn unlinked(dir: &Path) -> Verdict {
    let path = dir.join("file");
    fs::write(&path, "text")?;
    let mut open = File::open(&path)?;
    fs::remove_file(&path)?;
    let missing = fs::metadata(&path).err().map(|error| error.kind());
    ensure!(missing == Some(ErrorKind::NotFound), "its name: {missing:?}");
    let again = fs::remove_file(&path).err().map(|error| error.kind());
    ensure!(again == Some(ErrorKind::NotFound), "removed again: {again:?}");
    let mut text = String::new();
    open.read_to_string(&mut text)?;
    ensure!(text == "text", "it is {text:?}");
    Ok(())
}
