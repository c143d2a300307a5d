//! What may be said along with a request.

use serde::Serialize;
use serde_json::Value;

/// Which objects of a kind are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Empty: all namespaces, or a cluster-scoped kind.
    pub namespace: String,
    /// A label selector in its query form (`app=web,tier!=cache`); empty: all.
    pub label_selector: String,
    /// A field selector (`spec.nodeName=n1`); empty: all.
    pub field_selector: String,
    /// Whether no more than the objects' metadata is to be sent. It comes as a kind of its own, `PartialObjectMetadata`.
    pub metadata_only: bool,
}

impl ListOptions {
    /// The objects of one namespace.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        ListOptions {
            namespace: namespace.into(),
            ..ListOptions::default()
        }
    }

    /// The one object of this name.
    #[must_use]
    pub fn named(namespace: &str, name: &str) -> Self {
        ListOptions::namespace(namespace).fields(format!("metadata.name={name}"))
    }

    /// Narrows by labels.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.label_selector = selector.into();
        self
    }

    /// Narrows by fields.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.field_selector = selector.into();
        self
    }

    /// Asks for no more than metadata.
    #[must_use]
    pub fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self
    }
}

/// A change to part of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// A JSON merge patch (RFC 7386): `null` removes, lists are replaced.
    Merge(Value),
    /// Kubernetes' strategic merge patch: lists of named things are merged by their keys.
    Strategic(Value),
    /// A JSON patch (RFC 6902): a list of operations.
    Json(Value),
    /// Server-side apply: the fields that this manager wants.
    Apply {
        /// The fields, with `apiVersion`, `kind` and `metadata.name`.
        fields: Value,
        /// Take over fields that another manager owns, where the two differ.
        force: bool,
    },
}

impl Patch {
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Patch::Merge(_) => "application/merge-patch+json",
            Patch::Strategic(_) => "application/strategic-merge-patch+json",
            Patch::Json(_) => "application/json-patch+json",
            Patch::Apply { .. } => "application/apply-patch+yaml",
        }
    }

    pub(crate) fn body(&self) -> &Value {
        match self {
            Patch::Merge(value) | Patch::Strategic(value) | Patch::Json(value) => value,
            Patch::Apply { fields, .. } => fields,
        }
    }
}

/// What becomes of the objects that a deleted object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Propagation {
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// How an object is to be deleted. The default is what the kind does by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds a pod has to end; 0 removes the object at once.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of dependents.
    pub propagation: Option<Propagation>,
    /// Only if the object still has this uid.
    pub uid: Option<String>,
    /// Only if the object still is at this version.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Deletes only the object with this uid, not one that has taken its name since.
    pub fn uid(uid: impl Into<String>) -> Self {
        DeleteOptions {
            uid: Some(uid.into()),
            ..DeleteOptions::default()
        }
    }

    /// Says what becomes of dependents.
    #[must_use]
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = Some(propagation);
        self
    }

    /// Sets the grace period.
    #[must_use]
    pub fn grace_period_seconds(mut self, seconds: i64) -> Self {
        self.grace_period_seconds = Some(seconds);
        self
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = serde_json::json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        if let Some(seconds) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = format!("{propagation:?}").into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        body
    }
}
