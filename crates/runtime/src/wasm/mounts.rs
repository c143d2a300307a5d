//! What a guest sees of the host's files: its mounts as preopened directories.
//!
//! WASI guests resolve a path against the longest preopened prefix, so that nested mounts need
//! nothing more. Their C library has no notion of a working directory, and strips the leading `/`
//! of paths and prefixes alike: to it `/` and `.` are one prefix. With a working directory other
//! than `/`, the directories at the top of the root are therefore preopened by their own names and
//! `.` is the working directory: relative paths start there, absolute ones still find what exists.
//!
//! Paths inside a mount are resolved by [`files`], beneath the mount.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::files::{self, FOLLOW};
use crate::{Mount, StartError};

/// Preopens every mount and the working directory.
pub(super) fn preopen(
    wasi: &mut WasiCtxBuilder,
    mounts: &[Mount],
    working_dir: &str,
) -> Result<(), StartError> {
    let mut mounts = mounts
        .iter()
        .map(Opened::open)
        .collect::<Result<Vec<_>, _>>()?;
    mounts.sort_by(|a, b| a.guest.cmp(&b.guest));
    if let Some(pair) = mounts
        .windows(2)
        .find(|pair| pair[0].guest == pair[1].guest)
    {
        let why = format!("two mounts at {}", pair[0].guest);
        return Err(StartError::Invalid(why));
    }
    mount_points(&mounts)?;
    for mount in &mounts {
        mount.preopen(wasi, mount.directory.as_fd(), &mount.guest)?;
    }
    let working_dir = normal(working_dir)?;
    if working_dir != "/" {
        preopen_working_dir(wasi, &mounts, &working_dir)?;
    }
    wasi.initial_cwd(working_dir);
    Ok(())
}

struct Opened {
    guest: String,
    directory: OwnedFd,
    perms: FsPerms,
}

impl Opened {
    fn open(mount: &Mount) -> Result<Self, StartError> {
        let guest = normal(&mount.guest)?;
        let perms = match mount.read_only {
            true => FsPerms::ReadOnly,
            false => FsPerms::ReadWrite,
        };
        match files::mounted(mount, true) {
            Ok(directory) => Ok(Self {
                guest,
                directory,
                perms,
            }),
            Err(error) => Err(failed(&guest, error)),
        }
    }

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
        match wasi.preopened_dir(path, guest, self.perms) {
            Ok(_) => Ok(()),
            Err(error) => {
                let source = error.downcast().unwrap_or_else(io::Error::other);
                let guest = guest.to_owned();
                Err(StartError::Mount { guest, source })
            }
        }
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

fn failed(guest: &str, error: rustix::io::Errno) -> StartError {
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

/// Makes the directories in the guest's own root that its other mounts lie at, so that they show
/// when it is listed.
fn mount_points(mounts: &[Opened]) -> Result<(), StartError> {
    let Some(root) = mounts
        .first()
        .filter(|root| root.guest == "/" && root.writable())
    else {
        return Ok(());
    };
    for mount in &mounts[1..] {
        let path = mount.guest.trim_start_matches('/');
        // What lies beneath another mount is that mount's business.
        let beneath = mounts[1..]
            .iter()
            .any(|other| other.guest != mount.guest && other.relative(&mount.guest).is_some());
        if !beneath {
            files::directory(root.directory.as_fd(), path, true, FOLLOW)
                .map_err(|error| failed(&mount.guest, error))?;
        }
    }
    Ok(())
}

fn preopen_working_dir(
    wasi: &mut WasiCtxBuilder,
    mounts: &[Opened],
    path: &str,
) -> Result<(), StartError> {
    let around = mounts
        .iter()
        .filter_map(|mount| Some((mount, mount.relative(path)?)))
        .max_by_key(|(mount, _)| mount.guest.len());
    let Some((mount, relative)) = around else {
        return Err(failed(path, rustix::io::Errno::NOENT));
    };
    let directory = files::directory(mount.directory.as_fd(), relative, mount.writable(), FOLLOW)
        .map_err(|error| failed(path, error))?;
    if let Some(root) = mounts.first().filter(|root| root.guest == "/") {
        for name in directories(root.directory.as_fd()).map_err(|error| failed("/", error))? {
            let guest = format!("/{name}");
            if mounts.iter().all(|mount| mount.guest != guest) {
                let directory = files::directory(root.directory.as_fd(), &name, false, FOLLOW)
                    .map_err(|error| failed(&guest, error))?;
                root.preopen(wasi, directory.as_fd(), &guest)?;
            }
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
    use super::*;

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
            host: host.path().to_owned(),
            beneath: String::new(),
            guest: "/".into(),
            read_only: false,
        };
        let opened = Opened::open(&mount).unwrap();
        assert_eq!(directories(opened.directory.as_fd()).unwrap(), ["a"]);
    }
}
