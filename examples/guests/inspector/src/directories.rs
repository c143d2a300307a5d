//! Names: directories, links and moves.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::{Check, Verdict, ensure};

pub const CHECKS: &[Check] = &[
    ("directories are made, read and removed", made),
    ("a directory of many files is read", crowded),
    ("a file is renamed over another", renamed),
    ("a directory is renamed with what is in it", moved),
    ("a file has two names", linked),
    ("a symbolic link is followed, read and removed", symbolic),
];

#[expect(deprecated, reason = "what replaces it is not stable on this target")]
pub fn symlink(to: &str, at: &Path) -> std::io::Result<()> {
    fs::soft_link(to, at)
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = fs::read_dir(dir)?;
    let named = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = named.collect::<Result<_, _>>()?;
    names.sort();
    Ok(names)
}

fn made(dir: &Path) -> Verdict {
    fs::create_dir_all(dir.join("a/b/c"))?;
    fs::write(dir.join("a/file"), "text")?;
    let again = fs::create_dir(dir.join("a")).err().map(|error| error.kind());
    ensure!(again == Some(ErrorKind::AlreadyExists), "made again: {again:?}");
    for entry in fs::read_dir(dir.join("a"))? {
        let entry = entry?;
        let (is_dir, name) = (entry.file_type()?.is_dir(), entry.file_name());
        ensure!(is_dir == (name == "b"), "{name:?} is a directory: {is_dir}");
    }
    ensure!(names(&dir.join("a"))? == ["b", "file"], "it has {:?}", names(&dir.join("a"))?);
    ensure!(fs::read_dir(dir.join("a/file")).is_err(), "a file was read as a directory");
    ensure!(fs::remove_dir(dir.join("a")).is_err(), "removed with what is in it");
    ensure!(fs::remove_file(dir.join("a/b")).is_err(), "a directory was removed as a file");
    fs::remove_dir(dir.join("a/b/c"))?;
    fs::remove_dir(dir.join("a/b"))?;
    ensure!(names(&dir.join("a"))? == ["file"], "it still has {:?}", names(&dir.join("a"))?);
    Ok(())
}

/// More names than one call returns.
fn crowded(dir: &Path) -> Verdict {
    let expected: Vec<String> = (0..500).map(|n| format!("{n:04}-{}", "x".repeat(100))).collect();
    for name in &expected {
        fs::write(dir.join(name), "")?;
    }
    let names = names(dir)?;
    ensure!(names == expected, "{} names of {}", names.len(), expected.len());
    Ok(())
}

fn renamed(dir: &Path) -> Verdict {
    let (old, new) = (dir.join("old"), dir.join("new"));
    fs::write(&old, "old")?;
    fs::write(&new, "new")?;
    fs::rename(&old, &new)?;
    ensure!(fs::read(&new)? == b"old", "the new name has {:?}", fs::read(&new)?);
    let missing = fs::rename(&old, &new).err().map(|error| error.kind());
    ensure!(missing == Some(ErrorKind::NotFound), "renamed again: {missing:?}");
    Ok(())
}

fn moved(dir: &Path) -> Verdict {
    fs::create_dir_all(dir.join("one/deep"))?;
    fs::create_dir(dir.join("two"))?;
    fs::write(dir.join("one/deep/file"), "text")?;
    fs::rename(dir.join("one/deep"), dir.join("two/deeper"))?;
    ensure!(fs::read(dir.join("two/deeper/file"))? == b"text", "the file has changed");
    ensure!(names(&dir.join("one"))?.is_empty(), "it is still there");
    Ok(())
}

fn linked(dir: &Path) -> Verdict {
    let (one, two) = (dir.join("one"), dir.join("two"));
    fs::write(&one, "first")?;
    fs::hard_link(&one, &two)?;
    fs::write(&two, "second")?;
    ensure!(fs::read(&one)? == b"second", "they are two files");
    fs::remove_file(&one)?;
    ensure!(fs::read(&two)? == b"second", "the other name has gone, too");
    let over = fs::hard_link(&two, &two).err().map(|error| error.kind());
    ensure!(over == Some(ErrorKind::AlreadyExists), "linked over a name: {over:?}");
    Ok(())
}

fn symbolic(dir: &Path) -> Verdict {
    fs::create_dir(dir.join("sub"))?;
    fs::write(dir.join("file"), "text")?;
    let link = dir.join("sub/link");
    symlink("../file", &link)?;
    ensure!(fs::read(&link)? == b"text", "it leads elsewhere");
    ensure!(fs::read_link(&link)? == Path::new("../file"), "it says {:?}", fs::read_link(&link)?);
    ensure!(fs::symlink_metadata(&link)?.is_symlink(), "it is no link");
    ensure!(fs::metadata(&link)?.is_file(), "what it leads to is no file");
    symlink("nowhere", &dir.join("dangling"))?;
    let missing = fs::read(dir.join("dangling")).err().map(|error| error.kind());
    ensure!(missing == Some(ErrorKind::NotFound), "one that leads nowhere: {missing:?}");
    symlink("circle", &dir.join("circle"))?;
    ensure!(fs::read(dir.join("circle")).is_err(), "one that leads to itself was read");
    fs::remove_file(&link)?;
    ensure!(fs::read(dir.join("file"))? == b"text", "removing it has removed the file");
    Ok(())
}
