//! What the API serves: one row a resource, made from `data/resources.json`.

use crate::schema::{self, Type};

/// One resource of one API version.
#[derive(Debug)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version, `v1`.
    pub version: &'static str,
    /// `v1`, `apps/v1`: what objects carry as `apiVersion`.
    pub api_version: &'static str,
    /// `Pod`.
    pub kind: &'static str,
    /// `pods`.
    pub plural: &'static str,
    /// `pod`.
    pub singular: &'static str,
    /// `po`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether its objects are made for each answer, of what others know: the store keeps none.
    pub is_virtual: bool,
    /// Verbs of the resource itself, sorted.
    pub verbs: &'static [&'static str],
    /// `status`, `scale`, `log`, …
    pub subresources: &'static [Subresource],
    /// Columns of its tables.
    pub columns: &'static [Column],
    /// Name of its schema, `core.v1.Pod`.
    pub type_name: &'static str,
    /// Whether it has a `status`.
    pub has_status: bool,
}

/// A subresource.
#[derive(Debug)]
pub struct Subresource {
    /// `status`.
    pub name: &'static str,
    /// Group of the kind it speaks.
    pub group: &'static str,
    /// Version of the kind it speaks.
    pub version: &'static str,
    /// `autoscaling/v1`.
    pub api_version: &'static str,
    /// Kind it speaks, `Scale`.
    pub kind: &'static str,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub kind: &'static str,
    /// `name` for the object's name, else empty.
    pub format: &'static str,
    /// 0: always shown; 1: with `-o wide` only.
    pub priority: i32,
}

/// Every resource, sorted by group, version and plural.
pub fn all() -> &'static [Resource] {
    RESOURCES
}

/// The resource that a REST path names.
pub fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    let at = RESOURCES
        .binary_search_by(|r| (r.group, r.version, r.plural).cmp(&(group, version, plural)))
        .ok()?;
    Some(&RESOURCES[at])
}

/// The resource whose objects carry this `apiVersion` and `kind`.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|r| r.kind == kind && r.api_version == api_version)
}

/// The resource of a Rust type.
///
/// # Panics
///
/// When the type is not a kind of the table (a `List`, or one that exists as a subresource only):
/// a mistake in the calling code, not in its input.
pub fn of<T: k8s_openapi::Resource>() -> &'static Resource {
    match by_kind(T::API_VERSION, T::KIND) {
        Some(resource) => resource,
        None => panic!("{} {} is not a served kind", T::API_VERSION, T::KIND),
    }
}

impl Resource {
    /// The resource of a Rust type; see [`of`].
    pub fn of<T: k8s_openapi::Resource>() -> &'static Self {
        of::<T>()
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> &'static str {
        self.api_version
    }

    /// `pods`, `deployments.apps`: how errors name the resource.
    pub fn qualified(&self) -> String {
        qualified(self.plural, self.group)
    }

    /// `Pod`, `Deployment.apps`: how validation errors name the kind.
    pub fn qualified_kind(&self) -> String {
        qualified(self.kind, self.group)
    }

    /// Kind of a list of these.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// The schema of its objects. A resource without one takes any fields beside the metadata.
    pub fn schema(&self) -> &'static Type {
        schema::lookup(self.type_name).unwrap_or_else(schema::open_object)
    }

    /// Whether the resource itself takes this verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Group under which the store keeps the objects: versions and groups that are two views of
    /// the same objects share one place.
    fn stored_group(&self) -> &'static str {
        match self.group {
            "" | "events.k8s.io" => "core",
            group => group,
        }
    }

    /// The store's key of one object: `/registry/core/pods/default/web`. `namespace` counts for
    /// namespaced resources only.
    pub fn key(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}{name}", self.prefix(namespace))
    }

    /// The prefix of the keys of all objects, or of those in one namespace; ends with `/`.
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        match namespace.filter(|ns| self.namespaced && !ns.is_empty()) {
            Some(ns) => format!("/registry/{}/{}/{ns}/", self.stored_group(), self.plural),
            None => format!("/registry/{}/{}/", self.stored_group(), self.plural),
        }
    }

    /// The REST path of the collection, or of one object.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}", self.api_version)
        };
        if let Some(ns) = namespace.filter(|ns| self.namespaced && !ns.is_empty()) {
            path.push_str("/namespaces/");
            path.push_str(ns);
        }
        path.push('/');
        path.push_str(self.plural);
        if let Some(name) = name {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

/// `deployments.apps`, or the bare name in the core group.
pub fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

include!(concat!(env!("OUT_DIR"), "/resources.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_found_both_ways() {
        assert!(all().is_sorted_by_key(|r| (r.group, r.version, r.plural)));
        for resource in all() {
            let found = by_path(resource.group, resource.version, resource.plural);
            assert!(found.is_some_and(|f| std::ptr::eq(f, resource)));
            let found = by_kind(resource.api_version, resource.kind);
            assert!(found.is_some_and(|f| std::ptr::eq(f, resource)));
        }
        assert!(by_path("", "v1", "nothings").is_none());
    }

    #[test]
    fn what_no_store_keeps_is_only_read() {
        let kinds: Vec<&str> = all()
            .iter()
            .filter(|r| r.is_virtual)
            .map(|r| r.kind)
            .collect();
        assert_eq!(kinds, ["NodeMetrics", "PodMetrics"]);
        for resource in all().iter().filter(|r| r.is_virtual) {
            assert_eq!(resource.verbs, ["get", "list"], "{}", resource.kind);
            assert!(resource.subresources.is_empty(), "{}", resource.kind);
        }
    }

    #[test]
    fn every_resource_has_a_schema() {
        for resource in all() {
            let found = schema::lookup(resource.type_name);
            assert!(found.is_some(), "{}", resource.kind);
        }
    }

    #[test]
    fn keys_and_paths() {
        let pods = Resource::of::<k8s_openapi::api::core::v1::Pod>();
        assert_eq!(
            pods.key(Some("default"), "web"),
            "/registry/core/pods/default/web"
        );
        assert_eq!(pods.prefix(None), "/registry/core/pods/");
        assert_eq!(
            pods.path(Some("default"), Some("web")),
            "/api/v1/namespaces/default/pods/web"
        );
        let nodes = Resource::of::<k8s_openapi::api::core::v1::Node>();
        assert_eq!(nodes.key(None, "n"), "/registry/core/nodes/n");
        let deployments = Resource::of::<k8s_openapi::api::apps::v1::Deployment>();
        assert_eq!(
            deployments.prefix(Some("a")),
            "/registry/apps/deployments/a/"
        );
        assert_eq!(deployments.qualified(), "deployments.apps");
        let old = Resource::of::<k8s_openapi::api::core::v1::Event>();
        let new = Resource::of::<k8s_openapi::api::events::v1::Event>();
        assert_eq!(old.prefix(None), new.prefix(None));
    }
}
