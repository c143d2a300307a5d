//! What guests add to the node's disk, counted between one measurement of it and the next.
//!
//! Whoever writes pays first, for more rather than less, and waits where that is beyond what is allowed. So a bound on
//! what lies on the disk holds at any time, though nobody looks at the disk but when it may have been reached.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a new name is taken to cost: a block, for the file's inode or the directory that lists it.
pub const NAME: u64 = 4096;

/// Counts what some workloads add to the node's disk, against what they may.
///
/// A measurement begins when [`due`](Meter::due) completes, or by [`begin`](Meter::begin), and its outcome is told by
/// [`allow`](Meter::allow). What is written meanwhile, and may or may not have been seen, counts against what is allowed then.
/// Writers wait for as long as nobody measures: see [`Measurer`].
pub struct Meter {
    counts: Mutex<Counts>,
    /// More may be added than before.
    allowed: Notify,
    /// A measurement may be due.
    used: Notify,
}

struct Counts {
    /// `u64::MAX` is without end.
    allowance: u64,
    /// So much that is added is time to measure, however much more is allowed.
    soon: u64,
    added: u64,
    /// The part of `added` that may not be on the disk yet.
    under_way: u64,
    /// The part of `added` that the measurement under way finds on the disk.
    measured: Option<u64>,
    /// What each of the writers that wait wants to add, and how many want as much.
    wanted: BTreeMap<u64, usize>,
    /// The most that a writer wanted which does not wait but asks again.
    refused: u64,
}

impl Counts {
    fn left(&self) -> u64 {
        self.allowance.saturating_sub(self.added)
    }

    fn settled(&self) -> u64 {
        self.added.saturating_sub(self.under_way)
    }

    fn is_due(&self) -> bool {
        // What is under way no measurement finds, however often it is made.
        let settled = self.settled();
        let half = settled >= self.left() || settled >= self.soon;
        let is_used = self.allowance != u64::MAX && settled > 0 && half;
        is_used || !self.wanted.is_empty() || self.refused > 0
    }

    fn begin(&mut self) {
        let settled = self.settled();
        // Of measurements that overlap any may be the one that is told of.
        let measured = self.measured.get_or_insert(settled);
        *measured = settled.min(*measured);
    }
}

impl Meter {
    /// Guests may add so many bytes until they wait for the next allowance.
    pub fn new(allowance: u64) -> Self {
        Self {
            counts: Mutex::new(Counts {
                allowance,
                soon: u64::MAX,
                added: 0,
                under_way: 0,
                measured: None,
                wanted: BTreeMap::new(),
                refused: 0,
            }),
            allowed: Notify::new(),
            used: Notify::new(),
        }
    }

    /// A measurement begins: what is added from now on may not be part of it.
    pub fn begin(&self) {
        self.counts.lock().begin();
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
        let mut counts = self.counts.lock();
        counts.soon = left / 2;
        let settled = counts.settled();
        let measured = counts.measured.take().unwrap_or(settled);
        counts.added = counts.added.saturating_sub(measured);
        counts.allowance = more.unwrap_or(u64::MAX);
        counts.refused = 0;
        let is_due = counts.is_due();
        drop(counts);
        self.allowed.notify_waiters();
        if is_due {
            self.used.notify_waiters();
        }
    }

    /// An upper bound of what was added since the last measurement: blocks of 4096 bytes that were written to, growth by
    /// other means, and a block for each name that was made.
    pub fn added(&self) -> u64 {
        self.counts.lock().added
    }

    /// The most that one of the writers that wait wants to add: where the measured use and this are more than the limit,
    /// waiting does not help that one. What all of them want may be more: the others write when the first have written.
    pub fn wanted(&self) -> u64 {
        let counts = self.counts.lock();
        let most = counts.wanted.last_key_value();
        most.map_or(0, |(bytes, _)| *bytes).max(counts.refused)
    }

    /// Completes when a writer waits, or half of the allowance is used: time to measure. A measurement begins then.
    pub async fn due(&self) {
        loop {
            let mut used = pin!(self.used.notified());
            used.as_mut().enable();
            {
                let mut counts = self.counts.lock();
                if counts.is_due() {
                    counts.begin();
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
        if let Some(charge) = self.take(least, most) {
            return charge;
        }
        let _waiting = Waiting::new(self, least);
        loop {
            let mut allowed = pin!(self.allowed.notified());
            allowed.as_mut().enable();
            if let Some(charge) = self.take(least, most) {
                return charge;
            }
            allowed.await;
        }
    }

    /// Pays as [`charge_some`](Self::charge_some) does, if the lower number is allowed now.
    pub fn try_charge(self: &Arc<Self>, least: u64, most: u64) -> Option<Charge> {
        let charge = self.take(least, most);
        if charge.is_none() {
            let mut counts = self.counts.lock();
            counts.refused = counts.refused.max(least);
            drop(counts);
            self.used.notify_waiters();
        }
        charge
    }

    fn take(self: &Arc<Self>, least: u64, most: u64) -> Option<Charge> {
        let mut counts = self.counts.lock();
        let bytes = counts.left().min(most);
        if bytes < least {
            return None;
        }
        counts.added = counts.added.saturating_add(bytes);
        counts.under_way = counts.under_way.saturating_add(bytes);
        drop(counts);
        let meter = self.clone();
        Some(Charge { meter, bytes })
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.lock();
        f.debug_struct("Meter")
            .field("allowance", &counts.allowance)
            .field("added", &counts.added)
            .field("wanted", &counts.wanted)
            .finish_non_exhaustive()
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
        *meter.counts.lock().wanted.entry(bytes).or_default() += 1;
        meter.used.notify_waiters();
        Self { meter, bytes }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut counts = self.meter.counts.lock();
        if let Some(others) = counts.wanted.get_mut(&self.bytes) {
            *others -= 1;
            if *others == 0 {
                counts.wanted.remove(&self.bytes);
            }
        }
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
        let mut counts = self.meter.counts.lock();
        counts.added = counts.added.saturating_sub(bytes);
        counts.under_way = counts.under_way.saturating_sub(bytes);
        drop(counts);
        self.meter.allowed.notify_waiters();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut counts = self.meter.counts.lock();
        counts.under_way = counts.under_way.saturating_sub(self.bytes);
        let is_due = self.bytes > 0 && counts.is_due();
        drop(counts);
        if is_due {
            self.meter.used.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, poll};

    use super::*;

    fn meter(allowance: u64) -> Arc<Meter> {
        Arc::new(Meter::new(allowance))
    }

    fn is_due(meter: &Meter) -> bool {
        meter.due().now_or_never().is_some()
    }

    #[tokio::test]
    async fn half_of_the_allowance_is_time_to_measure() {
        let meter = meter(100);
        assert!(!is_due(&meter));
        drop(meter.charge(49).await);
        assert!(!is_due(&meter));
        let mut due = pin!(meter.due());
        assert!(poll!(due.as_mut()).is_pending());
        drop(meter.charge(1).await);
        due.await;
        assert_eq!((meter.added(), meter.wanted()), (50, 0));
        meter.allow(Some(50));
        assert_eq!(meter.added(), 0);
        assert!(!is_due(&meter));
    }

    #[tokio::test]
    async fn little_that_is_left_is_soon_used() {
        let meter = meter(0);
        meter.allow_beyond(10, Some(1_000));
        drop(meter.charge(4).await);
        assert!(!is_due(&meter));
        drop(meter.charge(1).await);
        assert!(is_due(&meter));
        meter.allow_beyond(0, Some(1_000));
        assert!(!is_due(&meter));
        drop(meter.charge(1).await);
        assert!(is_due(&meter));
    }

    #[tokio::test]
    async fn a_writer_waits_for_its_allowance() {
        let meter = meter(10);
        drop(meter.charge(8).await);
        let mut waits = pin!(meter.charge(5));
        assert!(poll!(waits.as_mut()).is_pending());
        assert_eq!(meter.wanted(), 5);
        meter.due().await;
        // Others may go on with what is left.
        drop(meter.charge(2).now_or_never().unwrap());
        // Those two were written after the measurement began.
        meter.allow(Some(6));
        assert!(poll!(waits.as_mut()).is_pending());
        assert_eq!((meter.added(), meter.wanted()), (2, 5));
        assert!(is_due(&meter));
        meter.allow(Some(5));
        drop(waits.await);
        assert_eq!((meter.added(), meter.wanted()), (5, 0));
    }

    #[tokio::test]
    async fn without_end_nobody_waits() {
        let meter = meter(0);
        let mut waits = pin!(meter.charge(u64::MAX / 2));
        assert!(poll!(waits.as_mut()).is_pending());
        meter.allow(None);
        drop(waits.await);
        drop(meter.charge(1 << 60).now_or_never().unwrap());
        assert!(!is_due(&meter));
    }

    #[tokio::test]
    async fn nobody_waits_for_who_is_gone() {
        let meter = meter(0);
        let measurer = Measurer::of(meter.clone());
        let mut waits = pin!(meter.charge(1));
        assert!(poll!(waits.as_mut()).is_pending());
        drop(measurer);
        drop(waits.await);
    }

    #[tokio::test]
    async fn what_several_want_is_the_most_of_one() {
        let meter = meter(10);
        {
            let mut waits = [7, 6, 7].map(|bytes| Box::pin(meter.charge(bytes)));
            drop(meter.charge(8).await);
            for waits in &mut waits {
                assert!(poll!(waits.as_mut()).is_pending());
            }
            assert_eq!(meter.wanted(), 7);
            let [first, second, last] = waits;
            drop(first);
            assert_eq!(meter.wanted(), 7);
            drop(last);
            assert_eq!(meter.wanted(), 6);
            drop(second);
        }
        assert_eq!(meter.wanted(), 0);
        assert!(is_due(&meter), "most of the allowance is used");
    }

    #[tokio::test]
    async fn who_stops_waiting_wants_nothing() {
        let meter = meter(0);
        {
            let mut waits = pin!(meter.charge(7));
            let mut more = pin!(meter.charge(u64::MAX));
            assert!(poll!(waits.as_mut()).is_pending());
            assert!(poll!(more.as_mut()).is_pending());
            assert_eq!(meter.wanted(), u64::MAX);
            assert!(is_due(&meter));
        }
        assert_eq!(meter.wanted(), 0);
        assert!(!is_due(&meter));
    }

    #[tokio::test]
    async fn what_is_under_way_counts_in_the_next_measurement() {
        let meter = meter(1_000);
        let first = meter.charge(100).await;
        drop(meter.charge(10).await);
        meter.begin();
        drop(meter.charge(1).await);
        drop(first);
        meter.allow(Some(500));
        assert_eq!(meter.added(), 101);
        meter.allow(Some(500));
        assert_eq!(meter.added(), 0);
    }

    #[tokio::test]
    async fn what_was_not_added_is_given_back() {
        let meter = meter(10);
        let mut some = meter.charge_some(1, 64).await;
        assert_eq!(some.bytes(), 10);
        drop(some.split(4));
        let mut waits = pin!(meter.charge(6));
        assert!(poll!(waits.as_mut()).is_pending());
        some.refund();
        drop(waits.await);
        assert_eq!(meter.added(), 10);
        assert!(meter.try_charge(1, 64).is_none());
        assert_eq!(meter.wanted(), 1);
        meter.due().await;
        meter.allow(Some(2));
        assert_eq!(meter.try_charge(1, 64).unwrap().bytes(), 2);
        assert_eq!(meter.wanted(), 0);
    }
}
