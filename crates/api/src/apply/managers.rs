//! All entries of `metadata.managedFields`: read, changed, written back.

use serde_json::{Map, Value};

use super::compare::Changes;
use super::entry::{Entry, Operation};
use super::set::FieldSet;
use super::target::Target;

/// As many entries of updates as are kept apart; the oldest are then put together.
const MAX_UPDATES: usize = 10;
/// More entries than this are no list that a client read here and changed: it is as one that cannot be read.
const MAX_BROUGHT: usize = 500;
/// Who owns what those set whose entries were put together.
const ANCIENT: &str = "ancient-changes";

/// The entries of an object, no two of one manager.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(Vec<Entry>);

impl Managers {
    /// Those that an object carries; none where they cannot be read, as in Kubernetes.
    pub(super) fn of(object: &Value) -> Self {
        Self::read(managed_fields(object)).unwrap_or_default()
    }

    /// Those that an object carries, of which only a few will be looked into.
    pub(super) fn unread(entries: Vec<Value>) -> Self {
        let entries: Option<_> = entries.into_iter().map(Entry::unread).collect();
        Self(entries.unwrap_or_default())
    }

    /// Those that a write brings itself. It takes them from the stored object where it brings none,
    /// or some that cannot be read: clients that know nothing of them must not delete them. A single
    /// empty entry means that there are to be none.
    pub(super) fn brought(target: Target<'_>, given: &[Value]) -> Option<Self> {
        if !target.subresource.is_empty() || given.is_empty() {
            return None;
        }
        if given.len() > MAX_BROUGHT {
            return None;
        }
        if let [Value::Object(entry)] = given
            && entry.values().all(Value::is_null)
        {
            return Some(Self::default());
        }
        Self::read(given)
    }

    /// None: there is an entry that is none. Of two of one manager the last counts.
    fn read(entries: &[Value]) -> Option<Self> {
        let mut managers = Self::default();
        for entry in entries {
            managers.set(Entry::read(entry)?);
        }
        Some(managers)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Everybody's but this manager's.
    pub(super) fn others(&self, own: &Entry) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(|entry| !entry.is(own))
    }

    pub(super) fn find(&self, own: &Entry) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.is(own))
    }

    /// Takes away what was written or removed from all who had it, but one.
    pub(super) fn lose(&mut self, changes: &Changes, but: Option<&Entry>) {
        for entry in &mut self.0 {
            if but.is_some_and(|own| own.is(entry)) {
                continue;
            }
            for fields in [&changes.set, &changes.removed] {
                if entry.may_have(fields) {
                    entry.load();
                    entry.set.subtract(fields);
                }
            }
        }
    }

    /// Adds fields to a manager's entry, which is made where it is missing, at this time.
    pub(super) fn gain(&mut self, mut own: Entry, fields: &FieldSet, time: String) {
        match self.0.iter_mut().find(|entry| entry.is(&own)) {
            Some(entry) => {
                entry.load();
                entry.set.add(fields);
                entry.time = time;
            }
            None => {
                own.set.add(fields);
                own.time = time;
                self.0.push(own);
            }
        }
    }

    /// Puts an entry in the place of the manager's last.
    pub(super) fn set(&mut self, own: Entry) {
        match self.0.iter_mut().find(|entry| entry.is(&own)) {
            Some(entry) => *entry = own,
            None => self.0.push(own),
        }
    }

    /// Forgets those who own nothing any more.
    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|entry| !entry.is_empty());
    }

    /// Writes the entries into an object, in Kubernetes' order.
    pub(super) fn write(mut self, object: &mut Value) {
        self.drop_empty();
        self.0.sort_by(|a, b| a.order().cmp(&b.order()));
        let entries = self.0.into_iter().map(Entry::into_value).collect();
        put(object, entries);
    }

    /// Keeps the number of entries small: the oldest updates of one version become one entry.
    pub(super) fn cap(&mut self) {
        let updates = |entry: &&Entry| entry.operation == Operation::Update;
        let excess = self.0.iter().filter(updates).count();
        let mut excess = excess.saturating_sub(MAX_UPDATES);
        if excess == 0 {
            return;
        }
        self.0
            .sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
        let mut kept: Vec<Entry> = Vec::new();
        // The first of each version stays as it is until there is a second.
        let mut buckets: Vec<usize> = Vec::new();
        for mut entry in std::mem::take(&mut self.0) {
            // An earlier bucket that is younger than what was put together now.
            if let Some(same) = kept.iter_mut().find(|k| k.is(&entry)) {
                entry.load();
                same.load();
                same.set.add(&entry.set);
                same.time = entry.time;
                continue;
            }
            if excess == 0 || entry.operation == Operation::Apply {
                kept.push(entry);
                continue;
            }
            let bucket = buckets
                .iter()
                .find(|at| kept[**at].api_version == entry.api_version);
            let Some(at) = bucket else {
                buckets.push(kept.len());
                kept.push(entry);
                continue;
            };
            let bucket = &mut kept[*at];
            entry.load();
            bucket.load();
            bucket.manager = ANCIENT.to_owned();
            bucket.subresource = String::new();
            bucket.set.add(&entry.set);
            bucket.time = entry.time;
            excess -= 1;
        }
        self.0 = kept;
    }
}

/// The entries that an object carries.
pub(super) fn managed_fields(object: &Value) -> &[Value] {
    let fields = object.get("metadata").and_then(|m| m.get("managedFields"));
    let fields = fields.and_then(Value::as_array);
    fields.map(Vec::as_slice).unwrap_or_default()
}

/// Takes an object's entries out of it.
pub(super) fn take(object: &mut Value) -> Vec<Value> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    match metadata.and_then(|metadata| metadata.remove("managedFields")) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}

/// Gives an object these entries.
pub(super) fn put(object: &mut Value, entries: Vec<Value>) {
    let Value::Object(map) = object else { return };
    if entries.is_empty() {
        if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
            metadata.remove("managedFields");
        }
        return;
    }
    let metadata = map
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}
