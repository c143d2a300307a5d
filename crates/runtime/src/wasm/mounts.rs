//! What a guest sees of the host's files: its mounts as preopened directories.
//!
//! WASI guests resolve a path against the longest preopened prefix, so that nested mounts need
//! nothing more; what is made in the mounts around them is for listings, and for what lies beside them. Guests' C
//! library has no notion of a working directory, and strips the leading `/` of paths and prefixes
//! alike: to it `/` and `.` are one prefix. With a working directory other than `/`, the directories
//! at the top of the root are therefore preopened by their own names and `.` is the working
//! directory: relative paths start there, absolute ones still find what exists. Any other name
//! right in the root is taken for one in the working directory, and nothing here can tell which was meant.
//!
//! Paths inside a mount are resolved by [`files`], beneath the mount. Single files are mounts, too: see [`super::guard::single`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::guard::budget::Held;
use super::guard::late::{Late, Place};
use super::guard::single::{Single, Singles, Stand};
use super::world::Node;
use crate::files::{self, FOLLOW, Mounted};
use crate::{Host, Mount, StartError};

/// What was preopened.
pub(super) struct Preopened {
    pub(super) singles: Option<Singles>,
    /// The directories, where they are opened late.
    pub(super) late: Option<Arc<Late>>,
    /// Room for the host's descriptors that are open already.
    pub(super) held: Held,
}

/// Preopens every mount and the working directory, now or where a guest looks.
pub(super) fn preopen(
    wasi: &mut WasiCtxBuilder,
    mounts: &[Mount],
    working_dir: &str,
    node: &Node,
) -> Result<Preopened, StartError> {
    let (mounts, files) = opened(mounts)?;
    mount_points(&mounts, &files)?;
    let working_dir = normal(working_dir)?;
    let places = match working_dir.as_str() {
        "/" if files.is_empty() => places(&mounts)?,
        // What lies in the root is to be opened, too.
        _ => None,
    };
    let Some(places) = places else {
        return preopen_now(wasi, &mounts, files, working_dir, node);
    };
    wasi.initial_cwd(working_dir);
    let late = node.blanks.late(places);
    let late = late.map_err(|source| StartError::Mount {
        guest: "/".to_owned(),
        source,
    })?;
    Ok(Preopened {
        singles: None,
        late: Some(late),
        held: hold(node, 0)?,
    })
}

/// The directories, if all of them stay where they are.
fn places(mounts: &[Opened]) -> Result<Option<Vec<Place>>, StartError> {
    let place = |mount: &Opened| {
        let path = mount.stays.clone()?;
        let opened = mount.directory.as_fd();
        let place = Place::of(mount.guest.clone(), path, mount.perms, opened);
        Some(place.map_err(|error| failed(&mount.guest, error)))
    };
    mounts.iter().map(place).collect::<Option<_>>().transpose()
}

fn hold(node: &Node, descriptors: usize) -> Result<Held, StartError> {
    node.open_files.hold(descriptors).ok_or_else(exhausted)
}

fn exhausted() -> StartError {
    let why = "this node has no more files for modules to open (its limit of open files bounds it)";
    StartError::Exhausted(why.to_owned())
}

/// Asks for room for all that stays open before it is opened.
fn preopen_now(
    wasi: &mut WasiCtxBuilder,
    mounts: &[Opened],
    files: Files,
    working_dir: String,
    node: &Node,
) -> Result<Preopened, StartError> {
    let names: BTreeSet<String> = files.keys().cloned().collect();
    let relative = relative(&files, &working_dir);
    let is_elsewhere = working_dir != "/";
    // Of a single file there are the one that whoever mounted it holds, its own, and what stands for it by each of its names.
    let of_files = 3 * files.len() + relative.len();
    let mut held = hold(node, mounts.len() + of_files + usize::from(is_elsewhere))?;
    for mount in mounts {
        mount.preopen(wasi, mount.directory.as_fd(), &mount.guest)?;
    }
    let files = files.into_iter().chain(relative).collect();
    let singles = preopen_files(wasi, files, &node.directory)?;
    if is_elsewhere {
        preopen_working_dir(wasi, mounts, &names, &working_dir, &mut held)?;
    }
    wasi.initial_cwd(working_dir);
    Ok(Preopened {
        singles,
        late: None,
        held,
    })
}

/// Single files, by where the guest sees them.
type Files = BTreeMap<String, Arc<Single>>;

/// The files that lie beneath the working directory, by their paths from there: it has other files in their places.
fn relative(files: &Files, working_dir: &str) -> Files {
    let beneath = |(guest, single): (&String, &Arc<Single>)| {
        let path = guest.strip_prefix(working_dir)?.strip_prefix('/')?;
        Some((path.to_owned(), single.clone()))
    };
    files.iter().filter_map(beneath).collect()
}

/// Opens all mounts: directories, by where the guest sees them, and single files.
fn opened(mounts: &[Mount]) -> Result<(Vec<Opened>, Files), StartError> {
    let (mut directories, mut files) = (Vec::new(), Files::new());
    for mount in mounts {
        let guest = normal(&mount.guest)?;
        let perms = match mount.read_only {
            true => FsPerms::ReadOnly,
            false => FsPerms::ReadWrite,
        };
        let is_other = |other: &Opened| other.guest == guest;
        if directories.iter().any(is_other) || files.contains_key(&guest) {
            return Err(StartError::Invalid(format!("two mounts at {guest}")));
        }
        match files::mounted(mount, true).map_err(|error| failed(&guest, error))? {
            Mounted::Directory(directory) => directories.push(Opened {
                guest,
                directory,
                stays: match &mount.host {
                    Host::Own(path) if mount.beneath.is_empty() => Some(path.clone()),
                    _ => None,
                },
                perms,
            }),
            Mounted::File(_) if guest == "/" => {
                return Err(failed(&guest, Errno::NOTDIR));
            }
            Mounted::File(file) => {
                files.insert(guest, Single::new(file, perms));
            }
        }
    }
    directories.sort_by(|a, b| a.guest.cmp(&b.guest));
    Ok((directories, files))
}

/// Preopens what stands for single files.
fn preopen_files(
    wasi: &mut WasiCtxBuilder,
    files: Files,
    own: &Path,
) -> Result<Option<Singles>, StartError> {
    let Some(first) = files.keys().next() else {
        return Ok(None);
    };
    let stand = Stand::make(own).map_err(|source| StartError::Mount {
        guest: first.clone(),
        source,
    })?;
    for guest in files.keys() {
        preopen_at(wasi, stand.path(), guest, FsPerms::ReadOnly)?;
    }
    Ok(Some(Singles::new(stand, files)))
}

fn preopen_at(
    wasi: &mut WasiCtxBuilder,
    path: impl AsRef<Path>,
    guest: &str,
    perms: FsPerms,
) -> Result<(), StartError> {
    match wasi.preopened_dir(path, guest, perms) {
        Ok(_) => Ok(()),
        Err(error) => {
            let source = error.downcast().unwrap_or_else(io::Error::other);
            let guest = guest.to_owned();
            Err(StartError::Mount { guest, source })
        }
    }
}

struct Opened {
    guest: String,
    directory: OwnedFd,
    /// Where it is found as long as the workload runs, if it is certain to be.
    stays: Option<PathBuf>,
    perms: FsPerms,
}

impl Opened {
    fn writable(&self) -> bool {
        self.perms == FsPerms::ReadWrite
    }

    fn preopen(
        &self,
        wasi: &mut WasiCtxBuilder,
        directory: BorrowedFd<'_>,
        guest: &str,
    ) -> Result<(), StartError> {
        // By descriptor: the path may mean something else by now.
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        preopen_at(wasi, path, guest, self.perms)
    }

    /// The rest of a guest's path that lies in this mount, without leading `/`.
    fn relative<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.guest.trim_end_matches('/'))?;
        match rest.strip_prefix('/') {
            Some(rest) => Some(rest),
            None => rest.is_empty().then_some(rest),
        }
    }
}

fn failed(guest: &str, error: Errno) -> StartError {
    StartError::Mount {
        guest: guest.to_owned(),
        source: error.into(),
    }
}

/// An absolute path without `.`, empty parts and a trailing `/`.
pub(super) fn normal(path: &str) -> Result<String, StartError> {
    let invalid = |why: &str| Err(StartError::Invalid(format!("path {path:?} {why}")));
    if !path.starts_with('/') {
        return invalid("is not absolute");
    }
    if path.contains('\0') {
        return invalid("contains a NUL");
    }
    let mut normal = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return invalid("contains ..");
        }
        normal.push('/');
        normal.push_str(part);
    }
    if normal.is_empty() {
        normal.push('/');
    }
    Ok(normal)
}

/// Makes the directories and the files that mounts lie at in the mounts around them, so that they show when those are
/// listed, and paths to them are found. Where nothing may be written they are found at their own paths alone.
fn mount_points(mounts: &[Opened], files: &Files) -> Result<(), StartError> {
    let directories = mounts.iter().map(|mount| (&mount.guest, false));
    let points = directories.chain(files.keys().map(|guest| (guest, true)));
    for (guest, is_file) in points {
        let others = mounts.iter().filter(|mount| mount.guest != *guest);
        let Some((around, path)) = around(others, guest).filter(|(around, _)| around.writable())
        else {
            continue;
        };
        let around = around.directory.as_fd();
        let made = match is_file {
            true => file_point(around, path),
            false => files::directory(around, path, true, FOLLOW).map(drop),
        };
        match made {
            Ok(()) | Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {}
            Err(error) => return Err(failed(guest, error)),
        }
    }
    Ok(())
}

/// The mount that is closest above a path, and the rest of that.
fn around<'a, 'p>(
    mounts: impl Iterator<Item = &'a Opened>,
    path: &'p str,
) -> Option<(&'a Opened, &'p str)> {
    mounts
        .filter_map(|mount| Some((mount, mount.relative(path)?)))
        .max_by_key(|(mount, _)| mount.guest.len())
}

/// Makes an empty file where nothing is.
///
/// # Errors
/// The system's; `ISDIR` for a directory.
fn file_point(around: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = files::directory(around, parent, true, FOLLOW)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mode = Mode::from_raw_mode(0o644);
    match files::open(parent.as_fd(), name, flags, mode, files::NO_LINKS) {
        Err(Errno::EXIST) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let found = files::open(parent.as_fd(), name, flags, Mode::empty(), files::NO_LINKS)?;
            match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
                // What lies in it would be beneath the file.
                FileType::Directory => Err(Errno::ISDIR),
                _ => Ok(()),
            }
        }
        made => made.map(drop),
    }
}

/// Room is held for the working directory itself; more is asked for where there are others beside it.
fn preopen_working_dir(
    wasi: &mut WasiCtxBuilder,
    mounts: &[Opened],
    files: &BTreeSet<String>,
    path: &str,
    held: &mut Held,
) -> Result<(), StartError> {
    let Some((mount, relative)) = around(mounts.iter(), path) else {
        return Err(failed(path, Errno::NOENT));
    };
    let directory = files::directory(mount.directory.as_fd(), relative, mount.writable(), FOLLOW)
        .map_err(|error| failed(path, error))?;
    if let Some(root) = mounts.first().filter(|root| root.guest == "/") {
        let names = directories(root.directory.as_fd()).map_err(|error| failed("/", error))?;
        let mut guests: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
        let is_mount = |guest: &String| mounts.iter().any(|mount| mount.guest == *guest);
        guests.retain(|guest| !is_mount(guest) && !files.contains(guest));
        if !held.hold_more(guests.len()) {
            return Err(exhausted());
        }
        for guest in guests {
            let directory = files::directory(root.directory.as_fd(), &guest[1..], false, FOLLOW)
                .map_err(|error| failed(&guest, error))?;
            root.preopen(wasi, directory.as_fd(), &guest)?;
        }
    }
    // Last, because the guests' library takes the last of equal prefixes.
    mount.preopen(wasi, directory.as_fd(), ".")
}

/// The names of the directories right in this one.
fn directories(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(directory, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(readable)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == FileType::Directory && !matches!(&*name, "." | "..") {
            names.push(name.into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::guard::budget::Budget;
    use super::super::guard::late::Blanks;
    use super::*;

    /// How many descriptors of this process lead to a directory, or to what lies in it.
    fn open_at(directory: &Path) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        let to = all.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        to.filter(|to| to.starts_with(directory)).count()
    }

    #[test]
    fn nothing_is_opened_for_which_there_is_no_room() {
        let (own, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (root, file) = (host.path().join("root"), host.path().join("file"));
        for name in ["a", "b", "work"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::write(&file, "").unwrap();
        let mount = |host: &Path, guest: &str| Mount {
            host: host.into(),
            beneath: String::new(),
            guest: guest.into(),
            read_only: true,
        };
        let mounts = [mount(&root, "/"), mount(&file, "/f")];
        // The root, the working directory and three for the file; then what else is at the top.
        let (first, all) = (5, 8);
        for most in 0..=all {
            let budget = Budget::new(most, usize::MAX);
            let node = Node {
                directory: own.path().into(),
                open_files: budget.clone(),
                blanks: Blanks::new(own.path().into(), budget.clone()),
            };
            let (opened, files) = opened(&mounts).unwrap();
            let mut wasi = WasiCtxBuilder::new();
            let preopened = preopen_now(&mut wasi, &opened, files, "/work".into(), &node);
            // Beside what was opened to be looked at.
            let open = open_at(&root) - opened.len() + open_at(own.path());
            let due = match most {
                _ if most == all => 6,
                _ if most >= first => 2,
                _ => 0,
            };
            assert_eq!(open, due, "{most}");
            match preopened {
                Ok(_preopened) => assert!(most == all && budget.hold(1).is_none()),
                Err(StartError::Exhausted(_)) => assert!(most < all),
                Err(error) => panic!("{most}: {error}"),
            }
            assert!(budget.hold(most).is_some(), "all is given back");
        }
    }

    #[test]
    fn paths_are_made_normal_or_refused() {
        assert_eq!(normal("/").unwrap(), "/");
        assert_eq!(normal("//data/./x/").unwrap(), "/data/x");
        for wrong in ["", "data", "./x", "/a/../b", "/a\0"] {
            assert!(normal(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_directories_are_preopened() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir(host.path().join("a")).unwrap();
        std::fs::write(host.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("a", host.path().join("link")).unwrap();
        let mount = Mount {
            host: host.path().into(),
            beneath: String::new(),
            guest: "/".into(),
            read_only: false,
        };
        let (opened, files) = opened(&[mount]).unwrap();
        assert_eq!(directories(opened[0].directory.as_fd()).unwrap(), ["a"]);
        assert!(files.is_empty());
    }
}
