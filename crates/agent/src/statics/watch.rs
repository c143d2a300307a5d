//! Changes of a directory's files, as the kernel tells of them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// Bytes of what is told at once: hundreds of events.
const BUFFER: usize = 16 << 10;
/// How many names are told at once: somebody may make files faster than they are read.
const MOST_NAMES: usize = 4_000;

/// What tells a directory from others, whichever path leads to it.
pub(super) fn identity(dir: &Path) -> io::Result<(u64, u64)> {
    let about = fs::metadata(dir)?;
    Ok((about.dev(), about.ino()))
}

/// What may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The files with these names.
    pub(super) names: BTreeSet<String>,
    /// Names that have come. What is written there may not be complete; a link is.
    pub(super) made: BTreeSet<String>,
    /// All of them: more has happened than was told.
    pub(super) all: bool,
    /// The directory itself is gone or elsewhere, and nothing more will be told.
    pub(super) lost: bool,
}

impl Changes {
    fn is_none(&self) -> bool {
        self.names.is_empty() && self.made.is_empty() && !self.all && !self.lost
    }

    /// Adds what has changed before.
    pub(super) fn after(mut self, before: Self) -> Self {
        self.names.extend(before.names);
        self.made.extend(before.made);
        self.all |= before.all;
        self.lost |= before.lost;
        self
    }

    fn add(&mut self, events: ReadFlags, name: Option<&str>) {
        let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
        self.lost |= events.intersects(gone | ReadFlags::UNMOUNT);
        self.all |= events.contains(ReadFlags::QUEUE_OVERFLOW);
        let of = match events.contains(ReadFlags::CREATE) {
            true => &mut self.made,
            false => &mut self.names,
        };
        of.extend(name.map(str::to_owned));
    }
}

/// A directory that is watched.
pub(super) struct Watch {
    told: AsyncFd<OwnedFd>,
    /// Which one it is.
    of: (u64, u64),
}

impl Watch {
    /// Watches from now on.
    ///
    /// # Errors
    /// When there is no such directory, or nothing more can be watched.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        // Before: should another take its place in between, that is found out.
        let of = identity(dir)?;
        inotify::add_watch(&fd, dir, flags)?;
        #[expect(
            deprecated,
            reason = "what stands for it is unsafe, and an OwnedFd is open for as long as it is there"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Self { told: fd, of })
    }

    /// Which directory is watched, whatever its path leads to by now.
    pub(super) fn of(&self) -> (u64, u64) {
        self.of
    }

    /// Waits until something has changed. May be cancelled without loss.
    ///
    /// # Errors
    /// When nothing can be told any more.
    pub(super) async fn next(&self) -> io::Result<Changes> {
        loop {
            let mut ready = self.told.readable().await?;
            let changes = self.read()?;
            if changes.is_none() {
                ready.clear_ready();
                continue;
            }
            return Ok(changes);
        }
    }

    /// All that is told by now, or so much of it that all files are to be looked at anyway.
    ///
    /// # Errors
    /// When nothing can be told any more.
    pub(super) fn read(&self) -> io::Result<Changes> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(self.told.get_ref(), &mut buffer);
        let mut changes = Changes::default();
        loop {
            if changes.names.len() + changes.made.len() > MOST_NAMES {
                changes.all = true;
                return Ok(changes);
            }
            match reader.next() {
                // A name that is no text is no manifest's.
                Ok(event) => changes.add(
                    event.events(),
                    event.file_name().and_then(|name| name.to_str().ok()),
                ),
                Err(Errno::AGAIN) => return Ok(changes),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(changes: &Changes) -> Vec<&str> {
        changes.names.iter().map(String::as_str).collect()
    }

    #[tokio::test]
    async fn what_happens_to_files_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        fs::write(of("old"), "x").unwrap();
        let watch = Watch::open(dir.path()).unwrap();
        assert!(watch.read().unwrap().is_none());
        fs::write(of("new"), "x").unwrap();
        assert_eq!(names(&watch.next().await.unwrap()), ["new"]);
        fs::rename(of("new"), of("other")).unwrap();
        assert_eq!(names(&watch.next().await.unwrap()), ["new", "other"]);
        fs::hard_link(of("other"), of("link")).unwrap();
        assert!(watch.next().await.unwrap().made.contains("link"));
        fs::remove_file(of("old")).unwrap();
        assert!(watch.next().await.unwrap().names.contains("old"));
        fs::remove_dir_all(dir.path()).unwrap();
        let mut gone = watch.next().await.unwrap();
        while !gone.lost {
            gone = watch.next().await.unwrap();
        }
        assert!(Watch::open(dir.path()).is_err());
    }
}
