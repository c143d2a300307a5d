//! What policies ask of a pod.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodStatus};
use network::policy::NamedPort;

use crate::ports;

/// A pod as policies see it. Whatever else changes of it is nothing to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) uid: String,
    pub(super) address: Ipv4Addr,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) ports: Vec<NamedPort>,
    pub(super) node: Option<Ipv4Addr>,
    pub(super) created: Option<Timestamp>,
}

impl Facts {
    /// None of a pod that is nobody's peer and has no rules: it has no address (of this network's kind) yet, has its
    /// node's, or has ended, so that its address may be another's.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if ended || spec.host_network == Some(true) {
            return None;
        }
        Some(Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            address: address(status)?,
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            ports: ports::declared(spec).filter_map(named).collect(),
            node: status.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
            created: pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
        })
    }
}

fn address(status: &PodStatus) -> Option<Ipv4Addr> {
    let further = status.pod_ips.iter().flatten().map(|of| of.ip.as_str());
    status
        .pod_ip
        .as_deref()
        .into_iter()
        .chain(further)
        .find_map(|ip| ip.parse().ok())
}

fn named(port: &ContainerPort) -> Option<NamedPort> {
    Some(NamedPort {
        name: port.name.clone()?,
        protocol: ports::protocol(port.protocol.as_deref())?,
        number: u16::try_from(port.container_port).ok()?,
    })
}
