//! What the scheduler needs to know of a node.

use std::collections::BTreeMap;

use api::resources::Resources;
use client::Object;
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Deserializer};

/// A node. Read from a core/v1 Node; the rest of it is not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What repels pods, including what its conditions amount to.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`: cordoned.
    pub unschedulable: bool,
    /// What pods may use of it.
    pub allocatable: Resources,
    pub(crate) uid: String,
    pub(crate) revision: u64,
}

/// What repels pods that do not tolerate it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// The taint's key.
    pub key: String,
    /// The taint's value; may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl Taint {
    fn no_schedule(key: &str) -> Self {
        Taint {
            key: key.to_owned(),
            value: String::new(),
            effect: "NoSchedule".to_owned(),
        }
    }
}

impl From<core::Node> for Node {
    fn from(node: core::Node) -> Self {
        let (uid, revision) = (node.uid().to_owned(), node.revision());
        let spec = node.spec.unwrap_or_default();
        let status = node.status.unwrap_or_default();
        let mut taints: Vec<Taint> = spec
            .taints
            .into_iter()
            .flatten()
            .map(|taint| Taint {
                key: taint.key,
                value: taint.value.unwrap_or_default(),
                effect: taint.effect,
            })
            .collect();
        // The condition comes before the taint that a controller makes of it: no pod is to go
        // to a dead node in between.
        if let Some(key) = repelling(&status)
            && !taints.iter().any(|taint| taint.key == key)
        {
            taints.push(Taint::no_schedule(key));
        }
        let allocatable = status.allocatable.or(status.capacity);
        Node {
            name: node.metadata.name.unwrap_or_default(),
            labels: node.metadata.labels.unwrap_or_default(),
            taints,
            unschedulable: spec.unschedulable.unwrap_or(false),
            allocatable: Resources::parse(allocatable.as_ref()),
            uid,
            revision,
        }
    }
}

/// The taint that stands for a node's not being ready.
fn repelling(status: &core::NodeStatus) -> Option<&'static str> {
    let conditions = status.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready")?;
    match ready.status.as_str() {
        "True" => None,
        "False" => Some("node.kubernetes.io/not-ready"),
        _ => Some("node.kubernetes.io/unreachable"),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        core::Node::deserialize(deserializer).map(Node::from)
    }
}

impl Object for Node {
    fn namespace(&self) -> &str {
        ""
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}
