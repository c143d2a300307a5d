//! An object as it is stored, cached and served: encoded JSON with a few of its fields beside it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// An immutable object; cloning copies a pointer.
#[derive(Clone)]
pub struct Object(Arc<Inner>);

struct Inner {
    bytes: Bytes,
    revision: u64,
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    labels: Labels,
}

/// Labels, sorted by key.
pub type Labels = Box<[(Box<str>, Box<str>)]>;

/// Stored bytes are not an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The bytes are not JSON, or a field has an unexpected type.
    #[error("stored bytes are not an object: {0}")]
    Json(#[from] serde_json::Error),
    /// There is no `metadata` object.
    #[error("stored object has no metadata")]
    NoMetadata,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Object {
    /// Takes up what the store holds: JSON without `metadata.resourceVersion`. The revision is
    /// spliced in, so that [`bytes`](Self::bytes) can be served as they are.
    pub fn from_stored(stored: &[u8], revision: u64) -> Result<Self, ObjectError> {
        let envelope: Envelope<'_> = serde_json::from_slice(stored)?;
        let raw = envelope.metadata.ok_or(ObjectError::NoMetadata)?.get();
        let inside = raw.strip_prefix('{').ok_or(ObjectError::NoMetadata)?;
        // The borrowed text lies inside `stored`: its address tells where.
        let at = inside.as_ptr() as usize - stored.as_ptr() as usize;
        let comma = if inside.trim_start().starts_with('}') {
            ""
        } else {
            ","
        };
        let version = format!("\"resourceVersion\":\"{revision}\"{comma}");
        let mut bytes = Vec::with_capacity(stored.len() + version.len());
        bytes.extend_from_slice(&stored[..at]);
        bytes.extend_from_slice(version.as_bytes());
        bytes.extend_from_slice(&stored[at..]);
        Self::build(bytes.into(), raw, revision)
    }

    /// Takes up an object that no store holds: it has no revision.
    pub fn unstored(object: &Value) -> Result<Self, ObjectError> {
        let metadata = object.get("metadata").ok_or(ObjectError::NoMetadata)?;
        let bytes = serde_json::to_vec(object)?;
        Self::build(bytes.into(), &metadata.to_string(), 0)
    }

    fn build(bytes: Bytes, metadata: &str, revision: u64) -> Result<Self, ObjectError> {
        let metadata: Metadata<'_> = serde_json::from_str(metadata)?;
        let labels = metadata.labels.unwrap_or_default();
        Ok(Self(Arc::new(Inner {
            bytes,
            revision,
            namespace: metadata.namespace.into(),
            name: metadata.name.into(),
            uid: metadata.uid.into(),
            labels: labels
                .into_iter()
                .map(|(key, value)| (key.into_boxed_str(), value.into_boxed_str()))
                .collect(),
        })))
    }

    /// The object's JSON, with its `resourceVersion`.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The store's revision that wrote it; 0 for one that is not stored.
    pub fn revision(&self) -> u64 {
        self.0.revision
    }

    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.0.uid
    }

    /// `metadata.labels`.
    pub fn labels(&self) -> &[(Box<str>, Box<str>)] {
        &self.0.labels
    }

    /// The value of one label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = &self.0.labels;
        let at = labels
            .binary_search_by(|(known, _)| (**known).cmp(key))
            .ok()?;
        Some(&labels[at].1)
    }

    /// Reads the object as a type.
    pub fn view<T: DeserializeOwned>(&self) -> Result<T, ObjectError> {
        Ok(serde_json::from_slice(&self.0.bytes)?)
    }

    /// Reads the object as a tree.
    pub fn value(&self) -> Result<Value, ObjectError> {
        self.view()
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            namespace,
            name,
            revision,
            ..
        } = &*self.0;
        write!(f, "{namespace}/{name}@{revision}")
    }
}

/// Encodes an object for the store: JSON without `metadata.resourceVersion`.
pub fn to_stored(mut object: Value) -> Vec<u8> {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("resourceVersion");
    }
    object.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn splices_the_revision_in() {
        let stored = to_stored(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "demo", "uid": "u", "resourceVersion": "1",
                "labels": {"b": "2", "a": "1"}},
            "spec": {"metadata": {}},
        }));
        let object = Object::from_stored(&stored, 42).expect("object");
        assert_eq!(
            object.value().expect("value")["metadata"]["resourceVersion"],
            "42"
        );
        assert_eq!(
            (object.namespace(), object.name(), object.uid()),
            ("demo", "web", "u")
        );
        assert_eq!(object.label("b"), Some("2"));
        assert_eq!(object.label("c"), None);
        assert_eq!(format!("{object:?}"), "demo/web@42");
    }

    #[test]
    fn what_is_not_stored_has_no_revision() {
        let made = json!({"metadata": {"name": "n", "labels": {"a": "1"}}, "usage": {"cpu": "1n"}});
        let object = Object::unstored(&made).expect("object");
        assert_eq!(object.value().expect("value"), made);
        assert_eq!((object.name(), object.label("a")), ("n", Some("1")));
        assert_eq!(object.revision(), 0);
        assert!(Object::unstored(&json!({"usage": {}})).is_err());
    }

    #[test]
    fn takes_metadata_as_it_comes() {
        for (stored, name) in [
            ("{\"metadata\":{}}", ""),
            ("{\"metadata\" : { } , \"x\":1}", ""),
            (
                "{\"spec\":{\"metadata\":{\"name\":\"no\"}},\"metadata\":{\"name\":\"y\\u0065s\"}}",
                "yes",
            ),
        ] {
            let object = Object::from_stored(stored.as_bytes(), 7).expect(stored);
            assert_eq!(object.name(), name);
            assert_eq!(
                object.value().expect("json")["metadata"]["resourceVersion"],
                "7"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_object() {
        for stored in [
            "",
            "{",
            "[]",
            "{}",
            "{\"metadata\":1}",
            "{\"metadata\":{\"name\":1}}",
        ] {
            assert!(
                Object::from_stored(stored.as_bytes(), 1).is_err(),
                "{stored}"
            );
        }
    }
}
