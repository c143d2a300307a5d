//! Single files as mounts.
//!
//! What a guest is told of are directories, by their paths; C libraries, Go's and Rust's take the longest of these paths
//! that a path begins with, and look for `.` beneath it where nothing is left. So a single file is a directory to them by
//! the file's own path, and what they do with its `.` is done with the file. The file itself was opened before the guest
//! began, and nothing but a file descriptor leads to it: whatever is renamed or linked in its place meanwhile, this is
//! the file that the guest has.

use std::collections::BTreeMap;
use std::fs::File as HostFile;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::{Descriptor, File, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::{FsPerms, OpenMode, WasiCtx};

/// The only file in the directory that stands for single files.
pub(in crate::wasm) const NAME: &str = "file";

/// A file that a guest has been given.
pub(in crate::wasm) struct Single {
    file: OwnedFd,
    perms: FsPerms,
}

/// How a file is to be opened.
#[derive(Clone, Copy, Default)]
pub(in crate::wasm) struct How {
    pub(in crate::wasm) read: bool,
    pub(in crate::wasm) write: bool,
    pub(in crate::wasm) creates: bool,
    pub(in crate::wasm) exclusive: bool,
    pub(in crate::wasm) truncates: bool,
    pub(in crate::wasm) directory: bool,
}

impl Single {
    pub(in crate::wasm) fn new(file: OwnedFd, perms: FsPerms) -> Arc<Self> {
        Arc::new(Self { file, perms })
    }

    /// Opens it as wasmtime-wasi opens files that are there.
    ///
    /// # Errors
    /// As wasmtime-wasi's.
    pub(in crate::wasm) async fn open(self: &Arc<Self>, how: How) -> io::Result<Descriptor> {
        if how.directory {
            let invalid = how.creates || how.exclusive || how.truncates;
            return Err(match invalid {
                true => rustix::io::Errno::INVAL,
                false => rustix::io::Errno::NOTDIR,
            }
            .into());
        }
        let writes = how.write || how.creates || how.truncates;
        if writes && self.perms.write_not_permitted() {
            return Err(rustix::io::Errno::PERM.into());
        }
        if how.creates && how.exclusive {
            return Err(rustix::io::Errno::EXIST.into());
        }
        let reads = how.read || !how.write;
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::READ, reads);
        mode.set(OpenMode::WRITE, writes);
        let mut flags = match (reads, writes) {
            (_, false) => OFlags::RDONLY,
            (false, true) => OFlags::WRONLY,
            (true, true) => OFlags::RDWR,
        };
        flags.set(OFlags::TRUNC, how.truncates);
        let file = self.reopened(flags).await?;
        Ok(Descriptor::File(File::new(file, self.perms, mode, false)))
    }

    /// Opens it to be looked at.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::wasm) async fn seen(self: &Arc<Self>) -> io::Result<Descriptor> {
        let file = self.reopened(OFlags::PATH).await?;
        let mode = OpenMode::READ;
        Ok(Descriptor::File(File::new(file, self.perms, mode, false)))
    }

    async fn reopened(self: &Arc<Self>, flags: OFlags) -> io::Result<HostFile> {
        let this = self.clone();
        let open = move || {
            // It is a regular file, as was seen when it was mounted: opening it does nothing else.
            let path = format!("/proc/self/fd/{}", this.file.as_raw_fd());
            let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?;
            Ok(HostFile::from(opened))
        };
        wasmtime_wasi::runtime::spawn_blocking(open).await
    }
}

/// Whether a path beneath a single file means the file itself.
pub(in crate::wasm) fn is_itself(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| matches!(part, "" | ".")) && path != "/"
}

/// A directory with one empty file, which stands for single files where wasmtime-wasi has to have something.
#[derive(Clone, Debug)]
pub(in crate::wasm) struct Stand {
    path: PathBuf,
    file: (u64, u64),
}

impl Stand {
    /// Makes it in a directory of our own, where it is not there yet.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::wasm) fn make(directory: &Path) -> io::Result<Self> {
        let path = directory.join("single");
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut options = HostFile::options();
        let file = options.create(true).truncate(true).write(true);
        let metadata = file.open(path.join(NAME))?.metadata()?;
        let file = (metadata.dev(), metadata.ino());
        Ok(Self { path, file })
    }

    pub(in crate::wasm) fn path(&self) -> &Path {
        &self.path
    }
}

/// The single files of a guest.
pub(in crate::wasm) struct Singles {
    stand: Stand,
    by_name: BTreeMap<String, Arc<Single>>,
    /// By the descriptors of the directories that stand for them, which are open as long as the guest runs.
    by_stand: BTreeMap<RawFd, Arc<Single>>,
    longest: usize,
}

impl Singles {
    pub(in crate::wasm) fn new(stand: Stand, by_name: BTreeMap<String, Arc<Single>>) -> Self {
        Self {
            stand,
            longest: by_name.keys().map(String::len).max().unwrap_or(0),
            by_name,
            by_stand: BTreeMap::new(),
        }
    }

    /// Looks which directories stand for them, for components.
    ///
    /// # Errors
    /// When wasmtime-wasi cannot say.
    pub(in crate::wasm) fn learn(&mut self, wasi: &mut WasiCtx) -> wasmtime::Result<()> {
        let (ctx, mut table) = (wasi.filesystem(), ResourceTable::new());
        let mut view = WasiFilesystemCtxView {
            ctx,
            table: &mut table,
        };
        for (directory, name) in view.get_directories()? {
            let Descriptor::Dir(directory) = table.get(&directory)? else {
                continue;
            };
            if let Some(single) = self.by_name.get(&name) {
                let stand = directory.dir.as_raw_fd();
                self.by_stand.insert(stand, single.clone());
            }
        }
        Ok(())
    }

    /// The one that is mounted at a path.
    pub(in crate::wasm) fn named(&self, name: &str) -> Option<&Arc<Single>> {
        self.by_name.get(name)
    }

    /// The one that a component's directory stands for.
    pub(in crate::wasm) fn behind(&self, descriptor: &Descriptor) -> Option<&Arc<Single>> {
        match descriptor {
            Descriptor::Dir(directory) => self.by_stand.get(&directory.dir.as_raw_fd()),
            Descriptor::File(_) => None,
        }
    }

    /// Bytes of the longest name.
    pub(in crate::wasm) fn longest(&self) -> usize {
        self.longest
    }

    /// Whether this is the file that stands for all of them.
    pub(in crate::wasm) fn is_stand(&self, descriptor: &Descriptor) -> bool {
        let Descriptor::File(file) = descriptor else {
            return false;
        };
        let metadata = file.file.metadata();
        metadata.is_ok_and(|found| (found.dev(), found.ino()) == self.stand.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_nothing_beneath() {
        for itself in [".", "./", "./."] {
            assert!(is_itself(itself), "{itself}");
        }
        for other in ["", "/", "..", "./..", "file", "./file", "..."] {
            assert!(!is_itself(other), "{other}");
        }
    }
}
