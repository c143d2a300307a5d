//! What stands between guests and wasmtime-wasi's files.
//!
//! wasmtime-wasi opens, reads and writes; what it knows nothing of is settled before it is asked: that somebody
//! [counts](crate::Meter) what is added to the disk, that some mounts are [single files](single),
//! that nobody has more files open than [others leave them](budget), that directories are [opened late](late), and that
//! their [listings](listing) are read a few names at a time.

pub(super) mod budget;
mod calls;
mod component;
pub(super) mod late;
pub(super) mod listing;
pub(super) mod single;
mod stream;

use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

pub(super) use component::{GuardedView, link};

use crate::gate::Account;
use crate::meter::{Charge, Meter};
use budget::{Opened, Share};
use late::Late;
use single::Singles;

/// One instance's.
pub(super) struct Guard {
    meter: Option<Arc<Meter>>,
    singles: Option<Arc<Singles>>,
    late: Option<Arc<Late>>,
    /// Whether the instance may have blank directories still.
    is_blank: bool,
    /// At whose expense the system is called.
    account: Arc<Account>,
    pub(super) opened: Opened,
    /// The workload's streams that wait for its meter.
    waiting: Arc<Semaphore>,
    /// How many directories the instance is listing.
    listings: usize,
}

impl Guard {
    pub(super) fn new(
        meter: Option<Arc<Meter>>,
        singles: Option<Singles>,
        late: Option<Arc<Late>>,
        share: Arc<Share>,
        account: Arc<Account>,
    ) -> Self {
        Self {
            meter,
            singles: singles.map(Arc::new),
            is_blank: late.is_some(),
            late,
            account,
            opened: Opened::new(share),
            waiting: stream::waiting(),
            listings: 0,
        }
    }

    /// Another instance's of the same workload.
    pub(super) fn another(&self) -> Self {
        Self {
            meter: self.meter.clone(),
            singles: self.singles.clone(),
            is_blank: self.late.is_some(),
            late: self.late.clone(),
            account: self.account.clone(),
            opened: self.opened.another(),
            waiting: self.waiting.clone(),
            listings: 0,
        }
    }

    /// Gives an instance the directories that it begins with, where they are opened late.
    pub(super) fn begin(&self, wasi: &mut WasiCtx) {
        if let Some(late) = &self.late {
            *wasi.filesystem() = late.files();
        }
    }

    /// The instance gets blank directories again.
    fn gets_blank(&mut self) {
        self.is_blank = self.late.is_some();
    }

    /// Whether there are directories to be [looked](Self::look) for.
    pub(super) fn is_blank(&self) -> bool {
        self.is_blank
    }

    /// Before an instance looks at any directory.
    ///
    /// # Errors
    /// As of [`Late::exchange`]: the instance looked at none then.
    pub(super) fn look(&mut self, table: &mut ResourceTable) -> std::io::Result<()> {
        if let Some(late) = self.late.as_ref().filter(|_| self.is_blank) {
            late.exchange(table)?;
            self.is_blank = false;
        }
        Ok(())
    }

    /// The single files, where there are any.
    pub(super) fn singles(&self) -> Option<&Arc<Singles>> {
        self.singles.as_ref()
    }

    /// Looks what stands for single files in what a component is given.
    pub(super) fn learn(&mut self, wasi: &mut WasiCtx) -> wasmtime::Result<()> {
        match self.singles.as_mut().and_then(Arc::get_mut) {
            Some(singles) => singles.learn(wasi),
            None => Ok(()),
        }
    }

    /// Whether what is added is counted.
    pub(super) fn counts(&self) -> bool {
        self.meter.is_some()
    }

    /// Has a file call made, on threads that only this workload's calls are made on at a time.
    pub(super) async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        self.account.file_call(call).await
    }

    /// Pays for what is to be added, as soon as that is allowed. What is paid is held until it is on the disk.
    pub(super) async fn pay(&self, bytes: u64) -> Option<Charge> {
        match &self.meter {
            Some(meter) if bytes > 0 => Some(meter.charge(bytes).await),
            _ => None,
        }
    }
}

/// What disks take and give: a byte takes as much.
pub(super) const BLOCK: u64 = 4096;

/// The last block of what lies here.
pub(super) fn block(offset: u64, length: u64) -> Option<u64> {
    Some(offset.saturating_add(length.checked_sub(1)?) / BLOCK)
}

/// What a write costs: the blocks that it touches, but for the one that was written last, which is paid for.
pub(super) fn touched(offset: u64, length: u64, written: Option<u64>) -> u64 {
    let Some(last) = block(offset, length) else {
        return 0;
    };
    let blocks = offset / BLOCK..=last;
    let paid = written.is_some_and(|block| blocks.contains(&block));
    (last - blocks.start() + 1 - u64::from(paid)) * BLOCK
}

/// Settles what was paid for a name. Where none was made, nothing was added.
pub(super) fn settle(paid: Option<Charge>, is_made: bool) {
    if let Some(paid) = paid.filter(|_| !is_made) {
        paid.refund();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_costs_its_block() {
        for (offset, length, written, cost) in [
            (0, 0, None, 0),
            (5, 1, None, 1),
            (4_095, 1, None, 1),
            (4_095, 2, None, 2),
            (4_095, 2, Some(0), 1),
            (4_095, 2, Some(1), 1),
            (4_096, 4_096, Some(0), 1),
            (4_097, 1, Some(1), 0),
            (4_095, 4_098, None, 3),
            (u64::MAX, u64::MAX, None, 1),
        ] {
            let case = format!("{offset} {length} {written:?}");
            assert_eq!(touched(offset, length, written), cost * BLOCK, "{case}");
        }
        assert_eq!((block(0, 0), block(0, 4_097)), (None, Some(1)));
    }
}
