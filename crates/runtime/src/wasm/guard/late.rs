//! Directories that are opened when a guest first looks.
//!
//! Most guests that wait for something never look at a directory, and a process may have only so many open. So where
//! [nobody takes a workload's directories away](crate::Host::Own), an instance begins with blank ones in their places, which
//! all workloads with mounts at the same paths have in common. They are exchanged before the first call that would look at
//! one. Nothing can be made in a blank directory, for it was removed while it was open.

use std::collections::HashMap;
use std::fs::File as HostFile;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::io::Errno;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::budget::{Budget, Held};
use crate::files::{self, Mounted};
use crate::{Host, Mount};

/// A directory that is yet to be opened, and that nobody moves or removes.
#[derive(Debug)]
pub(in crate::wasm) struct Place {
    guest: String,
    path: PathBuf,
    perms: FsPerms,
    /// The device and the number of what was found there at the start.
    found: (u64, u64),
}

impl Place {
    /// For what is `opened` now.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::wasm) fn of(
        guest: String,
        path: PathBuf,
        perms: FsPerms,
        opened: BorrowedFd<'_>,
    ) -> rustix::io::Result<Self> {
        let found = rustix::fs::fstat(opened)?;
        let found = (found.st_dev, found.st_ino);
        Ok(Self {
            guest,
            path,
            perms,
            found,
        })
    }

    /// # Errors
    /// The system's; `STALE` where something else lies there now.
    fn open(&self) -> io::Result<Arc<HostFile>> {
        let mount = Mount {
            host: Host::Own(self.path.clone()),
            beneath: String::new(),
            guest: self.guest.clone(),
            read_only: self.perms.write_not_permitted(),
        };
        let directory = files::mounted(&mount, false).and_then(Mounted::directory)?;
        let opened = HostFile::open(path_of(&directory))?;
        let metadata = opened.metadata()?;
        match (metadata.dev(), metadata.ino()) == self.found {
            true => Ok(Arc::new(opened)),
            false => Err(Errno::STALE.into()),
        }
    }
}

/// What a descriptor leads to, whatever has its name by now.
pub(in crate::wasm) fn path_of(opened: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", opened.as_raw_fd())
}

/// Where guests see their mounts, and whether they may write to them.
type Layout = Vec<(String, bool)>;

/// The blank directories of all workloads.
pub(in crate::wasm) struct Blanks {
    /// Where they are made: a directory of the runtime's own.
    directory: PathBuf,
    budget: Arc<Budget>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_layout: HashMap<Layout, Weak<Blank>>,
    /// The ones that were used last. They stay, for where one workload follows the other they would be made for each.
    last: Option<Arc<Blank>>,
}

/// The blank directories of one layout.
struct Blank {
    files: WasiFilesystemCtx,
    directories: Vec<Arc<HostFile>>,
    _held: Held,
}

impl Blanks {
    pub(in crate::wasm) fn new(directory: PathBuf, budget: Arc<Budget>) -> Self {
        Self {
            directory,
            budget,
            known: Mutex::default(),
        }
    }

    /// What is to be opened late, for the instances of one workload.
    ///
    /// # Errors
    /// The system's; `MFILE` where the budget has no room.
    pub(in crate::wasm) fn late(&self, places: Vec<Place>) -> io::Result<Arc<Late>> {
        let writable = |place: &Place| !place.perms.write_not_permitted();
        let layout = places.iter();
        let layout: Layout = layout.map(|p| (p.guest.clone(), writable(p))).collect();
        // One is made at a time, for all are made by the same name.
        let Known { by_layout, last } = &mut *self.known.lock();
        let known = by_layout.get(&layout).and_then(Weak::upgrade);
        let blank = match known {
            Some(blank) => blank,
            None => {
                // Others may need its room.
                *last = None;
                by_layout.retain(|_, blank| blank.strong_count() > 0);
                let blank = Arc::new(self.make(&places)?);
                by_layout.insert(layout, Arc::downgrade(&blank));
                blank
            }
        };
        *last = Some(blank.clone());
        Ok(Arc::new(Late {
            blank,
            places,
            budget: self.budget.clone(),
            opened: Mutex::new(None),
        }))
    }

    fn make(&self, places: &[Place]) -> io::Result<Blank> {
        let held = self.budget.hold(places.len()).ok_or(Errno::MFILE)?;
        let path = self.directory.join("blank");
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut wasi = WasiCtxBuilder::new();
        for place in places {
            let opened = wasi.preopened_dir(&path, &place.guest, place.perms);
            opened.map_err(|error| error.downcast().unwrap_or_else(io::Error::other))?;
        }
        std::fs::remove_dir(&path)?;
        let mut wasi = wasi.build();
        let files = wasi.filesystem().clone();
        let directories = directories(wasi.filesystem()).map_err(io::Error::other)?;
        Ok(Blank {
            files,
            directories,
            _held: held,
        })
    }
}

/// What is preopened here, in its order.
fn directories(ctx: &mut WasiFilesystemCtx) -> wasmtime::Result<Vec<Arc<HostFile>>> {
    let mut table = ResourceTable::new();
    let table = &mut table;
    let preopened = WasiFilesystemCtxView { ctx, table }.get_directories()?;
    let directory = |(fd, _)| match table.delete(fd)? {
        Descriptor::Dir(directory) => Ok(directory.dir),
        Descriptor::File(_) => wasmtime::bail!("a file is preopened"),
    };
    preopened.into_iter().map(directory).collect()
}

/// What one workload's instances open when the first of them looks.
pub(in crate::wasm) struct Late {
    blank: Arc<Blank>,
    /// In the order of the blank directories.
    places: Vec<Place>,
    budget: Arc<Budget>,
    opened: Mutex<Option<Arc<Opened>>>,
}

struct Opened {
    directories: Vec<Arc<HostFile>>,
    _held: Held,
}

impl Late {
    /// What an instance begins with.
    pub(in crate::wasm) fn files(&self) -> WasiFilesystemCtx {
        self.blank.files.clone()
    }

    /// Puts the directories in the places of the blank ones that an instance has got by now.
    ///
    /// # Errors
    /// As [`Place::open`]'s, and `MFILE` where the budget has no room. Nothing has changed then.
    pub(in crate::wasm) fn exchange(&self, table: &mut ResourceTable) -> io::Result<()> {
        let opened = self.opened()?;
        for entry in table.iter_mut() {
            let Some(Descriptor::Dir(directory)) = entry.downcast_mut() else {
                continue;
            };
            let mut blanks = self.blank.directories.iter();
            if let Some(at) = blanks.position(|blank| Arc::ptr_eq(blank, &directory.dir)) {
                directory.dir = opened.directories[at].clone();
            }
        }
        Ok(())
    }

    fn opened(&self) -> io::Result<Arc<Opened>> {
        let mut kept = self.opened.lock();
        if let Some(opened) = &*kept {
            return Ok(opened.clone());
        }
        let held = self.budget.hold(self.places.len()).ok_or(Errno::MFILE)?;
        let directories = self.places.iter().map(Place::open);
        let opened = Arc::new(Opened {
            directories: directories.collect::<io::Result<_>>()?,
            _held: held,
        });
        Ok(kept.insert(opened).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn place(path: &Path, guest: &str) -> Place {
        let opened = OwnedFd::from(HostFile::open(path).unwrap());
        let opened = std::os::fd::AsFd::as_fd(&opened);
        Place::of(guest.into(), path.into(), FsPerms::ReadWrite, opened).unwrap()
    }

    fn blanks(own: &Path, most: usize) -> Blanks {
        Blanks::new(own.into(), Budget::new(most, 1_000))
    }

    #[test]
    fn workloads_with_mounts_at_the_same_paths_have_the_same_blank_directories() {
        let own = tempfile::tempdir().unwrap();
        let blanks = blanks(own.path(), 4);
        let of = |names: &[&str]| {
            let places = names.iter().map(|name| place(own.path(), name));
            blanks.late(places.collect())
        };
        let one = of(&["/", "/data"]).unwrap();
        let other = of(&["/", "/data"]).unwrap();
        assert!(Arc::ptr_eq(&one.blank, &other.blank));
        let root = of(&["/"]).unwrap();
        assert!(!Arc::ptr_eq(&one.blank, &root.blank));
        let full = of(&["/", "/more"]).map(drop).unwrap_err();
        assert_eq!(Errno::from_io_error(&full), Some(Errno::MFILE));
        drop((one, other));
        of(&["/", "/more"]).unwrap();
        // What is left there is nobody's.
        assert_eq!(fs::read_dir(own.path()).unwrap().count(), 0);
        let blank = &root.blank.directories[0];
        let made = rustix::fs::mkdirat(blank, "made", rustix::fs::Mode::RWXU);
        assert_eq!(made, Err(Errno::NOENT));
    }

    #[test]
    fn what_is_looked_at_is_opened_once_and_is_what_was_there() {
        let own = tempfile::tempdir().unwrap();
        let host = tempfile::tempdir().unwrap();
        let data = host.path().join("data");
        fs::create_dir(&data).unwrap();
        let blanks = blanks(own.path(), 3);
        let late = || blanks.late(vec![place(&data, "/")]).unwrap();
        let (first, second) = (late(), late());
        let mut table = ResourceTable::new();
        let mut ctx = first.files();
        let mut view = WasiFilesystemCtxView {
            ctx: &mut ctx,
            table: &mut table,
        };
        let (root, name) = view.get_directories().unwrap().remove(0);
        assert_eq!(name, "/");
        first.exchange(&mut table).unwrap();
        let shown = |table: &ResourceTable| {
            let Descriptor::Dir(directory) = table.get(&root).unwrap() else {
                panic!("it is a directory");
            };
            directory.dir.metadata().unwrap().ino()
        };
        assert_eq!(shown(&table), fs::metadata(&data).unwrap().ino());
        // The budget has room for the blank one, and two that are open.
        let third = late();
        first.exchange(&mut table).unwrap();
        second.opened().unwrap();
        let full = third.opened().map(drop).unwrap_err();
        assert_eq!(Errno::from_io_error(&full), Some(Errno::MFILE));
        drop((first, second));
        fs::rename(&data, host.path().join("moved")).unwrap();
        fs::create_dir(&data).unwrap();
        let stale = third.opened().map(drop).unwrap_err();
        assert_eq!(Errno::from_io_error(&stale), Some(Errno::STALE));
    }
}
