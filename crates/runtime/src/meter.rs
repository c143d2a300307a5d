//! What guests add to the node's disk, counted between one measurement of it and the next.
//!
//! Whoever writes pays first, for more rather than less, and waits where that is beyond what is allowed. So a bound on
//! what lies on the disk holds at any time, though nobody looks at the disk but when it may have been reached.

mod account;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::pin;
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use account::Account;

/// What a new name is taken to cost: a block, for the file's inode or the directory that lists it.
pub const NAME: u64 = 4096;

/// Counts what some workloads add to the node's disk, against what they may.
///
/// A measurement begins when [`due`](Meter::due) completes, or by [`begin`](Meter::begin), and its outcome is told by
/// [`allow`](Meter::allow). What is written meanwhile, and may or may not have been seen, counts against what is allowed then.
/// Writers wait for as long as nobody measures: see [`Measurer`].
pub struct Meter {
    account: Mutex<Account>,
    /// More may be added than before.
    allowed: Notify,
    /// A measurement may be due.
    used: Notify,
    /// What is added here is added there, too, and only if it may be. Its account is locked after this one's.
    node: Option<Arc<Meter>>,
}

impl Meter {
    /// Guests may add so many bytes until they wait for the next allowance.
    pub fn new(allowance: u64) -> Self {
        Self {
            account: Mutex::new(Account::new(allowance)),
            allowed: Notify::new(),
            used: Notify::new(),
            node: None,
        }
    }

    /// The same, where many meters share a node's disk, and none may add more than all may together.
    pub fn within(node: Arc<Self>, allowance: u64) -> Self {
        Self {
            node: Some(node),
            ..Self::new(allowance)
        }
    }

    /// A measurement begins: what is added from now on may not be part of it.
    pub fn begin(&self) {
        self.account.lock().begin();
    }

    /// Sets what may be added from now on, after a measurement; wakes writers that wait. `None`: without end.
    ///
    /// Who waits still wants more than that: see [`wanted`](Self::wanted).
    pub fn allow(&self, more: Option<u64>) {
        self.allow_beyond(u64::MAX, more);
    }

    /// Allows as [`allow`](Self::allow) does, though no more than `left` is left: it is time to measure once half of that is
    /// used.
    pub fn allow_beyond(&self, left: u64, more: Option<u64>) {
        let mut account = self.account.lock();
        account.allow(left / 2, more.unwrap_or(u64::MAX));
        let is_due = account.is_due();
        drop(account);
        self.allowed.notify_waiters();
        if is_due {
            self.used.notify_waiters();
        }
    }

    /// An upper bound of what was added since the last measurement: blocks of 4096 bytes that were written to, growth by
    /// other means, and a block for each name that was made.
    pub fn added(&self) -> u64 {
        self.account.lock().added()
    }

    /// What was added, measured or not; of what was added before the node [grew older](Self::grow_older) it is half for each
    /// time that it did.
    pub fn lately(&self) -> u64 {
        let mut account = self.account.lock();
        if let Some(node) = &self.node {
            account.is(node.account.lock().age());
        }
        account.lately()
    }

    /// A while has passed, for all meters within this one.
    pub fn grow_older(&self) {
        let mut account = self.account.lock();
        let age = account.age();
        account.is(age + 1);
    }

    /// The most that one of the writers that wait wants to add: where the measured use and this are more than the limit,
    /// waiting does not help that one. What all of them want may be more: the others write when the first have written.
    pub fn wanted(&self) -> u64 {
        self.account.lock().wanted()
    }

    /// Completes when a writer waits, or half of the allowance is used: time to measure. A measurement begins then.
    pub async fn due(&self) {
        loop {
            let mut used = pin!(self.used.notified());
            used.as_mut().enable();
            {
                let mut account = self.account.lock();
                if account.is_due() {
                    account.begin();
                    return;
                }
            }
            used.await;
        }
    }

    /// Pays for so many bytes that are to be added, and waits until that is allowed.
    pub async fn charge(self: &Arc<Self>, bytes: u64) -> Charge {
        self.charge_some(bytes, bytes).await
    }

    /// Pays for as many bytes as are allowed between these two numbers, and waits until the lower one is.
    pub async fn charge_some(self: &Arc<Self>, least: u64, most: u64) -> Charge {
        let mut short = match self.take(least, most) {
            Ok(charge) => return charge,
            Err(short) => short,
        };
        loop {
            let _waiting = Waiting::new(short, least);
            short = loop {
                let mut allowed = pin!(short.allowed.notified());
                allowed.as_mut().enable();
                match self.take(least, most) {
                    Ok(charge) => return charge,
                    Err(other) if !ptr::eq(other, short) => break other,
                    Err(_) => allowed.await,
                }
            };
        }
    }

    /// Pays as [`charge_some`](Self::charge_some) does, if the lower number is allowed now.
    pub fn try_charge(self: &Arc<Self>, least: u64, most: u64) -> Option<Charge> {
        match self.take(least, most) {
            Ok(charge) => Some(charge),
            Err(short) => {
                short.account.lock().refuse(least);
                short.used.notify_waiters();
                None
            }
        }
    }

    /// # Errors
    /// Where less is left than that: whose allowance it is.
    fn take(self: &Arc<Self>, least: u64, most: u64) -> Result<Charge, &Self> {
        let mut account = self.account.lock();
        let mut bytes = account.left().min(most);
        if bytes < least {
            return Err(self);
        }
        if let Some(node) = &self.node {
            let mut all = node.account.lock();
            bytes = bytes.min(all.left());
            if bytes < least {
                return Err(node);
            }
            all.add(bytes);
            account.is(all.age());
        }
        account.add(bytes);
        drop(account);
        let meter = self.clone();
        Ok(Charge { meter, bytes })
    }

    /// This one, and the node's.
    fn both(&self) -> impl Iterator<Item = &Self> {
        [self].into_iter().chain(self.node.as_deref())
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.account.lock();
        f.debug_tuple("Meter").field(&*account).finish()
    }
}

/// Somebody who measures. Once it is dropped all may be added, since nobody would allow more.
#[derive(Debug)]
pub struct Measurer(Arc<Meter>);

impl Measurer {
    /// Of this meter.
    pub fn of(meter: Arc<Meter>) -> Self {
        Self(meter)
    }
}

impl Drop for Measurer {
    fn drop(&mut self) {
        self.0.allow(None);
    }
}

/// Says, as long as it lives, that a writer waits.
struct Waiting<'a> {
    meter: &'a Meter,
    bytes: u64,
}

impl<'a> Waiting<'a> {
    fn new(meter: &'a Meter, bytes: u64) -> Self {
        meter.account.lock().waits(bytes);
        meter.used.notify_waiters();
        Self { meter, bytes }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.meter.account.lock().waits_no_more(self.bytes);
    }
}

/// What was paid for. It is kept until the bytes are where a measurement finds them, and no longer: nobody waits for
/// anything else while holding it, since others may wait for what it holds.
#[derive(Debug)]
pub struct Charge {
    meter: Arc<Meter>,
    bytes: u64,
}

impl Charge {
    /// What is left of it to be used.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes so many bytes out of it, or all that there are.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let meter = self.meter.clone();
        Self { meter, bytes }
    }

    /// Adds what another one has, of the same meter.
    pub fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives back what was not used, because nothing was added.
    pub fn refund(mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes == 0 {
            return;
        }
        for meter in self.meter.both() {
            meter.account.lock().refund(bytes);
            meter.allowed.notify_waiters();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        for meter in self.meter.both() {
            let mut account = meter.account.lock();
            account.settle(self.bytes);
            let is_due = account.is_due();
            drop(account);
            if is_due {
                meter.used.notify_waiters();
            }
        }
    }
}
