//! Files of the host that guests may change, opened so that nothing among them leads elsewhere.
//!
//! What lies in a mount may have been written by a guest, so the kernel resolves paths beneath the mount: a symbolic
//! link is followed only as far as it stays inside, and an absolute one not at all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Host, Mount};

/// Symbolic links are followed as long as they stay inside.
pub const FOLLOW: ResolveFlags = ResolveFlags::empty();

/// No symbolic link is followed, wherever it leads.
pub const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS;

/// How often a path is resolved. The kernel cannot tell whether a `..` stays inside while anything anywhere is renamed, and
/// says so; that it happens so often in a row is somebody's intention.
const MOST_TRIES: u32 = 1_000;

/// What a mount shows, opened as a place and for nothing else.
#[derive(Debug)]
pub enum Mounted {
    /// Paths begin here.
    Directory(OwnedFd),
    /// A regular file, which nothing lies beneath.
    File(OwnedFd),
}

impl Mounted {
    /// The directory.
    ///
    /// # Errors
    /// `NOTDIR` for a file.
    pub fn directory(self) -> rustix::io::Result<OwnedFd> {
        match self {
            Self::Directory(directory) => Ok(directory),
            Self::File(_) => Err(Errno::NOTDIR),
        }
    }
}

/// Opens what a mount shows; directories that are missing in `host` are made on request.
///
/// # Errors
/// The system's: for a symbolic link on the way in `host`, `LOOP`; `NOTDIR` for what is neither a directory nor a file.
pub fn mounted(mount: &Mount, create: bool) -> rustix::io::Result<Mounted> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let host = match &mount.host {
        Host::Path(path) | Host::Own(path) => rustix::fs::openat(CWD, path, flags, Mode::empty())?,
        Host::File(file) => rustix::io::fcntl_dupfd_cloexec(file, 0)?,
    };
    let opened = match mount.beneath.as_str() {
        "" => host,
        beneath => match open(host.as_fd(), beneath, OFlags::PATH, Mode::empty(), NO_LINKS) {
            Err(Errno::NOENT) if create => directory(host.as_fd(), beneath, true, NO_LINKS)?,
            opened => opened?,
        },
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
    match kind {
        FileType::Directory => Ok(Mounted::Directory(opened)),
        FileType::RegularFile => Ok(Mounted::File(opened)),
        _ => Err(Errno::NOTDIR),
    }
}

/// Opens a path beneath a directory, and never anything outside.
///
/// # Errors
/// The system's: for a path that leads outside, `XDEV`.
pub fn open(
    directory: BorrowedFd<'_>,
    path: impl AsRef<Path>,
    flags: OFlags,
    mode: Mode,
    links: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | links;
    let flags = flags | OFlags::CLOEXEC;
    let once = || rustix::fs::openat2(directory, path.as_ref(), flags, mode, resolve);
    for _ in 1..MOST_TRIES {
        match once() {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    once()
}

/// Opens a directory beneath another one, as a place to begin paths at, and never anything outside; makes what is
/// missing on request.
///
/// # Errors
/// As [`open`]'s.
pub fn directory(
    directory: BorrowedFd<'_>,
    relative: &str,
    create: bool,
    links: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let enter =
        |parent: BorrowedFd<'_>, name: &str| open(parent, name, flags, Mode::empty(), links);
    let mut at = enter(directory, ".")?;
    for part in relative.split('/').filter(|part| !part.is_empty()) {
        let next = match enter(at.as_fd(), part) {
            Err(Errno::NOENT) if create => {
                match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => enter(at.as_fd(), part)?,
                    Err(error) => return Err(error),
                }
            }
            other => other?,
        };
        at = next;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn symbolic_links_lead_nowhere_else() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir(host.path().join("mount")).unwrap();
        let inside = host.path().join("mount");
        symlink("..", inside.join("up")).unwrap();
        symlink("/etc", inside.join("etc")).unwrap();
        let below = |beneath: &str, create: bool| {
            let mount = Mount {
                host: inside.clone().into(),
                beneath: beneath.into(),
                guest: "/".into(),
                read_only: false,
            };
            mounted(&mount, create).and_then(Mounted::directory)
        };
        let mount = below("", false).unwrap();
        directory(mount.as_fd(), "a/b", true, FOLLOW).unwrap();
        assert!(inside.join("a/b").is_dir());
        for escape in ["up", "up/new", "etc", "etc/new"] {
            directory(mount.as_fd(), escape, true, FOLLOW).unwrap_err();
        }
        symlink("a", inside.join("link")).unwrap();
        directory(mount.as_fd(), "link/b", false, FOLLOW).unwrap();
        let read = |path: &str, links| {
            open(mount.as_fd(), path, OFlags::RDONLY, Mode::empty(), links).map(drop)
        };
        read("link/b", FOLLOW).unwrap();
        assert_eq!(read("link/b", NO_LINKS), Err(Errno::LOOP));
        for escape in ["..", "../mount/a", "up", "etc/passwd", "/etc/passwd"] {
            assert_eq!(read(escape, FOLLOW), Err(Errno::XDEV), "{escape}");
        }
        assert!(below("a/d", false).is_err());
        below("a/d", true).unwrap();
        assert!(inside.join("a/d").is_dir());
        for refused in ["link", "link/b", "up", "etc", "..", "a/../../mount"] {
            assert!(below(refused, true).is_err(), "{refused}");
        }
        assert!(!host.path().join("new").exists());
        std::fs::write(inside.join("a/f"), "").unwrap();
        assert_eq!(below("a/f", true).map(drop), Err(Errno::NOTDIR));
        assert_eq!(below("a/f/g", true).map(drop), Err(Errno::NOTDIR));
        assert_eq!(below("link/f", true).map(drop), Err(Errno::LOOP));
    }

    #[test]
    fn a_mount_may_be_a_file_that_others_take_the_name_of() {
        let host = tempfile::tempdir().unwrap();
        let file = host.path().join("file");
        std::fs::write(&file, "old").unwrap();
        let mount = |host: &Path, beneath: &str| Mount {
            host: host.into(),
            beneath: beneath.into(),
            guest: "/file".into(),
            read_only: false,
        };
        for mount in [mount(host.path(), "file"), mount(&file, "")] {
            let Mounted::File(opened) = mounted(&mount, true).unwrap() else {
                panic!("{mount:?} is a file");
            };
            std::fs::write(host.path().join("new"), "new").unwrap();
            std::fs::rename(host.path().join("new"), &file).unwrap();
            let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened));
            assert_eq!(std::fs::read_to_string(again).unwrap(), "old");
            // What holds it shows it, too.
            let held = Mount {
                host: Host::File(Arc::new(opened)),
                beneath: String::new(),
                ..mount
            };
            let Mounted::File(opened) = mounted(&held, false).unwrap() else {
                panic!("{held:?} is a file");
            };
            drop(held);
            let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened));
            assert_eq!(std::fs::read_to_string(again).unwrap(), "old");
            std::fs::write(&file, "old").unwrap();
        }
        rustix::fs::mknodat(CWD, host.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let pipe = mounted(&mount(host.path(), "pipe"), true);
        assert_eq!(pipe.map(drop), Err(Errno::NOTDIR));
    }

    #[test]
    fn renames_elsewhere_disturb_nothing() {
        let host = tempfile::tempdir().unwrap();
        let mount = host.path().join("mount");
        std::fs::create_dir_all(mount.join("a/b/c")).unwrap();
        let [one, other] = ["one", "other"].map(|name| host.path().join(name));
        std::fs::create_dir(&one).unwrap();
        let opened = rustix::fs::openat(CWD, &mount, OFlags::PATH, Mode::empty()).unwrap();
        let ends = AtomicBool::new(false);
        let renames = || {
            while !ends.load(Ordering::Relaxed) {
                std::fs::rename(&one, &other).unwrap();
                std::fs::rename(&other, &one).unwrap();
            }
        };
        let tried = std::thread::scope(|scope| {
            scope.spawn(renames);
            let path = "a/b/c/../../b/c/../../../a";
            let try_once =
                |_| open(opened.as_fd(), path, OFlags::PATH, Mode::empty(), FOLLOW).map(drop);
            let tried = (0..20_000).try_for_each(try_once);
            ends.store(true, Ordering::Relaxed);
            tried
        });
        assert_eq!(tried, Ok(()));
    }
}
