//! What pods' containers declare of their ports.

use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};

/// Of a port that names no protocol.
const TCP: &str = "TCP";

/// The ports of the containers that run side by side: those of the pod's own containers, then those of its sidecars, which
/// are init containers that run on. What has ended by then has no ports.
pub fn declared(spec: &PodSpec) -> impl Iterator<Item = &ContainerPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    containers.flat_map(|container| container.ports.iter().flatten())
}

/// The number of the first port of this name and protocol, as Kubernetes' `FindPort` has it.
pub fn named(spec: &PodSpec, name: &str, protocol: &str) -> Option<i32> {
    let is_it = |port: &&ContainerPort| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or(TCP) == protocol
    };
    declared(spec).find(is_it).map(|port| port.container_port)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_looked_for_where_something_runs() {
        let spec = json!({
            "initContainers": [
                {"name": "ends", "ports": [{"name": "gone", "containerPort": 1}, {"name": "web", "containerPort": 2}]},
                {"name": "sidecar", "restartPolicy": "Always", "ports": [
                    {"name": "web", "containerPort": 3},
                    {"name": "metrics", "containerPort": 4},
                ]},
            ],
            "containers": [
                {"name": "a"},
                {"name": "b", "ports": [
                    {"name": "dns", "containerPort": 5, "protocol": "UDP"},
                    {"containerPort": 6},
                    {"name": "web", "containerPort": 7},
                ]},
                {"name": "c", "ports": [
                    {"name": "dns", "containerPort": 8, "protocol": "TCP"},
                    {"name": "web", "containerPort": 9},
                ]},
            ],
        });
        let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
        for (name, protocol, want) in [
            // A pod's own containers come before its sidecars, wherever they stand.
            ("web", "TCP", Some(7)),
            ("metrics", "TCP", Some(4)),
            ("dns", "UDP", Some(5)),
            ("dns", "TCP", Some(8)),
            ("web", "UDP", None),
            // It has ended.
            ("gone", "TCP", None),
            ("", "TCP", None),
        ] {
            assert_eq!(named(&spec, name, protocol), want, "{name} {protocol}");
        }
        let numbers: Vec<i32> = declared(&spec).map(|port| port.container_port).collect();
        assert_eq!(numbers, [5, 6, 7, 8, 9, 3, 4]);
    }
}
