//! One entry of `metadata.managedFields`.

use std::fmt;

use serde_json::{Map, Value};

use super::set::FieldSet;
use super::target::Target;
use crate::write::Context;

/// How a manager set its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One manager, and what it set.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// When it last changed something; empty where that is not known.
    pub(super) time: String,
    pub(super) set: FieldSet,
    /// The entry as it is stored, where its set is not read: nothing is to be done to it.
    unread: Option<Value>,
}

impl Entry {
    /// The entry, still empty, of the one who writes.
    pub(super) fn new(target: Target<'_>, operation: Operation, context: &Context) -> Self {
        let manager = match context.manager.as_str() {
            "" => "unknown",
            manager => manager,
        };
        Self {
            manager: manager.to_owned(),
            operation,
            api_version: target.api_version.to_owned(),
            subresource: target.subresource.to_owned(),
            time: String::new(),
            set: FieldSet::default(),
            unread: None,
        }
    }

    /// Whether the two are one manager's. Who applies may change the version, and stays the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// By what entries are sorted.
    pub(super) fn order(&self) -> (Operation, [&str; 4]) {
        let names = [
            &*self.time,
            &*self.manager,
            &*self.api_version,
            &*self.subresource,
        ];
        (self.operation, names)
    }

    /// Reads an entry; none for what is none.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let mut entry = Self::names(value)?;
        if let Some(fields) = value.get("fieldsV1") {
            entry.set = FieldSet::from_value(fields)?;
        }
        Some(entry)
    }

    /// Takes a stored entry up without reading its set; [`load`](Self::load) does.
    pub(super) fn unread(value: Value) -> Option<Self> {
        let mut entry = Self::names(&value)?;
        entry.unread = Some(value);
        Some(entry)
    }

    /// Reads the set of an entry that was taken up without.
    pub(super) fn load(&mut self) {
        if let Some(value) = self.unread.take() {
            self.set = FieldSet::from_value(&value["fieldsV1"]).unwrap_or_default();
        }
    }

    /// Whether these fields may be among the entry's.
    pub(super) fn may_have(&self, fields: &FieldSet) -> bool {
        match &self.unread {
            Some(value) => fields.meets(&value["fieldsV1"]),
            None => true,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_none() && self.set.is_empty()
    }

    fn names(value: &Value) -> Option<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
            return None;
        }
        Some(Self {
            manager: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: text("time").to_owned(),
            set: FieldSet::default(),
            unread: None,
        })
    }

    pub(super) fn into_value(self) -> Value {
        if let Some(value) = self.unread {
            return value;
        }
        let mut out = Map::new();
        let mut put = |field: &str, text: String| {
            if !text.is_empty() {
                out.insert(field.to_owned(), Value::String(text));
            }
        };
        put("manager", self.manager);
        put("operation", self.operation.text().to_owned());
        put("apiVersion", self.api_version);
        put("time", self.time);
        put("fieldsType", "FieldsV1".to_owned());
        put("subresource", self.subresource);
        out.insert("fieldsV1".to_owned(), self.set.to_value());
        Value::Object(out)
    }
}

/// `"kubectl" with subresource "scale" using apps/v1`, as conflicts name a manager.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}
