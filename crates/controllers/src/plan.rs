//! What a reconciler wants done.

use std::sync::Arc;
use std::time::Duration;

use client::{Key, Kind};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde::Serialize;
use serde_json::{Value, json};

use crate::owner::target;

/// The longest that a plan may put off its next look. Users give times of up to 2⁶³ seconds, which
/// no clock can be set to; looking once too often costs nothing.
const LONGEST_DELAY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The writes, events and second look that one reconciliation asks for.
///
/// Writes are carried out in order, except that neighbours of one variant run side by side; a
/// plan therefore never writes one object twice by the same variant. The first failure ends the
/// plan, but for statuses after it, which say what was seen: the key runs again on a fresh view,
/// so a plan never has to undo.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// What to write, in order.
    pub writes: Vec<Write>,
    /// What to tell the object's owner.
    pub events: Vec<Notice>,
    /// When to look again although nothing has changed.
    pub again_after: Option<Duration>,
}

/// Which object of which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `apps/v1`, `v1`, …
    pub api_version: String,
    /// `ReplicaSet`, …
    pub kind: String,
    /// Namespace (empty for cluster-scoped kinds) and name.
    pub key: Key,
    /// The very object that was seen; another of the same name is left alone.
    pub uid: String,
}

/// One write.
#[derive(Debug, PartialEq)]
pub enum Write {
    /// Create `object`. That its name is taken says that the view was behind: look again.
    Create {
        /// The namespace to create it in; empty for cluster-scoped kinds.
        namespace: String,
        /// The whole object.
        object: Value,
    },
    /// A JSON merge patch of an object's status, on the condition that the object is still as it
    /// was seen: see `Write::status`.
    Status {
        /// What to patch.
        target: Target,
        /// The patch, with the `resourceVersion`.
        patch: Value,
    },
    /// A JSON merge patch.
    Patch {
        /// What to patch.
        target: Target,
        /// The patch.
        patch: Value,
    },
    /// A JSON merge patch that lets a claim of storage go, unless a pod uses it after all: asked of
    /// the API, for a view may not have seen that pod yet.
    LetGo {
        /// The claim, as it was seen.
        claim: Arc<PersistentVolumeClaim>,
        /// The patch.
        patch: Value,
    },
    /// A JSON merge patch of a volume's status, which says that its claim is gone, unless that is there after all: asked of
    /// the API, for what is on a volume that was let go may be removed.
    Release {
        /// What to patch.
        volume: Target,
        /// Its claim.
        claim: Target,
        /// The patch, with the `resourceVersion`.
        patch: Value,
    },
    /// Delete an object; one that is gone already counts as done.
    Delete {
        /// What to delete.
        target: Target,
        /// Without grace, for what nobody is left to end.
        force: bool,
        /// Only after its own dependents.
        foreground: bool,
        /// Leave it if one of these is there after all: asked of the API, for a view may not have
        /// seen them yet. An empty uid stands for any.
        unless: Vec<Target>,
    },
}

/// An event about the object under reconciliation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// A CamelCase word, such as `SuccessfulCreate`.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Plan {
    /// Whether nothing is to be done now.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.events.is_empty()
    }

    /// Adds a `Normal` event.
    pub(crate) fn note(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push(Notice {
            warning: false,
            reason,
            message: message.into(),
        });
    }

    /// Adds a `Warning` event.
    pub(crate) fn warn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push(Notice {
            warning: true,
            reason,
            message: message.into(),
        });
    }

    /// Asks for another look after `delay`, or sooner if that was asked for already.
    pub(crate) fn again(&mut self, delay: Duration) {
        let delay = delay.min(LONGEST_DELAY);
        self.again_after = Some(self.again_after.map_or(delay, |d| d.min(delay)));
    }
}

impl Write {
    /// An ordinary deletion, with the object's own grace.
    pub(crate) fn delete(target: Target) -> Write {
        Write::Delete {
            target,
            force: false,
            foreground: false,
            unless: Vec::new(),
        }
    }

    /// Brings the status of `object` from `old` to `new`. Fields that the types do not know stay.
    pub(crate) fn status<T: Kind, S: Serialize>(object: &T, old: Option<&S>, new: &S) -> Write {
        let value = |status: Option<&S>| {
            serde_json::to_value(status).expect("API types have string keys and finite numbers")
        };
        let version = &object.metadata().resource_version;
        let patch = json!({
            "metadata": {"resourceVersion": version},
            "status": difference(&value(old), &value(Some(new))),
        });
        Write::Status {
            target: target(object),
            patch,
        }
    }

    /// Whether both may be under way at once.
    pub(crate) fn goes_beside(&self, other: &Write) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// The merge patch that makes `new` of `old`.
pub(crate) fn difference(old: &Value, new: &Value) -> Value {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        return new.clone();
    };
    let changed = after
        .iter()
        .filter(|(field, value)| before.get(*field) != Some(value))
        .map(|(field, value)| {
            let was = before.get(field).unwrap_or(&Value::Null);
            (field, difference(was, value))
        });
    let gone = before.keys().filter(|field| !after.contains_key(*field));
    changed
        .chain(gone.map(|field| (field, Value::Null)))
        .map(|(field, value)| (field.clone(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::difference;

    #[test]
    fn a_difference_names_what_changed_and_nothing_else() {
        for (old, new, patch) in [
            (json!(null), json!({"a": 1}), json!({"a": 1})),
            (json!({"a": 1}), json!({"a": 1}), json!({})),
            (
                json!({"a": 1, "b": 2}),
                json!({"a": 3}),
                json!({"a": 3, "b": null}),
            ),
            (
                json!({"a": {"b": 1, "c": 2}, "d": [1]}),
                json!({"a": {"b": 1, "c": 3}, "d": [2, 3], "e": {}}),
                json!({"a": {"c": 3}, "d": [2, 3], "e": {}}),
            ),
        ] {
            assert_eq!(difference(&old, &new), patch, "{old} to {new}");
        }
    }
}
