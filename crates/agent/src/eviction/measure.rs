//! How much a tree takes that guests have made, and may be changing.
//!
//! It may be deeper than any stack, and its paths longer than any the kernel takes: nothing here recurses, and of the way
//! down only names are kept. So the way back up is `..`, which is believed only where it leads to the directory that was
//! come from: whatever guests move meanwhile, nothing outside the tree is looked at.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

/// What a name takes at least, also one of an empty file: a measurement that ends at an amount ends after so many names.
const BLOCK: u64 = 4096;
/// How many bytes of memory a measurement may need to remember where it was, and what it has counted.
const MOST_HELD: usize = 64 << 20;
/// What one thing to remember takes beside its name, for more rather than less.
const HELD: usize = 64;

/// What trees take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount {
    /// Bytes on the disk.
    pub(crate) bytes: u64,
    /// How many files, directories and links.
    pub(crate) inodes: u64,
}

impl Amount {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

/// When a measurement ends early.
pub(crate) struct Bounds<'a> {
    /// More bytes than this are not counted,
    pub(crate) bytes: u64,
    /// nor more names than this.
    pub(crate) names: u64,
    /// What needs more bytes of memory to be measured is as one that takes more than anybody may.
    held: usize,
    /// Asked for each name.
    pub(crate) goes_on: &'a dyn Fn() -> bool,
}

impl<'a> Bounds<'a> {
    /// So many bytes and names, and what anybody can spare of memory.
    pub(crate) fn new(bytes: u64, names: u64, goes_on: &'a dyn Fn() -> bool) -> Self {
        Self {
            bytes,
            names,
            held: MOST_HELD,
            goes_on,
        }
    }
}

/// What lies below `path`, which takes nothing itself; nothing, if it is not there. Where a bound is exceeded the amount is so,
/// too, and the rest was not counted.
///
/// # Errors
/// When the file system says no, and `CANCELED` once it is not to go on.
pub(crate) fn measure(path: &Path, bounds: &Bounds<'_>) -> io::Result<Amount> {
    let top = match open(CWD, path) {
        Err(error) if is_gone(error) => return Ok(Amount::default()),
        other => other?,
    };
    let mut walk = Walk {
        amount: Amount::default(),
        linked: BTreeSet::new(),
        held: 0,
        bounds,
    };
    walk.tree(&top)?;
    if walk.held > bounds.held {
        return Ok(Amount {
            bytes: u64::MAX,
            inodes: u64::MAX,
        });
    }
    Ok(walk.amount)
}

struct Walk<'a> {
    amount: Amount,
    /// Files with several names that were counted: their devices and inodes.
    linked: BTreeSet<Id>,
    /// How many bytes of memory the names take that led here or are still to be looked into, and `linked`.
    held: usize,
    bounds: &'a Bounds<'a>,
}

type Id = (u64, u64);

/// A directory on the way down.
struct Level {
    id: Id,
    /// Its name in the one above.
    name: CString,
    /// The directories in it that were not looked into.
    open: Vec<CString>,
}

impl Walk<'_> {
    fn tree(&mut self, top: &OwnedFd) -> rustix::io::Result<()> {
        let mut at = top.try_clone().map_err(|_| Errno::MFILE)?;
        let mut levels = vec![self.list(&at, CString::default())?];
        while let Some(level) = levels.last_mut() {
            if self.is_over() {
                return Ok(());
            }
            let Some(name) = level.open.pop() else {
                let done = levels.pop().filter(|_| !levels.is_empty());
                if let Some(done) = done {
                    self.held -= held(&done.name);
                    at = up(top, &at, &mut levels)?;
                }
                continue;
            };
            match open(&at, &name) {
                Err(error) if is_gone(error) => self.held -= held(&name),
                Err(error) => return Err(error),
                Ok(below) => {
                    levels.push(self.list(&below, name)?);
                    at = below;
                }
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let bounds = self.bounds;
        self.amount.bytes > bounds.bytes
            || self.amount.inodes > bounds.names
            || self.held > bounds.held
    }

    /// Counts what a directory shows.
    fn list(&mut self, dir: &OwnedFd, name: CString) -> rustix::io::Result<Level> {
        let mut level = Level {
            id: id(&fstat(dir)?),
            name,
            open: Vec::new(),
        };
        let entries = match Dir::read_from(dir) {
            // Removed meanwhile.
            Err(Errno::NOENT) => return Ok(level),
            other => other?,
        };
        for entry in entries {
            if !(self.bounds.goes_on)() {
                return Err(Errno::CANCELED);
            }
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.is_directory(dir.as_fd(), name)? {
                self.held += held(name);
                level.open.push(name.to_owned());
            }
            if self.is_over() {
                break;
            }
        }
        Ok(level)
    }

    /// Counts what has this name, and says whether there is more below it.
    fn is_directory(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<bool> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            other => other?,
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let is_linked = !is_directory && stat.st_nlink > 1;
        let is_new = !is_linked || self.linked.insert(id(&stat));
        if is_linked && is_new {
            self.held += HELD;
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        let bytes = match is_new {
            true => blocks.saturating_mul(512).max(BLOCK),
            false => BLOCK,
        };
        self.amount = self.amount.plus(Amount { bytes, inodes: 1 });
        Ok(is_directory)
    }
}

/// The directory that the last level stands for, from the one below it. One that was moved meanwhile is looked for by the names
/// that led to it; those that do not lead to it any more are left out.
fn up(top: &OwnedFd, from: &OwnedFd, levels: &mut Vec<Level>) -> rustix::io::Result<OwnedFd> {
    let is = |dir: &OwnedFd, level: &Level| fstat(dir).is_ok_and(|stat| id(&stat) == level.id);
    if let (Ok(parent), Some(level)) = (open(from, c".."), levels.last())
        && is(&parent, level)
    {
        return Ok(parent);
    }
    let mut at = top.try_clone().map_err(|_| Errno::MFILE)?;
    let mut found = 1;
    for level in levels.iter().skip(1) {
        match open(&at, &level.name) {
            Ok(dir) if is(&dir, level) => at = dir,
            Ok(_) => break,
            Err(error) if is_gone(error) => break,
            Err(error) => return Err(error),
        }
        found += 1;
    }
    levels.truncate(found);
    Ok(at)
}

fn held(name: &CStr) -> usize {
    name.count_bytes() + HELD
}

fn id(stat: &Stat) -> Id {
    (stat.st_dev, stat.st_ino)
}

/// It is not there, or not as a directory.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const ALL: Bounds<'static> = Bounds {
        bytes: u64::MAX,
        names: u64::MAX,
        held: usize::MAX,
        goes_on: &|| true,
    };

    fn blocks(path: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let blocks = fs::symlink_metadata(path).unwrap().blocks();
        (blocks * 512).max(BLOCK)
    }

    #[test]
    fn everything_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        assert_eq!(measure(&tree, &ALL).unwrap(), Amount::default());
        fs::create_dir_all(tree.join("a/b")).unwrap();
        assert_eq!(measure(&tree.join("a/b"), &ALL).unwrap(), Amount::default());
        fs::create_dir(&other).unwrap();
        fs::write(other.join("big"), vec![1; 1 << 20]).unwrap();
        fs::write(tree.join("a/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(tree.join("a/file"), tree.join("a/b/again")).unwrap();
        symlink(&other, tree.join("a/b/link")).unwrap();
        let file = tree.join("a/file");
        let expected = blocks(&tree.join("a"))
            + blocks(&tree.join("a/b"))
            + blocks(&file)
            + BLOCK
            + blocks(&tree.join("a/b/link"));
        let amount = measure(&tree, &ALL).unwrap();
        assert_eq!((amount.bytes, amount.inodes), (expected, 5));
        assert!(amount.bytes >= 100_000);
        // Neither is a tree.
        assert_eq!(measure(&file, &ALL).unwrap(), Amount::default());
        assert_eq!(
            measure(&tree.join("a/b/link"), &ALL).unwrap(),
            Amount::default()
        );
    }

    #[test]
    fn it_ends_where_enough_is_known() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..100 {
            fs::write(dir.path().join(name.to_string()), "").unwrap();
        }
        let of = |bytes, names| {
            let bounds = Bounds {
                bytes,
                names,
                ..ALL
            };
            measure(dir.path(), &bounds).unwrap().inodes
        };
        assert_eq!(of(u64::MAX, u64::MAX), 100);
        assert_eq!(
            of(10 * BLOCK, u64::MAX),
            11,
            "empty files take something, too"
        );
        assert_eq!(of(u64::MAX, 20), 21);
        let asked = Cell::new(0);
        let few = || asked.replace(asked.get() + 1) < 10;
        let bounds = Bounds {
            goes_on: &few,
            ..ALL
        };
        let stopped = measure(dir.path(), &bounds).unwrap_err();
        assert_eq!(Errno::from_io_error(&stopped), Some(Errno::CANCELED));
    }

    #[test]
    fn what_it_remembers_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let of = |held| {
            let bounds = Bounds { held, ..ALL };
            measure(dir.path(), &bounds).unwrap().inodes
        };
        for name in 0..9 {
            fs::create_dir(dir.path().join(name.to_string())).unwrap();
        }
        let name = HELD + 1;
        assert_eq!((of(9 * name), of(9 * name - 1)), (9, u64::MAX));
        for name in 0..9 {
            fs::remove_dir(dir.path().join(name.to_string())).unwrap();
        }
        // The way down counts, what was looked into does not any more; a file is remembered only if it has several names.
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        fs::write(dir.path().join("a/d"), "").unwrap();
        assert_eq!((of(3 * name), of(3 * name - 1)), (4, u64::MAX));
        fs::hard_link(dir.path().join("a/d"), dir.path().join("a/e")).unwrap();
        assert_eq!((of(4 * name), of(4 * name - 2)), (5, u64::MAX));
    }

    #[test]
    fn however_deep_it_is() {
        let dir = crate::remove::tests::in_memory();
        let mut at = open(CWD, dir.path()).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&at, c"e", Mode::RWXU).unwrap();
            at = open(&at, c"d").unwrap();
        }
        drop(at);
        assert_eq!(measure(dir.path(), &ALL).unwrap().inodes, 40_000);
        crate::remove::remove_tree(&dir.path().join("d")).unwrap();
    }

    #[test]
    fn what_is_moved_meanwhile_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(&other).unwrap();
        for name in 0..50 {
            fs::write(other.join(name.to_string()), "").unwrap();
        }
        // Once its inside is looked at, `c` goes elsewhere: what is above it there is none of this tree's business.
        let asked = Cell::new(0);
        let moves = || {
            asked.set(asked.get() + 1);
            if tree.join("a/b/c").exists() && asked.get() > 9 {
                fs::rename(tree.join("a/b/c"), other.join("c")).unwrap();
            }
            true
        };
        for name in 0..3 {
            fs::write(tree.join("a/b/c").join(name.to_string()), "").unwrap();
        }
        let bounds = Bounds {
            goes_on: &moves,
            ..ALL
        };
        let amount = measure(&tree, &bounds).unwrap();
        assert!(other.join("c").exists());
        assert_eq!(amount.inodes, 6);
    }
}
