//! What a pod may not ask for yet: what nobody has (`api::support`), and what this node has not.

use std::net::IpAddr;
use std::path::PathBuf;

use api::support;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use super::PodView as _;
use crate::cluster::DNS;
use crate::volumes;

/// What this node is, and lets pods have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    /// `hostPath` volumes.
    pub host_path: bool,
    /// The node's own addresses.
    pub ips: Vec<IpAddr>,
    /// Where volumes lie in memory, if it has memory for that: a directory a pod.
    pub memory: Option<PathBuf>,
}

/// The first thing that the pod asks for and carob does not have, named by its path; `None` if there is none.
pub fn refusal(pod: &Pod, host: &Host) -> Option<String> {
    let spec = pod.pod_spec()?;
    support::refusal(spec, "spec")
        .or_else(|| {
            let others = spec.dns_config.as_ref().is_some_and(other_servers);
            others.then(|| {
                support::unsupported("spec.dnsConfig.nameservers (other than the cluster's)")
            })
        })
        .or_else(|| volumes::refusal(pod.volumes(), host))
}

/// Whether names are to be asked for elsewhere than at the cluster's DNS server.
fn other_servers(config: &PodDNSConfig) -> bool {
    let servers = config.nameservers.iter().flatten();
    servers.into_iter().any(|server| *server != DNS.to_string())
}
