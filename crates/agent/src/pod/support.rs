//! What a pod may not ask for yet: what nobody has (`api::support`), and what this node has not.

use std::net::IpAddr;
use std::path::PathBuf;

use api::support;
use k8s_openapi::api::core::v1::{Container, Pod, PodDNSConfig};

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

/// Whether a container may be started by the user that it asks for, as the kubelet judges of it. What it says itself
/// counts before what its pod says.
///
/// # Errors
/// In the kubelet's words, for the container's `CreateContainerConfigError`.
pub fn verify_non_root(pod: &Pod, container: &Container) -> Result<(), String> {
    let of_pod = pod.pod_spec().and_then(|s| s.security_context.as_ref());
    let own = container.security_context.as_ref();
    let non_root = own.and_then(|c| c.run_as_non_root);
    let non_root = non_root.or_else(|| of_pod?.run_as_non_root);
    let user = own.and_then(|c| c.run_as_user);
    let user = user.or_else(|| of_pod?.run_as_user);
    match (non_root, user) {
        (Some(true), Some(0)) => Err(format!(
            "container's runAsUser breaks non-root policy (pod: \"{}\", container: {})",
            pod.label(),
            container.name
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn root_is_refused_where_nobody_is_to_be_root() {
        let judged = |of_pod: Value, own: Value| {
            let pod = json!({
                "metadata": {"name": "p", "namespace": "default", "uid": "u"},
                "spec": {"securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]},
            });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            verify_non_root(&pod, &pod.containers()[0])
        };
        let why =
            "container's runAsUser breaks non-root policy (pod: \"p_default(u)\", container: c)";
        let (root, non_root) = (json!({"runAsUser": 0}), json!({"runAsNonRoot": true}));
        let both = json!({"runAsNonRoot": true, "runAsUser": 0});
        for (of_pod, own) in [
            (both.clone(), Value::Null),
            (Value::Null, both.clone()),
            (root.clone(), non_root.clone()),
            (non_root.clone(), root.clone()),
        ] {
            assert_eq!(judged(of_pod, own), Err(why.to_owned()));
        }
        for (of_pod, own) in [
            (root, Value::Null),
            (non_root, Value::Null),
            (both.clone(), json!({"runAsUser": 1})),
            (both, json!({"runAsNonRoot": false})),
        ] {
            assert_eq!(judged(of_pod, own), Ok(()));
        }
    }
}
