//! What is written, as those who manage its fields see it.

use super::set::FieldSet;
use crate::resource::Resource;
use crate::schema::{self, Type};

/// Fields of metadata that nobody manages.
const UNMANAGED: [&str; 10] = [
    "clusterName",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// An object of a resource, or the part of it that a subresource writes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The schema of what is written.
    pub(super) ty: &'a Type,
    /// The version in which the entries count fields.
    pub(super) api_version: &'a str,
    /// Empty for the object itself.
    pub(super) subresource: &'a str,
    /// Top-level fields that are not written this way.
    ignored: &'static [&'static str],
    /// Fields of metadata that are not written this way.
    ignored_metadata: &'static [&'static str],
}

impl<'a> Target<'a> {
    /// A resource, or one of its subresources that are written as the object is (`status`).
    ///
    /// What a way of writing leaves as it is, it does not record either: the status where it has a
    /// subresource of its own, the spec through that.
    pub fn new(resource: &'a Resource, subresource: Option<&'a str>) -> Self {
        let workload = matches!(resource.group, "apps" | "batch");
        let (ignored, ignored_metadata): (&[_], &[_]) = match subresource {
            Some("status") if workload => (&["spec"], &["ownerReferences", "labels"]),
            Some("status") => (&["spec"], &["ownerReferences"]),
            Some("approval") => (&["spec"], &[]),
            _ if resource.subresource("status").is_some() => (&["status"], &[]),
            _ => (&[], &[]),
        };
        Self {
            ty: resource.schema(),
            api_version: resource.api_version,
            subresource: subresource.unwrap_or_default(),
            ignored,
            ignored_metadata,
        }
    }

    /// The `Scale` of any workload.
    pub(crate) fn scale() -> Target<'static> {
        Target {
            ty: schema::lookup("autoscaling.v1.Scale").unwrap_or_else(schema::open),
            api_version: "autoscaling/v1",
            subresource: "scale",
            ignored: &[],
            ignored_metadata: &[],
        }
    }

    /// Whether nobody manages this top-level field.
    pub(super) fn ignores(&self, name: &str) -> bool {
        matches!(name, "apiVersion" | "kind") || self.ignored.contains(&name)
    }

    /// Whether nobody manages this field of metadata.
    pub(super) fn ignores_metadata(&self, name: &str) -> bool {
        UNMANAGED.contains(&name) || self.ignored_metadata.contains(&name)
    }

    /// Takes away the fields that nobody manages.
    pub(super) fn strip(&self, set: &mut FieldSet) {
        for field in ["apiVersion", "kind"].iter().chain(self.ignored) {
            set.cut(&[field]);
        }
        for field in UNMANAGED.iter().chain(self.ignored_metadata) {
            set.cut(&["metadata", field]);
        }
    }
}
