//! How fast CPU time is used: the difference of two samples of what has been used until then.
//!
//! Samples are taken when somebody asks, and of what nobody asks about there are none.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use client::node::{ContainerStats, CpuRate, NodeStats, PodStats, StatsResponse};
use jiff::{SignedDuration, Timestamp};

use super::process::Process;
use crate::driver::{ContainerUsage, PodUsage};

/// How old a sample has to be that a rate begins at, if there is an older one.
const STEP: SignedDuration = SignedDuration::from_secs(15);

/// How much CPU time was used until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: Timestamp,
    cpu: Duration,
}

/// What rates of one counter begin at. Who asks often, asks about the last 15 to 30 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    /// Where they begin now.
    base: Sample,
    /// Where they will, once this is old enough.
    next: Sample,
}

impl Window {
    fn since(start: Sample) -> Self {
        Self {
            base: start,
            next: start,
        }
    }

    /// The rate until now; none if it is the start's very moment.
    fn rate(&mut self, now: Sample) -> Option<CpuRate> {
        let age = now.at.duration_since(self.next.at);
        if age.is_negative() {
            // The clock was set back.
            *self = Self::since(now);
        } else if age >= STEP {
            self.base = mem::replace(&mut self.next, now);
        }
        let window = now.at.duration_since(self.base.at).as_nanos();
        let window = u64::try_from(window).ok().filter(|nanos| *nanos > 0)?;
        let used = now.cpu.saturating_sub(self.base.cpu).as_nanos();
        let nano_cores = used.saturating_mul(1_000_000_000) / u128::from(window);
        Some(CpuRate {
            nano_cores: u64::try_from(nano_cores).unwrap_or(u64::MAX),
            window_nanos: window,
        })
    }
}

/// The samples of the node and of the containers that ran when it was asked last.
#[derive(Debug)]
pub(super) struct Rates {
    node: Window,
    /// By uid, name and instance.
    containers: BTreeMap<(String, String, u32), Window>,
}

impl Rates {
    /// Begins with what the node has used until now.
    pub(super) fn new(at: Timestamp, node: Process) -> Self {
        let start = Sample { at, cpu: node.cpu };
        Self {
            node: Window::since(start),
            containers: BTreeMap::new(),
        }
    }

    /// What is answered of what is used now.
    pub(super) fn stats(
        &mut self,
        now: Timestamp,
        node: Process,
        pods: Vec<PodUsage>,
    ) -> StatsResponse {
        let cpu = node.cpu;
        let node = NodeStats {
            cpu_nanos: nanos(cpu),
            memory_bytes: node.memory,
            cpu_rate: self.node.rate(Sample { at: now, cpu }),
        };
        let mut before = mem::take(&mut self.containers);
        let pods = pods.into_iter().map(|pod| {
            let PodUsage {
                key,
                uid,
                containers,
            } = pod;
            let containers = containers.into_iter().map(|container| {
                let which = (uid.clone(), container.name.clone(), container.attempt);
                let start = Sample {
                    at: container.started_at,
                    cpu: Duration::ZERO,
                };
                let known = before.remove(&which);
                let mut window = known.unwrap_or_else(|| Window::since(start));
                let cpu = container.used.cpu;
                let rate = window.rate(Sample { at: now, cpu });
                self.containers.insert(which, window);
                stats(container, rate)
            });
            let containers = containers.collect();
            PodStats {
                namespace: key.namespace,
                name: key.name,
                uid,
                containers,
            }
        });
        StatsResponse {
            time: since_1970(now),
            pods: pods.collect(),
            node: Some(node),
        }
    }
}

fn stats(container: ContainerUsage, cpu_rate: Option<CpuRate>) -> ContainerStats {
    ContainerStats {
        name: container.name,
        started_at: since_1970(container.started_at),
        cpu_nanos: nanos(container.used.cpu),
        memory_bytes: container.used.memory,
        restarts: container.restarts,
        cpu_rate,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn since_1970(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use client::Key;
    use runtime::Usage;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    fn sample(millis: i64, cpu: u64) -> Sample {
        Sample {
            at: at(millis),
            cpu: Duration::from_millis(cpu),
        }
    }

    #[test]
    fn rates_begin_at_the_start_or_at_an_old_enough_sample() {
        let mut window = Window::since(sample(0, 0));
        // When it is asked and what was used until then, in milliseconds; thousandths of a CPU over which time.
        for (asked, used, rate) in [
            (0, 0, None),
            (5_000, 1_000, Some((200, 5_000))),
            // From here on a later one may begin at this.
            (20_000, 4_000, Some((200, 20_000))),
            (21_000, 5_000, Some((238, 21_000))),
            (34_999, 5_000, Some((142, 34_999))),
            (35_000, 19_000, Some((1_000, 15_000))),
            (40_000, 24_000, Some((1_000, 20_000))),
            // Nobody asked for an hour.
            (3_640_000, 24_000, Some((1, 3_605_000))),
            (3_641_000, 24_000, Some((1, 3_606_000))),
            (3_655_000, 31_500, Some((500, 15_000))),
            // The clock is set back, and goes on from there.
            (1_000, 31_600, None),
            (2_000, 31_700, Some((100, 1_000))),
        ] {
            let found = window.rate(sample(asked, used));
            let found = found.map(|r| (r.nano_cores / 1_000_000, r.window_nanos / 1_000_000));
            assert_eq!(found, rate, "after {asked} ms");
        }
    }

    fn pod(uid: &str, attempt: u32, started: i64, cpu: u64) -> PodUsage {
        PodUsage {
            key: Key::new("default", "p"),
            uid: uid.to_owned(),
            containers: vec![ContainerUsage {
                name: "c".to_owned(),
                attempt,
                started_at: at(started),
                restarts: attempt,
                used: Usage {
                    cpu: Duration::from_millis(cpu),
                    memory: 65_536,
                },
            }],
        }
    }

    #[test]
    fn each_instance_has_rates_of_its_own_and_is_forgotten_with_its_end() {
        let node = |cpu| Process {
            cpu: Duration::from_millis(cpu),
            memory: 1 << 20,
        };
        let mut rates = Rates::new(at(0), node(500));
        let mut rate = |asked, pods| {
            let found = rates.stats(at(asked), node(600), pods);
            let containers = found.pods.into_iter().flat_map(|pod| pod.containers);
            let window = |c: ContainerStats| c.cpu_rate.map(|r| r.window_nanos / 1_000_000);
            let windows: Vec<Option<u64>> = containers.map(window).collect();
            (windows, rates.containers.len())
        };
        let both = || vec![pod("a", 0, 0, 10), pod("b", 0, 19_000, 10)];
        assert_eq!(rate(20_000, both()), (vec![Some(20_000), Some(1_000)], 2));
        assert_eq!(rate(36_000, both()), (vec![Some(16_000), Some(17_000)], 2));
        // `a` was started again, `b` is gone.
        let again = vec![pod("a", 1, 35_000, 1)];
        assert_eq!(rate(37_000, again), (vec![Some(2_000)], 1));
        assert_eq!(rate(38_000, Vec::new()), (Vec::new(), 0));
    }

    #[test]
    fn the_answer_says_what_was_used_in_all() {
        let node = |cpu| Process {
            cpu: Duration::from_secs(cpu),
            memory: 7,
        };
        let mut rates = Rates::new(at(0), node(10));
        let answer = rates.stats(at(2_000), node(11), vec![pod("a", 3, 1_000, 250)]);
        assert_eq!(answer.time, 1_800_000_002_000_000_000);
        let rate = |nano_cores, seconds: u64| {
            Some(CpuRate {
                nano_cores,
                window_nanos: seconds * 1_000_000_000,
            })
        };
        let of_node = NodeStats {
            cpu_nanos: 11_000_000_000,
            memory_bytes: 7,
            cpu_rate: rate(500_000_000, 2),
        };
        assert_eq!(answer.node, Some(of_node));
        let container = ContainerStats {
            name: "c".to_owned(),
            started_at: 1_800_000_001_000_000_000,
            cpu_nanos: 250_000_000,
            memory_bytes: 65_536,
            restarts: 3,
            cpu_rate: rate(250_000_000, 1),
        };
        assert_eq!(answer.pods[0].uid, "a");
        assert_eq!(answer.pods[0].containers, [container]);
    }
}
