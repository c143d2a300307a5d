//! What the scheduler needs to know of a pod.

use api::resources::Requests;
use client::{Key, Object};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Deserializer};

use crate::{
    host_ports::HostPort,
    plugins::{self, NodeRules},
    rules::{Labels, Rules},
    storage::ClaimUse,
};

/// A pod. Read from a core/v1 Pod; the rest of it is not kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pod {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The node that it is bound to; empty if none.
    pub node_name: String,
    /// `spec.schedulerName`.
    pub scheduler_name: String,
    /// Pods of higher priority are placed first.
    pub priority: i32,
    /// `spec.preemptionPolicy` is `Never`.
    pub never_preempts: bool,
    /// `status.nominatedNodeName`: where room is being made for it; empty if nowhere.
    pub nominated: String,
    /// When its node's agent first saw it.
    pub started: Option<Timestamp>,
    /// It is being deleted.
    pub deleting: bool,
    /// It has ended, and uses nothing any more.
    pub ended: bool,
    pub(crate) labels: Labels,
    pub(crate) requests: Requests,
    pub(crate) node_rules: NodeRules,
    pub(crate) rules: Rules,
    pub(crate) tolerations: Vec<core::Toleration>,
    pub(crate) gates: Vec<String>,
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) claims: Vec<ClaimUse>,
    /// The first thing in its spec that no plugin knows how to obey.
    pub(crate) unsupported: Option<&'static str>,
    /// The `PodScheduled` condition as last written: status, reason, message.
    pub(crate) scheduled: Option<(String, String, String)>,
    pub(crate) revision: u64,
}

impl Pod {
    /// Its identity among pods.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }

    /// Whether it waits for this scheduler to place it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.node_name.is_empty()
            && !self.deleting
            && !self.ended
            && self.scheduler_name == "default-scheduler"
    }

    /// Whether it takes up room on a node.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        !self.node_name.is_empty() && !self.ended
    }

    /// Whether it uses this claim.
    pub(crate) fn uses(&self, claim: &Key) -> bool {
        self.claims.iter().any(|named| named.claim == *claim)
    }

    /// Whether every node is to both what it is to one of them. Claims are each pod's own.
    pub(crate) fn is_judged_as(&self, other: &Pod) -> bool {
        self.requests == other.requests
            && self.node_rules == other.node_rules
            && self.tolerations == other.tolerations
            && self.host_ports == other.host_ports
            && self.node_name == other.node_name
            && self.claims.is_empty()
            && other.claims.is_empty()
    }

    /// Whether the two say the same about where the pod may go.
    pub(crate) fn asks_the_same(&self, other: &Pod) -> bool {
        self.uid == other.uid
            && self.requests == other.requests
            && self.node_rules == other.node_rules
            && self.rules == other.rules
            && self.labels == other.labels
            && self.tolerations == other.tolerations
            && self.gates == other.gates
            && self.host_ports == other.host_ports
            && self.claims == other.claims
            && self.unsupported == other.unsupported
            && self.priority == other.priority
    }
}

impl From<core::Pod> for Pod {
    fn from(pod: core::Pod) -> Self {
        let revision = pod.revision();
        let spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let requests = Requests::of(&spec, &status);
        let labels = pod.metadata.labels.unwrap_or_default();
        let node_rules = NodeRules::of(&spec);
        let host_ports = HostPort::all(&spec);
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let namespace = name(&pod.metadata.namespace);
        let rules = Rules::of(&namespace, &labels, &spec);
        // The API takes no rules that cannot be read.
        let unread = rules
            .is_err()
            .then_some("rules about other pods that cannot be read");
        let unsupported = plugins::unsupported(&spec).or(unread);
        let claims = ClaimUse::all(&namespace, &name(&pod.metadata.name), &spec);
        let gates = spec.scheduling_gates.into_iter().flatten();
        let conditions = status.conditions.into_iter().flatten();
        let scheduled = conditions
            .filter(|condition| condition.type_ == "PodScheduled")
            .map(|c| {
                (
                    c.status,
                    c.reason.unwrap_or_default(),
                    c.message.unwrap_or_default(),
                )
            })
            .next();
        Pod {
            namespace,
            name: pod.metadata.name.unwrap_or_default(),
            uid: pod.metadata.uid.unwrap_or_default(),
            node_name: spec.node_name.unwrap_or_default(),
            scheduler_name: spec
                .scheduler_name
                .unwrap_or_else(|| "default-scheduler".to_owned()),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            nominated: status.nominated_node_name.unwrap_or_default(),
            started: status.start_time.map(|time| time.0),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            ended: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            labels,
            requests,
            node_rules,
            rules: rules.unwrap_or_default(),
            tolerations: spec.tolerations.unwrap_or_default(),
            gates: gates.map(|gate| gate.name).collect(),
            host_ports,
            claims,
            unsupported,
            scheduled,
            revision,
        }
    }
}

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        core::Pod::deserialize(deserializer).map(Pod::from)
    }
}

impl Object for Pod {
    fn namespace(&self) -> &str {
        &self.namespace
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
