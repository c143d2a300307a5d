//! What becomes of many events about one object: which are counted up, which combined, and which not written.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{EventType, Occurrence, shortened};

/// How many series, subjects and objects a lane remembers, of each so many.
const REMEMBERED: usize = 512;
/// For how long an event that comes again is counted up instead of written anew.
const SERIES: Duration = Duration::from_secs(600);
/// From this many different messages of one reason about one object on, they share one event.
const SIMILAR: usize = 10;
/// How many events about one object are written at once, as many as client-go writes.
const AT_ONCE: u32 = 25;
/// After how long one more of them is: what is always ill shall not write for ever.
const REST: Duration = Duration::from_secs(300);

/// Which object an event is about, whatever its part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    uid: String,
    namespace: String,
    api_version: String,
    kind: String,
    name: String,
}

impl Object {
    pub(super) fn of(occurrence: &Occurrence) -> Self {
        let about = &occurrence.about;
        Object {
            uid: about.uid.clone().unwrap_or_default(),
            namespace: about.namespace.clone().unwrap_or_default(),
            api_version: about.api_version.clone().unwrap_or_default(),
            kind: about.kind.clone().unwrap_or_default(),
            name: about.name.clone().unwrap_or_default(),
        }
    }
}

/// What makes two occurrences similar: everything but the message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    object: Object,
    field_path: String,
    event_type: EventType,
    reason: String,
}

impl Subject {
    fn of(occurrence: &Occurrence) -> Self {
        Subject {
            object: Object::of(occurrence),
            field_path: occurrence.about.field_path.clone().unwrap_or_default(),
            event_type: occurrence.kind,
            reason: occurrence.reason.clone(),
        }
    }
}

/// The event that stands for a series of occurrences.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) count: i32,
    pub(super) last: Instant,
}

impl Written {
    /// The same after one more occurrence.
    pub(super) fn again(self, now: Instant) -> Self {
        Written {
            count: self.count.saturating_add(1),
            last: now,
            ..self
        }
    }
}

/// A series: its subject, and the message that all of it have.
type Key = (Subject, String);

/// The latest entries, [`REMEMBERED`] at most: a node has as many objects as come and go.
#[derive(Debug)]
struct Latest<K, V> {
    entries: BTreeMap<K, V>,
    /// In the order in which they came.
    order: VecDeque<K>,
}

impl<K, V> Default for Latest<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Ord + Clone, V> Latest<K, V> {
    /// The entry of this key, after the oldest one has made room for it where it is new.
    fn entry(&mut self, key: &K, new: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(key) {
            if self.order.len() >= REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.entries.entry(key.clone()).or_insert_with(new)
    }
}

/// Which events there are already.
#[derive(Debug, Default)]
pub(super) struct Series {
    written: Latest<Key, Written>,
    /// The messages that each subject had within the time of a series.
    messages: Latest<Subject, (Instant, BTreeSet<String>)>,
    /// By when what was written about an object counts no more.
    rested: BTreeMap<Object, Instant>,
}

impl Series {
    /// Whether one more event about this object may be written now, which then counts as written.
    pub(super) fn admits(&mut self, object: &Object, now: Instant) -> bool {
        if self.rested.len() >= REMEMBERED && !self.rested.contains_key(object) {
            // Those that come and go have few events, and push out none that has many.
            let first = self.rested.iter().min_by_key(|(_, by)| **by);
            let first = first.map(|(object, _)| object.clone());
            first.and_then(|object| self.rested.remove(&object));
        }
        let rested = self.rested.entry(object.clone()).or_insert(now);
        let next = now.max(*rested) + REST;
        let admits = next.duration_since(now) <= REST * AT_ONCE;
        if admits {
            *rested = next;
        }
        admits
    }

    /// Takes note of what is not written: its series' next event counts it.
    pub(super) fn skip(&mut self, occurrence: &Occurrence, now: Instant) {
        let (key, _) = self.place(occurrence, now);
        if let Some(written) = self.find(&key, now) {
            self.remember(&key, written.again(now));
        }
    }

    /// The series of an occurrence, and the message to write.
    pub(super) fn place(&mut self, occurrence: &Occurrence, now: Instant) -> (Key, String) {
        let subject = Subject::of(occurrence);
        let (message, combined) = self.combine(&subject, &occurrence.message, now);
        // All that are combined make one series, whatever their messages.
        let of_all = match combined {
            true => String::new(),
            false => message.clone(),
        };
        ((subject, of_all), message)
    }

    /// The message to write: the occurrence's own, or that of all similar ones.
    fn combine(&mut self, subject: &Subject, message: &str, now: Instant) -> (String, bool) {
        let (last, messages) = self.messages.entry(subject, || (now, BTreeSet::new()));
        if now.duration_since(*last) >= SERIES {
            messages.clear();
        }
        *last = now;
        if messages.len() < SIMILAR || messages.contains(message) {
            messages.insert(message.to_owned());
            return (message.to_owned(), false);
        }
        let combined = format!("(combined from similar events): {message}");
        (shortened(combined), true)
    }

    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Written> {
        let written = self.written.entries.get(key)?;
        (now.duration_since(written.last) < SERIES).then(|| written.clone())
    }

    pub(super) fn remember(&mut self, key: &Key, written: Written) {
        let entry = self.written.entry(key, || written.clone());
        *entry = written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(uid: usize) -> Object {
        Object {
            uid: uid.to_string(),
            namespace: String::new(),
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: String::new(),
        }
    }

    fn subject(uid: usize) -> Subject {
        Subject {
            object: object(uid),
            field_path: String::new(),
            event_type: EventType::Normal,
            reason: "Started".to_owned(),
        }
    }

    #[test]
    fn what_comes_and_goes_is_forgotten() {
        let (mut series, now) = (Series::default(), Instant::now());
        let written = |count| Written {
            namespace: "default".to_owned(),
            name: "event".to_owned(),
            count,
            last: now,
        };
        let key = |uid| (subject(uid), "m".to_owned());
        for uid in 0..3 * REMEMBERED {
            assert_eq!(series.combine(&subject(uid), "m", now), ("m".into(), false));
            series.remember(&key(uid), written(1));
            series.remember(&key(uid), written(2));
            assert!(series.admits(&object(uid), now));
        }
        assert_eq!(series.rested.len(), REMEMBERED);
        assert_eq!(series.messages.entries.len(), REMEMBERED);
        assert_eq!(series.messages.order.len(), REMEMBERED);
        assert_eq!(series.written.entries.len(), REMEMBERED);
        assert_eq!(series.written.order.len(), REMEMBERED);
        let count = |uid| Some(series.find(&key(uid), now)?.count);
        assert_eq!(count(2 * REMEMBERED - 1), None);
        assert_eq!(count(2 * REMEMBERED), Some(2));
        assert_eq!(count(3 * REMEMBERED - 1), Some(2));
    }

    #[test]
    fn similar_ones_are_combined_for_as_long_as_a_series() {
        let (mut series, now) = (Series::default(), Instant::now());
        let subject = subject(1);
        for number in 0..SIMILAR {
            let message = number.to_string();
            let (said, combined) = series.combine(&subject, &message, now);
            assert_eq!((said, combined), (message, false));
        }
        let (said, combined) = series.combine(&subject, "more", now);
        assert_eq!(said, "(combined from similar events): more");
        assert!(combined);
        assert!(!series.combine(&subject, "3", now).1);
        assert!(!series.combine(&subject, "more", now + SERIES).1);
    }

    #[test]
    fn objects_have_so_many_events_at_once_and_then_one_in_a_while() {
        let (mut series, start) = (Series::default(), Instant::now());
        let mut admitted = |uid, at: Duration, of: u32| {
            let mut admits = || series.admits(&object(uid), start + at);
            (0..of).filter(|_| admits()).count()
        };
        let second = Duration::from_secs(1);
        assert_eq!(admitted(1, Duration::ZERO, 30), 25);
        assert_eq!(admitted(1, REST - second, 3), 0);
        assert_eq!(admitted(2, REST - second, 3), 3, "another object");
        assert_eq!(admitted(1, REST, 3), 1);
        assert_eq!(admitted(1, 2 * REST - second, 3), 0);
        assert_eq!(admitted(1, 4 * REST, 5), 3, "those of the times between");
        assert_eq!(admitted(1, 100 * REST, 30), 25, "and no more than at first");
        // However many others come and go.
        for uid in 0..2 * REMEMBERED {
            assert_eq!(admitted(100 + uid, 100 * REST, 1), 1);
        }
        assert_eq!(admitted(1, 100 * REST, 1), 0);
    }
}
