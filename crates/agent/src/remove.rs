//! Finding what is to be removed, and removing a tree that guests have made.
//!
//! It may be deeper than any stack, and its paths longer than any the kernel takes. So nothing here recurses: what lies
//! in a subdirectory is moved up into the top directory until nothing is left.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, DirEntry, Mode, OFlags, renameat, unlinkat};
use rustix::io::Errno;

/// Removes `path` with all that is in it, following no link; that it is not there, or not any more, is no error: two
/// removals of one tree may meet.
///
/// # Errors
/// When the file system says no. What could be removed is gone then.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    Ok(remove_tree_at(CWD, path, &Patience::endless())?)
}

/// How long a removal goes on.
pub(crate) struct Patience<'a> {
    /// How often the tree is listed: one level of directories goes at a time, and what guests put in meanwhile.
    pub(crate) rounds: u32,
    /// Asked for each entry.
    pub(crate) goes_on: &'a dyn Fn() -> bool,
}

impl Patience<'static> {
    /// For where no guest writes any more.
    fn endless() -> Self {
        Self {
            rounds: u32::MAX,
            goes_on: &|| true,
        }
    }
}

impl Patience<'_> {
    fn goes_on(&self) -> rustix::io::Result<()> {
        match (self.goes_on)() {
            true => Ok(()),
            false => Err(Errno::CANCELED),
        }
    }
}

/// Removes what has this name in `parent`, as [`remove_tree`] does, for as long as there is patience.
///
/// # Errors
/// When the file system says no, `CANCELED` once it does not go on, and `NOTEMPTY` after so many rounds. What could be
/// removed is gone then.
pub(crate) fn remove_tree_at(
    parent: BorrowedFd<'_>,
    name: &Path,
    patience: &Patience<'_>,
) -> rustix::io::Result<()> {
    let top = match open(parent, name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return unless_gone(unlinkat(parent, name, AtFlags::empty()));
        }
        Err(error) => return Err(error),
    };
    let mut moved = 0;
    // What is moved up may or may not show in the listing that is being read: the last one shows nothing.
    for _ in 0..patience.rounds {
        if !empty_once(top.as_fd(), &mut moved, patience)? {
            break;
        }
    }
    unless_gone(unlinkat(parent, name, AtFlags::REMOVEDIR))
}

/// Removes a file or a link; that it is not there is no error.
///
/// # Errors
/// When the file system says no.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    Ok(unless_gone(rustix::fs::unlink(path))?)
}

/// What lies in a directory and has a name that is wanted; nothing where there is no directory. A name that is no text is `None`.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn list(
    dir: &Path,
    is_wanted: impl Fn(Option<&str>) -> bool,
) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_wanted(entry.file_name().to_str()) {
            all.push(entry.path());
        }
    }
    Ok(all)
}

fn unless_gone(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Removes what `top` shows, and says whether it showed anything.
fn empty_once(
    top: BorrowedFd<'_>,
    moved: &mut u64,
    patience: &Patience<'_>,
) -> rustix::io::Result<bool> {
    let mut any = false;
    for entry in entries(top)? {
        patience.goes_on()?;
        let entry = entry?;
        let name = entry.file_name();
        if is_self_or_parent(name) {
            continue;
        }
        any = true;
        if is_removed(top, name)? {
            continue;
        }
        let sub = match open(top, name) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        for entry in entries(sub.as_fd())? {
            patience.goes_on()?;
            let entry = entry?;
            let name = entry.file_name();
            if !is_self_or_parent(name) && !is_removed(sub.as_fd(), name)? {
                move_up(sub.as_fd(), name, top, moved, patience)?;
            }
        }
        // Should its listing have missed something, the next round finds it.
        is_removed(top, name)?;
    }
    Ok(any)
}

/// What a directory shows: nothing, if it was removed meanwhile.
fn entries(
    dir: BorrowedFd<'_>,
) -> rustix::io::Result<impl Iterator<Item = rustix::io::Result<DirEntry>> + use<>> {
    let listing = match Dir::read_from(dir) {
        Err(Errno::NOENT) => None,
        other => Some(other?),
    };
    Ok(listing.into_iter().flatten())
}

/// Removes a file, a link or an empty directory; `false` if it is a directory with something in it.
fn is_removed(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<bool> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        // POSIX says PERM where Linux says ISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Moves a directory up into `top`, under a name that nothing has there.
fn move_up(
    parent: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
    patience: &Patience<'_>,
) -> rustix::io::Result<()> {
    loop {
        patience.goes_on()?;
        *moved += 1;
        match renameat(parent, name, top, format!("moved-{moved}")) {
            // The guest has something of that name there.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            // Another removal of the same tree was faster.
            Err(Errno::NOENT) => return Ok(()),
            other => return other,
        }
    }
}

fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn is_self_or_parent(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A directory in memory where there is such: tens of thousands of directories take minutes on a disk.
    pub(crate) fn in_memory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap()
    }

    #[test]
    fn however_deep_it_is() {
        let dir = in_memory();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // Names that the moving would like to use, and something beside the deep part at each level.
        fs::create_dir_all(tree.join("moved-1/full")).unwrap();
        fs::write(tree.join("moved-2"), "x").unwrap();
        let mut at = open(CWD, &tree).unwrap();
        for depth in 0..50_000 {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            if depth % 1000 == 0 {
                rustix::fs::mkdirat(&at, c"e", Mode::RWXU).unwrap();
                rustix::fs::mkdirat(&at, c"e/f", Mode::RWXU).unwrap();
                rustix::fs::symlinkat(c"..", &at, c"up").unwrap();
            }
            at = open(&at, c"d").unwrap();
        }
        drop(at);
        let one = std::cell::Cell::new(true);
        let parent = open(CWD, dir.path()).unwrap();
        let stopped = Patience {
            rounds: u32::MAX,
            goes_on: &|| one.replace(false),
        };
        let stopped = remove_tree_at(parent.as_fd(), Path::new("tree"), &stopped);
        assert_eq!(stopped, Err(Errno::CANCELED));
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn it_ends_where_nothing_is_deep() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for name in 0..100 {
            fs::write(tree.join(name.to_string()), "x").unwrap();
        }
        let parent = open(CWD, dir.path()).unwrap();
        let remove = |rounds, goes_on: &dyn Fn() -> bool| {
            let patience = Patience { rounds, goes_on };
            remove_tree_at(parent.as_fd(), Path::new("tree"), &patience)
        };
        let asked = std::cell::Cell::new(0);
        let few = || asked.replace(asked.get() + 1) < 10;
        assert_eq!(remove(u32::MAX, &few), Err(Errno::CANCELED));
        let left = fs::read_dir(&tree).unwrap().count();
        assert!((80..100).contains(&left), "{left}");
        // As a guest does it: one more comes for each that goes, for long enough.
        let made = std::cell::Cell::new(0);
        let refill = || {
            let name = made.replace(made.get() + 1);
            name > 10_000 || fs::write(tree.join(format!("new-{name}")), "x").is_ok()
        };
        assert_eq!(remove(1, &refill), Err(Errno::NOTEMPTY));
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn what_another_removal_has_taken_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, file) = (dir.path().join("tree"), dir.path().join("file"));
        fs::create_dir(&tree).unwrap();
        let top = open(CWD, &tree).unwrap();
        fs::remove_dir(&tree).unwrap();
        assert!(!empty_once(top.as_fd(), &mut 0, &Patience::endless()).unwrap());
        fs::write(&file, "x").unwrap();
        remove_file(&file).unwrap();
        assert!(!file.exists());
        remove_file(&file).unwrap();
    }

    #[test]
    fn what_is_listed() {
        use std::os::unix::ffi::OsStrExt as _;

        let dir = tempfile::tempdir().unwrap();
        let no_text = std::ffi::OsStr::from_bytes(b"\xff");
        for name in ["1".as_ref(), "2".as_ref(), no_text] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let listed = |is_wanted: fn(Option<&str>) -> bool| {
            let mut found = list(dir.path(), is_wanted).unwrap();
            found.sort();
            found
        };
        assert_eq!(listed(|name| name == Some("2")), [dir.path().join("2")]);
        assert_eq!(listed(|name| name.is_none()), [dir.path().join(no_text)]);
        assert!(list(&dir.path().join("none"), |_| true).unwrap().is_empty());
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        list(&file, |_| true).unwrap_err();
    }

    #[test]
    fn several_removals_of_one_tree() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for branch in 0..20 {
            let deep = "d/".repeat(20);
            let deep = tree.join(format!("{branch}/{deep}"));
            fs::create_dir_all(&deep).unwrap();
            for file in 0..10 {
                fs::write(deep.join(file.to_string()), "x").unwrap();
            }
        }
        std::thread::scope(|scope| {
            let removals: Vec<_> = (0..4).map(|_| scope.spawn(|| remove_tree(&tree))).collect();
            for removal in removals {
                removal.join().unwrap().unwrap();
            }
        });
        assert!(!tree.exists());
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, tree) = (dir.path().join("kept"), dir.path().join("tree"));
        fs::create_dir_all(kept.join("x")).unwrap();
        fs::create_dir_all(tree.join("sub")).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a")).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("sub/b")).unwrap();
        remove_tree(&tree).unwrap();
        std::os::unix::fs::symlink(&kept, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(kept.join("x").exists() && tree.symlink_metadata().is_err());
    }
}
