//! Preview 1's functions, and those of `carob:pod/lifecycle`, as they are imported.

mod imported {
    use super::{Event, Subscription, Vector};

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub fn sock_accept(fd: u32, flags: u32, accepted: *mut u32) -> u16;
        pub fn sock_recv(
            fd: u32,
            buffers: *const Vector,
            count: usize,
            flags: u32,
            received: *mut u32,
            told: *mut u16,
        ) -> u16;
        pub fn sock_send(
            fd: u32,
            buffers: *const Vector,
            count: usize,
            flags: u32,
            sent: *mut u32,
        ) -> u16;
        pub fn sock_shutdown(fd: u32, how: u32) -> u16;
        pub fn fd_read(fd: u32, buffers: *const Vector, count: usize, read: *mut u32) -> u16;
        pub fn fd_write(fd: u32, buffers: *const Vector, count: usize, written: *mut u32) -> u16;
        pub fn fd_close(fd: u32) -> u16;
        pub fn fd_renumber(from: u32, to: u32) -> u16;
        pub fn fd_seek(fd: u32, offset: i64, whence: u32, position: *mut u64) -> u16;
        pub fn fd_sync(fd: u32) -> u16;
        pub fn fd_readdir(fd: u32, to: *mut u8, length: usize, cookie: u64, used: *mut u32) -> u16;
        pub fn fd_fdstat_get(fd: u32, at: *mut [u64; 3]) -> u16;
        pub fn fd_fdstat_set_flags(fd: u32, flags: u32) -> u16;
        pub fn fd_filestat_get(fd: u32, at: *mut [u64; 8]) -> u16;
        pub fn fd_prestat_get(fd: u32, at: *mut [u32; 2]) -> u16;
        pub fn path_create_directory(fd: u32, path: *const u8, length: usize) -> u16;
        pub fn poll_oneoff(
            subscriptions: *const Subscription,
            events: *mut Event,
            count: usize,
            found: *mut u32,
        ) -> u16;
        pub fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u16;
    }
}

#[cfg(feature = "drains")]
mod lifecycle {
    #[link(wasm_import_module = "carob:pod/lifecycle@0.1.0")]
    unsafe extern "C" {
        #[link_name = "subscribe-termination"]
        pub safe fn subscribe_termination() -> i32;
        #[link_name = "remaining-grace"]
        pub safe fn remaining_grace() -> i64;
    }
}

#[cfg(feature = "drains")]
pub use lifecycle::{remaining_grace, subscribe_termination};

/// A buffer.
#[repr(C)]
pub struct Vector {
    at: *const u8,
    length: usize,
}

impl Vector {
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            at: bytes.as_ptr(),
            length: bytes.len(),
        }
    }
}

#[repr(C)]
pub struct Subscription {
    userdata: u64,
    tag: u64,
    /// A descriptor, or a clock.
    of: u64,
    timeout: u64,
    precision: u64,
    flags: u64,
}

impl Subscription {
    pub fn descriptor(userdata: u64, tag: u64, fd: u32) -> Self {
        Self {
            userdata,
            tag,
            of: fd.into(),
            timeout: 0,
            precision: 0,
            flags: 0,
        }
    }

    pub fn clock(userdata: u64, clock: u64, timeout: u64, flags: u64) -> Self {
        Self {
            userdata,
            tag: 0,
            of: clock,
            timeout,
            precision: 0,
            flags,
        }
    }
}

#[repr(C)]
#[derive(Clone, Default)]
pub struct Event {
    pub userdata: u64,
    pub error: u16,
    pub type_: u8,
    pub size: u64,
    pub flags: u16,
}

fn checked<T>(errno: u16, value: T) -> Result<T, u16> {
    match errno {
        0 => Ok(value),
        errno => Err(errno),
    }
}

pub fn accept(fd: u32, flags: u32) -> Result<u32, u16> {
    let mut accepted = 0;
    // SAFETY: the result's place is this function's own.
    let errno = unsafe { imported::sock_accept(fd, flags, &mut accepted) };
    checked(errno, accepted)
}

pub fn read(fd: u32, buffers: &[Vector]) -> Result<u32, u16> {
    let mut read = 0;
    // SAFETY: the caller made the buffers to be read into.
    let errno = unsafe { imported::fd_read(fd, buffers.as_ptr(), buffers.len(), &mut read) };
    checked(errno, read)
}

pub fn receive(fd: u32, buffers: &[Vector], flags: u32) -> Result<u32, u16> {
    let (mut received, mut told) = (0, 7);
    let (at, count) = (buffers.as_ptr(), buffers.len());
    // SAFETY: as of `read`.
    let errno = unsafe { imported::sock_recv(fd, at, count, flags, &mut received, &mut told) };
    assert!(errno != 0 || told == 0);
    checked(errno, received)
}

pub fn write(fd: u32, buffers: &[Vector]) -> Result<u32, u16> {
    let mut written = 0;
    // SAFETY: they are read alone.
    let errno = unsafe { imported::fd_write(fd, buffers.as_ptr(), buffers.len(), &mut written) };
    checked(errno, written)
}

/// The file's type, its flags and its rights.
pub fn stat(fd: u32) -> Result<(u8, u16, u64), u16> {
    let mut at = [0; 3];
    // SAFETY: that is how large it is.
    let errno = unsafe { imported::fd_fdstat_get(fd, &mut at) };
    checked(errno, (at[0] as u8, (at[0] >> 16) as u16, at[1]))
}

pub fn filetype(fd: u32) -> Result<u8, u16> {
    let mut at = [0; 8];
    // SAFETY: that is how large it is.
    let errno = unsafe { imported::fd_filestat_get(fd, &mut at) };
    checked(errno, at[2] as u8)
}

pub fn prestat(fd: u32) -> Result<u8, u16> {
    let mut at = [0; 2];
    // SAFETY: that is how large it is.
    let errno = unsafe { imported::fd_prestat_get(fd, &mut at) };
    checked(errno, at[0] as u8)
}

pub fn now(clock: u32) -> u64 {
    let mut time = 0;
    // SAFETY: the result's place is this function's own.
    assert_eq!(unsafe { imported::clock_time_get(clock, 0, &mut time) }, 0);
    time
}

pub fn poll(subscriptions: &[Subscription]) -> Result<Vec<Event>, u16> {
    let (mut events, mut found) = (vec![Event::default(); subscriptions.len()], 0);
    let (asked, count) = (subscriptions.as_ptr(), subscriptions.len());
    // SAFETY: there is room for as many events.
    let errno = unsafe { imported::poll_oneoff(asked, events.as_mut_ptr(), count, &mut found) };
    events.truncate(found as usize);
    checked(errno, events)
}

/// A function that takes numbers alone, or whose other arguments matter to nobody.
pub fn function(name: &str) -> fn(&[u32]) -> Result<(), u16> {
    // SAFETY: for all of them: what they are given a place for is nothing, or theirs.
    match name {
        "send" => |arguments| {
            let (vector, mut sent) = (Vector::of(b"sent"), 0);
            let (fd, flags) = (arguments[0], arguments[1]);
            checked(
                unsafe { imported::sock_send(fd, &vector, 1, flags, &mut sent) },
                (),
            )
        },
        "shutdown" => |arguments| {
            checked(
                unsafe { imported::sock_shutdown(arguments[0], arguments[1]) },
                (),
            )
        },
        "close" => |arguments| checked(unsafe { imported::fd_close(arguments[0]) }, ()),
        "renumber" => |arguments| {
            checked(
                unsafe { imported::fd_renumber(arguments[0], arguments[1]) },
                (),
            )
        },
        "flags" => |arguments| {
            checked(
                unsafe { imported::fd_fdstat_set_flags(arguments[0], arguments[1]) },
                (),
            )
        },
        "seek" => |arguments| {
            let mut position = 0;
            checked(
                unsafe { imported::fd_seek(arguments[0], 0, 1, &mut position) },
                (),
            )
        },
        "sync" => |arguments| checked(unsafe { imported::fd_sync(arguments[0]) }, ()),
        "list" => |arguments| {
            let (mut bytes, mut used) = ([0; 64], 0);
            let to = bytes.as_mut_ptr();
            checked(
                unsafe { imported::fd_readdir(arguments[0], to, 64, 0, &mut used) },
                (),
            )
        },
        "mkdir" => |arguments| {
            let path = "new";
            let made =
                unsafe { imported::path_create_directory(arguments[0], path.as_ptr(), path.len()) };
            checked(made, ())
        },
        other => panic!("{other:?} is no function"),
    }
}
