//! Whether a node has what a pod asks for.

use api::resources::Resources;
use serde::{Deserialize, Serialize};

use crate::pod::Why;
use crate::resources::Amounts;

/// What a pod asks for, or has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Thousandths of a core.
    pub(crate) milli_cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes of the node's disk.
    pub(crate) ephemeral: i64,
}

impl From<Resources> for Part {
    fn from(resources: Resources) -> Self {
        Self {
            milli_cpu: resources.milli_cpu,
            memory: resources.memory,
            ephemeral: resources.ephemeral_storage,
        }
    }
}

/// What pods have of the node together: wide enough that what was added can be taken away again, however much it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    milli_cpu: i128,
    memory: i128,
    ephemeral: i128,
}

impl Used {
    /// Counts what a pod has.
    pub(super) fn add(&mut self, held: Part) {
        self.milli_cpu += i128::from(held.milli_cpu);
        self.memory += i128::from(held.memory);
        self.ephemeral += i128::from(held.ephemeral);
    }

    /// Takes away what was counted.
    pub(super) fn subtract(&mut self, held: Part) {
        self.milli_cpu -= i128::from(held.milli_cpu);
        self.memory -= i128::from(held.memory);
        self.ephemeral -= i128::from(held.ephemeral);
    }
}

/// One resource: what the pod asks for and has, what others have, what there is.
struct Share {
    name: &'static str,
    asked: i64,
    held: i64,
    used: i128,
    capacity: i64,
}

impl Share {
    /// CPU, memory and disk, in this order.
    fn all(asked: Part, held: Part, used: Used, machine: &Amounts) -> [Self; 3] {
        [
            Self {
                name: "cpu",
                asked: asked.milli_cpu,
                held: held.milli_cpu,
                used: used.milli_cpu,
                capacity: machine.milli_cpu,
            },
            Self {
                name: "memory",
                asked: asked.memory,
                held: held.memory,
                used: used.memory,
                capacity: machine.memory,
            },
            Self {
                name: "ephemeral-storage",
                asked: asked.ephemeral,
                held: held.ephemeral,
                used: used.ephemeral,
                capacity: machine.ephemeral,
            },
        ]
    }

    fn is_for_more(&self) -> bool {
        self.asked > self.held
    }

    /// Why there is not enough of it, if there is not.
    fn lacking(&self) -> Option<String> {
        let wanted = i128::from(self.asked) + self.used;
        (self.is_for_more() && wanted > i128::from(self.capacity)).then(|| {
            format!(
                "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}",
                self.name, self.asked, self.used, self.capacity
            )
        })
    }
}

/// Why the node cannot give a pod that has `held` what it asks for, where others use `used` of it; `None` if it can. Who
/// asks for no more of something is given that, however much of it the node has promised.
pub(super) fn judge(
    asked: Part,
    held: Part,
    used: Used,
    machine: &Amounts,
) -> Option<(Why, String)> {
    let shares = Share::all(asked, held, used, machine);
    // The kubelet tells of memory first here, and last below.
    let mut more = shares.iter().rev().filter(|s| s.is_for_more());
    if let Some(share) = more.find(|s| s.asked > s.capacity) {
        let message = format!(
            "Node didn't have enough capacity: {}, requested: {}, capacity: {}",
            share.name, share.asked, share.capacity
        );
        return Some((Why::Infeasible, message));
    }
    let message = shares.iter().find_map(Share::lacking)?;
    Some((Why::Deferred, message))
}

/// Why the node cannot take in a pod that asks for so much, where others use `used` of it: Kubernetes' reason, and words.
pub(super) fn reject(asked: Part, used: Used, machine: &Amounts) -> Option<(String, String)> {
    let shares = Share::all(asked, Part::default(), used, machine);
    let lacking = |share: &Share| Some((format!("OutOf{}", share.name), share.lacking()?));
    shares.iter().find_map(lacking)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits() {
        let of = |milli_cpu, memory| Part {
            milli_cpu,
            memory,
            ephemeral: 0,
        };
        let machine = Amounts {
            milli_cpu: 4_000,
            memory: 1_000,
            ephemeral: 0,
        };
        let judge = |asked: (i64, i64), held: (i64, i64), others: (i64, i64)| {
            let mut used = Used::default();
            // What it has is counted first, and does not stand in its way.
            let (held, most) = (of(held.0, held.1), of(i64::MAX, i64::MAX));
            for counted in [held, most, of(others.0, others.1)] {
                used.add(counted);
            }
            used.subtract(most);
            used.subtract(held);
            let judged = judge(of(asked.0, asked.1), held, used, &machine);
            judged.map_or("fits".to_owned(), |(why, message)| {
                format!("{}: {message}", why.as_str())
            })
        };
        for (case, asked, held, used, expected) in [
            ("all of it", (4_000, 1_000), (1, 1), (0, 0), "fits"),
            ("what is left", (1_000, 400), (500, 1), (3_000, 600), "fits"),
            (
                "too many cores",
                (4_001, 10),
                (1, 10),
                (0, 0),
                "Infeasible: Node didn't have enough capacity: cpu, requested: 4001, capacity: 4000",
            ),
            (
                "too much of both",
                (4_001, 1_001),
                (1, 1),
                (0, 0),
                "Infeasible: Node didn't have enough capacity: memory, requested: 1001, capacity: 1000",
            ),
            (
                "others have the cores",
                (1_500, 10),
                (100, 10),
                (2_600, 0),
                "Deferred: Node didn't have enough resource: cpu, requested: 1500, used: 2600, capacity: 4000",
            ),
            (
                "others have the memory",
                (100, 500),
                (100, 100),
                (0, 501),
                "Deferred: Node didn't have enough resource: memory, requested: 500, used: 501, capacity: 1000",
            ),
            (
                "never, whoever has the rest",
                (5_000, 10),
                (100, 10),
                (3_950, 0),
                "Infeasible: Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000",
            ),
            (
                "less, of too much",
                (200, 10),
                (300, 10),
                (4_000, 2_000),
                "fits",
            ),
            (
                "less of one, more of the other",
                (200, 20),
                (300, 10),
                (4_000, 990),
                "Deferred: Node didn't have enough resource: memory, requested: 20, used: 990, capacity: 1000",
            ),
        ] {
            assert_eq!(judge(asked, held, used), expected, "{case}");
        }
    }

    #[test]
    fn who_is_taken_in() {
        let of = |(milli_cpu, memory, ephemeral)| Part {
            milli_cpu,
            memory,
            ephemeral,
        };
        let machine = Amounts {
            milli_cpu: 4_000,
            memory: 1_000,
            ephemeral: 50,
        };
        let mut used = Used::default();
        used.add(of((3_000, 1_200, 20)));
        for (case, asked, expected) in [
            ("nothing", (0, 0, 0), None),
            ("what is left", (1_000, 0, 30), None),
            (
                "more than is left",
                (1_001, 1, 31),
                Some((
                    "OutOfcpu",
                    "Node didn't have enough resource: cpu, requested: 1001, used: 3000, capacity: 4000",
                )),
            ),
            (
                "of what is promised already",
                (1_000, 1, 31),
                Some((
                    "OutOfmemory",
                    "Node didn't have enough resource: memory, requested: 1, used: 1200, capacity: 1000",
                )),
            ),
            (
                "of the disk",
                (1_000, 0, 31),
                Some((
                    "OutOfephemeral-storage",
                    "Node didn't have enough resource: ephemeral-storage, requested: 31, used: 20, capacity: 50",
                )),
            ),
        ] {
            let found = reject(of(asked), used, &machine);
            let found = found
                .as_ref()
                .map(|(why, words)| (why.as_str(), words.as_str()));
            assert_eq!(found, expected, "{case}");
        }
    }
}
