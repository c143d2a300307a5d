//! Which pods run on which node, and what they refer to: what a node's agent may read. And the Secrets of those Ingresses
//! that the nodes serve, each node all of them.
//!
//! Fed by the watch cache with every pod, every Ingress and every IngressClass. A pod is parsed once, when it is first
//! seen bound: what it refers to cannot change afterwards.

mod certificates;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use certificates::Certificates;

/// A kind of object that a pod can refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Referent {
    ConfigMap,
    Secret,
    ServiceAccount,
    Claim,
}

impl Referent {
    /// Which kind of object a node asks to follow by `spec.nodeName=NAME`, and the name: all objects of the kind, in
    /// whatever namespace, that pods of that node refer to. None: it is another resource, or another selector.
    ///
    /// Such a selector is a node's alone. To everybody else it is one by a field that these kinds do not have.
    pub(crate) fn followed<'a>(
        group: &str,
        plural: &str,
        selector: &'a str,
    ) -> Option<(Referent, &'a str)> {
        let kind = match (group, plural) {
            ("", "configmaps") => Referent::ConfigMap,
            ("", "secrets") => Referent::Secret,
            _ => return None,
        };
        Some((kind, selector.strip_prefix("spec.nodeName=")?))
    }
}

#[derive(Debug, Default)]
struct BoundPod {
    node: String,
    refers: BTreeSet<(Referent, String)>,
}

/// The index: bound pods by namespace and name, and the reverse of what they refer to.
#[derive(Debug, Default)]
pub(crate) struct NodeIndex {
    pods: BTreeMap<(String, String), BoundPod>,
    /// Of each node: the places of what its pods refer to, and how many pods do.
    referents: BTreeMap<String, BTreeMap<Referent, BTreeMap<String, usize>>>,
    /// What every node may read, for every node serves every Ingress of the nodes' classes.
    pub(crate) certificates: Certificates,
}

impl NodeIndex {
    /// Takes up a pod as stored. One that is known to be bound is not read again.
    pub(crate) fn put(&mut self, namespace: &str, name: &str, json: &[u8]) {
        let key = (namespace.to_owned(), name.to_owned());
        if self.pods.contains_key(&key) {
            return;
        }
        // An unreadable pod is one that no node may touch.
        let Ok(pod) = serde_json::from_slice::<Pod>(json) else {
            return;
        };
        let Some(node) = pod.spec.node_name.clone().filter(|n| !n.is_empty()) else {
            return;
        };
        let refers = pod.refers(name);
        if !refers.is_empty() {
            let of_node = self.referents.entry(node.clone()).or_default();
            for (kind, referent) in &refers {
                let of_kind = of_node.entry(*kind).or_default();
                *of_kind.entry(place(namespace, referent)).or_default() += 1;
            }
        }
        self.pods.insert(key, BoundPod { node, refers });
    }

    /// Forgets a pod.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str) {
        let Some(pod) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) else {
            return;
        };
        let Some(of_node) = self.referents.get_mut(&pod.node) else {
            return;
        };
        for (kind, referent) in &pod.refers {
            let place = place(namespace, referent);
            let of_kind = of_node.entry(*kind).or_default();
            if let Some(count) = of_kind.get_mut(&place) {
                *count -= 1;
                if *count == 0 {
                    of_kind.remove(&place);
                }
            }
        }
        of_node.retain(|_, of_kind| !of_kind.is_empty());
        if of_node.is_empty() {
            self.referents.remove(&pod.node);
        }
    }

    /// Whether this pod is bound to this node.
    pub(crate) fn runs(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.pods
            .get(&(namespace.to_owned(), name.to_owned()))
            .is_some_and(|pod| pod.node == node)
    }

    /// Whether a pod of this node refers to the object.
    pub(crate) fn refers(&self, node: &str, kind: Referent, namespace: &str, name: &str) -> bool {
        self.refers_to(node, kind, &place(namespace, name))
    }

    /// The same by the object's place. It allocates nothing, for it is asked of each change for each node that watches.
    pub(crate) fn refers_to(&self, node: &str, kind: Referent, place: &str) -> bool {
        self.of(node, kind)
            .is_some_and(|all| all.contains_key(place))
    }

    /// The places of all objects of a kind that pods of this node refer to, in the order of the objects' keys.
    pub(crate) fn places(&self, node: &str, kind: Referent) -> impl Iterator<Item = &str> {
        let places = self.of(node, kind).into_iter();
        places.flat_map(BTreeMap::keys).map(String::as_str)
    }

    fn of(&self, node: &str, kind: Referent) -> Option<&BTreeMap<String, usize>> {
        self.referents.get(node)?.get(&kind)
    }
}

/// Where an object lies among those of its kind: what its key in the store ends with. No part of it holds a `/`.
fn place(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The part of a pod that names other objects.
#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    service_account_name: Option<String>,
    image_pull_secrets: Vec<Named>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Vec<Env>,
    env_from: Vec<Source>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Env {
    value_from: Option<Source>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    config_map_ref: Option<Named>,
    secret_ref: Option<Named>,
    config_map_key_ref: Option<Named>,
    secret_key_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: String,
    config_map: Option<Named>,
    secret: Option<SecretVolume>,
    persistent_volume_claim: Option<ClaimVolume>,
    ephemeral: Option<serde::de::IgnoredAny>,
    projected: Option<Projected>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Vec<ProjectedSource>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProjectedSource {
    config_map: Option<Named>,
    secret: Option<Named>,
}

impl Pod {
    fn refers(&self, pod: &str) -> BTreeSet<(Referent, String)> {
        let mut found = BTreeSet::new();
        let mut add = |kind, name: &str| {
            if !name.is_empty() {
                found.insert((kind, name.to_owned()));
            }
        };
        let spec = &self.spec;
        add(
            Referent::ServiceAccount,
            spec.service_account_name.as_deref().unwrap_or_default(),
        );
        for secret in &spec.image_pull_secrets {
            add(Referent::Secret, &secret.name);
        }
        let containers = spec.containers.iter().chain(&spec.init_containers);
        for source in containers.flat_map(|c| {
            c.env_from
                .iter()
                .chain(c.env.iter().filter_map(|e| e.value_from.as_ref()))
        }) {
            for map in [&source.config_map_ref, &source.config_map_key_ref] {
                add(Referent::ConfigMap, map.as_ref().map_or("", |m| &m.name));
            }
            for secret in [&source.secret_ref, &source.secret_key_ref] {
                add(Referent::Secret, secret.as_ref().map_or("", |s| &s.name));
            }
        }
        for volume in &spec.volumes {
            add(
                Referent::ConfigMap,
                volume.config_map.as_ref().map_or("", |m| &m.name),
            );
            add(
                Referent::Secret,
                volume.secret.as_ref().map_or("", |s| &s.secret_name),
            );
            add(
                Referent::Claim,
                volume
                    .persistent_volume_claim
                    .as_ref()
                    .map_or("", |c| &c.claim_name),
            );
            if volume.ephemeral.is_some() {
                add(Referent::Claim, &format!("{pod}-{}", volume.name));
            }
            for source in volume.projected.iter().flat_map(|p| &p.sources) {
                add(
                    Referent::ConfigMap,
                    source.config_map.as_ref().map_or("", |m| &m.name),
                );
                add(
                    Referent::Secret,
                    source.secret.as_ref().map_or("", |s| &s.name),
                );
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_counts_once_it_is_bound_and_until_it_goes() {
        let mut index = NodeIndex::default();
        let volumes = r#""volumes":[{"name":"a","projected":{"sources":[{"configMap":{"name":"m"}}]}},
            {"name":"e","ephemeral":{}},{"name":"p","persistentVolumeClaim":{"claimName":"claim"}}]"#;
        index.put("ns", "p", format!("{{\"spec\":{{{volumes}}}}}").as_bytes());
        assert!(!index.refers("n", Referent::ConfigMap, "ns", "m"));
        let bound = format!("{{\"spec\":{{\"nodeName\":\"n\",{volumes}}}}}");
        index.put("ns", "p", bound.as_bytes());
        index.put("ns", "q", bound.as_bytes());
        assert!(index.runs("n", "ns", "p"));
        for (kind, name) in [
            (Referent::ConfigMap, "m"),
            (Referent::Claim, "p-e"),
            (Referent::Claim, "claim"),
        ] {
            assert!(index.refers("n", kind, "ns", name), "{name}");
            assert!(!index.refers("n2", kind, "ns", name), "{name}");
        }
        index.remove("ns", "p");
        assert!(index.refers("n", Referent::ConfigMap, "ns", "m"));
        index.remove("ns", "q");
        assert!(!index.refers("n", Referent::ConfigMap, "ns", "m"));
        assert!(!index.runs("n", "ns", "p"));
        index.put("ns", "broken", b"{\"spec\":7}");
        index.put("ns", "plain", br#"{"spec":{"nodeName":"n"}}"#);
        assert!(index.runs("n", "ns", "plain"));
        assert!(index.referents.is_empty());
    }

    #[test]
    fn an_object_is_found_by_its_place() {
        let mut index = NodeIndex::default();
        let pod = br#"{"spec":{"nodeName":"n","volumes":[{"name":"v","configMap":{"name":"b"}}]}}"#;
        index.put("a", "p", pod);
        let refers = |place| index.refers_to("n", Referent::ConfigMap, place);
        assert!(refers("a/b"));
        for place in ["", "/", "a", "a/", "/b", "b", "a/b/", "a/b/c", "/a/b"] {
            assert!(!refers(place), "{place}");
        }
        assert!(!index.refers_to("n", Referent::Secret, "a/b"));
        assert!(!index.refers("n", Referent::ConfigMap, "", "a/b"));
        // In the order of keys, which is not that of namespaces and names.
        for namespace in ["a-b", "a0", "0"] {
            index.put(namespace, "p", pod);
        }
        let all: Vec<_> = index.places("n", Referent::ConfigMap).collect();
        assert_eq!(all, ["0/b", "a-b/b", "a/b", "a0/b"]);
        assert_eq!(index.places("n2", Referent::ConfigMap).count(), 0);
    }

    #[test]
    fn what_a_node_follows_is_spelt_in_one_way() {
        let table = [
            (
                "",
                "configmaps",
                "spec.nodeName=n",
                Some((Referent::ConfigMap, "n")),
            ),
            (
                "",
                "secrets",
                "spec.nodeName=n",
                Some((Referent::Secret, "n")),
            ),
            (
                "",
                "secrets",
                "spec.nodeName==n",
                Some((Referent::Secret, "=n")),
            ),
            (
                "",
                "secrets",
                "spec.nodeName=",
                Some((Referent::Secret, "")),
            ),
            ("", "secrets", "spec.nodeName!=n", None),
            ("", "secrets", "metadata.name=n", None),
            ("", "secrets", "", None),
            ("", "pods", "spec.nodeName=n", None),
            ("apps", "secrets", "spec.nodeName=n", None),
        ];
        for (group, plural, selector, want) in table {
            let found = Referent::followed(group, plural, selector);
            assert_eq!(found, want, "{group}/{plural} {selector}");
        }
    }
}
