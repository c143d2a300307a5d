//! Which pod is next.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use client::Key;
use tokio::time::Instant;

use crate::{
    plugins::{BY_NEIGHBOURS, Plugins},
    pod::Pod,
    snapshot::Event,
    storage::key_of_claim,
};

/// The pause after a first failure; each further one doubles it.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// How long a pod may wait for a change that helps, before it is tried without one.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Why a pod comes back to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No node would do; these plugins turned it away. It waits for a change that helps one.
    Unschedulable(Vec<&'static str>),
    /// Something else went wrong. It is tried again after its pause.
    Error,
}

/// Pods that wait to be placed.
///
/// *Active* pods are next, by priority, then by how long they have waited. A pod that fits
/// nowhere is *unschedulable*: it stays aside until something changes that may help it by the
/// judgement of the plugins that turned it away. Then it is tried as soon as its back-off is
/// over, or, as the pauses of such pods only keep them from displacing others, as soon as no
/// other pod is active. The first that is tried so early and fails shows that what had helped is
/// used up: then the others wait their back-offs out, or for the next change that helps. A pod
/// whose binding failed always waits its back-off out.
#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<Key, Entry>,
    active: BTreeSet<(Order, Key)>,
    /// Helped, but not yet over their back-off.
    helped: BTreeSet<(Instant, Key)>,
    /// Whether those that were helped may be tried before that.
    early: bool,
    /// After an error.
    failed: BTreeSet<(Instant, Key)>,
    /// By when they began to wait.
    unschedulable: BTreeSet<(Instant, Key)>,
    /// Those of the unschedulable and the helped that rules about other pods turned away.
    neighbourly: BTreeSet<Key>,
    /// The pods that name a claim, by claim. A pod never names others.
    users: BTreeMap<Key, BTreeSet<Key>>,
    arrivals: u64,
}

/// The higher priority first, then the earlier arrival.
type Order = (Reverse<i32>, u64);

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    arrival: u64,
    attempts: u32,
    /// Was taken before its back-off was over.
    early: bool,
    place: Place,
}

/// Where in the queue an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Active,
    Helped {
        until: Instant,
        by: Vec<&'static str>,
    },
    Failed {
        until: Instant,
    },
    Unschedulable {
        since: Instant,
        by: Vec<&'static str>,
    },
    /// A decision is being made or carried out.
    Taken,
}

impl Place {
    fn is_by_neighbours(&self) -> bool {
        match self {
            Place::Helped { by, .. } | Place::Unschedulable { by, .. } => {
                by.iter().any(|plugin| BY_NEIGHBOURS.contains(plugin))
            }
            Place::Active | Place::Failed { .. } | Place::Taken => false,
        }
    }
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Queue::default()
    }

    /// Takes up a waiting pod as it is now. A new one becomes active, and so does one that now
    /// asks for something else; other changes leave it where it is.
    pub fn set(&mut self, pod: Arc<Pod>) {
        let key = pod.key();
        let Some(entry) = self.entries.get_mut(&key) else {
            return self.insert(key, pod);
        };
        let same = entry.pod.asks_the_same(&pod);
        let recreated = entry.pod.uid != pod.uid;
        if recreated {
            self.remove(&key);
            return self.insert(key, pod);
        }
        if same || entry.place == Place::Taken {
            entry.pod = pod;
            return;
        }
        self.unplace(&key);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.pod = pod;
        }
        self.place(&key, Place::Active);
    }

    /// Forgets a pod: it is bound, or gone.
    pub fn remove(&mut self, key: &Key) {
        self.unplace(key);
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        for named in &entry.pod.claims {
            if let Some(users) = self.users.get_mut(&named.claim) {
                users.remove(key);
                if users.is_empty() {
                    self.users.remove(&named.claim);
                }
            }
        }
    }

    /// The pods here, taken ones too, that name a claim.
    pub(crate) fn users(&self, claim: &Key) -> impl Iterator<Item = &Key> + use<'_> {
        self.users.get(claim).into_iter().flatten()
    }

    /// Whether this very pod is in the queue or taken from it.
    #[must_use]
    pub fn contains(&self, pod: &Pod) -> bool {
        let entry = self.entries.get(&pod.key());
        entry.is_some_and(|entry| entry.pod.uid == pod.uid)
    }

    /// Takes the next pod. It stays the queue's until [`Self::remove`] or [`Self::put_back`].
    pub fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        self.release(now);
        let (key, early) = match self.active.first() {
            Some((_, key)) => (key.clone(), false),
            None => (self.helped.first().filter(|_| self.early)?.1.clone(), true),
        };
        self.unplace(&key);
        let entry = self.entries.get_mut(&key)?;
        entry.early = early;
        entry.place = Place::Taken;
        entry.attempts = entry.attempts.saturating_add(1);
        Some(Arc::clone(&entry.pod))
    }

    /// Puts a taken pod back; one that has been forgotten meanwhile stays so.
    pub fn put_back(&mut self, pod: &Pod, failure: Failure, now: Instant) {
        let key = pod.key();
        let Some(entry) = self.entries.get(&key) else {
            return;
        };
        if entry.place != Place::Taken || entry.pod.uid != pod.uid {
            return;
        }
        let in_vain = entry.early && matches!(failure, Failure::Unschedulable(_));
        self.early &= !in_vain;
        let place = match failure {
            // It asks for something else by now.
            Failure::Unschedulable(_) if !entry.pod.asks_the_same(pod) => Place::Active,
            Failure::Unschedulable(by) => Place::Unschedulable { since: now, by },
            Failure::Error => Place::Failed {
                until: now + backoff(entry.attempts),
            },
        };
        self.place(&key, place);
    }

    /// Tells of a change: unschedulable pods that it may help move on.
    pub fn tell(&mut self, event: &Event<'_>, plugins: &Plugins, now: Instant) {
        let concerned = self.concerned(event);
        let helped: Vec<Key> = concerned
            .filter(|key| self.helps(event, plugins, key))
            .cloned()
            .collect();
        self.early |= !helped.is_empty();
        for key in helped {
            self.help(&key, now);
        }
    }

    /// Tries an unschedulable pod once more when its back-off is over, or nobody else is active.
    pub fn again(&mut self, key: &Key, now: Instant) {
        self.early = true;
        self.help(key, now);
    }

    /// Those that a change may concern: there are many that wait, and few of them name a claim or go by other pods.
    fn concerned(&self, event: &Event<'_>) -> Box<dyn Iterator<Item = &Key> + '_> {
        let of_claim =
            |claim: &Key| -> Box<dyn Iterator<Item = &Key> + '_> { Box::new(self.users(claim)) };
        match event {
            Event::NodeGone | Event::Placed(_) | Event::Namespace => {
                Box::new(self.neighbourly.iter())
            }
            Event::Node(_) | Event::Freed(..) => {
                let waiting = self.unschedulable.iter().chain(&self.helped);
                Box::new(waiting.map(|(_, key)| key))
            }
            Event::Claim(claim) | Event::Unused(claim) => of_claim(claim),
            Event::Volume(volume) => match key_of_claim(volume) {
                Some(claim) => of_claim(&claim),
                None => Box::new(self.users.values().flatten()),
            },
            Event::Class => Box::new(self.users.values().flatten()),
        }
    }

    fn helps(&self, event: &Event<'_>, plugins: &Plugins, key: &Key) -> bool {
        let Some(entry) = self.entries.get(key) else {
            return false;
        };
        match &entry.place {
            Place::Unschedulable { by, .. } | Place::Helped { by, .. } => {
                plugins.help(by, &entry.pod, event)
            }
            _ => false,
        }
    }

    /// When something moves by itself next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let over = |set: &BTreeSet<(Instant, Key)>| set.first().map(|(at, _)| *at);
        let flush = over(&self.unschedulable).map(|since| since + LONGEST_WAIT);
        [over(&self.helped), over(&self.failed), flush]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether [`Self::pop`] would give a pod now.
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        let due = |set: &BTreeSet<(Instant, Key)>| set.first().is_some_and(|(at, _)| *at <= now);
        !self.active.is_empty()
            || (self.early && !self.helped.is_empty())
            || due(&self.helped)
            || due(&self.failed)
            || self
                .unschedulable
                .first()
                .is_some_and(|(since, _)| *since + LONGEST_WAIT <= now)
    }

    /// How many pods are active, backing off, and unschedulable.
    #[must_use]
    pub fn lengths(&self) -> (usize, usize, usize) {
        let backing_off = self.helped.len() + self.failed.len();
        (self.active.len(), backing_off, self.unschedulable.len())
    }

    fn insert(&mut self, key: Key, pod: Arc<Pod>) {
        self.arrivals += 1;
        for named in &pod.claims {
            let users = self.users.entry(named.claim.clone()).or_default();
            users.insert(key.clone());
        }
        let entry = Entry {
            pod,
            arrival: self.arrivals,
            attempts: 0,
            early: false,
            place: Place::Taken,
        };
        self.entries.insert(key.clone(), entry);
        self.place(&key, Place::Active);
    }

    /// Moves on what has waited long enough.
    fn release(&mut self, now: Instant) {
        for key in until(&self.helped, now)
            .into_iter()
            .chain(until(&self.failed, now))
        {
            self.unplace(&key);
            self.place(&key, Place::Active);
        }
        if let Some(then) = now.checked_sub(LONGEST_WAIT) {
            for key in until(&self.unschedulable, then) {
                self.help(&key, now);
            }
        }
    }

    fn help(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let Place::Unschedulable { since, by } = entry.place.clone() else {
            return;
        };
        let until = since + backoff(entry.attempts);
        self.unplace(key);
        let place = if until <= now {
            Place::Active
        } else {
            Place::Helped { until, by }
        };
        self.place(key, place);
    }

    fn place(&mut self, key: &Key, place: Place) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.place = place;
        let key = key.clone();
        if entry.place.is_by_neighbours() {
            self.neighbourly.insert(key.clone());
        }
        match &entry.place {
            Place::Active => {
                self.active.insert((order(entry), key));
            }
            Place::Helped { until, .. } => {
                self.helped.insert((*until, key));
            }
            Place::Failed { until } => {
                self.failed.insert((*until, key));
            }
            Place::Unschedulable { since, .. } => {
                self.unschedulable.insert((*since, key));
            }
            Place::Taken => {}
        }
    }

    fn unplace(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let place = std::mem::replace(&mut entry.place, Place::Taken);
        let key = key.clone();
        if place.is_by_neighbours() {
            self.neighbourly.remove(&key);
        }
        match place {
            Place::Active => self.active.remove(&(order(entry), key)),
            Place::Helped { until, .. } => self.helped.remove(&(until, key)),
            Place::Failed { until } => self.failed.remove(&(until, key)),
            Place::Unschedulable { since, .. } => self.unschedulable.remove(&(since, key)),
            Place::Taken => false,
        };
    }
}

/// The keys whose times have come.
fn until(set: &BTreeSet<(Instant, Key)>, now: Instant) -> Vec<Key> {
    let due = set.iter().take_while(|(at, _)| *at <= now);
    due.map(|(_, key)| key.clone()).collect()
}

fn order(entry: &Entry) -> Order {
    (Reverse(entry.pod.priority), entry.arrival)
}

/// How long a pod pauses after its `attempts`th failure.
fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(10);
    (FIRST_BACKOFF * (1 << doublings)).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests;
