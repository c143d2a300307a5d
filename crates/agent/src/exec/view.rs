//! What a command of the toolbox sees of its container: files by the container's mounts, environment, network, processes.
//!
//! A path is made absolute by its words alone, as a shell's `cd` does it, and the mount with the longest prefix of it
//! decides, as for guests. What remains is resolved by [`runtime::files`] beneath that mount. Where mounts lie deeper than
//! the directory that is asked for, they show in it whether or not the root has directories for them.
//!
//! Nothing of files here is async: it may wait for a disk, and belongs into [`blocking`](crate::blocking).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use network::PodNet;
use network::names::search::Search;
use runtime::files::{self, FOLLOW, Mounted, NO_LINKS};
use runtime::{Meter, Mount, Usage};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustls::ClientConfig;

use super::toolbox::Workers;
use crate::remove::{Patience, remove_tree_at};

/// The longest path, in bytes: the kernel's own bound.
const LONGEST_PATH: usize = 4_096;

/// Entries of one directory that are read, and bytes of their names: a guest may have made any number.
const MOST_ENTRIES: usize = 100_000;
const MOST_NAMED: usize = 8 << 20;

/// How often a tree is listed to be removed, while its guest may make it larger: deeper ones take several goes.
const MOST_ROUNDS: u32 = 100_000;

/// A container, as the commands of the toolbox see it.
#[derive(Clone)]
pub(crate) struct View {
    /// As the guest itself has them.
    pub(crate) mounts: Vec<Mount>,
    /// In order.
    pub(crate) env: Vec<(String, String)>,
    /// The absolute directory that relative paths start at.
    pub(crate) working_dir: String,
    /// Counts what is added to the node's disk.
    pub(crate) meter: Arc<Meter>,
    /// The pod's network; without it nothing can be connected to.
    pub(crate) net: Option<PodNet>,
    /// How the pod's names are looked up.
    pub(crate) names: Arc<Search>,
    /// What runs in the pod, as far as the command may know, the oldest first.
    pub(crate) processes: Vec<Process>,
    /// The node's room for commands with threads of their own.
    pub(crate) workers: Workers,
    /// Whom HTTPS trusts.
    pub(crate) tls: Arc<ClientConfig>,
}

/// A guest that runs, for `ps`.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// The container's name.
    pub(crate) container: String,
    /// Its own name first.
    pub(crate) argv: Vec<String>,
    /// Since when it runs.
    pub(crate) started: Timestamp,
    /// What it has used and uses.
    pub(crate) usage: Usage,
}

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    /// What it is.
    pub(crate) kind: FileType,
    /// Its permissions, without its kind.
    pub(crate) mode: u32,
    /// Bytes.
    pub(crate) size: u64,
    /// How many names it has.
    pub(crate) links: u64,
    /// What it takes on the disk, in blocks of 512 bytes.
    pub(crate) blocks: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    /// Whether the mount that it lies in lets it be changed.
    pub(crate) writable: bool,
}

impl Info {
    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// A directory that no mount has, above one that is a mount.
    const ABOVE_MOUNTS: Self = Self {
        kind: FileType::Directory,
        mode: 0o555,
        size: 0,
        blocks: 0,
        links: 1,
        modified: 0,
        writable: false,
    };
}

/// Where a path lies: a mount, and the rest of the path beneath it, which is empty for the mount itself.
struct Place<'a> {
    mount: &'a Mount,
    rest: &'a str,
}

/// Where something is to be made.
pub(super) struct Spot {
    /// The directory that it is to lie in.
    pub(super) parent: OwnedFd,
    /// Its name there.
    pub(super) name: String,
    /// The path of the mount.
    pub(super) mount: String,
    /// How many directories it lies in, of those beneath the one that was begun at and beneath its mount.
    pub(super) depth: usize,
}

impl Place<'_> {
    fn base(&self) -> rustix::io::Result<OwnedFd> {
        files::mounted(self.mount, false)?.directory()
    }

    /// Opens it, following links.
    fn open(&self, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let path = match self.rest {
            "" => ".",
            rest => rest,
        };
        match files::mounted(self.mount, false)? {
            Mounted::Directory(base) => {
                files::open(base.as_fd(), path, flags, mode, FOLLOW).map_err(outside)
            }
            Mounted::File(file) if self.rest.is_empty() => single(file, flags),
            Mounted::File(_) => Err(Errno::NOTDIR),
        }
    }

    /// Refuses what would change a mount that may not be changed.
    fn to_change(&self) -> rustix::io::Result<()> {
        match self.mount.read_only {
            true => Err(Errno::ROFS),
            false => Ok(()),
        }
    }

    /// The directory that the place lies in, and its name there; a mount itself is in use.
    fn parent(&self, links: ResolveFlags) -> rustix::io::Result<(OwnedFd, &str)> {
        let (parent, name) = match self.rest.rsplit_once('/') {
            Some((parent, name)) => (parent, name),
            None if self.rest.is_empty() => return Err(Errno::BUSY),
            None => (".", self.rest),
        };
        let base = self.base()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let parent = files::open(base.as_fd(), parent, flags, Mode::empty(), links)?;
        Ok((parent, name))
    }
}

impl View {
    /// The absolute path that a word means, without `.`, `..` and a `/` at its end.
    ///
    /// # Errors
    /// When it can be no path.
    pub(crate) fn absolute(&self, path: &str) -> io::Result<String> {
        if path.is_empty() {
            return Err(Errno::NOENT.into());
        }
        if path.contains('\0') {
            return Err(Errno::INVAL.into());
        }
        let from = match path.starts_with('/') {
            true => "",
            false => self.working_dir.as_str(),
        };
        let mut parts = Vec::new();
        for part in from.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let absolute = format!("/{}", parts.join("/"));
        match absolute.len() < LONGEST_PATH {
            true => Ok(absolute),
            false => Err(Errno::NAMETOOLONG.into()),
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// The system's; `PERM` where the path leads out of its mount, `ISDIR` for a directory, and words for what is no
    /// file at all.
    pub(crate) fn open(&self, path: &str) -> io::Result<File> {
        let absolute = self.absolute(path)?;
        let place = self.place(&absolute)?;
        reopened(&place, path, OFlags::RDONLY)
    }

    /// Opens a regular file for writing: at its end, or made empty. It is made where it is not there, but not where a
    /// symbolic link leads to it.
    ///
    /// # Errors
    /// As [`View::open`]'s, and `ROFS` where the mount may not be changed.
    pub(crate) fn create(&self, path: &str, append: bool) -> io::Result<File> {
        let absolute = self.absolute(path)?;
        let place = self.place(&absolute)?;
        place.to_change()?;
        let mut flags = OFlags::WRONLY;
        flags.set(OFlags::APPEND, append);
        // As open(2) has it: no file is made by the name of a directory.
        if path.ends_with('/') {
            return Err(Errno::ISDIR.into());
        }
        let new = flags | OFlags::CREATE | OFlags::EXCL;
        match place.open(new, Mode::from_raw_mode(0o644)) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?.into()),
        }
        flags.set(OFlags::TRUNC, !append);
        reopened(&place, path, flags)
    }

    /// What a path leads to, for what is known of it to be changed. It is not opened: it may be anything.
    ///
    /// # Errors
    /// As [`View::create`]'s.
    pub(super) fn to_change(&self, path: &str) -> io::Result<File> {
        let absolute = self.absolute(path)?;
        let place = self.place(&absolute)?;
        place.to_change()?;
        let found = File::from(place.open(OFlags::PATH, Mode::empty())?);
        match path.ends_with('/') && !found.metadata()?.is_dir() {
            true => Err(Errno::NOTDIR.into()),
            false => Ok(found),
        }
    }

    /// What a path is; of a symbolic link, what it leads to if it is followed, or if the path ends in `/`.
    ///
    /// # Errors
    /// As [`View::open`]'s.
    pub(crate) fn info(&self, path: &str, follow: bool) -> io::Result<Info> {
        let absolute = self.absolute(path)?;
        // As in POSIX: the `/` stands for what is in the directory.
        let follow = follow || path.ends_with('/');
        match self.found(&absolute, follow) {
            Err(Errno::NOENT) if self.mounts_below(&absolute).next().is_some() => {
                Ok(Info::ABOVE_MOUNTS)
            }
            Ok(info) if path.ends_with('/') && !info.is_dir() => Err(Errno::NOTDIR.into()),
            found => Ok(found?),
        }
    }

    fn found(&self, absolute: &str, follow: bool) -> rustix::io::Result<Info> {
        let place = self.place(absolute)?;
        let mut flags = OFlags::PATH;
        flags.set(OFlags::NOFOLLOW, !follow);
        let found = File::from(place.open(flags, Mode::empty())?).metadata();
        let found = found.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Info {
            kind: FileType::from_raw_mode(found.mode()),
            mode: found.mode() & 0o7777,
            size: found.size(),
            blocks: found.blocks(),
            links: found.nlink(),
            modified: found.mtime(),
            writable: !place.mount.read_only,
        })
    }

    /// Where a symbolic link leads, by its own words.
    ///
    /// # Errors
    /// As [`View::open`]'s; `INVAL` for what is no link.
    pub(crate) fn link(&self, path: &str) -> io::Result<String> {
        let absolute = self.absolute(path)?;
        let place = self.place(&absolute)?;
        let (parent, name) = place.parent(FOLLOW).map_err(outside)?;
        let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// The names in a directory, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// As [`View::open`]'s; `OVERFLOW` where there are too many, or too long ones.
    pub(crate) fn list(&self, path: &str) -> io::Result<BTreeSet<String>> {
        let absolute = self.absolute(path)?;
        let mut names: BTreeSet<String> = self.mounts_below(&absolute).map(str::to_owned).collect();
        match self.read_dir(&absolute, &mut names) {
            Err(Errno::NOENT) if !names.is_empty() => {}
            read => read?,
        }
        Ok(names)
    }

    fn read_dir(&self, absolute: &str, names: &mut BTreeSet<String>) -> rustix::io::Result<()> {
        let place = self.place(absolute)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut bytes = 0;
        for entry in Dir::new(place.open(flags, Mode::empty())?)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if matches!(&*name, "." | "..") {
                continue;
            }
            bytes += name.len();
            if names.len() == MOST_ENTRIES || bytes > MOST_NAMED {
                return Err(Errno::OVERFLOW);
            }
            names.insert(name.into_owned());
        }
        Ok(())
    }

    /// Makes a directory in one that is there.
    ///
    /// # Errors
    /// As [`View::create`]'s; `EXIST` where something is there.
    pub(crate) fn make_dir(&self, path: &str) -> io::Result<()> {
        let absolute = self.absolute(path)?;
        let place = self.place(&absolute)?;
        if place.rest.is_empty() {
            return Err(Errno::EXIST.into());
        }
        place.to_change()?;
        let (parent, name) = place.parent(FOLLOW).map_err(outside)?;
        Ok(rustix::fs::mkdirat(
            parent,
            name,
            Mode::from_raw_mode(0o755),
        )?)
    }

    /// Removes a file, a link, or with `tree` a directory with all that is in it, for as long as `goes_on` says so.
    ///
    /// # Errors
    /// As [`View::create`]'s; `BUSY` for a mount and for what mounts lie beneath, `ISDIR` for a directory,
    /// `NOTEMPTY` where it is filled as fast as it is emptied.
    pub(crate) fn remove(
        &self,
        path: &str,
        tree: bool,
        goes_on: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        let absolute = self.absolute(path)?;
        if self.mounts_below(&absolute).next().is_some() {
            return Err(Errno::BUSY.into());
        }
        let place = self.place(&absolute)?;
        place.to_change()?;
        let (parent, name) = place.parent(FOLLOW).map_err(outside)?;
        match tree {
            true => {
                let patience = Patience {
                    rounds: MOST_ROUNDS,
                    goes_on,
                };
                Ok(remove_tree_at(parent.as_fd(), Path::new(name), &patience)?)
            }
            false => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
        }
    }

    /// The place beneath `dir` that a path without `..` names, without following a link on the way there. The directories
    /// on that way are made on request. `dir` itself may lead through links.
    ///
    /// # Errors
    /// The system's: `LOOP` or `NOTDIR` for a link on the way, `BUSY` for `dir` itself or a mount.
    pub(super) fn unlinked(&self, dir: &str, path: &str, make: bool) -> io::Result<Spot> {
        let dir = self.absolute(dir)?;
        let whole = self.absolute(&format!("{dir}/{path}"))?;
        let (around, place) = (self.place(&dir)?, self.place(&whole)?);
        place.to_change()?;
        let (base, path) = match around.mount.guest == place.mount.guest {
            true => (
                around.open(OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?,
                beneath(dir.trim_matches('/'), &whole).unwrap_or_default(),
            ),
            false => (place.base()?, place.rest),
        };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() {
            return Err(Errno::BUSY.into());
        }
        let parent = files::directory(base.as_fd(), parent, make, NO_LINKS).map_err(outside)?;
        Ok(Spot {
            parent,
            name: name.to_owned(),
            mount: place.mount.guest.clone(),
            depth: path.matches('/').count(),
        })
    }

    /// The mount that a path lies in.
    fn place<'a>(&'a self, absolute: &'a str) -> rustix::io::Result<Place<'a>> {
        let places = self.mounts.iter().filter_map(|mount| {
            let rest = beneath(mount.guest.trim_matches('/'), absolute)?;
            Some(Place { mount, rest })
        });
        // The longest prefix leaves the least.
        places
            .min_by_key(|place| place.rest.len())
            .ok_or(Errno::NOENT)
    }

    /// The names right below a directory on the way to mounts that lie beneath it.
    fn mounts_below<'a>(&'a self, absolute: &'a str) -> impl Iterator<Item = &'a str> {
        let above = absolute.trim_matches('/');
        self.mounts.iter().filter_map(move |mount| {
            let rest = beneath(above, &mount.guest)?;
            rest.split('/').find(|part| !part.is_empty())
        })
    }
}

/// The rest of an absolute path beneath a directory that is given without its outer `/`.
fn beneath<'a>(directory: &str, path: &'a str) -> Option<&'a str> {
    let path = path.trim_start_matches('/');
    if directory.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(directory)?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(rest),
    }
}

/// Opens what a place has, if that is a regular file, and if its path may mean one.
///
/// It is looked at before it is opened: to open a pipe or a device is to do something with it already.
fn reopened(place: &Place<'_>, path: &str, flags: OFlags) -> io::Result<File> {
    let found = File::from(place.open(OFlags::PATH, Mode::empty())?);
    match found.metadata()?.file_type() {
        kind if kind.is_file() && path.ends_with('/') => Err(Errno::NOTDIR.into()),
        kind if kind.is_file() => {
            let same = format!("/proc/self/fd/{}", found.as_raw_fd());
            let flags = flags | OFlags::CLOEXEC;
            Ok(rustix::fs::open(same, flags, Mode::empty())?.into())
        }
        kind if kind.is_dir() => Err(Errno::ISDIR.into()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "Not a regular file",
        )),
    }
}

/// Opens a mount that is a file.
fn single(file: OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    if flags.contains(OFlags::DIRECTORY) {
        return Err(Errno::NOTDIR);
    }
    if flags.contains(OFlags::EXCL) {
        return Err(Errno::EXIST);
    }
    if flags.contains(OFlags::PATH) {
        return Ok(file);
    }
    let same = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(same, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Guests learn that they may not, rather than how it is known.
fn outside(error: Errno) -> Errno {
    match error {
        Errno::XDEV => Errno::PERM,
        other => other,
    }
}
