//! What the node's pods have of it, kept as each of them changes: whoever wants to know what is left need not look at all.

use std::collections::BTreeMap;

use super::allocation::{Part, Used, judge, reject};
use crate::pod::Why;
use crate::resources::Amounts;

/// What each pod has, and all of them together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    total: Used,
    /// By uid. Who has nothing is not there.
    held: BTreeMap<String, Part>,
}

impl Ledger {
    /// Notes what a pod has from now on; whether that is less of anything than it had.
    pub(crate) fn set(&mut self, uid: &str, now: Part) -> bool {
        let before = self.of(uid);
        if now == before {
            return false;
        }
        self.total.subtract(before);
        self.total.add(now);
        if now == Part::default() {
            self.held.remove(uid);
        } else if let Some(held) = self.held.get_mut(uid) {
            *held = now;
        } else {
            self.held.insert(uid.to_owned(), now);
        }
        now.milli_cpu < before.milli_cpu
            || now.memory < before.memory
            || now.ephemeral < before.ephemeral
    }

    /// Gives a pod that is new what it asks for.
    ///
    /// # Errors
    /// When there is not enough: Kubernetes' reason, and words.
    pub(crate) fn admit(
        &mut self,
        uid: &str,
        asked: Part,
        machine: &Amounts,
    ) -> Result<(), (String, String)> {
        if let Some(rejected) = reject(asked, self.others(uid), machine) {
            return Err(rejected);
        }
        self.set(uid, asked);
        Ok(())
    }

    /// Gives a pod that is here what it asks for now. What it had is its own, too, until it is [set](Self::set) anew.
    ///
    /// # Errors
    /// When there is not enough: whether there ever will be, and words.
    pub(crate) fn resize(
        &mut self,
        uid: &str,
        asked: Part,
        machine: &Amounts,
    ) -> Result<(), (Why, String)> {
        let held = self.of(uid);
        if let Some(refused) = judge(asked, held, self.others(uid), machine) {
            return Err(refused);
        }
        let both = Part {
            milli_cpu: held.milli_cpu.max(asked.milli_cpu),
            memory: held.memory.max(asked.memory),
            ephemeral: held.ephemeral.max(asked.ephemeral),
        };
        self.set(uid, both);
        Ok(())
    }

    fn of(&self, uid: &str) -> Part {
        self.held.get(uid).copied().unwrap_or_default()
    }

    /// What all have but this one.
    fn others(&self, uid: &str) -> Used {
        let mut used = self.total;
        used.subtract(self.of(uid));
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to a ledger.
    #[derive(Clone, Copy)]
    enum Event {
        Comes,
        Wishes,
        Has,
    }
    use Event::{Comes, Has, Wishes};

    const MACHINE: Amounts = Amounts {
        milli_cpu: 1_000,
        memory: 100,
        ephemeral: 0,
    };

    fn part((milli_cpu, memory): (i64, i64)) -> Part {
        Part {
            milli_cpu,
            memory,
            ephemeral: 0,
        }
    }

    impl Ledger {
        /// What came of it, in a word or two.
        fn happens(&mut self, event: Event, uid: &str, amount: (i64, i64)) -> String {
            let amount = part(amount);
            match event {
                Comes => match self.admit(uid, amount, &MACHINE) {
                    Ok(()) => "taken in".to_owned(),
                    Err((reason, _)) => reason,
                },
                Wishes => match self.resize(uid, amount, &MACHINE) {
                    Ok(()) => "given".to_owned(),
                    Err((why, _)) => why.as_str().to_owned(),
                },
                Has => match self.set(uid, amount) {
                    true => "less".to_owned(),
                    false => "no less".to_owned(),
                },
            }
        }
    }

    #[test]
    fn what_is_left_follows_each_pod() {
        let mut ledger = Ledger::default();
        for (event, uid, amount, becomes, held) in [
            (Comes, "a", (600, 10), "taken in", &[("a", (600, 10))][..]),
            (Comes, "b", (401, 10), "OutOfcpu", &[("a", (600, 10))]),
            (Comes, "b", (400, 91), "OutOfmemory", &[("a", (600, 10))]),
            (
                Comes,
                "b",
                (400, 90),
                "taken in",
                &[("a", (600, 10)), ("b", (400, 90))],
            ),
            // Who asks for nothing finds room on a full node, and takes none.
            (
                Comes,
                "c",
                (0, 0),
                "taken in",
                &[("a", (600, 10)), ("b", (400, 90))],
            ),
            (
                Wishes,
                "a",
                (601, 10),
                "Deferred",
                &[("a", (600, 10)), ("b", (400, 90))],
            ),
            (
                Wishes,
                "a",
                (1_001, 10),
                "Infeasible",
                &[("a", (600, 10)), ("b", (400, 90))],
            ),
            // It is not free before the containers have given it back.
            (
                Wishes,
                "b",
                (100, 90),
                "given",
                &[("a", (600, 10)), ("b", (400, 90))],
            ),
            (
                Wishes,
                "a",
                (601, 10),
                "Deferred",
                &[("a", (600, 10)), ("b", (400, 90))],
            ),
            (
                Has,
                "b",
                (100, 90),
                "less",
                &[("a", (600, 10)), ("b", (100, 90))],
            ),
            (
                Wishes,
                "a",
                (900, 5),
                "given",
                &[("a", (900, 10)), ("b", (100, 90))],
            ),
            (
                Has,
                "a",
                (900, 10),
                "no less",
                &[("a", (900, 10)), ("b", (100, 90))],
            ),
            (
                Has,
                "a",
                (950, 5),
                "less",
                &[("a", (950, 5)), ("b", (100, 90))],
            ),
            // More than there is: so it may be when an agent comes back.
            (
                Has,
                "d",
                (i64::MAX, i64::MAX),
                "no less",
                &[
                    ("a", (950, 5)),
                    ("b", (100, 90)),
                    ("d", (i64::MAX, i64::MAX)),
                ],
            ),
            (
                Comes,
                "e",
                (1, 0),
                "OutOfcpu",
                &[
                    ("a", (950, 5)),
                    ("b", (100, 90)),
                    ("d", (i64::MAX, i64::MAX)),
                ],
            ),
            (
                Has,
                "d",
                (0, 0),
                "less",
                &[("a", (950, 5)), ("b", (100, 90))],
            ),
            (Has, "a", (0, 0), "less", &[("b", (100, 90))]),
            (Has, "a", (0, 0), "no less", &[("b", (100, 90))]),
            (
                Comes,
                "e",
                (900, 10),
                "taken in",
                &[("b", (100, 90)), ("e", (900, 10))],
            ),
            (Has, "b", (0, 0), "less", &[("e", (900, 10))]),
            (Has, "e", (0, 0), "less", &[]),
        ] {
            let case = format!("{uid} after {:?}", ledger.held);
            assert_eq!(ledger.happens(event, uid, amount), becomes, "{case}");
            let mut expected = Ledger::default();
            for (uid, amount) in held {
                expected.held.insert((*uid).to_owned(), part(*amount));
                expected.total.add(part(*amount));
            }
            assert_eq!(ledger, expected, "{case}");
        }
    }
}
