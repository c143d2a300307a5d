//! `wasi:filesystem` as components see it: wasmtime-wasi's, behind the [`Guard`].

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, HostDescriptor, HostDirectoryEntryStream,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::calls::Own;
use super::listing::Listing;
use super::single::{self, How, Single};
use super::stream::{Paying, Place};
use super::{BLOCK, Guard};
use crate::meter::{Charge, NAME};
use crate::wasm::guest::Component;

/// Directories that an instance may be listing at a time.
const MOST_LISTINGS: usize = 32;

/// A component's files, for one call.
pub(in crate::wasm) struct GuardedView<'a> {
    pub(in crate::wasm) stock: WasiFilesystemCtxView<'a>,
    pub(in crate::wasm) guard: &'a mut Guard,
}

struct Guarded;

impl HasData for Guarded {
    type Data<'a> = GuardedView<'a>;
}

/// Links all of `wasi:filesystem`.
pub(in crate::wasm) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, Guarded>(linker, Component::files)?;
    preopens::add_to_linker::<_, Guarded>(linker, Component::files)
}

impl GuardedView<'_> {
    /// Whether wasmtime-wasi would not refuse to write to this anyway.
    fn is_writable(&self, fd: &Resource<Descriptor>) -> bool {
        let perms = match self.stock.table.get(fd) {
            Ok(Descriptor::File(file)) => file.perms,
            Ok(Descriptor::Dir(directory)) => directory.perms,
            Err(_) => return false,
        };
        !perms.write_not_permitted()
    }

    async fn pay(&mut self, fd: &Resource<Descriptor>, bytes: u64) -> Option<Charge> {
        match self.guard.counts() && self.is_writable(fd) {
            true => self.guard.pay(bytes).await,
            false => None,
        }
    }

    /// Before anything looks at a directory.
    fn look(&mut self) -> std::io::Result<()> {
        self.guard.look(self.stock.table)
    }

    /// The single file that a directory stands for.
    fn single(&self, fd: &Resource<Descriptor>) -> Option<Arc<Single>> {
        let singles = self.guard.singles()?;
        singles.behind(self.stock.table.get(fd).ok()?).cloned()
    }

    /// Opens a single file for one thing to be done with it by the second of these, after which the first is deleted.
    async fn looked_at(
        &mut self,
        single: &Arc<Single>,
        path: &str,
        changes: bool,
    ) -> FsResult<(Resource<Descriptor>, Resource<Descriptor>)> {
        itself(path)?;
        let file = match changes {
            true => self.guard.call(single.open(How::default())).await?,
            false => self.guard.call(single.seen()).await?,
        };
        let file = self.stock.table.push(file)?;
        let borrowed = Resource::new_borrow(file.rep());
        Ok((file, borrowed))
    }

    /// Has a new stream written to on the workload's own threads, and pay for what it takes.
    fn paying(
        &mut self,
        stream: Resource<DynOutputStream>,
        place: Place,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.stock.table.delete(stream)?;
        let own: DynOutputStream = Box::new(Own::new(stream, self.guard.account.clone()));
        let paying = match self.guard.meter.clone() {
            Some(meter) => {
                let waiting = self.guard.waiting.clone();
                Box::new(Paying::new(own, meter, place, waiting))
            }
            None => own,
        };
        Ok(self.stock.table.push(paying)?)
    }
}

/// # Errors
/// For what would lie beneath a file.
fn itself(path: &str) -> FsResult<()> {
    match single::is_itself(path) {
        true => Ok(()),
        false => Err(types::ErrorCode::NotDirectory.into()),
    }
}

/// # Errors
/// For what wasmtime-wasi does not do either.
fn opening(how: types::OpenFlags, flags: types::DescriptorFlags) -> FsResult<How> {
    use types::{DescriptorFlags, OpenFlags};
    let unknown = DescriptorFlags::FILE_INTEGRITY_SYNC
        | DescriptorFlags::DATA_INTEGRITY_SYNC
        | DescriptorFlags::REQUESTED_WRITE_SYNC;
    if flags & unknown != DescriptorFlags::empty() {
        return Err(types::ErrorCode::Unsupported.into());
    }
    Ok(How {
        read: flags.contains(DescriptorFlags::READ),
        write: flags.contains(DescriptorFlags::WRITE),
        creates: how.contains(OpenFlags::CREATE),
        exclusive: how.contains(OpenFlags::EXCLUSIVE),
        truncates: how.contains(OpenFlags::TRUNCATE),
        directory: how.contains(OpenFlags::DIRECTORY),
    })
}

impl preopens::Host for GuardedView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.guard.gets_blank();
        preopens::Host::get_directories(&mut self.stock)
    }
}

impl types::Host for GuardedView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        self.stock.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        self.stock.filesystem_error_code(error)
    }
}

/// Functions of which nobody needs to know here, but that they may look at a directory.
macro_rules! stock {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {$(
        async fn $name(&mut self, $($argument: $type),*) -> $result {
            self.look()?;
            let call = self.stock.$name($($argument),*);
            self.guard.call(call).await
        }
    )+};
}

impl HostDescriptor for GuardedView<'_> {
    stock! {
        fn advise(
            fd: Resource<Descriptor>, offset: u64, length: u64, advice: types::Advice
        ) -> FsResult<()>;
        fn sync_data(fd: Resource<Descriptor>) -> FsResult<()>;
        fn get_flags(fd: Resource<Descriptor>) -> FsResult<types::DescriptorFlags>;
        fn get_type(fd: Resource<Descriptor>) -> FsResult<types::DescriptorType>;
        fn set_times(
            fd: Resource<Descriptor>, accessed: types::NewTimestamp, modified: types::NewTimestamp
        ) -> FsResult<()>;
        fn read(fd: Resource<Descriptor>, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)>;
        fn sync(fd: Resource<Descriptor>) -> FsResult<()>;
        fn stat(fd: Resource<Descriptor>) -> FsResult<types::DescriptorStat>;
        fn readlink_at(fd: Resource<Descriptor>, path: String) -> FsResult<String>;
        fn remove_directory_at(fd: Resource<Descriptor>, path: String) -> FsResult<()>;
        fn unlink_file_at(fd: Resource<Descriptor>, path: String) -> FsResult<()>;
        fn is_same_object(
            fd: Resource<Descriptor>, other: Resource<Descriptor>
        ) -> wasmtime::Result<bool>;
        fn metadata_hash(fd: Resource<Descriptor>) -> FsResult<types::MetadataHashValue>;
    }

    async fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        self.look()?;
        let directory = match self.stock.table.get(&fd)? {
            Descriptor::Dir(directory) if self.single(&fd).is_none() => directory.dir.clone(),
            _ => return Err(types::ErrorCode::NotDirectory.into()),
        };
        let place = match self.guard.listings < MOST_LISTINGS {
            true => self.guard.opened.place(),
            false => None,
        };
        let place = place.ok_or(types::ErrorCode::InsufficientMemory)?;
        let listing = Listing::open(directory, 0, place);
        let listing = self.guard.call(listing).await?;
        let stream = self.stock.table.push(listing)?;
        self.guard.listings += 1;
        Ok(Resource::new_own(stream.rep()))
    }

    async fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        self.look()?;
        let Some(single) = self.single(&fd) else {
            let stat = self.stock.stat_at(fd, flags, path);
            return self.guard.call(stat).await;
        };
        let (file, seen) = self.looked_at(&single, &path, false).await?;
        let stat = self.guard.call(self.stock.stat(seen)).await;
        self.stock.table.delete(file)?;
        stat
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        self.look()?;
        let Some(single) = self.single(&fd) else {
            let hash = self.stock.metadata_hash_at(fd, flags, path);
            return self.guard.call(hash).await;
        };
        let (file, seen) = self.looked_at(&single, &path, false).await?;
        let hash = self.guard.call(self.stock.metadata_hash(seen)).await;
        self.stock.table.delete(file)?;
        hash
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        self.look()?;
        let Some(single) = self.single(&fd) else {
            let set = self.stock.set_times_at(fd, flags, path, accessed, modified);
            return self.guard.call(set).await;
        };
        let (file, opened) = self.looked_at(&single, &path, true).await?;
        let set = self.stock.set_times(opened, accessed, modified);
        let set = self.guard.call(set).await;
        self.stock.table.delete(file)?;
        set
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: u64) -> FsResult<()> {
        // Holes take nothing; what is written into them later is paid for then.
        let paid = self.pay(&fd, BLOCK).await;
        self.guard.opened.set_written(fd.rep(), None);
        let set = self.guard.call(self.stock.set_size(fd, size)).await;
        super::settle(paid, set.is_ok());
        set
    }

    async fn write(
        &mut self,
        fd: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: u64,
    ) -> FsResult<u64> {
        let (number, length) = (fd.rep(), bytes.len() as u64);
        let before = self.guard.opened.written(number);
        let cost = super::touched(offset, length, before);
        let _paid = self.pay(&fd, cost).await;
        let written = self.stock.write(fd, bytes, offset);
        let written = self.guard.call(written).await;
        let length = written.as_ref().map_or(0, |length| *length);
        let block = super::block(offset, length);
        self.guard.opened.set_written(number, block);
        written
    }

    async fn create_directory_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        self.look()?;
        let paid = self.pay(&fd, NAME).await;
        let made = self.stock.create_directory_at(fd, path);
        let made = self.guard.call(made).await;
        super::settle(paid, made.is_ok());
        made
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: types::PathFlags,
        old: String,
        directory: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        self.look()?;
        let paid = self.pay(&directory, NAME).await;
        let made = self.stock.link_at(fd, flags, old, directory, new);
        let made = self.guard.call(made).await;
        super::settle(paid, made.is_ok());
        made
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old: String,
        directory: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        self.look()?;
        // It grows the directory that it leads to.
        let paid = self.pay(&directory, NAME).await;
        let made = self.stock.rename_at(fd, old, directory, new);
        let made = self.guard.call(made).await;
        super::settle(paid, made.is_ok());
        made
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        how: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        self.look()?;
        let Some(place) = self.guard.opened.place() else {
            // There is no word for too many of them.
            return Err(types::ErrorCode::InsufficientMemory.into());
        };
        if let Some(single) = self.single(&fd) {
            itself(&path)?;
            let file = self.guard.call(single.open(opening(how, flags)?)).await?;
            let opened = self.stock.table.push(file)?;
            self.guard.opened.add(opened.rep(), place);
            return Ok(opened);
        }
        let paid = match how.contains(types::OpenFlags::CREATE) {
            true => self.pay(&fd, NAME).await,
            false => None,
        };
        let opened = self.stock.open_at(fd, path_flags, path, how, flags);
        let opened = self.guard.call(opened).await;
        // A trap says nothing of what was made.
        let is_refused = |error: &FsError| error.downcast_ref().is_some();
        super::settle(paid, !opened.as_ref().is_err_and(is_refused));
        let opened = opened?;
        self.guard.opened.add(opened.rep(), place);
        Ok(opened)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        let number = fd.rep();
        let file = match self.stock.table.get(&fd) {
            Ok(Descriptor::File(file)) => Some(Arc::downgrade(&file.file)),
            _ => None,
        };
        HostDescriptor::drop(&mut self.stock, fd)?;
        self.guard.opened.remove(number, file);
        Ok(())
    }

    async fn symlink_at(
        &mut self,
        fd: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        self.look()?;
        let paid = self.pay(&fd, NAME).await;
        let made = self.stock.symlink_at(fd, target, path);
        let made = self.guard.call(made).await;
        super::settle(paid, made.is_ok());
        made
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<DynInputStream>> {
        let stream = self.stock.read_via_stream(fd, offset)?;
        let stream = self.stock.table.delete(stream)?;
        let own: DynInputStream = Box::new(Own::new(stream, self.guard.account.clone()));
        Ok(self.stock.table.push(own)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.stock.write_via_stream(fd, offset)?;
        self.paying(stream, Place::At(offset))
    }

    fn append_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let place = match self.stock.table.get(&fd)? {
            Descriptor::File(file) => Place::End(file.file.clone()),
            Descriptor::Dir(_) => return Err(types::ErrorCode::BadDescriptor.into()),
        };
        let stream = self.stock.append_via_stream(fd)?;
        self.paying(stream, place)
    }
}

/// To guests the stream is a number, and what it stands for is ours: wasmtime-wasi's has all names from its beginning.
impl HostDirectoryEntryStream for GuardedView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let listing = Resource::<Listing>::new_borrow(stream.rep());
        let listing = self.stock.table.get_mut(&listing)?;
        while let Some(entry) = self.guard.call(listing.next()).await? {
            if !entry.is_dots() {
                let type_ = entry.kind;
                let name = entry.into_name()?;
                return Ok(Some(types::DirectoryEntry { type_, name }));
            }
        }
        Ok(None)
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        let listing = Resource::<Listing>::new_own(stream.rep());
        self.stock.table.delete(listing)?;
        self.guard.listings -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
