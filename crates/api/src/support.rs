//! What a pod may not ask for yet, whatever its node is. A field that carob cannot honour keeps the pod from starting: it
//! is never ignored, and its writer is told at once.

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext, VolumeMount};

/// The first thing that the spec at this path asks for and carob does not have, named by its own path; `None` if there is
/// none.
pub fn refusal(spec: &PodSpec, at: &str) -> Option<String> {
    pod_wide(spec, at).or_else(|| containers(spec, at))
}

/// The words for it.
pub fn unsupported(path: &str) -> String {
    format!("{path} is not supported by carob yet")
}

/// The first field of a table that is asked for.
fn first(at: &str, table: &[(bool, &str)]) -> Option<String> {
    let asked = table.iter().find(|(asked, _)| *asked);
    asked.map(|(_, field)| unsupported(&format!("{at}.{field}")))
}

fn pod_wide(spec: &PodSpec, at: &str) -> Option<String> {
    let security = spec.security_context.as_ref();
    first(
        at,
        &[
            (spec.host_network == Some(true), "hostNetwork"),
            (spec.host_pid == Some(true), "hostPID"),
            (spec.host_ipc == Some(true), "hostIPC"),
            (some(&spec.resource_claims), "resourceClaims"),
            (
                spec.resources.is_some(),
                "resources (of the pod as a whole)",
            ),
            (
                spec.os.as_ref().is_some_and(|os| os.name == "windows"),
                "os.name windows",
            ),
            (
                security.is_some_and(|s| some(&s.sysctls)),
                "securityContext.sysctls",
            ),
            (
                security.is_some_and(|s| s.windows_options.is_some()),
                "securityContext.windowsOptions",
            ),
        ],
    )
}

fn some<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|l| !l.is_empty())
}

fn containers(spec: &PodSpec, at: &str) -> Option<String> {
    let inits = spec.init_containers.iter().flatten().enumerate();
    let mut inits = inits.map(|(i, c)| (c, format!("{at}.initContainers[{i}]"), !is_sidecar(c)));
    let mains = spec.containers.iter().enumerate();
    let mut mains = mains.map(|(i, c)| (c, format!("{at}.containers[{i}]"), false));
    inits
        .find_map(|(c, at, ends)| container(c, &at, ends))
        .or_else(|| mains.find_map(|(c, at, ends)| container(c, &at, ends)))
}

/// Whether an init container goes on for as long as the pod does.
fn is_sidecar(c: &Container) -> bool {
    c.restart_policy.as_deref() == Some("Always")
}

/// `ends`: whether the next container waits for its end.
fn container(c: &Container, at: &str, ends: bool) -> Option<String> {
    let lifecycle = c.lifecycle.as_ref();
    let mut sources = c.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
    let found = first(
        at,
        &[
            (
                lifecycle.is_some_and(|l| l.stop_signal.is_some()),
                "lifecycle.stopSignal",
            ),
            (some(&c.volume_devices), "volumeDevices"),
            (
                c.resources.as_ref().is_some_and(|r| some(&r.claims)),
                "resources.claims",
            ),
            (
                sources.any(|from| from.file_key_ref.is_some()),
                "env[].valueFrom.fileKeyRef",
            ),
            // Who is started to end is not asked how it is.
            (ends && c.liveness_probe.is_some(), "livenessProbe"),
            (ends && c.readiness_probe.is_some(), "readinessProbe"),
            (ends && c.startup_probe.is_some(), "startupProbe"),
        ],
    );
    let mut mounts = c.volume_mounts.iter().flatten().enumerate();
    found
        .or_else(|| limit(c, at))
        .or_else(|| security(c.security_context.as_ref()?, at))
        .or_else(|| mounts.find_map(|(i, m)| mount(m, &format!("{at}.volumeMounts[{i}]"))))
}

/// A limit that nothing would hold the guest to.
fn limit(c: &Container, at: &str) -> Option<String> {
    let limits = c.resources.as_ref()?.limits.as_ref()?;
    let name = limits.keys().find(|name| name.starts_with("hugepages-"))?;
    Some(unsupported(&format!("{at}.resources.limits[{name}]")))
}

/// Guests have no user ids, no capabilities and no system calls: what only takes rights away holds by itself.
fn security(s: &SecurityContext, at: &str) -> Option<String> {
    let adds = s.capabilities.as_ref().is_some_and(|c| some(&c.add));
    let masks = s.proc_mount.as_deref().is_some_and(|m| m != "Default");
    first(
        &format!("{at}.securityContext"),
        &[
            (s.privileged == Some(true), "privileged"),
            (adds, "capabilities.add"),
            (masks, "procMount"),
            (s.windows_options.is_some(), "windowsOptions"),
        ],
    )
}

fn mount(m: &VolumeMount, at: &str) -> Option<String> {
    let passes = m.mount_propagation.as_deref().is_some_and(|p| p != "None");
    first(at, &[(passes, "mountPropagation")])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_refused_is_named() {
        let probe = json!({"exec": {"command": ["x"]}});
        let of = |container: Value| json!({"containers": [{"name": "a"}, container]});
        for (spec, path) in [
            (of(json!({"name": "b", "livenessProbe": probe})), None),
            (json!({"hostPID": true, "containers": []}), Some("hostPID")),
            (
                of(json!({"name": "b", "securityContext": {"privileged": true}})),
                Some("containers[1].securityContext.privileged"),
            ),
            (
                of(json!({"name": "b", "resources": {"limits": {"hugepages-2Mi": "2Mi"}}})),
                Some("containers[1].resources.limits[hugepages-2Mi]"),
            ),
            (
                json!({"initContainers": [{"name": "a", "startupProbe": probe}], "containers": []}),
                Some("initContainers[0].startupProbe"),
            ),
            (
                json!({"initContainers": [{"name": "a", "startupProbe": probe, "restartPolicy": "Always"}], "containers": []}),
                None,
            ),
            (
                of(
                    json!({"name": "b", "volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]}),
                ),
                Some("containers[1].volumeMounts[0].mountPropagation"),
            ),
        ] {
            let parsed: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            let why = path.map(|path| format!("spec.{path} is not supported by carob yet"));
            assert_eq!(refusal(&parsed, "spec"), why, "{spec}");
        }
    }
}
