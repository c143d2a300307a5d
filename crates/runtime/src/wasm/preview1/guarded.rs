//! What preview 1 does with files that is not wasmtime-wasi's alone: its functions, by its numbers, behind the [`Guard`].
//!
//! `fd_allocate` is not among them, for wasmtime-wasi refuses it.

use futures::FutureExt as _;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{Ciovec, Errno, Fd, Fstflags, Oflags, Whence};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as stock, WasiSnapshotPreview1 as _};
use wiggle::{GuestMemory, GuestPtr};

use super::call::{self, Call};
use super::single::{self, Opening};
use super::{PREVIEW_1, buffers};
use crate::meter::{Charge, NAME};
use crate::wasm::guard::{self, Guard};
use crate::wasm::guest::Core;
use crate::wasm::world::RANDOM_AT_ONCE;

/// What a call works on.
pub(super) struct Guarded<'a, 'm> {
    pub(super) guard: &'a mut Guard,
    pub(super) wasi: &'a mut WasiP1Ctx,
    pub(super) memory: &'a mut GuestMemory<'m>,
}

/// Puts these functions in the place of wasmtime-wasi's, for modules with wasmtime-wasi's numbers.
pub(in crate::wasm) fn link(linker: &mut Linker<Core>) -> wasmtime::Result<()> {
    macro_rules! link {
        ($($name:ident($($argument:ident: $type:ty),+);)+) => {$(
            linker.func_wrap_async(
                PREVIEW_1,
                stringify!($name),
                |mut caller: Caller<'_, Core>, ($($argument,)+): ($($type,)+)| {
                    Box::new(async move {
                        let mut call = Call::of(&mut caller)?;
                        call.guarded().$name($($argument),+).await
                    })
                },
            )?;
        )+};
    }
    link! {
        fd_close(fd: i32);
        fd_advise(fd: i32, offset: i64, length: i64, advice: i32);
        fd_datasync(fd: i32);
        fd_fdstat_get(fd: i32, at: i32);
        fd_filestat_get(fd: i32, at: i32);
        fd_filestat_set_size(fd: i32, size: i64);
        fd_filestat_set_times(fd: i32, accessed: i64, modified: i64, flags: i32);
        fd_pread(fd: i32, buffers: i32, count: i32, offset: i64, read: i32);
        fd_pwrite(fd: i32, buffers: i32, count: i32, offset: i64, written: i32);
        fd_read(fd: i32, buffers: i32, count: i32, read: i32);
        fd_readdir(fd: i32, buffer: i32, length: i32, cookie: i64, used: i32);
        fd_renumber(from: i32, to: i32);
        fd_seek(fd: i32, offset: i64, whence: i32, position: i32);
        fd_sync(fd: i32);
        fd_write(fd: i32, buffers: i32, count: i32, written: i32);
        path_create_directory(fd: i32, path: i32, length: i32);
        path_filestat_get(fd: i32, flags: i32, path: i32, length: i32, at: i32);
        path_filestat_set_times(
            fd: i32, follow: i32, path: i32, length: i32, accessed: i64, modified: i64, flags: i32
        );
        path_link(
            old: i32, flags: i32, path: i32, length: i32, new: i32, new_path: i32, new_length: i32
        );
        path_open(
            fd: i32, lookup: i32, path: i32, length: i32, how: i32, base: i64, inheriting: i64,
            flags: i32, opened: i32
        );
        path_readlink(fd: i32, path: i32, length: i32, buffer: i32, size: i32, used: i32);
        path_remove_directory(fd: i32, path: i32, length: i32);
        path_rename(
            old: i32, path: i32, length: i32, new: i32, new_path: i32, new_length: i32
        );
        path_symlink(target: i32, target_length: i32, fd: i32, path: i32, length: i32);
        path_unlink_file(fd: i32, path: i32, length: i32);
        random_get(to: i32, length: i32);
    }
    Ok(())
}

/// Before a function looks at a directory, which it does not where that says an errno.
macro_rules! look {
    ($guarded:ident) => {
        if let Err(errno) = $guarded.look() {
            return Ok(u16::from(errno).into());
        }
    };
}
pub(super) use look;

/// Functions of which there is no more to know than that they look at a directory.
macro_rules! looking {
    ($($name:ident($($argument:ident: $type:ty),*);)+) => {$(
        pub(super) async fn $name(mut self, $($argument: $type),*) -> wasmtime::Result<i32> {
            look!(self);
            let call = stock::$name(self.wasi, self.memory, $($argument),*);
            self.guard.call(call).await
        }
    )+};
}

impl Guarded<'_, '_> {
    looking! {
        fd_datasync(fd: i32);
        fd_filestat_get(fd: i32, at: i32);
        fd_filestat_set_times(fd: i32, accessed: i64, modified: i64, flags: i32);
        fd_sync(fd: i32);
        path_readlink(fd: i32, path: i32, length: i32, buffer: i32, size: i32, used: i32);
        path_remove_directory(fd: i32, path: i32, length: i32);
        path_unlink_file(fd: i32, path: i32, length: i32);
    }

    /// Before anything looks at a directory.
    pub(super) fn look(&mut self) -> Result<(), Errno> {
        if !self.guard.is_blank() {
            return Ok(());
        }
        // wasmtime-wasi has its directories from the first time on that it is asked for a descriptor.
        let _ = self.wasi.fd_prestat_get(self.memory, Fd::from(0));
        let looked = self.guard.look(self.wasi.ctx().table);
        looked.map_err(|error| single::errno(&error))
    }

    /// As many as wasmtime-wasi makes at once after each other, and in between others run.
    pub(super) async fn random_get(self, to: i32, length: i32) -> wasmtime::Result<i32> {
        let (mut to, mut left) = (to.cast_unsigned(), length.cast_unsigned());
        loop {
            let now = left.min(RANDOM_AT_ONCE);
            let (at, length) = (to.cast_signed(), now.cast_signed());
            let told = stock::random_get(self.wasi, self.memory, at, length)?;
            left -= now;
            if told != 0 || left == 0 {
                return Ok(told);
            }
            // What lies beyond the guest's memory traps in the next turn.
            to = to.saturating_add(now);
            tokio::task::yield_now().await;
        }
    }

    /// Where a file is read and written next, of which there is no need to ask the system.
    fn position(&mut self, fd: i32) -> Option<u64> {
        self.wasi.fd_tell(self.memory, Fd::from(fd)).ok()
    }

    /// How much a call is about to write, at most: wasmtime-wasi writes the first buffer that has something.
    ///
    /// # Errors
    /// An errno, for more buffers than a call may name.
    fn length(&self, at: i32, count: i32) -> Result<u64, Errno> {
        let count = count.cast_unsigned();
        if count > buffers::MOST {
            return Err(Errno::Inval);
        }
        let vectors = GuestPtr::<Ciovec>::new(at.cast_unsigned()).as_array(count);
        // Where one cannot be read, wasmtime-wasi says so.
        let length = vectors
            .iter()
            .map_while(|vector| Some(self.memory.read(vector.ok()?).ok()?.buf_len))
            .find(|length| *length > 0);
        Ok(length.unwrap_or(0).into())
    }

    /// Whether wasmtime-wasi would not refuse to change this anyway: no times may be set where nothing may be changed, and
    /// none are.
    async fn is_writable(&mut self, fd: i32) -> bool {
        let none = Fstflags::empty();
        let set = self
            .wasi
            .fd_filestat_set_times(self.memory, Fd::from(fd), 0, 0, none);
        self.guard.call(set).await.is_ok()
    }

    /// Pays for what is to be added by a descriptor, as [`Guard::pay`] does. Nobody waits to be refused.
    async fn pay(&mut self, fd: i32, bytes: u64) -> Option<Charge> {
        if let Some(paid) = self.guard.pay(bytes).now_or_never() {
            return paid;
        }
        match self.is_writable(fd).await {
            true => self.guard.pay(bytes).await,
            false => None,
        }
    }

    /// Pays for what was written up to here beyond what was `paid`: where a file is appended to, only now it is known which
    /// blocks that are.
    async fn wrote(&mut self, fd: i32, at: i32, paid: u64) {
        let number = fd.cast_unsigned();
        let length = self.memory.read(GuestPtr::<u32>::new(at.cast_unsigned()));
        let (Some(end), Ok(length)) = (self.position(fd), length) else {
            return;
        };
        let start = end.saturating_sub(length.into());
        let before = self.guard.opened.written(number);
        let cost = guard::touched(start, length.into(), before);
        drop(self.guard.pay(cost.saturating_sub(paid)).await);
        let block = guard::block(start, length.into());
        self.guard.opened.set_written(number, block);
    }

    pub(super) async fn fd_fdstat_get(self, fd: i32, at: i32) -> wasmtime::Result<i32> {
        let told = stock::fd_fdstat_get(self.wasi, self.memory, fd, at);
        self.guard.call(told).await
    }

    pub(super) async fn fd_advise(
        self,
        fd: i32,
        offset: i64,
        length: i64,
        advice: i32,
    ) -> wasmtime::Result<i32> {
        let advise = stock::fd_advise(self.wasi, self.memory, fd, offset, length, advice);
        self.guard.call(advise).await
    }

    pub(super) async fn fd_seek(
        self,
        fd: i32,
        offset: i64,
        whence: i32,
        position: i32,
    ) -> wasmtime::Result<i32> {
        let seek = stock::fd_seek(self.wasi, self.memory, fd, offset, whence, position);
        match whence == i32::from(u8::from(Whence::End)) {
            true => self.guard.call(seek).await,
            // wasmtime-wasi knows where that is.
            false => seek.await,
        }
    }

    pub(super) async fn fd_read(
        mut self,
        fd: i32,
        buffers: i32,
        count: i32,
        read: i32,
    ) -> wasmtime::Result<i32> {
        let is_file = self.position(fd).is_some();
        let call = stock::fd_read(self.wasi, self.memory, fd, buffers, count, read);
        match is_file {
            true => self.guard.call(call).await,
            // Whoever writes it may take as long as it likes.
            false => call.await,
        }
    }

    pub(super) async fn fd_pread(
        self,
        fd: i32,
        buffers: i32,
        count: i32,
        offset: i64,
        read: i32,
    ) -> wasmtime::Result<i32> {
        let call = stock::fd_pread(self.wasi, self.memory, fd, buffers, count, offset, read);
        self.guard.call(call).await
    }

    pub(super) async fn fd_write(
        mut self,
        fd: i32,
        buffers: i32,
        count: i32,
        written: i32,
    ) -> wasmtime::Result<i32> {
        let Some(at) = self.position(fd) else {
            // No file: whoever reads it may take as long as it likes.
            return stock::fd_write(self.wasi, self.memory, fd, buffers, count, written).await;
        };
        if !self.guard.counts() {
            let write = stock::fd_write(self.wasi, self.memory, fd, buffers, count, written);
            return self.guard.call(write).await;
        }
        let length = match self.length(buffers, count) {
            Ok(length) => length,
            Err(errno) => return Ok(u16::from(errno).into()),
        };
        let number = fd.cast_unsigned();
        let cost = guard::touched(at, length, self.guard.opened.written(number));
        let paid = self.pay(fd, cost).await;
        let (wasi, memory) = (&mut *self.wasi, &mut *self.memory);
        let write = stock::fd_write(wasi, memory, fd, buffers, count, written);
        let told = self.guard.call(write).await?;
        // Who waits again holds nothing.
        guard::settle(paid, told == 0);
        match told {
            0 => self.wrote(fd, written, cost).await,
            _ => self.guard.opened.set_written(number, None),
        }
        Ok(told)
    }

    pub(super) async fn fd_pwrite(
        mut self,
        fd: i32,
        buffers: i32,
        count: i32,
        offset: i64,
        written: i32,
    ) -> wasmtime::Result<i32> {
        let mut cost = 0;
        if self.guard.counts() && self.position(fd).is_some() {
            let length = match self.length(buffers, count) {
                Ok(length) => length,
                Err(errno) => return Ok(u16::from(errno).into()),
            };
            // Of a file that is appended to this is not the place: no block is known to be paid for.
            cost = guard::touched(offset.cast_unsigned(), length, None);
        }
        let _paid = self.pay(fd, cost).await;
        let (wasi, memory) = (self.wasi, self.memory);
        let write = stock::fd_pwrite(wasi, memory, fd, buffers, count, offset, written);
        self.guard.call(write).await
    }

    pub(super) async fn fd_close(self, fd: i32) -> wasmtime::Result<i32> {
        let told = stock::fd_close(self.wasi, self.memory, fd).await?;
        if told == 0 {
            self.guard.opened.remove(fd.cast_unsigned(), None);
        }
        Ok(told)
    }

    pub(super) async fn fd_renumber(self, from: i32, to: i32) -> wasmtime::Result<i32> {
        let told = stock::fd_renumber(self.wasi, self.memory, from, to).await?;
        if told == 0 {
            let opened = &mut self.guard.opened;
            opened.renumber(from.cast_unsigned(), to.cast_unsigned());
        }
        Ok(told)
    }

    pub(super) async fn fd_filestat_set_size(
        mut self,
        fd: i32,
        size: i64,
    ) -> wasmtime::Result<i32> {
        // Holes take nothing; what is written into them later is paid for then.
        let paid = self.pay(fd, guard::BLOCK).await;
        self.guard.opened.set_written(fd.cast_unsigned(), None);
        let set = stock::fd_filestat_set_size(self.wasi, self.memory, fd, size);
        let told = self.guard.call(set).await?;
        guard::settle(paid, told == 0);
        Ok(told)
    }

    pub(super) async fn path_create_directory(
        mut self,
        fd: i32,
        path: i32,
        length: i32,
    ) -> wasmtime::Result<i32> {
        look!(self);
        let paid = self.pay(fd, NAME).await;
        let made = stock::path_create_directory(self.wasi, self.memory, fd, path, length);
        let told = self.guard.call(made).await?;
        guard::settle(paid, told == 0);
        Ok(told)
    }

    #[expect(clippy::too_many_arguments, reason = "preview 1's")]
    pub(super) async fn path_link(
        mut self,
        old: i32,
        flags: i32,
        path: i32,
        length: i32,
        new: i32,
        new_path: i32,
        new_length: i32,
    ) -> wasmtime::Result<i32> {
        look!(self);
        let paid = self.pay(new, NAME).await;
        let (wasi, memory) = (self.wasi, self.memory);
        let made = stock::path_link(
            wasi, memory, old, flags, path, length, new, new_path, new_length,
        );
        let told = self.guard.call(made).await?;
        guard::settle(paid, told == 0);
        Ok(told)
    }

    #[expect(clippy::too_many_arguments, reason = "preview 1's")]
    pub(super) async fn path_open(
        mut self,
        fd: i32,
        lookup: i32,
        path: i32,
        length: i32,
        how: i32,
        base: i64,
        inheriting: i64,
        flags: i32,
        opened: i32,
    ) -> wasmtime::Result<i32> {
        look!(self);
        let Some(place) = self.guard.opened.place() else {
            return Ok(u16::from(Errno::Mfile).into());
        };
        if let Some(single) = self.single(fd) {
            let opening = Opening {
                how,
                rights: base,
                flags,
            };
            let path = (path.cast_unsigned(), length.cast_unsigned());
            let number = self.open_single(fd, &single, path, opening).await;
            let told = number.and_then(|number| {
                self.guard.opened.add(number.into(), place);
                let at = GuestPtr::new(opened.cast_unsigned());
                Ok(self.memory.write(at, number).map(|()| 0)?)
            });
            return call::told(told);
        }
        let creates = Oflags::try_from(how).is_ok_and(|how| how.contains(Oflags::CREAT));
        let paid = match creates {
            true => self.pay(fd, NAME).await,
            false => None,
        };
        let (wasi, memory) = (&mut *self.wasi, &mut *self.memory);
        let told = stock::path_open(
            wasi, memory, fd, lookup, path, length, how, base, inheriting, flags, opened,
        );
        let told = self.guard.call(told).await?;
        guard::settle(paid, !is_refusal(told));
        let at = GuestPtr::<u32>::new(opened.cast_unsigned());
        if told == 0
            && let Ok(number) = self.memory.read(at)
        {
            self.guard.opened.add(number, place);
        }
        Ok(told)
    }

    pub(super) async fn path_symlink(
        mut self,
        target: i32,
        target_length: i32,
        fd: i32,
        path: i32,
        length: i32,
    ) -> wasmtime::Result<i32> {
        look!(self);
        let paid = self.pay(fd, NAME).await;
        let (wasi, memory) = (self.wasi, self.memory);
        let made = stock::path_symlink(wasi, memory, target, target_length, fd, path, length);
        let told = self.guard.call(made).await?;
        guard::settle(paid, told == 0);
        Ok(told)
    }

    pub(super) async fn path_rename(
        mut self,
        old: i32,
        path: i32,
        length: i32,
        new: i32,
        new_path: i32,
        new_length: i32,
    ) -> wasmtime::Result<i32> {
        look!(self);
        // It grows the directory that it leads to.
        let paid = self.pay(new, NAME).await;
        let (wasi, memory) = (self.wasi, self.memory);
        let made = stock::path_rename(wasi, memory, old, path, length, new, new_path, new_length);
        let told = self.guard.call(made).await?;
        guard::settle(paid, told == 0);
        Ok(told)
    }
}

/// Whether this says that a file was not opened, nor made: others may come after it was made, as where its number cannot be
/// told.
fn is_refusal(told: i32) -> bool {
    let refusals = [
        Errno::Acces,
        Errno::Exist,
        Errno::Isdir,
        Errno::Loop,
        Errno::Nametoolong,
        Errno::Noent,
        Errno::Notdir,
        Errno::Perm,
    ];
    let mut codes = refusals.into_iter().map(u16::from);
    codes.any(|code| told == i32::from(code))
}
