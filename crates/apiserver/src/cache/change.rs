//! One change of one object, and its watch events: each encoded once, whoever watches.

use std::sync::OnceLock;
use std::time::Duration;

use api::Object;
use bytes::Bytes;
use tokio::time::Instant;

use super::Selection;

/// A watch event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

/// What happened to one key in one revision.
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Bytes,
    pub(crate) kind: EventType,
    /// The object as of this revision; of a deletion, as it last was, at the deletion's revision.
    pub(crate) object: Object,
    /// The object before; none of a creation.
    pub(crate) before: Option<Object>,
    /// The bytes of `before` as stored, to be shown again at this revision.
    pub(crate) before_stored: Option<Bytes>,
    at: Instant,
    lines: [OnceLock<Bytes>; 3],
    left: OnceLock<Option<Object>>,
}

impl Change {
    /// About how much memory it holds.
    pub(super) fn size(&self) -> usize {
        let before = self.before.as_ref().map_or(0, |b| b.bytes().len());
        self.key.len() + self.object.bytes().len() + before
    }

    pub(crate) fn new(
        revision: u64,
        key: Bytes,
        kind: EventType,
        object: Object,
        before: Option<(Object, Bytes)>,
    ) -> Change {
        let (before, before_stored) = before.unzip();
        Change {
            revision,
            key,
            kind,
            object,
            before,
            before_stored,
            at: Instant::now(),
            lines: Default::default(),
            left: OnceLock::new(),
        }
    }

    pub(crate) fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// What somebody who watches this selection sees: entering it is ADDED, leaving it DELETED.
    pub(crate) fn seen_by(&self, selection: &Selection) -> Option<EventType> {
        if !selection.covers(&self.key) {
            return None;
        }
        if selection.is_everything() {
            return Some(self.kind);
        }
        let now = self.kind != EventType::Deleted && selection.matches(&self.object);
        let before = self.before.as_ref().is_some_and(|b| selection.matches(b));
        match (before, now) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    /// The object that an event of this type shows.
    pub(crate) fn shown(&self, kind: EventType) -> Option<&Object> {
        if kind != EventType::Deleted || self.kind == EventType::Deleted {
            return Some(&self.object);
        }
        self.left
            .get_or_init(|| {
                let stored = self.before_stored.clone()?;
                Object::from_stored(&stored, self.revision).ok()
            })
            .as_ref()
    }

    /// The event as a line of a watch: JSON and a line feed.
    pub(crate) fn line(&self, kind: EventType) -> Option<Bytes> {
        let object = self.shown(kind)?;
        let cell = match kind {
            EventType::Added => &self.lines[0],
            EventType::Modified => &self.lines[1],
            EventType::Deleted => &self.lines[2],
        };
        Some(cell.get_or_init(|| line(kind, object.bytes())).clone())
    }
}

/// One event of a watch: `{"type":…,"object":…}` and a line feed.
pub(crate) fn line(kind: EventType, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_str().as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
