//! How fast CPU time is used: the difference of two samples of what has been used until then.
//!
//! Samples are taken when somebody asks, and of what nobody asks about there are none. The node's rate and those of its
//! containers are of the same time, but for containers that are younger: else one would contradict the other.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use client::node::{ContainerStats, CpuRate, NodeStats, PodStats, StatsResponse};
use jiff::{SignedDuration, Timestamp};

use super::process::Process;
use crate::driver::{ContainerUsage, PodUsage};

/// How old a sample has to be that a rate begins at, if there is an older one.
const STEP: SignedDuration = SignedDuration::from_secs(15);
/// From a sample that is older a rate would tell of the past. Who asks each minute is told of that minute.
const LONGEST: SignedDuration = SignedDuration::from_secs(90);

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

    /// The rate until now; none if it is the start's very moment. From here on a later one begins at what was the `next`
    /// sample, if it steps.
    fn rate(&mut self, now: Sample, steps: bool) -> Option<CpuRate> {
        if steps {
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
#[derive(Debug, Default)]
pub(super) struct Rates {
    node: Option<Window>,
    /// By uid, name and instance.
    containers: BTreeMap<(String, String, u32), Window>,
}

impl Rates {
    /// What is answered of what is used now. There are no rates where nobody has asked lately: a moment later there are.
    pub(super) fn stats(
        &mut self,
        now: Timestamp,
        node: Process,
        pods: Vec<PodUsage>,
    ) -> StatsResponse {
        let mut before = mem::take(&mut self.containers);
        let sample = |cpu| Sample { at: now, cpu };
        let age = |of: &Window| now.duration_since(of.next.at);
        // It is negative where the clock was set back.
        let lately = |of: &Window| !age(of).is_negative() && age(of) <= LONGEST;
        let known = self.node.filter(lately);
        let mut window = known.unwrap_or_else(|| {
            before.clear();
            Window::since(sample(node.cpu))
        });
        let steps = age(&window) >= STEP;
        let node = NodeStats {
            cpu_nanos: nanos(node.cpu),
            memory_bytes: node.memory,
            cpu_rate: window.rate(sample(node.cpu), steps),
        };
        self.node = Some(window);
        let since = window.base.at;
        let pods = pods.into_iter().map(|pod| {
            let PodUsage {
                key,
                uid,
                containers,
            } = pod;
            let containers = containers.into_iter().map(|container| {
                let which = (uid.clone(), container.name.clone(), container.attempt);
                let used = sample(container.used.cpu);
                let start = match container.started_at < since {
                    true => used,
                    false => Sample {
                        at: container.started_at,
                        cpu: Duration::ZERO,
                    },
                };
                let known = before.remove(&which);
                let mut window = known.unwrap_or_else(|| Window::since(start));
                let rate = window.rate(used, steps);
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

    fn node(millis: u64) -> Process {
        Process {
            cpu: Duration::from_millis(millis),
            memory: 7,
        }
    }

    #[test]
    fn rates_begin_at_a_sample_that_is_old_enough_and_not_too_old() {
        let mut rates = Rates::default();
        // When it is asked and what was used until then, in milliseconds; thousandths of a CPU over which time.
        for (asked, used, rate) in [
            (0, 9_000, None),
            (250, 9_050, Some((200, 250))),
            (10_000, 11_000, Some((200, 10_000))),
            // From here on a later one may begin at this.
            (20_000, 13_000, Some((200, 20_000))),
            (21_000, 14_000, Some((238, 21_000))),
            (34_999, 14_000, Some((142, 34_999))),
            (35_000, 28_000, Some((1_000, 15_000))),
            (40_000, 33_000, Some((1_000, 20_000))),
            // Nobody asked for an hour.
            (3_640_000, 33_000, None),
            (3_640_250, 33_125, Some((500, 250))),
            (3_655_000, 40_500, Some((500, 15_000))),
            // The clock is set back, and goes on from there.
            (1_000, 40_600, None),
            (2_000, 40_700, Some((100, 1_000))),
        ] {
            let found = rates.stats(at(asked), node(used), Vec::new()).node;
            let found = found.unwrap().cpu_rate;
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
    fn each_instance_has_rates_of_the_nodes_time_or_of_its_own_and_is_forgotten_with_its_end() {
        let mut rates = Rates::default();
        let mut windows = |asked, pods| {
            let found = rates.stats(at(asked), node(600), pods);
            let containers = found.pods.into_iter().flat_map(|pod| pod.containers);
            let rates_of = containers.map(|c| c.cpu_rate);
            let all = std::iter::once(found.node.unwrap().cpu_rate).chain(rates_of);
            let window = |rate: Option<CpuRate>| rate.map(|r| r.window_nanos / 1_000_000);
            let all: Vec<Option<u64>> = all.map(window).collect();
            (all, rates.containers.len())
        };
        let some = |of: &[u64]| of.iter().copied().map(Some).collect::<Vec<_>>();
        let a = || pod("a", 0, -90_000, 10);
        let both = || vec![a(), pod("b", 0, 19_000, 10)];
        assert_eq!(windows(0, vec![a()]), (vec![None, None], 1));
        assert_eq!(windows(250, vec![a()]), (some(&[250, 250]), 1));
        assert_eq!(windows(20_000, both()), (some(&[20_000, 20_000, 1_000]), 2));
        assert_eq!(
            windows(36_000, both()),
            (some(&[16_000, 16_000, 16_000]), 2)
        );
        // `a` was started again, `b` is gone.
        let again = || vec![pod("a", 1, 36_500, 1)];
        assert_eq!(windows(37_000, again()), (some(&[17_000, 500]), 1));
        // Nobody asked for long.
        assert_eq!(windows(180_000, again()), (vec![None, None], 1));
        assert_eq!(windows(181_000, Vec::new()), (some(&[1_000]), 0));
    }

    #[test]
    fn the_answer_says_what_was_used_in_all() {
        let mut rates = Rates::default();
        rates.stats(at(0), node(10_000), Vec::new());
        let answer = rates.stats(at(2_000), node(11_000), vec![pod("a", 3, 1_000, 250)]);
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
