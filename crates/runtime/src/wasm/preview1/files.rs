//! What preview 1 does with files and directories: wasmtime-wasi's functions by wasmtime-wasi's numbers.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::types::Errno;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as stock;
use wiggle::GuestPtr;

use super::call::{Call, passed, told};
use super::descriptors::Descriptor;
use super::{PREVIEW_1, Result};
use crate::wasm::guest::Core;

/// Links the functions that take a file or directory, each with what it tells of anything else.
pub(super) fn link(linker: &mut Linker<Core>) -> wasmtime::Result<()> {
    macro_rules! link {
        ($($name:ident($($argument:ident: $type:ty),*) else $errno:ident;)+) => {$(
            linker.func_wrap_async(
                PREVIEW_1,
                stringify!($name),
                |mut caller: Caller<'_, Core>, (fd, $($argument,)*): (u32, $($type,)*)| {
                    Box::new(async move {
                        let mut call = Call::of(&mut caller)?;
                        match call.stock(fd, Errno::$errno) {
                            Ok(fd) => {
                                let (wasi, memory) = (call.wasi, &mut call.memory);
                                stock::$name(wasi, memory, fd, $($argument),*)
                            }
                            Err(error) => told(Err(error)),
                        }
                    })
                },
            )?;
        )+};
    }
    link! {
        fd_allocate(offset: i64, length: i64) else Spipe;
        fd_fdstat_set_rights(base: i64, inheriting: i64) else Notsup;
        fd_prestat_dir_name(name: i32, length: i32) else Notdir;
        fd_tell(position: i32) else Spipe;
    }
    link_guarded(linker)?;
    link_two(linker)?;
    link_open(linker)
}

/// Links those of these functions that the guard looks at first.
fn link_guarded(linker: &mut Linker<Core>) -> wasmtime::Result<()> {
    macro_rules! link {
        ($($name:ident($($argument:ident: $type:ty),*) else $errno:ident;)+) => {$(
            linker.func_wrap_async(
                PREVIEW_1,
                stringify!($name),
                |mut caller: Caller<'_, Core>, (fd, $($argument,)*): (u32, $($type,)*)| {
                    Box::new(async move {
                        let mut call = Call::of(&mut caller)?;
                        match call.stock(fd, Errno::$errno) {
                            Ok(fd) => call.guarded().$name(fd, $($argument),*).await,
                            Err(error) => told(Err(error)),
                        }
                    })
                },
            )?;
        )+};
    }
    link! {
        fd_advise(offset: i64, length: i64, advice: i32) else Spipe;
        fd_datasync() else Inval;
        fd_filestat_set_size(size: i64) else Inval;
        fd_filestat_set_times(accessed: i64, modified: i64, flags: i32) else Inval;
        fd_pread(buffers: i32, count: i32, offset: i64, read: i32) else Spipe;
        fd_pwrite(buffers: i32, count: i32, offset: i64, written: i32) else Spipe;
        fd_readdir(buffer: i32, length: i32, cookie: i64, used: i32) else Notdir;
        fd_seek(offset: i64, whence: i32, position: i32) else Spipe;
        fd_sync() else Inval;
        path_create_directory(path: i32, length: i32) else Notdir;
        path_filestat_get(flags: i32, path: i32, length: i32, at: i32) else Notdir;
        path_filestat_set_times(
            follow: i32, path: i32, length: i32, accessed: i64, modified: i64, flags: i32
        ) else Notdir;
        path_readlink(path: i32, length: i32, buffer: i32, size: i32, used: i32) else Notdir;
        path_remove_directory(path: i32, length: i32) else Notdir;
        path_unlink_file(path: i32, length: i32) else Notdir;
    }
    Ok(())
}

/// Links the functions that take a directory elsewhere than first, or two of them.
fn link_two(linker: &mut Linker<Core>) -> wasmtime::Result<()> {
    macro_rules! link {
        ($($name:ident($($argument:ident),+) of $($fd:ident),+;)+) => {$(
            linker.func_wrap_async(
                PREVIEW_1,
                stringify!($name),
                |mut caller: Caller<'_, Core>, ($($argument,)+): ($(link!(i32 $argument),)+)| {
                    Box::new(async move {
                        let mut call = Call::of(&mut caller)?;
                        $(
                            let $fd = match call.stock($fd.cast_unsigned(), Errno::Notdir) {
                                Ok(fd) => fd,
                                Err(error) => return told(Err(error)),
                            };
                        )+
                        call.guarded().$name($($argument),+).await
                    })
                },
            )?;
        )+};
        (i32 $argument:ident) => { i32 };
    }
    link! {
        path_link(old, flags, path, length, new, new_path, new_length) of old, new;
        path_rename(old, path, length, new, new_path, new_length) of old, new;
        path_symlink(target, target_length, directory, path, length) of directory;
    }
    Ok(())
}

fn link_open(linker: &mut Linker<Core>) -> wasmtime::Result<()> {
    type Arguments = (u32, i32, i32, i32, i32, i64, i64, i32, u32);
    linker.func_wrap_async(
        PREVIEW_1,
        "path_open",
        |mut caller: Caller<'_, Core>, arguments: Arguments| {
            Box::new(async move {
                let (directory, lookup, path, length, how, base, inheriting, flags, opened) =
                    arguments;
                let mut call = Call::of(&mut caller)?;
                let directory = match call.may_open(directory) {
                    Ok(directory) => directory,
                    Err(error) => return told(Err(error)),
                };
                let at = opened.cast_signed();
                let code = call.guarded().path_open(
                    directory, lookup, path, length, how, base, inheriting, flags, at,
                );
                match passed(code.await) {
                    Ok(0) => told(call.opened(opened)),
                    other => told(other),
                }
            })
        },
    )?;
    Ok(())
}

impl Call<'_> {
    /// wasmtime-wasi's number of a directory, where one more may be opened.
    fn may_open(&mut self, directory: u32) -> Result<i32> {
        self.descriptors.has_room()?;
        self.stock(directory, Errno::Notdir)
    }

    /// Gives what wasmtime-wasi has opened a number here, in place of the one that it wrote.
    fn opened(&mut self, at: u32) -> Result<i32> {
        let number = self.memory.read(GuestPtr::<u32>::new(at))?;
        let fd = self.descriptors.insert(Descriptor::Stock(number))?;
        self.put(at, fd)
    }
}
