//! The ports of nodes that pods take for themselves: `hostPort`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};

/// Any of a node's addresses.
const ANY: &str = "0.0.0.0";

/// A port of a node: its protocol, number and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    protocol: String,
    number: i32,
    address: String,
}

impl HostPort {
    fn of(port: &ContainerPort) -> Option<Self> {
        let given = |text: &Option<String>, default: &str| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.unwrap_or(default).to_owned()
        };
        Some(HostPort {
            protocol: given(&port.protocol, "TCP"),
            number: port.host_port.filter(|number| *number > 0)?,
            address: given(&port.host_ip, ANY),
        })
    }

    /// All that a pod's containers take, those that run side by side.
    pub(crate) fn all(spec: &PodSpec) -> Vec<Self> {
        api::ports::declared(spec)
            .filter_map(HostPort::of)
            .collect()
    }
}

/// The ports that a node's pods have taken, and how often: one that is bound by hand may take what is taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostPorts(BTreeMap<(i32, String), BTreeMap<String, usize>>);

impl HostPorts {
    pub(crate) fn add(&mut self, ports: &[HostPort]) {
        for port in ports {
            let at = self
                .0
                .entry((port.number, port.protocol.clone()))
                .or_default();
            *at.entry(port.address.clone()).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, ports: &[HostPort]) {
        for port in ports {
            let key = (port.number, port.protocol.clone());
            let Some(at) = self.0.get_mut(&key) else {
                continue;
            };
            if let Some(count) = at.get_mut(&port.address) {
                *count -= 1;
                if *count == 0 {
                    at.remove(&port.address);
                }
            }
            if at.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Whether none of these is taken. Any address is each of them: kube-scheduler's rule.
    pub(crate) fn has_free(&self, ports: &[HostPort]) -> bool {
        ports.iter().all(|port| {
            let at = self.0.get(&(port.number, port.protocol.clone()));
            at.is_none_or(|at| {
                port.address != ANY && !at.contains_key(ANY) && !at.contains_key(&port.address)
            })
        })
    }
}
