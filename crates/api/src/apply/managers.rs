//! The entries of `metadata.managedFields`.

use std::fmt;

use serde_json::{Map, Value, json};

use super::compare::compare;
use super::set::FieldSet;
use super::shape::Kind;
use crate::resource::Resource;
use crate::time;
use crate::write::Context;

/// As many entries of updates as are kept apart; older ones are then put together.
const MAX_UPDATES: usize = 10;

/// Fields of metadata that nobody manages.
const UNMANAGED: [&str; 9] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
    "clusterName",
];

/// Takes away the fields that nobody manages through this subresource.
pub(super) fn strip(resource: &Resource, subresource: Option<&str>, set: &mut FieldSet) {
    for field in ["apiVersion", "kind"] {
        set.cut(&[field]);
    }
    for field in UNMANAGED {
        set.cut(&["metadata", field]);
    }
    match subresource {
        None if resource.subresource("status").is_some() => set.cut(&["status"]),
        Some("status") => set.keep("status"),
        _ => {}
    }
}

/// One manager, and what it set.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    pub(super) set: FieldSet,
}

impl Entry {
    pub(super) fn identity(
        resource: &Resource,
        subresource: Option<&str>,
        operation: &str,
        context: &Context,
    ) -> Self {
        Self {
            manager: context.manager.clone(),
            operation: operation.to_owned(),
            api_version: resource.api_version.to_owned(),
            subresource: subresource.unwrap_or_default().to_owned(),
            time: String::new(),
            set: FieldSet::default(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.api_version == other.api_version
            && self.subresource == other.subresource
    }

    fn read(value: &Value) -> Self {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        Self {
            manager: text("manager"),
            operation: text("operation"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            set: FieldSet::from_value(&value["fieldsV1"]),
        }
    }

    fn to_value(&self) -> Value {
        let mut out = json!({
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.set.to_value(),
        });
        if !self.subresource.is_empty() {
            out["subresource"] = self.subresource.as_str().into();
        }
        out
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == "Update" {
            write!(f, " using {}", self.api_version)?;
            if !self.time.is_empty() {
                write!(f, " at {}", self.time)?;
            }
        }
        Ok(())
    }
}

/// All entries of an object.
pub(super) struct Managers(Vec<Entry>);

impl Managers {
    pub(super) fn read(object: &Value) -> Self {
        let entries = object["metadata"]["managedFields"].as_array();
        Self(entries.into_iter().flatten().map(Entry::read).collect())
    }

    /// Where nothing was recorded yet: makes what is there now somebody's.
    pub(super) fn begin(&mut self, resource: &Resource, live: &Value, context: &Context) {
        if !self.0.is_empty() {
            return;
        }
        let empty = Value::Object(Map::new());
        let mut changes = compare(Kind::Struct(resource.schema()), &empty, live);
        changes.strip(resource, None);
        let mut entry = Entry::identity(resource, None, "Update", context);
        entry.manager = "before-first-apply".into();
        entry.time = time::format(context.now);
        entry.set = changes.set().clone();
        self.0.push(entry);
    }

    pub(super) fn others(&self, own: &Entry) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(|entry| !entry.is(own))
    }

    pub(super) fn set_of(&self, own: &Entry) -> FieldSet {
        let found = self.0.iter().find(|entry| entry.is(own));
        found.map(|entry| entry.set.clone()).unwrap_or_default()
    }

    pub(super) fn take_from_others(&mut self, own: &Entry, taken: &FieldSet) {
        for entry in self.0.iter_mut().filter(|entry| !entry.is(own)) {
            entry.set.subtract(taken);
        }
    }

    /// Puts an entry's set; its time is kept where nothing changed.
    pub(super) fn put(&mut self, mut own: Entry, set: FieldSet, context: &Context) {
        match self.0.iter_mut().find(|entry| entry.is(&own)) {
            Some(entry) if entry.set == set => {}
            Some(entry) => {
                entry.set = set;
                entry.time = time::format(context.now);
            }
            None => {
                own.set = set;
                own.time = time::format(context.now);
                self.0.push(own);
            }
        }
    }

    pub(super) fn write(mut self, object: &mut Value) {
        self.0.retain(|entry| !entry.set.is_empty());
        self.put_old_updates_together();
        self.0.sort_by(|a, b| {
            let key = |e: &Entry| {
                (
                    e.operation.clone(),
                    e.time.clone(),
                    e.manager.clone(),
                    e.api_version.clone(),
                    e.subresource.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        let entries: Vec<Value> = self.0.iter().map(Entry::to_value).collect();
        let Value::Object(map) = object else { return };
        let metadata = map
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(metadata) = metadata else {
            return;
        };
        if entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".into(), Value::Array(entries));
        }
    }

    /// Keeps the number of entries small, as Kubernetes does.
    fn put_old_updates_together(&mut self) {
        let is_update = |entry: &Entry| entry.operation == "Update";
        while self.0.iter().filter(|e| is_update(e)).count() > MAX_UPDATES {
            let oldest = (0..self.0.len())
                .filter(|at| is_update(&self.0[*at]) && self.0[*at].manager != "ancient-changes")
                .min_by_key(|at| self.0[*at].time.clone());
            let Some(at) = oldest else { return };
            let mut old = self.0.swap_remove(at);
            old.manager = "ancient-changes".into();
            old.subresource = String::new();
            match self.0.iter_mut().find(|entry| entry.is(&old)) {
                Some(ancient) => {
                    ancient.set.add(&old.set);
                    ancient.time = ancient.time.clone().max(old.time);
                }
                None => self.0.push(old),
            }
        }
    }
}

/// Records that `context.manager` made `new` of `old` by a write that is no apply.
pub fn track(
    resource: &Resource,
    subresource: Option<&str>,
    old: Option<&Value>,
    new: &mut Value,
    context: &Context,
) {
    let empty = Value::Object(Map::new());
    let live = old.unwrap_or(&empty);
    let mut changes = compare(Kind::Struct(resource.schema()), live, new);
    changes.strip(resource, subresource);
    let mut managers = Managers::read(live);
    let own = Entry::identity(resource, subresource, "Update", context);
    managers.take_from_others(&own, changes.set());
    managers.take_from_others(&own, changes.removed());
    let mut set = managers.set_of(&own);
    set.add(changes.set());
    set.subtract(changes.removed());
    managers.put(own, set, context);
    managers.write(new);
}
