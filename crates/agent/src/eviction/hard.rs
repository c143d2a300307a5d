//! How much of a node stays free: the kubelet's hard eviction thresholds.

use std::fmt::Display;
use std::str::FromStr;

use api::quantity::Quantity;

use super::{Memory, Met, Signal, Signals};
use crate::garbage::Disk;

/// What has to be left for files in memory, in bytes: tokens are replaced by new ones while the old ones are shown.
pub(crate) const FILES_LEFT: u64 = 16 << 20;
/// The same of a file system that has not much more.
const FILES: Least = Least::percent(25, FILES_LEFT);
/// What a name counts for where files lie in memory.
const NAME: u64 = 4096;

/// How many bytes may be added to files in memory, in whatever files. One without a size has its end elsewhere.
pub(crate) fn files_room(of: &Disk) -> u64 {
    let bounded = |size: u64, left: u64| if size == 0 { u64::MAX } else { left };
    let names = of.inodes_free.saturating_mul(NAME);
    bounded(of.capacity, of.available).min(bounded(of.inodes, names))
}

/// All there is.
const WHOLE: u64 = 1_000_000;

/// How much must be left: the smaller of a share and an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Least {
    /// Millionths of all there is.
    share: u64,
    amount: u64,
}

impl Least {
    /// Nothing has to be left.
    const NOTHING: Self = Self {
        share: 0,
        amount: 0,
    };

    /// So many hundredths, but no more than an amount.
    const fn percent(percent: u64, amount: u64) -> Self {
        Self {
            share: percent * (WHOLE / 100),
            amount,
        }
    }

    /// An amount.
    const fn amount(amount: u64) -> Self {
        Self {
            share: WHOLE,
            amount,
        }
    }

    /// How much that is of what there is.
    pub(crate) fn of(self, capacity: u64) -> u64 {
        let share = u128::from(capacity) * u128::from(self.share) / u128::from(WHOLE);
        u64::try_from(share).map_or(self.amount, |share| share.min(self.amount))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            let quantity = Quantity::parse(text).map_err(|error| error.to_string())?;
            return match u64::try_from(quantity.value()) {
                Ok(amount) if amount > 0 => Ok(Self::amount(amount)),
                _ => Err("it must be positive".to_owned()),
            };
        };
        let wrong = || format!("{text} is no percentage");
        let percent: f64 = percent.parse().map_err(|_| wrong())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(wrong());
        }
        // As the kubelet has it: neither says anything.
        if percent == 0.0 || percent == 100.0 {
            return Ok(Self::NOTHING);
        }
        let share = (percent * (WHOLE / 100) as f64).round() as u64;
        Ok(Self {
            share,
            amount: u64::MAX,
        })
    }
}

/// Below what a node is under pressure and ends pods, by signal.
///
/// The defaults are Kubernetes', except that a share of the disk counts only up to an amount: a disk is mostly shared, with
/// the machine's other programs and with more nodes, and one of 20 GB that is 95 % full has room for pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictionHard {
    /// `memory.available`.
    pub(crate) memory: Least,
    /// `nodefs.available`.
    pub(crate) nodefs: Least,
    /// `nodefs.inodesFree`.
    pub(crate) inodes: Least,
}

impl Default for EvictionHard {
    fn default() -> Self {
        Self {
            memory: Least::amount(100 << 20),
            nodefs: Least::percent(10, 512 << 20),
            inodes: Least::percent(5, 100_000),
        }
    }
}

impl FromStr for EvictionHard {
    type Err = String;

    /// Reads the value of the kubelet's `--eviction-hard`: `SIGNAL<QUANTITY|PERCENT%`, with commas between. As with the
    /// kubelet, what is not said has no threshold then.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self {
            memory: Least::NOTHING,
            nodefs: Least::NOTHING,
            inodes: Least::NOTHING,
        };
        let mut said = Vec::new();
        let statements = text.split(',').map(str::trim);
        for statement in statements.filter(|s| !s.is_empty()) {
            let Some((signal, value)) = statement.split_once('<') else {
                return Err(format!(
                    "{statement}: SIGNAL<QUANTITY or SIGNAL<PERCENT% expected"
                ));
            };
            let (signal, value) = (signal.trim(), value.trim());
            let wrong = |why: &dyn Display| format!("{statement}: {why}");
            let of = match signal {
                "memory.available" => &mut all.memory,
                "nodefs.available" => &mut all.nodefs,
                "nodefs.inodesFree" => &mut all.inodes,
                "imagefs.available" | "imagefs.inodesFree" => {
                    return Err(wrong(&"images lie on the node's own disk: say nodefs"));
                }
                "pid.available" => return Err(wrong(&"guests are no processes")),
                _ => return Err(wrong(&"no such signal")),
            };
            if said.contains(&signal) {
                return Err(wrong(&"it is said twice"));
            }
            said.push(signal);
            *of = Least::parse(value).map_err(|why| wrong(&why))?;
        }
        Ok(all)
    }
}

impl EvictionHard {
    /// How many bytes may be added to the disk; `None` where none have to be left.
    pub(crate) fn room(&self, disk: &Disk) -> Option<u64> {
        let threshold = self.nodefs.of(disk.capacity);
        (threshold > 0).then(|| disk.available.saturating_sub(threshold))
    }

    /// How many bytes of memory may be taken.
    pub(crate) fn free_memory(&self, memory: &Memory) -> u64 {
        let threshold = self.memory.of(memory.capacity);
        memory.available.saturating_sub(threshold)
    }

    /// What the node has too little of, in the order in which it is reclaimed.
    pub(crate) fn met(&self, signals: &Signals) -> Vec<Met> {
        self.lacking(signals, 0)
    }

    /// The same, where a writer waits to add so much to the disk.
    pub(crate) fn lacking(&self, signals: &Signals, wanted: u64) -> Vec<Met> {
        let memory = signals.memory.as_ref();
        let memory = memory.map(|m| (Signal::Memory, self.memory, m.available, m.capacity));
        let files = signals.files.as_ref();
        let files = files.map(|f| (Signal::Files, FILES, files_room(f), f.capacity));
        let disk = signals.disk.iter().flat_map(|d| {
            [
                (Signal::Nodefs, self.nodefs, d.available, d.capacity),
                (Signal::Inodes, self.inodes, d.inodes_free, d.inodes),
            ]
        });
        let all = memory.into_iter().chain(files).chain(disk);
        let met = |(signal, least, available, capacity): (Signal, Least, u64, u64)| {
            let threshold = least.of(capacity);
            let has_room = signal == Signal::Nodefs && threshold > 0;
            let met = Met {
                signal,
                threshold,
                available,
                wanted: if has_room { wanted } else { 0 },
            };
            (met.missing() > 0).then_some(met)
        };
        all.filter_map(met).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kubelet_reads_them() {
        let parse = |text: &str| text.parse::<EvictionHard>();
        let all =
            parse("memory.available<1Gi, nodefs.available < 10%,nodefs.inodesFree<2.5%").unwrap();
        assert_eq!(all.memory.of(8 << 30), 1 << 30);
        assert_eq!(all.nodefs.of(200 << 30), 20 << 30);
        assert_eq!(all.inodes.of(1_000_000), 25_000);
        // What is not said, or says nothing, is not looked at.
        for nothing in ["", "nodefs.available<0%", "nodefs.available<100%"] {
            let none = parse(nothing).unwrap();
            assert_eq!(none.memory, Least::NOTHING, "{nothing}");
            assert_eq!(none.nodefs.of(u64::MAX), 0, "{nothing}");
        }
        for (text, why) in [
            (
                "memory.available",
                "SIGNAL<QUANTITY or SIGNAL<PERCENT% expected",
            ),
            ("memory.available<", "quantities must match"),
            ("memory.available<0", "it must be positive"),
            ("memory.available<-1Gi", "it must be positive"),
            ("nodefs.available<101%", "101% is no percentage"),
            ("nodefs.available<-1%", "-1% is no percentage"),
            ("nodefs.available<x%", "x% is no percentage"),
            ("nodefs.available<NaN%", "NaN% is no percentage"),
            ("imagefs.available<10%", "images lie on the node's own disk"),
            ("pid.available<10%", "guests are no processes"),
            ("weather<10%", "no such signal"),
            (
                "memory.available<1Gi,memory.available<2Gi",
                "it is said twice",
            ),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn what_there_is_too_little_of() {
        const GIB: u64 = 1 << 30;
        let hard = EvictionHard::default();
        let met = |memory: u64, available: u64, inodes_free: u64| {
            let signals = Signals {
                memory: Some(Memory {
                    capacity: 16 * GIB,
                    available: memory,
                }),
                disk: Some(Disk {
                    capacity: 100 * GIB,
                    available,
                    inodes: 1_000_000,
                    inodes_free,
                }),
                files: None,
            };
            let met = hard.met(&signals);
            met.iter().map(|m| m.signal).collect::<Vec<_>>()
        };
        assert!(met(100 << 20, GIB / 2, 50_000).is_empty());
        assert_eq!(met((100 << 20) - 1, GIB, 50_000), [Signal::Memory]);
        assert_eq!(met(GIB, GIB / 2 - 1, 50_000), [Signal::Nodefs]);
        assert_eq!(met(GIB, GIB, 49_999), [Signal::Inodes]);
        assert_eq!(
            met(0, 0, 0),
            [Signal::Memory, Signal::Nodefs, Signal::Inodes]
        );
        // What cannot be read is not met.
        assert!(hard.met(&Signals::default()).is_empty());
    }

    #[test]
    fn files_in_memory_leave_room_for_tokens() {
        const MIB: u64 = 1 << 20;
        for ((capacity, available), (inodes, inodes_free), missing) in [
            ((1024, 16), (100_000, 4096), 0),
            ((1024, 15), (100_000, 4096), MIB),
            ((1024, 16), (100_000, 4095), NAME),
            ((8, 2), (0, 0), 0),
            ((8, 1), (0, 0), MIB),
            ((0, 0), (0, 0), 0),
        ] {
            let files = Disk {
                capacity: capacity * MIB,
                available: available * MIB,
                inodes,
                inodes_free,
            };
            let signals = Signals {
                files: Some(files),
                ..Signals::default()
            };
            let met = EvictionHard::default().lacking(&signals, 1);
            assert!(met.iter().all(|met| met.signal == Signal::Files));
            assert_eq!(met.first().map_or(0, Met::missing), missing, "{files:?}");
        }
    }

    #[test]
    fn room_is_what_is_above_the_threshold() {
        const MIB: u64 = 1 << 20;
        let hard = EvictionHard::default();
        let disk = |available: u64| Disk {
            capacity: 100 << 30,
            available,
            inodes: 0,
            inodes_free: 0,
        };
        let lacking = |hard: &EvictionHard, disk: Disk, wanted: u64| {
            let signals = Signals {
                disk: Some(disk),
                ..Signals::default()
            };
            let all = hard.lacking(&signals, wanted);
            assert!(all.iter().all(|met| met.signal == Signal::Nodefs));
            all.first().map_or(0, Met::missing)
        };
        for (available, wanted, room, missing) in [
            (513 * MIB, 0, MIB, 0),
            (513 * MIB, MIB, MIB, 0),
            (513 * MIB, MIB + 1, MIB, 1),
            (512 * MIB, 1, 0, 1),
            (511 * MIB, 0, 0, MIB),
            (511 * MIB, 1, 0, MIB + 1),
        ] {
            let case = format!("{available} {wanted}");
            let disk = disk(available);
            assert_eq!(hard.room(&disk), Some(room), "{case}");
            assert_eq!(lacking(&hard, disk, wanted), missing, "{case}");
        }
        let none = "".parse::<EvictionHard>().unwrap();
        assert_eq!(none.room(&disk(0)), None);
        assert_eq!(lacking(&none, disk(0), u64::MAX), 0);
    }
}
