//! Listings of directories. They are read a few names at a time: a guest may have made any number of them, and may leave a
//! listing open for as long as it runs.

use std::fs::File as HostFile;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom};
use wasmtime_wasi::p2::bindings::filesystem::types::DescriptorType;
use wasmtime_wasi::runtime::spawn_blocking;

use super::budget::Place;

/// Bytes of names, and of what the system says about them, that are read at once.
const BATCH: usize = 4 << 10;

/// A name in a directory, `.` and `..` among them.
pub(in crate::wasm) struct Entry {
    name: Vec<u8>,
    pub(in crate::wasm) kind: DescriptorType,
    /// Where the directory goes on after it.
    pub(in crate::wasm) next: u64,
}

impl Entry {
    /// Whether it is `.` or `..`.
    pub(super) fn is_dots(&self) -> bool {
        matches!(&self.name[..], b"." | b"..")
    }

    /// # Errors
    /// `ILSEQ` where it is no text.
    pub(in crate::wasm) fn into_name(self) -> io::Result<String> {
        String::from_utf8(self.name).map_err(|_| rustix::io::Errno::ILSEQ.into())
    }
}

/// A directory that is being listed.
pub(in crate::wasm) struct Listing {
    directory: Arc<OwnedFd>,
    read: std::vec::IntoIter<Entry>,
    _place: Place,
}

impl Listing {
    /// From the beginning, where `from` is 0, or what an entry said comes [next](Entry::next).
    ///
    /// # Errors
    /// The system's.
    pub(in crate::wasm) async fn open(
        directory: Arc<HostFile>,
        from: u64,
        place: Place,
    ) -> io::Result<Self> {
        let open = move || {
            // By itself, for where it was read to is its own affair.
            let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&directory, ".", how, Mode::empty())?;
            if from != 0 {
                rustix::fs::seek(&opened, SeekFrom::Start(from))?;
            }
            io::Result::Ok(opened)
        };
        Ok(Self {
            directory: Arc::new(spawn_blocking(open).await?),
            read: Vec::new().into_iter(),
            _place: place,
        })
    }

    /// # Errors
    /// The system's.
    pub(in crate::wasm) async fn next(&mut self) -> io::Result<Option<Entry>> {
        if self.read.as_slice().is_empty() {
            let directory = self.directory.clone();
            let read = spawn_blocking(move || batch(&directory)).await?;
            self.read = read.into_iter();
        }
        Ok(self.read.next())
    }
}

/// The next few names; none at the end.
fn batch(directory: &OwnedFd) -> io::Result<Vec<Entry>> {
    let mut buffer = Vec::with_capacity(BATCH);
    let mut names = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut read = Vec::new();
    while read.is_empty() || !names.is_buffer_empty() {
        let Some(entry) = names.next() else { break };
        let entry = entry?;
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => {
                let how = AtFlags::SYMLINK_NOFOLLOW;
                let found = rustix::fs::statat(directory, entry.file_name(), how);
                found.map_or(FileType::Unknown, |f| FileType::from_raw_mode(f.st_mode))
            }
            known => known,
        };
        read.push(Entry {
            name: entry.file_name().to_bytes().to_vec(),
            kind: descriptor_type(kind),
            next: entry.next_entry_cookie(),
        });
    }
    Ok(read)
}

fn descriptor_type(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Unknown => DescriptorType::Unknown,
    }
}
