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

    /// Reads a step. The outer none: it is malformed; the inner: its kind is not known.
    fn parse(text: &str) -> Option<Option<Self>> {
        let (head, tail) = text.split_at_checked(2)?;
        // Others may order keys or write values otherwise.
        let canonical = || {
            let value: Value = serde_json::from_str(tail).ok()?;
            Some(value.to_string())
        };
        Some(Some(match head {
            "f:" => Self::Field(tail.to_owned()),
            "k:" => Self::Key(canonical()?),
            "v:" => Self::Value(canonical()?),
            "i:" => Self::Index(tail.to_owned()),
            _ => return Some(None),
        }))
    }

    pub(super) fn print(&self, out: &mut String) {
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

    /// Puts the path that leads here into the set.
    pub(super) fn join(&mut self) {
        self.member = true;
    }

    /// Puts a whole set there, below a step that is not taken yet.
    pub(super) fn graft(&mut self, step: Step, set: Self) {
        if !set.is_empty() {
            self.children.insert(step, set);
        }
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

    /// Whether the set has the path itself.
    pub(super) fn has(&self, path: &[Step]) -> bool {
        self.at(path).is_some_and(Self::is_member)
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

    /// The paths that both have.
    pub(super) fn common(&self, other: &Self) -> Self {
        let mut both = Self {
            member: self.member && other.member,
            children: BTreeMap::new(),
        };
        for (step, child) in &self.children {
            if let Some(same) = other.children.get(step) {
                both.graft(step.clone(), child.common(same));
            }
        }
        both
    }

    /// The paths as errors name them: `.spec.containers[name="c"].image`.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.texts_into(&mut String::new(), &mut out);
        out
    }

    fn texts_into(&self, path: &mut String, out: &mut Vec<String>) {
        if self.member {
            out.push(path.clone());
        }
        for (step, child) in &self.children {
            let length = path.len();
            step.print(path);
            child.texts_into(path, out);
            path.truncate(length);
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

    /// Whether the set has a path at or above one of those in `fields`, which is a `fieldsV1`, or below
    /// it: only then can taking one from the other change anything.
    pub(super) fn meets(&self, fields: &Value) -> bool {
        self.children.iter().any(|(step, child)| {
            let inner = fields.get(step.text());
            inner.is_some_and(|inner| child.member || child.meets(inner))
        })
    }

    /// Reads `fieldsV1`. Steps of a kind that is not known are left out, as Kubernetes does; none
    /// is returned for what is no set.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (text, inner) in value.as_object()? {
            if text == "." {
                set.member = true;
                continue;
            }
            let mut child = Self::from_value(inner)?;
            if let Some(step) = Step::parse(text)? {
                child.member |= child.children.is_empty();
                set.children.insert(step, child);
            }
        }
        Some(set)
    }
}
