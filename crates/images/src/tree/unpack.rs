//! An archive becomes a directory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, EntryType, Header};

use super::extensions::Extensions;
use super::link_stays_inside;
use crate::error::At;
use crate::{Encoding, Error};

/// How much an archive may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries: files, directories, links, and what describes them.
    pub entries: u64,
    /// Bytes of all files together, and of the archive itself when decompressed.
    pub bytes: u64,
}

impl Default for Limits {
    /// 200,000 entries and 4 GiB.
    fn default() -> Limits {
        Limits {
            entries: 200_000,
            bytes: 4 << 30,
        }
    }
}

/// What was unpacked, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries: files, directories, links.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// Longest path of an entry, in bytes, and deepest nesting.
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 100;

/// What the directories begin with in which trees are unpacked.
const STAGING: &str = ".unpack-";

/// Removes what was left in `parent` where an [`unpack`] was broken off.
pub fn remove_leftovers(parent: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(parent).at(parent)? {
        let entry = entry.at(parent)?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(STAGING.as_bytes())
        {
            fs::remove_dir_all(entry.path()).at(&entry.path())?;
        }
    }
    Ok(())
}

/// How many bytes all files of the tree `dir` have together, as it was unpacked.
pub fn bytes(dir: &Path) -> io::Result<u64> {
    let (mut bytes, mut left) = (0_u64, vec![dir.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() {
                bytes = bytes.saturating_add(entry.metadata()?.len());
            }
        }
    }
    Ok(bytes)
}

/// Where [`set_aside`] moves the tree `dir`.
pub fn aside(dir: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(STAGING);
    name.push(dir.file_name().unwrap_or_default());
    dir.with_file_name(name)
}

/// Takes the tree `dir` away by a renaming, to a place that [`remove_leftovers`] knows, and says where it lies until it is
/// removed; `None` if it was not there.
pub fn set_aside(dir: &Path) -> Result<Option<PathBuf>, Error> {
    let aside = aside(dir);
    match fs::rename(dir, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.at(&aside).map(|()| Some(aside)),
    }
}

/// Unpacks `archive` into the new directory `dir`, which must not exist while its parent must. `dir` appears
/// only when everything is there and on the disk. Files get the mode 0644 or 0755, directories 0755.
///
/// Refused: absolute paths and `..`, paths through symbolic links, links that might lead outside, hard links,
/// devices, pipes, sparse files, an entry that is there twice, whiteouts, and more than `limits`.
pub fn unpack(
    archive: impl Read,
    encoding: Encoding,
    dir: &Path,
    limits: &Limits,
) -> Result<Unpacked, Error> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    if dir.symlink_metadata().is_ok() {
        return Err(Error::Archive(format!("{} exists", dir.display())));
    }
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(parent)
        .at(parent)?;
    let root = staging.path().join("tree");
    make_dir(&root)?;
    let unpacked = walk(archive, encoding, limits, &mut |entry| place(&root, entry))?;
    // Once it has its name nobody looks whether all of it is there: so it is on the disk before.
    let files = File::open(&root).at(&root)?;
    rustix::fs::syncfs(&files)
        .map_err(io::Error::from)
        .at(&root)?;
    fs::rename(&root, dir).at(dir)?;
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .at(parent)?;
    Ok(unpacked)
}

/// Reads `archive` to its end and refuses what [`unpack`] would refuse, without writing anything.
pub fn check(archive: impl Read, encoding: Encoding, limits: &Limits) -> Result<Unpacked, Error> {
    walk(archive, encoding, limits, &mut |mut entry| {
        io::copy(&mut entry.content, &mut io::sink()).map_err(unreadable)?;
        Ok(())
    })
}

/// One entry that has passed all checks.
struct Checked<'a> {
    path: PathBuf,
    kind: Kind,
    content: &'a mut dyn Read,
}

enum Kind {
    Directory,
    File { executable: bool },
    Link { target: String },
}

fn walk(
    archive: impl Read,
    encoding: Encoding,
    limits: &Limits,
    visit: &mut dyn FnMut(Checked<'_>) -> Result<(), Error>,
) -> Result<Unpacked, Error> {
    let bounded: Box<dyn Read> = match encoding {
        Encoding::Plain => Box::new(archive),
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(archive)),
    };
    // Headers, padding and the entries' content: what a compression bomb would blow up.
    let overhead = limits.entries.saturating_mul(2048);
    let mut archive = Archive::new(bounded.take(limits.bytes.saturating_add(overhead)));
    let mut seen = Seen::default();
    let mut unpacked = Unpacked::default();
    let mut members = 0;
    let mut extensions = Extensions::default();
    // Raw, since the iterator would read whatever describes a member into memory, however long it is.
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        members += 1;
        if members > limits.entries {
            return Err(Error::Archive(format!(
                "it has more than {} entries",
                limits.entries
            )));
        }
        if extensions.take(&mut entry)? {
            continue;
        }
        let described = std::mem::take(&mut extensions);
        if described.size.is_some_and(|size| size != entry.size()) {
            return Err(Error::Archive("it gives a member two sizes".to_owned()));
        }
        unpacked.entries += 1;
        unpacked.bytes = unpacked.bytes.saturating_add(entry.size());
        if unpacked.bytes > limits.bytes {
            return Err(Error::Archive(format!(
                "it holds more than {} bytes",
                limits.bytes
            )));
        }
        let path = path(
            &described
                .path
                .map_or_else(|| entry.path_bytes(), Cow::Owned),
        )?;
        let link = described.link.map(Cow::Owned);
        let link = link.or_else(|| entry.link_name_bytes()).unwrap_or_default();
        let kind = kind(entry.header(), &link, &path)?;
        if path.as_os_str().is_empty() {
            continue; // "./", as tar -C DIR . writes it
        }
        seen.add(&path, &kind)?;
        visit(Checked {
            path,
            kind,
            content: &mut entry,
        })?;
    }
    if extensions != Extensions::default() {
        return Err(Error::Archive(
            "it ends before a member that it describes".to_owned(),
        ));
    }
    Ok(unpacked)
}

/// The entry's path as plain components; empty for the root itself.
fn path(bytes: &[u8]) -> Result<PathBuf, Error> {
    let show = || {
        String::from_utf8_lossy(bytes)
            .chars()
            .take(200)
            .collect::<String>()
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(Error::Archive(format!(
            "the path {:?} is not UTF-8",
            show()
        )));
    };
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) if name.to_string_lossy().starts_with(".wh.") => {
                return Err(Error::Archive(format!(
                    "{:?} is a whiteout, which means nothing in a tree of one layer",
                    show()
                )));
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => {
                return Err(Error::Archive(format!(
                    "the path {:?} leads outside",
                    show()
                )));
            }
        }
    }
    if text.len() > MAX_PATH || path.components().count() > MAX_DEPTH || text.contains('\0') {
        return Err(Error::Archive(format!(
            "the path {:?} is too long or too deep",
            show()
        )));
    }
    Ok(path)
}

fn kind(header: &Header, link: &[u8], path: &Path) -> Result<Kind, Error> {
    let refuse = |what: &str| Err(Error::Archive(format!("{} is {what}", path.display())));
    match header.entry_type() {
        EntryType::Directory => Ok(Kind::Directory),
        _ if path.as_os_str().is_empty() => refuse("the root, and no directory"),
        EntryType::Regular | EntryType::Continuous => Ok(Kind::File {
            executable: header.mode().is_ok_and(|mode| mode & 0o100 != 0),
        }),
        EntryType::Symlink => {
            let depth = path.components().count() - 1;
            match std::str::from_utf8(link) {
                Ok(target) if target.len() <= MAX_PATH && link_stays_inside(depth, target) => {
                    Ok(Kind::Link {
                        target: target.to_owned(),
                    })
                }
                _ => refuse("a symbolic link that might lead outside"),
            }
        }
        EntryType::Link => refuse("a hard link"),
        EntryType::Char | EntryType::Block => refuse("a device"),
        EntryType::Fifo => refuse("a pipe"),
        EntryType::GNUSparse => refuse("a sparse file"),
        other => refuse(&format!(
            "of the unknown type {:?}",
            char::from(other.as_byte())
        )),
    }
}

/// What the archive has shown so far: whether a path is a directory.
#[derive(Default)]
struct Seen(BTreeMap<PathBuf, bool>);

impl Seen {
    /// Every parent is a directory or not there yet, and the path itself is new (directories may repeat).
    fn add(&mut self, path: &Path, kind: &Kind) -> Result<(), Error> {
        let parents = path
            .ancestors()
            .skip(1)
            .filter(|parent| !parent.as_os_str().is_empty());
        for parent in parents {
            match self.0.get(parent) {
                Some(true) => break, // its own parents have been through this
                Some(false) => {
                    return Err(Error::Archive(format!(
                        "{} lies below {}, which is no directory",
                        path.display(),
                        parent.display()
                    )));
                }
                None => {
                    self.0.insert(parent.to_owned(), true);
                }
            }
        }
        let is_dir = matches!(kind, Kind::Directory);
        match self.0.insert(path.to_owned(), is_dir) {
            Some(was_dir) if !(was_dir && is_dir) => {
                Err(Error::Archive(format!("{} is there twice", path.display())))
            }
            _ => Ok(()),
        }
    }
}

fn place(root: &Path, entry: Checked<'_>) -> Result<(), Error> {
    let path = root.join(&entry.path);
    make_dirs(root, entry.path.parent().unwrap_or(Path::new("")))?;
    match entry.kind {
        Kind::Directory => make_dir(&path),
        Kind::Link { target } => symlink(target, &path).at(&path),
        Kind::File { executable } => {
            let mode = if executable { 0o755 } else { 0o644 };
            // create_new follows no link that someone else might have put there.
            let mut file: File = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path)
                .at(&path)?;
            io::copy(entry.content, &mut file).at(&path)?;
            Ok(())
        }
    }
}

fn make_dirs(root: &Path, dirs: &Path) -> Result<(), Error> {
    let mut path = root.to_owned();
    for component in dirs.components() {
        path.push(component);
        make_dir(&path)?;
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.at(path),
    }
}

pub(super) fn unreadable(error: io::Error) -> Error {
    Error::Archive(format!("it is damaged or no tar archive: {error}"))
}

#[cfg(test)]
mod tests;
