//! One call of a guest: its memory, its descriptors, and wasmtime-wasi's part of them.

use wasmtime::{AsContextMut as _, Caller, Extern};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{
    Errno, Fdflags, Fdstat, Filestat, Filetype, Riflags, Rights, Sdflags,
};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as stock, WasiSnapshotPreview1 as _};
use wiggle::{GuestMemory, GuestPtr, GuestType};

use super::Result;
use super::buffers::Buffers;
use super::descriptors::{Descriptor, Descriptors, STREAMS};
use super::guarded::Guarded;
use crate::wasm::guard::Guard;
use crate::wasm::guest::Core;

/// What [`Prestat`](wasmtime_wasi::p1::types::Prestat) says of what is not a directory. C libraries and Go's look for
/// directories from 3 on until nothing has a number, and pass over what they do not know.
const PREOPENED_SOCKET: u8 = 1;

/// The type of what tells of termination: preview 1 has none for pipes.
const PIPE: Filetype = Filetype::Unknown;

/// What a call works on.
pub(super) struct Call<'a> {
    pub(super) memory: GuestMemory<'a>,
    pub(super) wasi: &'a mut WasiP1Ctx,
    pub(super) guard: &'a mut Guard,
    pub(super) descriptors: &'a mut Descriptors,
}

/// What wasmtime-wasi's own function has said: an errno, or a trap.
pub(super) fn passed(answer: wasmtime::Result<i32>) -> Result<i32> {
    answer.map_err(super::Error::trap)
}

/// What the guest is told.
pub(super) fn told(result: Result<i32>) -> wasmtime::Result<i32> {
    match result {
        Ok(code) => Ok(code),
        Err(error) => Ok(u16::from(error.downcast()?).into()),
    }
}

fn flags(bits: u32) -> Result<Fdflags> {
    let flags = Fdflags::try_from(bits.cast_signed())?;
    match Fdflags::NONBLOCK.contains(flags) {
        true => Ok(flags),
        false => Err(Errno::Inval.into()),
    }
}

impl<'a> Call<'a> {
    /// # Errors
    /// When the guest exports no memory of its own.
    pub(super) fn of(caller: &'a mut Caller<'_, Core>) -> wasmtime::Result<Self> {
        let fuel = caller.as_context_mut().hostcall_fuel();
        let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
            wasmtime::bail!("the module exports no memory of its own as \"memory\"");
        };
        let (memory, core) = memory.data_and_store_mut(caller);
        core.wasi.set_hostcall_fuel(fuel);
        Ok(Self {
            memory: GuestMemory::Unshared(memory),
            wasi: &mut core.wasi,
            guard: &mut core.guard,
            descriptors: &mut core.descriptors,
        })
    }

    /// What the [`Guard`] looks at first, by wasmtime-wasi's numbers.
    pub(super) fn guarded(&mut self) -> Guarded<'_, 'a> {
        Guarded {
            guard: self.guard,
            wasi: self.wasi,
            memory: &mut self.memory,
        }
    }

    /// Writes a result where the guest wants it.
    pub(super) fn put<T: GuestType>(&mut self, at: u32, value: T) -> Result<i32> {
        self.memory.write(GuestPtr::new(at), value)?;
        Ok(0)
    }

    fn put_size(&mut self, at: u32, size: usize) -> Result<i32> {
        self.put(at, u32::try_from(size)?)
    }

    /// wasmtime-wasi's number for a file or directory.
    pub(super) fn stock(&mut self, fd: u32, for_others: Errno) -> Result<i32> {
        Ok(self.descriptors.stock(fd, for_others)?.cast_signed())
    }

    pub(super) async fn sock_accept(&mut self, fd: u32, mode: u32, accepted: u32) -> Result<i32> {
        let nonblocking = flags(mode)? == Fdflags::NONBLOCK;
        self.descriptors.has_room()?;
        let listening = self.descriptors.listening(fd)?;
        let connection = Box::new(listening.accept(nonblocking).await?);
        let number = self
            .descriptors
            .insert(Descriptor::Connection(connection))?;
        self.put(accepted, number)
    }

    pub(super) async fn sock_recv(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        how: u32,
        received: u32,
        told: u32,
    ) -> Result<i32> {
        let how = Riflags::try_from(how.cast_signed())?;
        self.receive(fd, buffers, count, how, received).await?;
        // Of a stream nothing is ever cut off.
        self.put(told, 0_u16)
    }

    async fn receive(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        how: Riflags,
        received: u32,
    ) -> Result<i32> {
        let connection = self.descriptors.connection(fd)?;
        let into = Buffers::of(&self.memory, buffers, count)?;
        let size = connection.receive(&mut self.memory, into, how).await?;
        self.put_size(received, size)
    }

    pub(super) async fn sock_send(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        how: u32,
        sent: u32,
    ) -> Result<i32> {
        // None is defined.
        if how != 0 {
            return Err(Errno::Notsup.into());
        }
        let connection = self.descriptors.connection(fd)?;
        let from = Buffers::of(&self.memory, buffers, count)?;
        let size = connection.send(&self.memory, from).await?;
        self.put_size(sent, size)
    }

    pub(super) async fn sock_shutdown(&mut self, fd: u32, how: u32) -> Result<i32> {
        let how = Sdflags::try_from(how.cast_signed())?;
        if how.is_empty() {
            return Err(Errno::Inval.into());
        }
        self.descriptors.connection(fd)?.shut_down(how);
        Ok(0)
    }

    pub(super) async fn fd_read(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        read: u32,
    ) -> Result<i32> {
        match self.descriptors.get(fd)? {
            Descriptor::Stock(number) => {
                let fd = number.cast_signed();
                let [buffers, count, read] = [buffers, count, read].map(u32::cast_signed);
                passed(self.guarded().fd_read(fd, buffers, count, read).await)
            }
            Descriptor::Listening(_) | Descriptor::Connection(_) => {
                let how = Riflags::empty();
                self.receive(fd, buffers, count, how, read).await
            }
            Descriptor::Termination(termination) => {
                let into = Buffers::of(&self.memory, buffers, count)?;
                if into.left() > 0 {
                    termination.end().await?;
                }
                self.put_size(read, 0)
            }
        }
    }

    pub(super) async fn fd_write(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        written: u32,
    ) -> Result<i32> {
        match self.descriptors.get(fd)? {
            Descriptor::Stock(number) => {
                let fd = number.cast_signed();
                let [buffers, count, written] = [buffers, count, written].map(u32::cast_signed);
                passed(self.guarded().fd_write(fd, buffers, count, written).await)
            }
            Descriptor::Listening(_) | Descriptor::Connection(_) => {
                self.sock_send(fd, buffers, count, 0, written).await
            }
            Descriptor::Termination(_) => Err(Errno::Badf.into()),
        }
    }

    async fn close(&mut self, closed: Descriptor) -> Result<i32> {
        match closed {
            Descriptor::Stock(number) => {
                let number = number.cast_signed();
                passed(self.guarded().fd_close(number).await)
            }
            // They end by being dropped.
            Descriptor::Listening(_) | Descriptor::Connection(_) | Descriptor::Termination(_) => {
                Ok(0)
            }
        }
    }

    pub(super) async fn fd_close(&mut self, fd: u32) -> Result<i32> {
        let closed = self.descriptors.remove(fd)?;
        self.close(closed).await
    }

    pub(super) async fn fd_renumber(&mut self, from: u32, to: u32) -> Result<i32> {
        match self.descriptors.renumber(from, to)? {
            Some(closed) => self.close(closed).await,
            None => Ok(0),
        }
    }

    pub(super) async fn fd_fdstat_get(&mut self, fd: u32, at: u32) -> Result<i32> {
        let (fs_filetype, nonblocking, rights) = match self.descriptors.get(fd)? {
            Descriptor::Stock(number) => {
                let number = number.cast_signed();
                let at = at.cast_signed();
                return passed(self.guarded().fd_fdstat_get(number, at).await);
            }
            Descriptor::Listening(listening) => (
                Filetype::SocketStream,
                listening.is_nonblocking(),
                Rights::SOCK_ACCEPT,
            ),
            Descriptor::Connection(connection) => (
                Filetype::SocketStream,
                connection.nonblocking,
                Rights::FD_READ | Rights::FD_WRITE | Rights::SOCK_SHUTDOWN,
            ),
            Descriptor::Termination(termination) => {
                (PIPE, termination.nonblocking, Rights::FD_READ)
            }
        };
        let of_all =
            Rights::FD_FDSTAT_SET_FLAGS | Rights::FD_FILESTAT_GET | Rights::POLL_FD_READWRITE;
        let fdstat = Fdstat {
            fs_filetype,
            fs_flags: match nonblocking {
                true => Fdflags::NONBLOCK,
                false => Fdflags::empty(),
            },
            fs_rights_base: rights | of_all,
            fs_rights_inheriting: Rights::empty(),
        };
        self.put(at, fdstat)
    }

    pub(super) async fn fd_fdstat_set_flags(&mut self, fd: u32, bits: u32) -> Result<i32> {
        match self.descriptors.get(fd)? {
            Descriptor::Listening(listening) => {
                listening.nonblocking = Some(flags(bits)? == Fdflags::NONBLOCK);
            }
            Descriptor::Connection(connection) => {
                connection.nonblocking = flags(bits)? == Fdflags::NONBLOCK;
            }
            Descriptor::Termination(termination) => {
                termination.nonblocking = flags(bits)? == Fdflags::NONBLOCK;
            }
            Descriptor::Stock(number) => {
                let number = *number;
                if number < STREAMS && flags(bits).is_ok_and(|flags| !flags.is_empty()) {
                    // So begins Go's runtime: such a guest waits by `poll_oneoff` alone, and expects that the
                    // listeners that it is given do not make all of it wait.
                    self.descriptors.wait_by_polling();
                }
                let (number, bits) = (number.cast_signed(), bits.cast_signed());
                let set = stock::fd_fdstat_set_flags(self.wasi, &mut self.memory, number, bits);
                return passed(set);
            }
        }
        Ok(0)
    }

    pub(super) async fn fd_filestat_get(&mut self, fd: u32, at: u32) -> Result<i32> {
        let filetype = match self.descriptors.get(fd)? {
            Descriptor::Stock(number) => {
                let (fd, at) = (number.cast_signed(), at.cast_signed());
                return passed(self.guarded().fd_filestat_get(fd, at).await);
            }
            Descriptor::Listening(_) | Descriptor::Connection(_) => Filetype::SocketStream,
            Descriptor::Termination(_) => PIPE,
        };
        let filestat = Filestat {
            dev: 0,
            ino: fd.into(),
            filetype,
            nlink: 1,
            size: 0,
            atim: 0,
            mtim: 0,
            ctim: 0,
        };
        self.put(at, filestat)
    }

    pub(super) async fn fd_prestat_get(&mut self, fd: u32, at: u32) -> Result<i32> {
        match self.descriptors.get(fd)? {
            Descriptor::Listening(_) => {
                self.put(at, PREOPENED_SOCKET)?;
                // A name's length, where it were a directory.
                self.put(at.checked_add(4).ok_or(Errno::Overflow)?, 0_u32)
            }
            Descriptor::Connection(_) | Descriptor::Termination(_) => Err(Errno::Badf.into()),
            Descriptor::Stock(number) => {
                let (number, at) = (number.cast_signed(), at.cast_signed());
                let told = stock::fd_prestat_get(self.wasi, &mut self.memory, number, at);
                passed(told)
            }
        }
    }
}
