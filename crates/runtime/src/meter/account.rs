//! The decider of a meter: what may be added to a disk, and whether it is time to measure it.

use std::collections::BTreeMap;

/// Bytes that are allowed, added and wanted, from one measurement to the next.
#[derive(Debug)]
pub(super) struct Account {
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
    /// What was added, measured or not: what is older counts for less.
    lately: u64,
    /// When `lately` was reckoned.
    age: u64,
}

impl Account {
    pub(super) fn new(allowance: u64) -> Self {
        Self {
            allowance,
            soon: u64::MAX,
            added: 0,
            under_way: 0,
            measured: None,
            wanted: BTreeMap::new(),
            refused: 0,
            lately: 0,
            age: 0,
        }
    }

    /// What may be added still.
    pub(super) fn left(&self) -> u64 {
        self.allowance.saturating_sub(self.added)
    }

    pub(super) fn added(&self) -> u64 {
        self.added
    }

    fn settled(&self) -> u64 {
        self.added.saturating_sub(self.under_way)
    }

    pub(super) fn is_due(&self) -> bool {
        // What is under way no measurement finds, however often it is made.
        let settled = self.settled();
        let half = settled >= self.left() || settled >= self.soon;
        let is_used = self.allowance != u64::MAX && settled > 0 && half;
        is_used || !self.wanted.is_empty() || self.refused > 0
    }

    /// A measurement begins.
    pub(super) fn begin(&mut self) {
        let settled = self.settled();
        // Of measurements that overlap any may be the one that is told of.
        let measured = self.measured.get_or_insert(settled);
        *measured = settled.min(*measured);
    }

    /// So much may be added after the measurement; it is time for the next once `soon` is.
    pub(super) fn allow(&mut self, soon: u64, allowance: u64) {
        self.soon = soon;
        let settled = self.settled();
        let measured = self.measured.take().unwrap_or(settled);
        self.added = self.added.saturating_sub(measured);
        self.allowance = allowance;
        self.refused = 0;
    }

    /// Counts what is about to be added.
    pub(super) fn add(&mut self, bytes: u64) {
        self.added = self.added.saturating_add(bytes);
        self.under_way = self.under_way.saturating_add(bytes);
        self.lately = self.lately.saturating_add(bytes);
    }

    /// Takes back what was counted and is not added.
    pub(super) fn refund(&mut self, bytes: u64) {
        self.added = self.added.saturating_sub(bytes);
        self.lately = self.lately.saturating_sub(bytes);
        self.settle(bytes);
    }

    /// What was under way is where a measurement finds it.
    pub(super) fn settle(&mut self, bytes: u64) {
        self.under_way = self.under_way.saturating_sub(bytes);
    }

    pub(super) fn waits(&mut self, bytes: u64) {
        *self.wanted.entry(bytes).or_default() += 1;
    }

    pub(super) fn waits_no_more(&mut self, bytes: u64) {
        if let Some(others) = self.wanted.get_mut(&bytes) {
            *others -= 1;
            if *others == 0 {
                self.wanted.remove(&bytes);
            }
        }
    }

    pub(super) fn refuse(&mut self, bytes: u64) {
        self.refused = self.refused.max(bytes);
    }

    /// The most that one writer wants.
    pub(super) fn wanted(&self) -> u64 {
        let most = self.wanted.last_key_value();
        most.map_or(0, |(bytes, _)| *bytes).max(self.refused)
    }

    pub(super) fn age(&self) -> u64 {
        self.age
    }

    /// It is so late: what was added before counts half for each step since.
    pub(super) fn is(&mut self, age: u64) {
        let steps = u32::try_from(age.saturating_sub(self.age)).unwrap_or(u32::MAX);
        self.lately = self.lately.checked_shr(steps).unwrap_or(0);
        self.age = age;
    }

    pub(super) fn lately(&self) -> u64 {
        self.lately
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What may happen to an account.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Is about to be added.
        Add(u64),
        /// Is on the disk.
        Settle(u64),
        Refund(u64),
        Begin,
        Allow(u64),
        /// So much is left, and more is allowed.
        Beyond(u64, u64),
        Waits(u64),
        WaitsNoMore(u64),
        Refuse(u64),
    }

    fn after(steps: &[Step]) -> Account {
        let mut account = Account::new(100);
        for step in steps {
            match *step {
                Step::Add(bytes) => account.add(bytes),
                Step::Settle(bytes) => account.settle(bytes),
                Step::Refund(bytes) => account.refund(bytes),
                Step::Begin => account.begin(),
                Step::Allow(more) => account.allow(u64::MAX, more),
                Step::Beyond(left, more) => account.allow(left / 2, more),
                Step::Waits(bytes) => account.waits(bytes),
                Step::WaitsNoMore(bytes) => account.waits_no_more(bytes),
                Step::Refuse(bytes) => account.refuse(bytes),
            }
        }
        account
    }

    #[test]
    fn what_is_left_and_when_to_measure() {
        use Step::*;
        const WITHOUT_END: u64 = u64::MAX;
        for (steps, left, is_due) in [
            (&[][..], 100, false),
            (&[Add(49), Settle(49)], 51, false),
            (&[Add(50), Settle(50)], 50, true),
            // Nobody would find it yet.
            (&[Add(90)], 10, false),
            (&[Add(90), Settle(40)], 10, true),
            (&[Add(90), Settle(40), Refund(50)], 60, false),
            (&[Add(60), Settle(60), Begin, Allow(40)], 40, false),
            // Added after the look had begun, or under way then: it may not have been seen.
            (
                &[Add(60), Settle(60), Begin, Add(5), Settle(5), Allow(40)],
                35,
                false,
            ),
            (
                &[Add(60), Settle(50), Begin, Settle(10), Allow(40)],
                30,
                false,
            ),
            (&[Add(60), Settle(60), Begin, Allow(0)], 0, false),
            (&[Beyond(10, 100), Add(4), Settle(4)], 96, false),
            (&[Beyond(10, 100), Add(5), Settle(5)], 95, true),
            (&[Waits(200)], 100, true),
            (&[Waits(200), Allow(100)], 100, true),
            (&[Waits(200), WaitsNoMore(200)], 100, false),
            (
                &[Waits(200), Waits(200), WaitsNoMore(200), Allow(9)],
                9,
                true,
            ),
            (&[Refuse(200)], 100, true),
            (&[Refuse(200), Allow(100)], 100, false),
            (
                &[Allow(WITHOUT_END), Add(1 << 60), Settle(1 << 60)],
                WITHOUT_END - (1 << 60),
                false,
            ),
        ] {
            let account = after(steps);
            assert_eq!(
                (account.left(), account.is_due()),
                (left, is_due),
                "{steps:?}"
            );
        }
    }

    #[test]
    fn what_is_older_counts_for_less() {
        use Step::*;
        let mut account = after(&[Add(60), Settle(60), Begin, Allow(500), Add(40), Refund(20)]);
        assert_eq!(account.lately(), 80, "measured or not");
        for (age, lately) in [(0, 80), (1, 40), (3, 10), (3, 10), (100, 0)] {
            account.is(age);
            assert_eq!((account.age(), account.lately()), (age, lately));
        }
        account.add(7);
        account.is(101);
        assert_eq!(account.lately(), 3);
    }
}
