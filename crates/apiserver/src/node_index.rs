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

#[derive(Debug, Default)]
struct BoundPod {
    node: String,
    refers: BTreeSet<(Referent, String)>,
}

/// The index: bound pods by namespace and name, and the reverse of what they refer to.
#[derive(Debug, Default)]
pub(crate) struct NodeIndex {
    pods: BTreeMap<(String, String), BoundPod>,
    /// (node, kind, namespace, name) → how many pods.
    referents: BTreeMap<(String, Referent, String, String), usize>,
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
        for (kind, referent) in &refers {
            *self
                .referents
                .entry((node.clone(), *kind, namespace.to_owned(), referent.clone()))
                .or_default() += 1;
        }
        self.pods.insert(key, BoundPod { node, refers });
    }

    /// Forgets a pod.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str) {
        let Some(pod) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) else {
            return;
        };
        for (kind, referent) in pod.refers {
            let key = (pod.node.clone(), kind, namespace.to_owned(), referent);
            if let Some(count) = self.referents.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.referents.remove(&key);
                }
            }
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
        self.referents
            .contains_key(&(node.to_owned(), kind, namespace.to_owned(), name.to_owned()))
    }
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
    }
}
