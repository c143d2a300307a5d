//! All the cluster's pods, as far as their network goes: a node remembers every one of them.

use api::static_pods::MIRROR;
use client::Object;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

/// A pod without all that connections do not depend on, which is a tenth of it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// What is left.
    pub(crate) pod: Pod,
    /// It mirrors what its node has from a file.
    pub(crate) is_mirror: bool,
    revision: u64,
}

/// Whatever else changes of a pod is no change of this.
impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.pod == other.pod && self.is_mirror == other.is_mirror
    }
}

impl From<Pod> for Peer {
    fn from(pod: Pod) -> Self {
        let revision = pod.revision();
        let (meta, spec, status) = (
            pod.metadata,
            pod.spec.unwrap_or_default(),
            pod.status.unwrap_or_default(),
        );
        // Its node knows the pod by the uid that it gave it, and says that where it opens connections.
        let annotations = meta.annotations.as_ref();
        let mirrored = annotations.and_then(|held| held.get(MIRROR)).cloned();
        let is_mirror = mirrored.is_some();
        let container = |container: Container| Container {
            name: container.name,
            ports: container.ports,
            restart_policy: container.restart_policy,
            ..Container::default()
        };
        let initial = spec
            .init_containers
            .map(|all| all.into_iter().map(container).collect());
        let pod = Pod {
            metadata: ObjectMeta {
                namespace: meta.namespace,
                name: meta.name,
                uid: mirrored.or(meta.uid),
                labels: meta.labels,
                creation_timestamp: meta.creation_timestamp,
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: spec.node_name,
                host_network: spec.host_network,
                containers: spec.containers.into_iter().map(container).collect(),
                init_containers: initial,
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: status.phase,
                host_ip: status.host_ip,
                host_ips: status.host_ips,
                pod_ip: status.pod_ip,
                pod_ips: status.pod_ips,
                ..PodStatus::default()
            }),
        };
        Peer {
            pod,
            is_mirror,
            revision,
        }
    }
}

impl Peer {
    /// The pod, for events about it.
    pub(crate) fn reference(&self) -> ObjectReference {
        client::reference(&self.pod)
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Pod::deserialize(deserializer).map(Peer::from)
    }
}

impl Object for Peer {
    fn namespace(&self) -> &str {
        self.pod.namespace()
    }

    fn name(&self) -> &str {
        self.pod.name()
    }

    fn uid(&self) -> &str {
        self.pod.uid()
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_connections_do_not_depend_on_is_no_change() {
        let peer = |version: &str, ip: &str| -> Peer {
            let pod = json!({"metadata": {"name": "p", "uid": "u", "resourceVersion": version, "annotations": {"v": version}},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "image": version, "ports": [{"containerPort": 80}]}]},
                "status": {"podIP": ip, "conditions": [{"type": version, "status": "True"}]}});
            serde_json::from_value(pod).expect("a pod")
        };
        assert_eq!(peer("1", "10.0.0.1"), peer("2", "10.0.0.1"));
        assert_ne!(peer("1", "10.0.0.1"), peer("1", "10.0.0.2"));
        assert_eq!(peer("7", "10.0.0.1").revision(), 7);
        assert_eq!(peer("7", "10.0.0.1").reference().uid.as_deref(), Some("u"));
    }

    #[test]
    fn a_mirror_has_the_uid_of_what_it_mirrors() {
        let annotations = json!({"kubernetes.io/config.mirror": "h"});
        let pod = json!({"metadata": {"name": "p", "uid": "u", "annotations": annotations}});
        let peer: Peer = serde_json::from_value(pod).expect("a pod");
        assert_eq!((peer.uid(), peer.is_mirror), ("h", true));
    }
}
