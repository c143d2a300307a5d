//! `fd_readdir`, which reads no more of a directory than there is room for. wasmtime-wasi's has all its names, and asks the
//! system for each, at every call.

use std::io;

use wasmtime::component::Resource;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p1::types::{Errno, Fd, Fdflags, Filetype, Lookupflags, Oflags, Rights};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1 as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorType, ErrorCode, HostDescriptor as _, PathFlags,
};
use wiggle::{GuestMemory, GuestPtr};

use super::guarded::{Guarded, look};
use super::{Error, Result, call};
use crate::wasm::guard::listing::Listing;

/// Bytes of a name's head.
const HEAD: usize = 24;

/// The guest's buffer.
struct Buffer {
    at: GuestPtr<u8>,
    left: u32,
}

impl Buffer {
    /// Writes as much as there is room for.
    fn put(&mut self, memory: &mut GuestMemory<'_>, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len())?.min(self.left);
        let bytes = &bytes[..usize::try_from(length)?];
        memory.copy_from_slice(bytes, self.at.as_array(length))?;
        self.at = self.at.add(length)?;
        self.left -= length;
        Ok(())
    }
}

impl Guarded<'_, '_> {
    pub(super) async fn fd_readdir(
        mut self,
        fd: i32,
        buffer: i32,
        length: i32,
        cookie: i64,
        used: i32,
    ) -> wasmtime::Result<i32> {
        look!(self);
        let buffer = Buffer {
            at: GuestPtr::new(buffer.cast_unsigned()),
            left: length.cast_unsigned(),
        };
        let told = match self.list(fd, buffer, cookie.cast_unsigned()).await {
            Ok(written) => {
                let used = GuestPtr::new(used.cast_unsigned());
                let written = self.memory.write(used, written);
                written.map(|()| 0).map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        call::told(told)
    }

    /// Lists a directory, from where an earlier call ended, and says how many bytes that took.
    async fn list(&mut self, fd: i32, buffer: Buffer, cookie: u64) -> Result<u32> {
        let place = self.guard.opened.place().ok_or(Errno::Mfile)?;
        let at = self.next()?;
        // Only so it can be told what a number stands for. It gives the next one, as in `at`.
        let mut path = *b".";
        let mut memory = GuestMemory::Unshared(&mut path);
        let opened = self.wasi.path_open(
            &mut memory,
            Fd::from(fd),
            Lookupflags::empty(),
            GuestPtr::new((0, 1)),
            Oflags::DIRECTORY,
            Rights::FD_READ,
            Rights::empty(),
            Fdflags::empty(),
        );
        let opened = self.guard.call(opened).await;
        let opened = opened.map_err(|error| -> Error {
            match error.downcast() {
                Ok(Errno::Notdir) => Errno::Badf.into(),
                Ok(errno) => errno.into(),
                Err(trap) => Error::trap(trap),
            }
        })?;
        let directory = match self.wasi.ctx().table.get(&at) {
            Ok(Descriptor::Dir(directory)) => Some(directory.dir.clone()),
            _ => None,
        };
        let written = match directory {
            Some(directory) => {
                let listing = Listing::open(directory, cookie, place);
                self.fill(&at, listing, buffer).await
            }
            None => Err(Errno::Badf.into()),
        };
        self.close(opened.into()).await?;
        written
    }

    async fn fill(
        &mut self,
        directory: &Resource<Descriptor>,
        listing: impl Future<Output = io::Result<Listing>>,
        mut buffer: Buffer,
    ) -> Result<u32> {
        let mut listing = self.guard.call(listing).await.map_err(failed)?;
        let length = buffer.left;
        while buffer.left > 0
            && let Some(entry) = self.guard.call(listing.next()).await.map_err(failed)?
        {
            let (next, kind) = (entry.next, entry.kind);
            let name = entry.into_name().map_err(failed)?;
            let mut head = [0; HEAD];
            head[..8].copy_from_slice(&next.to_le_bytes());
            let inode = self.inode(directory, &name).await;
            head[8..16].copy_from_slice(&inode.to_le_bytes());
            head[16..20].copy_from_slice(&u32::try_from(name.len())?.to_le_bytes());
            head[20] = filetype(kind).into();
            buffer.put(self.memory, &head)?;
            buffer.put(self.memory, name.as_bytes())?;
        }
        Ok(length - buffer.left)
    }

    /// As `fd_filestat_get` tells it; 0 where nothing has this name any more.
    async fn inode(&mut self, directory: &Resource<Descriptor>, name: &str) -> u64 {
        let stock = self.wasi.ctx();
        let mut files = WasiFilesystemCtxView {
            ctx: stock.ctx.filesystem(),
            table: stock.table,
        };
        let directory = Resource::new_borrow(directory.rep());
        // What is above it is nobody's affair.
        let hash = match name {
            "." | ".." => self.guard.call(files.metadata_hash(directory)).await,
            name => {
                let (how, name) = (PathFlags::empty(), name.to_owned());
                let hash = files.metadata_hash_at(directory, how, name);
                self.guard.call(hash).await
            }
        };
        hash.map_or(0, |hash| hash.lower)
    }
}

fn failed(error: io::Error) -> Error {
    ErrorCode::from(error).into()
}

fn filetype(kind: DescriptorType) -> Filetype {
    match kind {
        DescriptorType::RegularFile => Filetype::RegularFile,
        DescriptorType::Directory => Filetype::Directory,
        DescriptorType::SymbolicLink => Filetype::SymbolicLink,
        DescriptorType::BlockDevice => Filetype::BlockDevice,
        DescriptorType::CharacterDevice => Filetype::CharacterDevice,
        // Preview 1 has no word for a FIFO, and two for sockets.
        DescriptorType::Fifo | DescriptorType::Socket | DescriptorType::Unknown => {
            Filetype::Unknown
        }
    }
}
