//! What the client needs to know of an object: who it is, and which version of it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// An object's identity within its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// The key of `name` in `namespace` (empty for cluster-scoped kinds).
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of<T: Object>(object: &T) -> Self {
        Key::new(object.namespace(), object.name())
    }
}

impl fmt::Display for Key {
    /// `namespace/name`, or just the name of a cluster-scoped object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// A form in which objects can be read: `k8s-openapi`'s types, [`Untyped`] or [`PartialObject`].
pub trait Object: DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {
    /// `metadata.namespace`, or an empty string.
    fn namespace(&self) -> &str;
    /// `metadata.name`, or an empty string.
    fn name(&self) -> &str;
    /// `metadata.uid`, or an empty string.
    fn uid(&self) -> &str;
    /// `metadata.resourceVersion` as a number; 0 when it is absent.
    fn revision(&self) -> u64;
    /// Drops `metadata.managedFields`, where the form has them: in most objects nothing takes more
    /// memory, and who keeps many of them never reads these.
    fn forget_managed_fields(&mut self) {}
}

/// A kind that has a type of its own in `k8s-openapi`.
pub trait Kind: Object + Serialize + k8s_openapi::Metadata<Ty = ObjectMeta> {}

impl<T> Kind for T where T: Object + Serialize + k8s_openapi::Metadata<Ty = ObjectMeta> {}

impl<T> Object for T
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta>
        + DeserializeOwned
        + Clone
        + fmt::Debug
        + Send
        + Sync
        + 'static,
{
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    fn revision(&self) -> u64 {
        revision(self.metadata().resource_version.as_deref())
    }

    fn forget_managed_fields(&mut self) {
        self.metadata_mut().managed_fields = None;
    }
}

/// An object of any kind, with every field it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untyped(pub Value);

impl Untyped {
    fn metadata(&self, field: &str) -> &str {
        self.0["metadata"][field].as_str().unwrap_or_default()
    }
}

impl Object for Untyped {
    fn namespace(&self) -> &str {
        self.metadata("namespace")
    }

    fn name(&self) -> &str {
        self.metadata("name")
    }

    fn uid(&self) -> &str {
        self.metadata("uid")
    }

    fn revision(&self) -> u64 {
        revision(Some(self.metadata("resourceVersion")))
    }

    fn forget_managed_fields(&mut self) {
        let metadata = self.0.get_mut("metadata").and_then(Value::as_object_mut);
        metadata.and_then(|metadata| metadata.remove("managedFields"));
    }
}

/// The metadata of an object of any kind; everything else is left unread.
///
/// It can't be written back, for it would lose the rest.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialObject {
    /// `apiVersion`; lists leave it out of their items.
    #[serde(default)]
    pub api_version: Option<String>,
    /// `kind`; lists leave it out of their items.
    #[serde(default)]
    pub kind: Option<String>,
    /// The object's metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

impl Object for PartialObject {
    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn revision(&self) -> u64 {
        revision(self.metadata.resource_version.as_deref())
    }

    fn forget_managed_fields(&mut self) {
        self.metadata.managed_fields = None;
    }
}

fn revision(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
