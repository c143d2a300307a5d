//! What pods use of something that the node is short of.

use std::collections::BTreeMap;
use std::future;
use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use runtime::Meter;
use tokio::time::{Instant, timeout};

use super::Driver;
use super::cell::Cell;
use super::measuring::MOST_MEASURED;
use super::storage::guests;
use crate::blocking::blocking;
use crate::eviction::{Amount, Candidate, Interest, Nameless, Signal, Usage, writes_elsewhere};
use crate::pod::PodView as _;
use crate::volumes::{Written, written};

/// How long a pod's measurement may take: others are to be looked at, too.
const MEASURED_WITHIN: Duration = Duration::from_secs(5);
/// For so long measurements of pods begin in a round; the next one has others.
const BEGUN_WITHIN: Duration = Duration::from_secs(10);

/// Whom rounds measure, where there is no time for all, and what they have found.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// With whom a measurement was begun last.
    last: String,
    /// What each used when it was measured.
    found: BTreeMap<String, Usage>,
}

impl Rounds {
    /// What was found is of no interest any more.
    pub(crate) fn rest(&mut self) {
        self.found.clear();
    }

    /// Measures those of `all` for whom there is time, from the one on whose turn it is. What was found of the others before
    /// stays, and so it does of who cannot be measured.
    async fn go_on<T: Clone, F>(&mut self, all: &BTreeMap<String, T>, measure: impl Fn(T) -> F)
    where
        F: Future<Output = Option<Usage>>,
    {
        let from = self.last.clone();
        let after = all.range::<String, _>((Excluded(&from), Unbounded));
        let in_turn = after.chain(all.range::<String, _>(..=&from));
        let in_turn: Vec<(String, T)> =
            in_turn.map(|(uid, of)| (uid.clone(), of.clone())).collect();
        let until = Instant::now() + BEGUN_WITHIN;
        let last = &mut self.last;
        let begun = stream::iter(in_turn)
            .take_while(|_| future::ready(Instant::now() < until))
            .map(|(uid, of)| {
                last.clone_from(&uid);
                let measured = measure(of);
                async move { (uid, measured.await) }
            });
        let measured: Vec<_> = begun.buffer_unordered(MOST_MEASURED).collect().await;
        self.found.retain(|uid, _| all.contains_key(uid));
        let found = measured.into_iter();
        self.found
            .extend(found.filter_map(|(uid, usage)| Some((uid, usage?))));
    }
}

/// What came of a measurement.
#[derive(Debug, PartialEq, Eq)]
enum Measured {
    Found(Usage),
    /// Nobody can measure the pod: who makes it so must not be spared for that.
    Endless,
    /// That is not the pod's doing.
    Unknown(String),
}

impl Driver {
    /// The pods that would free some of what the node is short of, with what they use of it. Nobody else would start a static
    /// pod again: none is ended.
    pub(crate) async fn candidates(&self, signal: Signal, rounds: &mut Rounds) -> Vec<Candidate> {
        let cells = self.may_go();
        let nameless = Arc::new(self.nameless().await);
        let measure = |cell: Arc<Cell>| {
            let (this, nameless) = (self.clone(), Arc::clone(&nameless));
            async move { this.used(&cell, signal, nameless).await }
        };
        rounds.go_on(&cells, measure).await;
        let candidate = |(uid, cell): (String, Arc<Cell>)| {
            let state = cell.state.lock();
            let usage = rounds.found.get(&uid);
            let lately = match signal {
                Signal::Nodefs => lately(&cell, &state.pod, usage),
                Signal::Memory | Signal::Files | Signal::Inodes => 0,
            };
            let usage = usage.cloned().unwrap_or_default();
            state.may_be_evicted().then(|| Candidate {
                uid,
                pod: state.allocated_pod(),
                usage: with_guests(usage, guests(&state)),
                lately,
            })
        };
        cells.into_iter().filter_map(candidate).collect()
    }

    /// What all guests add to the node's disk, and may.
    pub(crate) fn disk(&self) -> &Arc<Meter> {
        &self.0.measuring.disk
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.tools.clock.now()
    }

    fn may_go(&self) -> BTreeMap<String, Arc<Cell>> {
        let mut cells = self.0.cells.read().by_uid.clone();
        cells.retain(|_, cell| {
            let state = cell.state.lock();
            !cell.is_static && state.is_admitted && state.may_be_evicted()
        });
        cells
    }

    /// The files without names of all pods: to look for those of each would take each as long.
    async fn nameless(&self) -> Nameless {
        let tools = &self.0.tools;
        let memory = tools.host.memory.iter();
        let dirs: Vec<_> = memory.chain([&tools.dir]).cloned().collect();
        let found = blocking(move || Ok(Nameless::of_process(&dirs, &|| true)?)).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "files that are open and have no name are not counted");
            Nameless::default()
        })
    }

    /// What a pod uses, if that is known in time. It is measured beside those that reach their own limits: they may be many.
    async fn used(
        &self,
        cell: &Arc<Cell>,
        signal: Signal,
        nameless: Arc<Nameless>,
    ) -> Option<Usage> {
        let interest = all_of(&cell.state.lock().pod, signal);
        let begun = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&begun);
        let begins = move || begins.store(true, Ordering::Relaxed);
        let measured = self.measure(cell, &interest, Some(nameless), begins);
        match in_time(measured, &begun).await {
            Measured::Found(usage) => Some(usage),
            Measured::Endless => {
                tracing::warn!(pod = %cell.key, uid = %cell.uid, "what a pod has written cannot be measured in time");
                Some(too_much(cell, &interest))
            }
            Measured::Unknown(why) => {
                tracing::warn!(pod = %cell.key, uid = %cell.uid, why, "what a pod has written cannot be measured");
                None
            }
        }
    }
}

/// What comes of a measurement that says when it has begun to look at the pod.
async fn in_time(
    measured: impl Future<Output = io::Result<Usage>>,
    begun: &AtomicBool,
) -> Measured {
    match timeout(MEASURED_WITHIN, measured).await {
        Ok(Ok(usage)) => Measured::Found(usage),
        Ok(Err(error)) => Measured::Unknown(error.to_string()),
        Err(_) if begun.load(Ordering::Relaxed) => Measured::Endless,
        Err(_) => Measured::Unknown("nobody had time to begin".to_owned()),
    }
}

/// What a pod uses, with what its guests have of memory by now.
fn with_guests(mut usage: Usage, guests: Usage) -> Usage {
    for used in usage.containers.values_mut() {
        used.memory = 0;
    }
    for (name, used) in guests.containers {
        usage.containers.entry(name).or_default().memory = used.memory;
    }
    usage
}

/// What a pod has added to the disk lately: no more than it has there, for it may have written over what was there, or into
/// memory. Of volumes that are measured by nobody that is not known.
fn lately(cell: &Cell, pod: &Pod, usage: Option<&Usage>) -> u64 {
    let lately = cell.meter.lately();
    match usage.filter(|_| !writes_elsewhere(pod)) {
        Some(usage) => lately.min(usage.disk().bytes),
        None => lately,
    }
}

/// All of what counts for a signal, however much it is.
fn all_of(pod: &Pod, signal: Signal) -> Interest {
    let lies = match signal.is_of_disk() {
        true => Written::Disk,
        false => Written::Memory,
    };
    let volumes = pod.volumes().iter();
    let volumes = volumes.filter(|volume| written(volume) == Some(lies));
    let containers = pod.all_containers().filter(|_| signal.is_of_disk());
    Interest {
        containers: containers
            .map(|(_, c)| (c.name.clone(), u64::MAX))
            .collect(),
        volumes: volumes.map(|v| (v.name.clone(), u64::MAX)).collect(),
    }
}

fn too_much(cell: &Cell, interest: &Interest) -> Usage {
    let state = cell.state.lock();
    let amount = Amount {
        bytes: u64::MAX,
        inodes: u64::MAX,
    };
    let mut usage = guests(&state);
    for tree in cell.trees(&state, interest) {
        tree.of.count(amount, &mut usage);
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::Used;

    fn used(memory: u64, bytes: u64) -> Usage {
        let disk = Amount { bytes, inodes: 1 };
        Usage {
            containers: [("c".to_owned(), Used { memory, disk })].into(),
            ..Usage::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_round_measures_others() {
        let all: BTreeMap<String, u64> = (1..=5).map(|n| (format!("u{n}"), n)).collect();
        let mut rounds = Rounds::default();
        let slow = async |bytes| {
            tokio::time::sleep(BEGUN_WITHIN).await;
            Some(used(0, bytes))
        };
        for expected in [
            &["u1", "u2"][..],
            &["u1", "u2", "u3", "u4"],
            &["u1", "u2", "u3", "u4", "u5"],
        ] {
            rounds.go_on(&all, slow).await;
            assert!(rounds.found.keys().eq(expected), "{rounds:?}");
        }
        assert_eq!(rounds.found["u5"], used(0, 5));
        // With the first it went round, and goes on from there: who cannot be measured is as he was.
        let gone: BTreeMap<_, _> = all.into_iter().filter(|(_, n)| *n != 4).collect();
        let quick = async |bytes| (bytes != 3).then(|| used(0, 10 * bytes));
        rounds.go_on(&gone, quick).await;
        let bytes: Vec<u64> = rounds.found.values().map(|u| u.disk().bytes).collect();
        assert_eq!(bytes, [10, 20, 3, 50]);
        assert_eq!(rounds.last, "u1");
        rounds.rest();
        assert!(rounds.found.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_not_looked_at_is_not_to_blame() {
        let begun = AtomicBool::new(false);
        let never = || future::pending::<io::Result<Usage>>();
        let unknown = |of: &Measured| matches!(of, Measured::Unknown(_));
        assert!(unknown(&in_time(never(), &begun).await));
        begun.store(true, Ordering::Relaxed);
        assert_eq!(in_time(never(), &begun).await, Measured::Endless);
        let fails = async { Err(io::Error::other("no")) };
        assert!(unknown(&in_time(fails, &begun).await));
        let ends = async { Ok(used(1, 2)) };
        assert_eq!(in_time(ends, &begun).await, Measured::Found(used(1, 2)));
    }

    #[test]
    fn memory_is_what_it_is_now() {
        assert_eq!(with_guests(used(7, 2), used(3, 0)), used(3, 2));
        assert_eq!(with_guests(used(7, 2), Usage::default()), used(0, 2));
        let mut new = used(3, 0);
        new.containers.values_mut().for_each(|c| c.disk.inodes = 0);
        assert_eq!(with_guests(Usage::default(), new.clone()), new);
    }
}
