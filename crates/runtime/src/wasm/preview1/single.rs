//! Single files as mounts of preview 1 modules.
//!
//! wasmtime-wasi gives numbers only to what it has opened by a path itself. So it opens the file that stands for single
//! ones, and has that file exchanged for the one that is meant before the guest learns the number.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::types::{Errno, Fd, Fdflags, Lookupflags, Oflags, Rights};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as stock, WasiSnapshotPreview1 as _};
use wiggle::{GuestMemory, GuestPtr};

use super::guarded::{Guarded, look};
use super::{Result, call};
use crate::wasm::guard::single::{How, NAME, Single, is_itself};

/// How `path_open` is told to open.
pub(super) struct Opening {
    pub(super) how: i32,
    pub(super) rights: i64,
    pub(super) flags: i32,
}

/// Bytes of the longest path that is read: the kernel's bound.
const LONGEST: u32 = 4_096;

/// What a path says, by where it begins and how long it is.
type Path = (u32, u32);

impl Guarded<'_, '_> {
    /// The single file that a directory stands for.
    pub(super) fn single(&mut self, fd: i32) -> Option<Arc<Single>> {
        let singles = self.guard.singles()?;
        let mut name = vec![0; singles.longest()];
        let length = u32::try_from(name.len()).ok()?;
        let mut memory = GuestMemory::Unshared(&mut name);
        let (fd, at) = (Fd::from(fd), GuestPtr::new(0));
        self.wasi
            .fd_prestat_dir_name(&mut memory, fd, at, length)
            .ok()?;
        // Guests' paths contain no NUL.
        let name = name.split(|byte| *byte == 0).next()?;
        singles.named(str::from_utf8(name).ok()?).cloned()
    }

    /// Opens a single file, and gives its number.
    pub(super) async fn open_single(
        &mut self,
        fd: i32,
        single: &Arc<Single>,
        path: Path,
        opening: Opening,
    ) -> Result<Fd> {
        self.itself(path)?;
        let how = Oflags::try_from(opening.how)?;
        let rights = Rights::try_from(opening.rights)?;
        let flags = Fdflags::try_from(opening.flags)?;
        let opened = single.open(How {
            read: rights.contains(Rights::FD_READ),
            write: rights.contains(Rights::FD_WRITE),
            creates: how.contains(Oflags::CREAT),
            exclusive: how.contains(Oflags::EXCL),
            truncates: how.contains(Oflags::TRUNC),
            directory: how.contains(Oflags::DIRECTORY),
        });
        let opened = self.guard.call(opened).await;
        let opened = opened.map_err(|error| errno(&error))?;
        self.exchanged(fd, opened, flags).await
    }

    /// Refuses what would lie beneath a file.
    fn itself(&self, (at, length): Path) -> Result<()> {
        if length > LONGEST {
            return Err(Errno::Nametoolong.into());
        }
        let path = self.memory.as_cow_str(GuestPtr::new((at, length)))?;
        match is_itself(&path) {
            true => Ok(()),
            false => Err(Errno::Notdir.into()),
        }
    }

    /// Where the next thing that is opened will be.
    pub(super) fn next(&mut self) -> Result<Resource<Descriptor>> {
        let table = self.wasi.ctx().table;
        let next = table.push(()).map_err(|_| Errno::Mfile)?;
        let at = next.rep();
        table.delete(next).map_err(|_| Errno::Mfile)?;
        Ok(Resource::new_borrow(at))
    }

    /// Gives a number to what was opened.
    async fn exchanged(&mut self, fd: i32, opened: Descriptor, flags: Fdflags) -> Result<Fd> {
        let at = self.next()?;
        let mut name = NAME.as_bytes().to_vec();
        let length = u32::try_from(name.len())?;
        let mut memory = GuestMemory::Unshared(&mut name);
        let number = self.wasi.path_open(
            &mut memory,
            Fd::from(fd),
            Lookupflags::empty(),
            GuestPtr::new((0, length)),
            Oflags::empty(),
            Rights::FD_READ,
            Rights::empty(),
            flags,
        );
        let number = self.guard.call(number).await?;
        let stands = self.wasi.ctx().table.get_mut(&at);
        let singles = self.guard.singles();
        match (stands, singles) {
            (Ok(stands), Some(singles)) if singles.is_stand(stands) => {
                *stands = opened;
                Ok(number)
            }
            _ => {
                let why = wasmtime::format_err!("a single file is not where it was expected");
                Err(super::Error::trap(why))
            }
        }
    }

    /// Has something done with a single file by its number, which it has for that time only.
    async fn briefly(&mut self, fd: i32, opened: Descriptor) -> Result<i32> {
        let number = self.exchanged(fd, opened, Fdflags::empty()).await?;
        Ok(i32::from(number))
    }

    pub(super) async fn close(&mut self, number: i32) -> Result<()> {
        self.wasi.fd_close(self.memory, Fd::from(number)).await
    }

    async fn stat_single(
        &mut self,
        fd: i32,
        single: &Arc<Single>,
        path: Path,
        at: i32,
    ) -> Result<i32> {
        self.itself(path)?;
        let seen = self.guard.call(single.seen()).await;
        let seen = seen.map_err(|error| errno(&error))?;
        let number = self.briefly(fd, seen).await?;
        let told = stock::fd_filestat_get(self.wasi, self.memory, number, at);
        let told = self.guard.call(told).await;
        self.close(number).await?;
        call::passed(told)
    }

    async fn set_times_of_single(
        &mut self,
        fd: i32,
        single: &Arc<Single>,
        path: Path,
        (accessed, modified, flags): (i64, i64, i32),
    ) -> Result<i32> {
        self.itself(path)?;
        let opened = self.guard.call(single.open(How::default())).await;
        let opened = opened.map_err(|error| errno(&error))?;
        let number = self.briefly(fd, opened).await?;
        let (wasi, memory) = (&mut *self.wasi, &mut *self.memory);
        let told = stock::fd_filestat_set_times(wasi, memory, number, accessed, modified, flags);
        let told = self.guard.call(told).await;
        self.close(number).await?;
        call::passed(told)
    }

    pub(super) async fn path_filestat_get(
        mut self,
        fd: i32,
        flags: i32,
        path: i32,
        length: i32,
        at: i32,
    ) -> wasmtime::Result<i32> {
        look!(self);
        if let Some(single) = self.single(fd) {
            let path = (path.cast_unsigned(), length.cast_unsigned());
            return call::told(self.stat_single(fd, &single, path, at).await);
        }
        let (wasi, memory) = (self.wasi, self.memory);
        let told = stock::path_filestat_get(wasi, memory, fd, flags, path, length, at);
        self.guard.call(told).await
    }

    #[expect(clippy::too_many_arguments, reason = "preview 1's")]
    pub(super) async fn path_filestat_set_times(
        mut self,
        fd: i32,
        follow: i32,
        path: i32,
        length: i32,
        accessed: i64,
        modified: i64,
        flags: i32,
    ) -> wasmtime::Result<i32> {
        look!(self);
        if let Some(single) = self.single(fd) {
            let path = (path.cast_unsigned(), length.cast_unsigned());
            let times = (accessed, modified, flags);
            let set = self.set_times_of_single(fd, &single, path, times);
            return call::told(set.await);
        }
        let (wasi, memory) = (self.wasi, self.memory);
        let told = stock::path_filestat_set_times(
            wasi, memory, fd, follow, path, length, accessed, modified, flags,
        );
        self.guard.call(told).await
    }
}

/// What preview 1 calls an error of opening.
pub(super) fn errno(error: &std::io::Error) -> Errno {
    match rustix::io::Errno::from_io_error(error) {
        Some(rustix::io::Errno::PERM) => Errno::Perm,
        Some(rustix::io::Errno::ACCESS) => Errno::Acces,
        Some(rustix::io::Errno::EXIST) => Errno::Exist,
        Some(rustix::io::Errno::NOTDIR) => Errno::Notdir,
        Some(rustix::io::Errno::INVAL) => Errno::Inval,
        Some(rustix::io::Errno::ROFS) => Errno::Rofs,
        Some(rustix::io::Errno::MFILE) => Errno::Mfile,
        Some(rustix::io::Errno::NFILE) => Errno::Nfile,
        Some(rustix::io::Errno::NOSPC) => Errno::Nospc,
        _ => Errno::Io,
    }
}
