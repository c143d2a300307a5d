//! Sets of fields, and their form in `fieldsV1`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A field or a map's key.
    Field(String),
    /// An item told by the values of its keys: canonical JSON of them.
    Key(String),
    /// An item told by its value: its JSON.
    Value(String),
    /// An item told by its place; read, never made.
    Index(String),
}

impl Step {
    fn text(&self) -> String {
        let (head, tail) = match self {
            Self::Field(name) => ("f:", name),
            Self::Key(keys) => ("k:", keys),
            Self::Value(value) => ("v:", value),
            Self::Index(index) => ("i:", index),
        };
        format!("{head}{tail}")
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.split_at_checked(2)?;
        // Others may order keys or write values otherwise.
        let canonical = || {
            let value: Value = serde_json::from_str(tail).ok()?;
            Some(value.to_string())
        };
        Some(match head {
            "f:" => Self::Field(tail.to_owned()),
            "k:" => Self::Key(canonical()?),
            "v:" => Self::Value(canonical()?),
            "i:" => Self::Index(tail.to_owned()),
            _ => return None,
        })
    }

    fn print(&self, out: &mut String) {
        let _ = match self {
            Self::Field(name) => write!(out, ".{name}"),
            Self::Value(value) => write!(out, "[={value}]"),
            Self::Index(index) => write!(out, "[{index}]"),
            Self::Key(keys) => {
                let map: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let parts: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(out, "[{}]", parts.join(","))
            }
        };
    }
}

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    member: bool,
    children: BTreeMap<Step, FieldSet>,
}

impl FieldSet {
    pub(super) fn insert(&mut self, path: &[Step]) {
        let mut place = self;
        for step in path {
            place = place.children.entry(step.clone()).or_default();
        }
        place.member = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Whether the path that leads here is in the set itself.
    pub(super) fn is_member(&self) -> bool {
        self.member
    }

    pub(super) fn children(&self) -> impl Iterator<Item = (&Step, &Self)> {
        self.children.iter()
    }

    pub(super) fn child(&self, step: &Step) -> Option<&Self> {
        self.children.get(step)
    }

    fn at(&self, path: &[Step]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |place, step| place.children.get(step))
    }

    /// Whether the set has the path, or one that leads on from it.
    pub(super) fn touches(&self, path: &[Step]) -> bool {
        self.at(path).is_some_and(|place| !place.is_empty())
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.member |= other.member;
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().add(child);
        }
    }

    /// Takes away the paths that `other` has.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        for (step, gone) in &other.children {
            if let Some(child) = self.children.get_mut(step) {
                child.subtract(gone);
                if child.is_empty() {
                    self.children.remove(step);
                }
            }
        }
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        rest.subtract(other);
        rest
    }

    /// Takes away a path and all that lead on from it.
    pub(super) fn cut(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let step = Step::Field((*first).to_owned());
        if rest.is_empty() {
            self.children.remove(&step);
        } else if let Some(child) = self.children.get_mut(&step) {
            child.cut(rest);
            if child.is_empty() {
                self.children.remove(&step);
            }
        }
    }

    /// Keeps only what leads on from this field.
    pub(super) fn keep(&mut self, field: &str) {
        self.member = false;
        self.children
            .retain(|step, _| *step == Step::Field(field.to_owned()));
    }

    /// The paths that both have, as text.
    pub(super) fn common(&self, other: &Self) -> Vec<String> {
        let mut out = Vec::new();
        self.common_into(other, &mut String::new(), &mut out);
        out
    }

    fn common_into(&self, other: &Self, path: &mut String, out: &mut Vec<String>) {
        if self.member && other.member {
            out.push(path.clone());
        }
        for (step, child) in &self.children {
            if let Some(same) = other.children.get(step) {
                let length = path.len();
                step.print(path);
                child.common_into(same, path, out);
                path.truncate(length);
            }
        }
    }

    /// All paths, deeper ones after those they lead on from.
    pub(super) fn paths(&self) -> Vec<Vec<Step>> {
        let mut out = Vec::new();
        self.paths_into(&mut Vec::new(), &mut out);
        out
    }

    fn paths_into(&self, path: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        if self.member {
            out.push(path.clone());
        }
        for (step, child) in &self.children {
            path.push(step.clone());
            child.paths_into(path, out);
            path.pop();
        }
    }

    /// The set as `fieldsV1`.
    pub(super) fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (step, child) in &self.children {
            let mut inner = child.to_value();
            if let Value::Object(map) = &mut inner
                && child.member
                && !child.children.is_empty()
            {
                map.insert(".".into(), Value::Object(Map::new()));
            }
            out.insert(step.text(), inner);
        }
        Value::Object(out)
    }

    /// Reads `fieldsV1`; what cannot be read is left out.
    pub(super) fn from_value(value: &Value) -> Self {
        let mut set = Self::default();
        for (text, inner) in value.as_object().into_iter().flatten() {
            if text == "." {
                set.member = true;
            } else if let Some(step) = Step::parse(text) {
                let mut child = Self::from_value(inner);
                child.member |= child.children.is_empty();
                set.children.insert(step, child);
            }
        }
        set
    }
}
