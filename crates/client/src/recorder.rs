//! Events for users: what happened to an object, and why.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{Client, Error, Kind, Patch};

/// Events about different objects are written side by side, so that a burst of them does not wait
/// for one write after the other; all about one object go in one lane, in order.
const LANES: usize = 16;
/// How many events of a lane may wait to be written. More are dropped: an event is never worth a
/// delay.
const WAITING: usize = 256;
/// How many series, and how many subjects, a lane remembers.
const REMEMBERED: usize = 512;
/// For how long an event that comes again is counted up instead of written anew.
const SERIES: Duration = Duration::from_secs(600);
/// From this many different messages of one reason about one object on, they share one event.
const SIMILAR: usize = 10;
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 1024;
/// Attempts to write one event.
const ATTEMPTS: u32 = 3;

/// How an event is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// What was to be expected.
    Normal,
    /// Something that needs somebody's attention.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// Writes core/v1 Events in the background. Clones share its queues.
///
/// An event that repeats within ten minutes counts up the one there is (`count`,
/// `lastTimestamp`), and more than ten messages of one reason about one object become one event
/// `(combined from similar events): …`. Recording never waits: what does not fit is dropped.
#[derive(Debug, Clone)]
pub struct Recorder {
    lanes: Arc<[mpsc::Sender<Occurrence>]>,
}

#[derive(Debug, Clone)]
struct Occurrence {
    about: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

/// A reference to an object, as events hold it.
pub fn reference<T: Kind>(object: &T) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(T::API_VERSION.to_owned()),
        kind: Some(T::KIND.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

impl Recorder {
    /// Starts to record as `component` (`default-scheduler`, `kubelet`) on `host` (a node's name,
    /// or empty). Must be called within a tokio runtime; ends when the last clone is gone and
    /// everything is written.
    #[must_use]
    pub fn start(client: Client, component: impl Into<String>, host: impl Into<String>) -> Self {
        let (component, host) = (component.into(), host.into());
        let lane = |_| {
            let (lane, occurrences) = mpsc::channel(WAITING);
            let writer = Writer {
                client: client.clone(),
                component: component.clone(),
                host: host.clone(),
                series: Series::default(),
            };
            tokio::spawn(writer.run(occurrences));
            lane
        };
        Recorder {
            lanes: (0..LANES).map(lane).collect(),
        }
    }

    /// Records that something happened to an object (see [`reference()`]).
    pub fn event(
        &self,
        about: &ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let occurrence = Occurrence {
            about: about.clone(),
            kind,
            reason: reason.to_owned(),
            message: shortened(message.into()),
            at: Timestamp::now(),
        };
        let lane = self.lane(about);
        if lane.try_send(occurrence).is_err() {
            tracing::warn!(reason, "too many events are waiting: one is dropped");
        }
    }

    fn lane(&self, about: &ObjectReference) -> &mpsc::Sender<Occurrence> {
        let mut hasher = DefaultHasher::new();
        about.uid.hash(&mut hasher);
        about.namespace.hash(&mut hasher);
        about.name.hash(&mut hasher);
        let lanes = self.lanes.len() as u64;
        // Less than the number of lanes, so that it fits.
        &self.lanes[(hasher.finish() % lanes) as usize]
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}

/// What makes two occurrences similar: everything but the message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    uid: String,
    namespace: String,
    kind: String,
    name: String,
    field_path: String,
    event_type: EventType,
    reason: String,
}

impl Subject {
    fn of(occurrence: &Occurrence) -> Self {
        let about = &occurrence.about;
        Subject {
            uid: about.uid.clone().unwrap_or_default(),
            namespace: about.namespace.clone().unwrap_or_default(),
            kind: about.kind.clone().unwrap_or_default(),
            name: about.name.clone().unwrap_or_default(),
            field_path: about.field_path.clone().unwrap_or_default(),
            event_type: occurrence.kind,
            reason: occurrence.reason.clone(),
        }
    }
}

/// The event that stands for a series of occurrences.
#[derive(Debug, Clone)]
struct Written {
    namespace: String,
    name: String,
    count: i32,
    last: Instant,
}

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
struct Series {
    written: Latest<(Subject, String), Written>,
    /// The messages that each subject had within the time of a series.
    messages: Latest<Subject, (Instant, BTreeSet<String>)>,
}

impl Series {
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

    fn find(&self, key: &(Subject, String), now: Instant) -> Option<Written> {
        let written = self.written.entries.get(key)?;
        (now.duration_since(written.last) < SERIES).then(|| written.clone())
    }

    fn remember(&mut self, key: &(Subject, String), written: Written) {
        let entry = self.written.entry(key, || written.clone());
        *entry = written;
    }
}

struct Writer {
    client: Client,
    component: String,
    host: String,
    series: Series,
}

impl Writer {
    async fn run(mut self, mut occurrences: mpsc::Receiver<Occurrence>) {
        while let Some(occurrence) = occurrences.recv().await {
            let mut pause = Duration::from_millis(100);
            for attempt in 1..=ATTEMPTS {
                match self.write(&occurrence).await {
                    Ok(()) => break,
                    Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                        tokio::time::sleep(pause).await;
                        pause *= 4;
                    }
                    Err(error) => {
                        tracing::debug!(%error, reason = occurrence.reason, "an event is lost");
                        break;
                    }
                }
            }
        }
    }

    async fn write(&mut self, occurrence: &Occurrence) -> Result<(), Error> {
        let now = Instant::now();
        let subject = Subject::of(occurrence);
        let (message, combined) = self.series.combine(&subject, &occurrence.message, now);
        // All that are combined make one series, whatever their messages.
        let key = (
            subject,
            if combined {
                String::new()
            } else {
                message.clone()
            },
        );
        if let Some(written) = self.series.find(&key, now) {
            match self.count_up(&written, &message, occurrence.at).await {
                Ok(()) => {
                    let count = written.count.saturating_add(1);
                    self.series.remember(
                        &key,
                        Written {
                            count,
                            last: now,
                            ..written
                        },
                    );
                    return Ok(());
                }
                // Events expire: then a new series begins.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let event = self.new_event(occurrence, message);
        match self.client.of::<Event>().create(&event).await {
            Ok(_) => {}
            // An earlier attempt went through although its answer was lost.
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        self.series.remember(
            &key,
            Written {
                namespace: event.metadata.namespace.unwrap_or_default(),
                name: event.metadata.name.unwrap_or_default(),
                count: 1,
                last: now,
            },
        );
        Ok(())
    }

    async fn count_up(&self, written: &Written, message: &str, at: Timestamp) -> Result<(), Error> {
        let patch = Patch::Merge(serde_json::json!({
            "count": written.count.saturating_add(1),
            "lastTimestamp": Time(at),
            "message": message,
        }));
        self.client
            .of::<Event>()
            .patch(&written.namespace, &written.name, &patch, None)
            .await
            .map(drop)
    }

    fn new_event(&self, occurrence: &Occurrence, message: String) -> Event {
        let about = &occurrence.about;
        // Events about cluster-scoped objects live in the default namespace.
        let namespace = about
            .namespace
            .clone()
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| "default".to_owned());
        let name = about.name.as_deref().unwrap_or_default();
        let time = Time(occurrence.at);
        let mut event = Event {
            count: Some(1),
            first_timestamp: Some(time.clone()),
            last_timestamp: Some(time),
            involved_object: about.clone(),
            message: Some(message),
            reason: Some(occurrence.reason.clone()),
            type_: Some(occurrence.kind.as_str().to_owned()),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: (!self.host.is_empty()).then(|| self.host.clone()),
            }),
            ..Event::default()
        };
        event.metadata.name = Some(format!("{name}.{:x}", occurrence.at.as_nanosecond()));
        event.metadata.namespace = Some(namespace);
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(uid: usize) -> Subject {
        Subject {
            uid: uid.to_string(),
            namespace: String::new(),
            kind: "Pod".to_owned(),
            name: String::new(),
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
        }
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
}
