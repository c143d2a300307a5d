//! Events for users: what happened to an object, and why.

mod correlator;

use std::{
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

use self::correlator::{Object, Series, Written};
use crate::{Client, Error, Kind, Patch};

/// Events about different objects are written side by side, so that a burst of them does not wait
/// for one write after the other; all about one object go in one lane, in order.
const LANES: usize = 16;
/// How many events of a lane may wait to be written. More are dropped: an event is never worth a
/// delay.
const WAITING: usize = 256;
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
/// `(combined from similar events): …`. About one object 25 events are written at once, and one every five minutes from
/// then on, which counts those before it. Recording never waits: what does not fit is dropped.
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

struct Writer {
    client: Client,
    component: String,
    host: String,
    series: Series,
}

impl Writer {
    async fn run(mut self, mut occurrences: mpsc::Receiver<Occurrence>) {
        while let Some(occurrence) = occurrences.recv().await {
            if !self.series.admits(&Object::of(&occurrence), Instant::now()) {
                self.series.skip(&occurrence, Instant::now());
                continue;
            }
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
        let (key, message) = self.series.place(occurrence, now);
        if let Some(written) = self.series.find(&key, now) {
            match self.count_up(&written, &message, occurrence.at).await {
                Ok(()) => {
                    self.series.remember(&key, written.again(now));
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
