//! What a pod may not ask for yet. A field that carob cannot honour keeps the pod from starting: it is never ignored.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, Pod, PodDNSConfig, PodSpec, SecurityContext, VolumeMount,
};

use super::{PodView as _, Role};
use crate::cluster::DNS;
use crate::volumes;

/// What this node is, and lets pods have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    /// `hostPath` volumes.
    pub host_path: bool,
    /// The node's own addresses.
    pub ips: Vec<IpAddr>,
}

/// The first thing that the pod asks for and carob does not have, named by its path; `None` if there is none.
pub fn refusal(pod: &Pod, host: &Host) -> Option<String> {
    let spec = pod.pod_spec()?;
    pod_wide(spec)
        .or_else(|| containers(pod))
        .or_else(|| volumes::refusal(pod.volumes(), host))
}

fn unsupported(path: &str) -> Option<String> {
    Some(format!("{path} is not supported by carob yet"))
}

fn first(table: &[(bool, &str)]) -> Option<String> {
    table
        .iter()
        .find(|(asked, _)| *asked)
        .and_then(|(_, path)| unsupported(path))
}

fn pod_wide(spec: &PodSpec) -> Option<String> {
    let security = spec.security_context.as_ref();
    first(&[
        (spec.host_network == Some(true), "spec.hostNetwork"),
        (spec.host_pid == Some(true), "spec.hostPID"),
        (spec.host_ipc == Some(true), "spec.hostIPC"),
        (
            spec.share_process_namespace == Some(true),
            "spec.shareProcessNamespace",
        ),
        (
            spec.set_hostname_as_fqdn == Some(true),
            "spec.setHostnameAsFQDN",
        ),
        (spec.runtime_class_name.is_some(), "spec.runtimeClassName"),
        (some(&spec.resource_claims), "spec.resourceClaims"),
        (
            spec.resources.is_some(),
            "spec.resources (of the pod as a whole)",
        ),
        (
            spec.dns_config.as_ref().is_some_and(other_servers),
            "spec.dnsConfig.nameservers (other than the cluster's)",
        ),
        (
            spec.os.as_ref().is_some_and(|os| os.name == "windows"),
            "spec.os.name windows",
        ),
        (
            security.is_some_and(|s| some(&s.sysctls)),
            "spec.securityContext.sysctls",
        ),
        (
            security.is_some_and(|s| s.windows_options.is_some()),
            "spec.securityContext.windowsOptions",
        ),
    ])
}

/// Whether names are to be asked for elsewhere than at the cluster's DNS server.
fn other_servers(config: &PodDNSConfig) -> bool {
    let servers = config.nameservers.iter().flatten();
    servers.into_iter().any(|server| *server != DNS.to_string())
}

fn some<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|l| !l.is_empty())
}

fn containers(pod: &Pod) -> Option<String> {
    let first_main = pod.init_containers().len();
    let mut all = pod.all_containers().enumerate();
    all.find_map(|(i, (role, c))| {
        let at = match role {
            Role::Init | Role::Sidecar => format!("spec.initContainers[{i}]"),
            Role::Main => format!("spec.containers[{}]", i - first_main),
        };
        container(c, &at, role)
    })
}

fn container(c: &Container, at: &str, role: Role) -> Option<String> {
    let path = |field: &str| format!("{at}.{field}");
    let lifecycle = c.lifecycle.as_ref();
    let found = first(&[
        (
            lifecycle.is_some_and(|l| l.stop_signal.is_some()),
            &path("lifecycle.stopSignal"),
        ),
        (c.tty == Some(true), &path("tty")),
        (some(&c.volume_devices), &path("volumeDevices")),
        (
            c.resources.as_ref().is_some_and(|r| some(&r.claims)),
            &path("resources.claims"),
        ),
        (
            c.env.iter().flatten().any(|e| {
                e.value_from
                    .as_ref()
                    .is_some_and(|f| f.file_key_ref.is_some())
            }),
            &path("env[].valueFrom.fileKeyRef"),
        ),
    ]);
    found
        .or_else(|| probes(c, at, role))
        .or_else(|| limit(c, at))
        .or_else(|| c.security_context.as_ref().and_then(|s| security(s, at)))
        .or_else(|| {
            c.volume_mounts
                .iter()
                .flatten()
                .enumerate()
                .find_map(|(i, m)| mount(m, &format!("{at}.volumeMounts[{i}]")))
        })
}

/// Who is started to end is not asked how it is.
fn probes(c: &Container, at: &str, role: Role) -> Option<String> {
    let all = [
        ("livenessProbe", &c.liveness_probe),
        ("readinessProbe", &c.readiness_probe),
        ("startupProbe", &c.startup_probe),
    ];
    all.into_iter().find_map(|(field, probe)| {
        first(&[(
            role == Role::Init && probe.is_some(),
            &format!("{at}.{field}"),
        )])
    })
}

/// A limit that nothing would hold the guest to.
fn limit(c: &Container, at: &str) -> Option<String> {
    let limits = c.resources.as_ref()?.limits.as_ref()?;
    let name = limits
        .keys()
        .find(|name| *name == "ephemeral-storage" || name.starts_with("hugepages-"))?;
    unsupported(&format!("{at}.resources.limits[{name}]"))
}

/// Guests have no user ids, no capabilities and no system calls: what only takes rights away holds by itself.
fn security(s: &SecurityContext, at: &str) -> Option<String> {
    let path = |field: &str| format!("{at}.securityContext.{field}");
    let adds = s.capabilities.as_ref().is_some_and(|c| some(&c.add));
    first(&[
        (s.privileged == Some(true), &path("privileged")),
        (adds, &path("capabilities.add")),
        (
            s.proc_mount.as_deref().is_some_and(|m| m != "Default"),
            &path("procMount"),
        ),
        (s.windows_options.is_some(), &path("windowsOptions")),
    ])
}

fn mount(m: &VolumeMount, at: &str) -> Option<String> {
    first(&[(
        m.mount_propagation.as_deref().is_some_and(|p| p != "None"),
        &format!("{at}.mountPropagation"),
    )])
}
