//! What a client asks first: which groups, versions and resources there are.
//!
//! Old clients walk `/api`, `/apis` and each `/apis/GROUP/VERSION`; newer ones ask for all of it at
//! once ([`aggregated`]) by an `Accept` header that names `apidiscovery.k8s.io`.

use crate::resource::{self, Resource, Subresource};
use serde_json::{Map, Value, json};

/// The groups in the order in which short names are resolved: what is listed first wins.
const ORDER: [&str; 22] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "metrics.k8s.io",
];

/// The version of an aggregated document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregated {
    /// `apidiscovery.k8s.io/v2`.
    V2,
    /// `apidiscovery.k8s.io/v2beta1`, for clients before 1.30.
    V2Beta1,
}

impl Aggregated {
    /// The version's name, as in the `Accept` header's `v=`.
    pub fn version(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }
}

/// `/api`: the versions of the core group. `server_address` is `HOST:PORT`.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": versions(""),
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}
        ],
    })
}

/// `/apis`: all groups but the core one.
pub fn api_group_list() -> Value {
    let groups: Vec<Value> = groups()
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(|name| Value::Object(group(name)))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub fn api_group(name: &str) -> Option<Value> {
    if name.is_empty() || versions(name).is_empty() {
        return None;
    }
    let mut group = group(name);
    group.insert("kind".to_owned(), "APIGroup".into());
    group.insert("apiVersion".to_owned(), "v1".into());
    Some(Value::Object(group))
}

/// `/api/v1` (with an empty group) and `/apis/GROUP/VERSION`.
pub fn api_resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resource in served(group, version) {
        resources.push(api_resource(resource));
        resources.extend(
            resource
                .subresources
                .iter()
                .map(|sub| api_subresource(resource, sub)),
        );
    }
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        "resources": resources,
    }))
}

/// `/api` (`core`) or `/apis` as one document with everything below it.
pub fn aggregated(core: bool, form: Aggregated) -> Value {
    let items: Vec<Value> = groups()
        .into_iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = versions(group)
                .into_iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        served(group, version).map(aggregated_resource).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.is_empty() {
                json!({})
            } else {
                json!({"name": group})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{}", form.version()),
        "metadata": {},
        "items": items,
    })
}

/// All groups that have a resource, in [`ORDER`]; others follow by name.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = resource::all()
        .iter()
        .map(|resource| resource.group)
        .collect();
    groups.dedup();
    groups.sort_by_key(|group| {
        let place = ORDER.iter().position(|known| known == group);
        (place.unwrap_or(ORDER.len()), *group)
    });
    groups
}

/// The versions of a group, the preferred one first. No group has both a stable version and another, so the highest is.
pub(crate) fn versions(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<&str> = resource::all()
        .iter()
        .filter(|resource| resource.group == group)
        .map(|resource| resource.version)
        .collect();
    versions.dedup();
    versions.sort_by(|a, b| b.cmp(a));
    versions
}

/// The resources of one version, sorted by name.
pub(crate) fn served(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    resource::all()
        .iter()
        .filter(move |resource| resource.group == group && resource.version == version)
}

fn group(name: &str) -> Map<String, Value> {
    let versions: Vec<Value> = versions(name)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    let mut group = Map::new();
    group.insert("name".to_owned(), name.into());
    if let Some(preferred) = versions.first().cloned() {
        group.insert("preferredVersion".to_owned(), preferred);
    }
    group.insert("versions".to_owned(), versions.into());
    group
}

fn api_resource(resource: &Resource) -> Value {
    let mut row = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    names(&mut row, resource);
    row
}

/// Adds short names and categories where there are any.
fn names(row: &mut Value, resource: &Resource) {
    for (field, names) in [
        ("shortNames", resource.short_names),
        ("categories", resource.categories),
    ] {
        if !names.is_empty() {
            row[field] = json!(names);
        }
    }
}

fn api_subresource(resource: &Resource, sub: &Subresource) -> Value {
    let mut row = json!({
        "name": format!("{}/{}", resource.plural, sub.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.kind,
        "verbs": sub.verbs,
    });
    let (group, version) = foreign(resource, sub);
    for (field, value) in [("group", group), ("version", version)] {
        if !value.is_empty() {
            row[field] = value.into();
        }
    }
    row
}

/// Group and version of the kind that a subresource speaks; both empty if they are its parent's.
fn foreign(resource: &Resource, sub: &Subresource) -> (&'static str, &'static str) {
    if (sub.group, sub.version) == (resource.group, resource.version) {
        ("", "")
    } else {
        (sub.group, sub.version)
    }
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut row = json!({
        "resource": resource.plural,
        "responseKind": {"group": "", "version": "", "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    names(&mut row, resource);
    if !resource.subresources.is_empty() {
        let subresources: Vec<Value> = resource
            .subresources
            .iter()
            .map(|sub| {
                let (group, version) = foreign(resource, sub);
                json!({
                    "subresource": sub.name,
                    "responseKind": {"group": group, "version": version, "kind": sub.kind},
                    "verbs": sub.verbs,
                })
            })
            .collect();
        row["subresources"] = subresources.into();
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_group_as_a_real_server_answers() {
        assert_eq!(
            api_versions("192.0.2.10:27443"),
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [
                {"clientCIDR": "0.0.0.0/0", "serverAddress": "192.0.2.10:27443"}]})
        );
        let document = aggregated(true, Aggregated::V2);
        assert_eq!(document["apiVersion"], "apidiscovery.k8s.io/v2");
        assert_eq!(document["items"].as_array().map(Vec::len), Some(1));
        let version = &document["items"][0]["versions"][0];
        assert_eq!(version["freshness"], "Current");
        let row = |name: &str| {
            version["resources"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|row| row["resource"] == name)
                .cloned()
                .unwrap_or_default()
        };
        assert_eq!(
            row("bindings"),
            json!({"resource": "bindings", "responseKind": {"group": "", "version": "", "kind": "Binding"},
                "scope": "Namespaced", "singularResource": "binding", "verbs": ["create"]})
        );
        let pods = row("pods");
        assert_eq!(pods["shortNames"], json!(["po"]));
        assert_eq!(pods["categories"], json!(["all"]));
        assert_eq!(
            pods["subresources"][3],
            json!({"subresource": "eviction", "responseKind": {"group": "policy", "version": "v1", "kind": "Eviction"},
                "verbs": ["create"]})
        );
    }

    #[test]
    fn every_group_is_placed_and_every_version_has_resources() {
        assert_eq!(groups(), ORDER);
        assert_eq!(versions("autoscaling"), ["v2", "v1"]);
        for group in groups() {
            for version in versions(group) {
                let list = api_resource_list(group, version).expect("a served version");
                assert!(
                    list["resources"]
                        .as_array()
                        .is_some_and(|list| !list.is_empty())
                );
            }
        }
        assert_eq!(api_resource_list("apps", "v9"), None);
        assert_eq!(api_group("none"), None);
    }

    #[test]
    fn groups_and_resources_for_old_clients() {
        assert_eq!(
            api_group("autoscaling"),
            Some(
                json!({"kind": "APIGroup", "apiVersion": "v1", "name": "autoscaling",
                "versions": [{"groupVersion": "autoscaling/v2", "version": "v2"},
                    {"groupVersion": "autoscaling/v1", "version": "v1"}],
                "preferredVersion": {"groupVersion": "autoscaling/v2", "version": "v2"}})
            )
        );
        let list = api_resource_list("apps", "v1").expect("served");
        assert_eq!(list["groupVersion"], "apps/v1");
        let scale = list["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["name"] == "deployments/scale")
            .expect("the scale subresource");
        assert_eq!(
            *scale,
            json!({"name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
                "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]})
        );
        assert_eq!(api_group_list()["groups"][1]["name"], "apps");
    }

    #[test]
    fn what_is_used_has_the_names_of_pods_and_nodes_and_comes_after_them() {
        let list = api_resource_list("metrics.k8s.io", "v1beta1").expect("served");
        assert_eq!(
            list["resources"],
            json!([
                {"name": "nodes", "singularName": "nodemetrics", "namespaced": false, "kind": "NodeMetrics",
                    "verbs": ["get", "list"]},
                {"name": "pods", "singularName": "podmetrics", "namespaced": true, "kind": "PodMetrics",
                    "verbs": ["get", "list"]},
            ])
        );
        let groups = api_group_list()["groups"].clone();
        let last = groups.as_array().and_then(|all| all.last());
        assert_eq!(
            last.map(|group| &group["preferredVersion"]["groupVersion"]),
            Some(&json!("metrics.k8s.io/v1beta1"))
        );
    }
}
