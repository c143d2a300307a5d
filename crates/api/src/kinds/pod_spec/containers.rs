//! Rules of containers.

use super::{claims, environment, probes, resources, restarts, security};
use crate::kinds::field::{flag, int, items, map, maybe_int, present, text};
use crate::kinds::names;
use crate::kinds::volume_source::below;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a container's rules depend on outside of it.
pub(super) struct Pod<'a> {
    /// Names of the pod's volumes.
    pub(super) volumes: BTreeSet<&'a str>,
    /// Of these, the claims that are block devices are not known here; all may be mounted.
    pub(super) host_network: bool,
    /// Whether user ids are the node's own.
    pub(super) host_users: bool,
    /// How long the pod may take to end.
    pub(super) grace: Option<i64>,
    /// Names of the pod's resource claims.
    pub(super) claims: BTreeSet<&'a str>,
    /// When its containers are started again, unless they say so themselves.
    pub(super) restart_policy: &'a str,
}

/// Judges the regular containers, then the init containers, then the ephemeral ones.
pub(super) fn validate(
    spec: &Value,
    path: &FieldPath,
    pod: &Pod<'_>,
    errors: &mut Vec<FieldError>,
) {
    let regular = items(spec, "/containers");
    let list = path.child("containers");
    if regular.is_empty() {
        errors.push(FieldError::required(&list, ""));
    }
    let mut names = BTreeSet::new();
    for (index, container) in regular.iter().enumerate() {
        let path = list.index(index);
        common(container, &path, pod, errors);
        unique(container, &path, &mut names, errors);
        handlers(container, &path, pod, errors);
        restarts::validate(container, &path, errors);
    }
    host_ports(regular, &list, errors);
    let list = path.child("initContainers");
    let mut ports = BTreeSet::new();
    for (index, container) in items(spec, "/initContainers").iter().enumerate() {
        let path = list.index(index);
        common(container, &path, pod, errors);
        unique(container, &path, &mut names, errors);
        init_only(container, &path, pod, errors);
        container_host_ports(container, &path, &mut ports, errors);
    }
    let lasting = names.clone();
    let list = path.child("ephemeralContainers");
    for (index, container) in items(spec, "/ephemeralContainers").iter().enumerate() {
        let path = list.index(index);
        common(container, &path, pod, errors);
        let target = text(container, "/targetContainerName");
        if !target.is_empty() && !lasting.contains(target) {
            let path = path.child("targetContainerName");
            errors.push(FieldError::not_found(&path, target));
        }
        unique(container, &path, &mut names, errors);
        ephemeral_only(container, &path, errors);
    }
}

fn unique<'a>(
    container: &'a Value,
    path: &FieldPath,
    names: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    let name = text(container, "/name");
    if !name.is_empty() && !names.insert(name) {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    }
}

fn common(container: &Value, path: &FieldPath, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    match text(container, "/name") {
        "" => errors.push(FieldError::required(&path.child("name"), "")),
        name => names::check(errors, &path.child("name"), name, names::dns_label),
    }
    let image = text(container, "/image");
    if image.is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    } else if image.trim() != image {
        errors.push(FieldError::invalid(
            &path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        ));
    }
    names::one_of(
        errors,
        container,
        "terminationMessagePolicy",
        path,
        &["File", "FallbackToLogsOnError"],
    );
    ports(container, &path.child("ports"), pod, errors);
    for (index, variable) in items(container, "/env").iter().enumerate() {
        environment::variable(variable, &path.child("env").index(index), errors);
    }
    for (index, source) in items(container, "/envFrom").iter().enumerate() {
        environment::source(source, &path.child("envFrom").index(index), errors);
    }
    mounts(container, &path.child("volumeMounts"), pod, errors);
    devices(container, &path.child("volumeDevices"), pod, errors);
    names::one_of(
        errors,
        container,
        "imagePullPolicy",
        path,
        &["Always", "IfNotPresent", "Never"],
    );
    if let Some(held) = present(container, "/resources") {
        let path = path.child("resources");
        resources::validate(held, &path, errors);
        claims::used(held, &pod.claims, &path.child("claims"), errors);
    }
    resize_policy(container, &path.child("resizePolicy"), pod, errors);
    if let Some(context) = present(container, "/securityContext") {
        let path = path.child("securityContext");
        security::container(context, pod.host_users, &path, errors);
    }
}

/// Judges which resources may change in a running container, and how.
fn resize_policy(container: &Value, path: &FieldPath, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    let restarts = match text(container, "/restartPolicy") {
        "" => pod.restart_policy,
        own => own,
    };
    let mut seen = BTreeSet::new();
    for (index, policy) in items(container, "/resizePolicy").iter().enumerate() {
        let resource = text(policy, "/resourceName");
        if !seen.insert(resource) {
            errors.push(FieldError::duplicate(&path.index(index), resource));
        }
        for (field, allowed) in [
            ("resourceName", ["cpu", "memory"]),
            ("restartPolicy", ["NotRequired", "RestartContainer"]),
        ] {
            match text(policy, &format!("/{field}")) {
                "" => errors.push(FieldError::required(path, "")),
                value if !allowed.contains(&value) => {
                    errors.push(FieldError::not_supported(path, value, &allowed));
                }
                _ => {}
            }
        }
        if restarts == "Never" && text(policy, "/restartPolicy") == "RestartContainer" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, "RestartContainer", why));
        }
    }
}

/// Rules that hold for regular containers and sidecars.
fn handlers(container: &Value, path: &FieldPath, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    if let Some(lifecycle) = present(container, "/lifecycle") {
        probes::lifecycle(lifecycle, pod.grace, &path.child("lifecycle"), errors);
    }
    for probe in probes::KINDS {
        if let Some(held) = present(container, &format!("/{probe}")) {
            probes::validate(held, probe, &path.child(probe), errors);
        }
    }
}

fn init_only(container: &Value, path: &FieldPath, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    restarts::validate(container, path, errors);
    if text(container, "/restartPolicy") == "Always" {
        handlers(container, path, pod, errors);
        return;
    }
    for field in ["lifecycle"].into_iter().chain(probes::KINDS) {
        if present(container, &format!("/{field}")).is_some() {
            errors.push(FieldError::forbidden(
                &path.child(field),
                "may not be set for init containers without restartPolicy=Always",
            ));
        }
    }
}

fn ephemeral_only(container: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let fields = [
        "ports",
        "lifecycle",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
    ];
    for field in fields.into_iter().chain(probes::KINDS) {
        if present(container, &format!("/{field}")).is_some() {
            errors.push(FieldError::forbidden(
                &path.child(field),
                "cannot be set for an Ephemeral Container",
            ));
        }
    }
    if map(container, "/resources").is_some_and(|resources| !resources.is_empty()) {
        errors.push(FieldError::forbidden(
            &path.child("resources"),
            "cannot be set for an Ephemeral Container",
        ));
    }
    for (index, mount) in items(container, "/volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !text(mount, &format!("/{field}")).is_empty() {
                errors.push(FieldError::forbidden(
                    &path.child("volumeMounts").index(index).child(field),
                    "cannot be set for an Ephemeral Container",
                ));
            }
        }
    }
}

fn ports(container: &Value, list: &FieldPath, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    for (index, port) in items(container, "/ports").iter().enumerate() {
        let path = list.index(index);
        let name = text(port, "/name");
        if !name.is_empty() {
            let before = errors.len();
            names::check(errors, &path.child("name"), name, names::port_name);
            if errors.len() == before && !names.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        let number = int(port, "/containerPort");
        if number == 0 {
            errors.push(FieldError::required(&path.child("containerPort"), ""));
        } else if let Some(why) = names::port_number(number) {
            errors.push(FieldError::invalid(
                &path.child("containerPort"),
                number,
                why,
            ));
        }
        let host = int(port, "/hostPort");
        if host != 0 {
            if let Some(why) = names::port_number(host) {
                errors.push(FieldError::invalid(&path.child("hostPort"), host, why));
            } else if pod.host_network && host != number {
                errors.push(FieldError::invalid(
                    &path.child("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
        }
        match text(port, "/protocol") {
            "" => errors.push(FieldError::required(&path.child("protocol"), "")),
            _ => names::one_of(errors, port, "protocol", &path, &["SCTP", "TCP", "UDP"]),
        }
    }
}

fn host_ports(containers: &[Value], list: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut taken = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        container_host_ports(container, &list.index(index), &mut taken, errors);
    }
}

/// Two containers of a pod cannot publish one port of the node.
fn container_host_ports(
    container: &Value,
    path: &FieldPath,
    taken: &mut BTreeSet<String>,
    errors: &mut Vec<FieldError>,
) {
    for (index, port) in items(container, "/ports").iter().enumerate() {
        let number = int(port, "/hostPort");
        if number == 0 {
            continue;
        }
        let key = format!(
            "{}/{}/{number}",
            text(port, "/protocol"),
            text(port, "/hostIP")
        );
        if !taken.insert(key.clone()) {
            let path = path.child("ports").index(index).child("hostPort");
            errors.push(FieldError::duplicate(&path, key));
        }
    }
}

fn mounts(container: &Value, list: &FieldPath, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    let mut paths = BTreeSet::new();
    for (index, mount) in items(container, "/volumeMounts").iter().enumerate() {
        let path = list.index(index);
        match text(mount, "/name") {
            "" => errors.push(FieldError::required(&path.child("name"), "")),
            name if !pod.volumes.contains(name) => {
                errors.push(FieldError::not_found(&path.child("name"), name));
            }
            _ => {}
        }
        let at = text(mount, "/mountPath");
        if at.is_empty() {
            errors.push(FieldError::required(&path.child("mountPath"), ""));
        }
        if !paths.insert(at) {
            errors.push(FieldError::invalid(
                &path.child("mountPath"),
                at,
                "must be unique",
            ));
        }
        sub_path(mount, &path, errors);
        if flag(mount, "/readOnly") {
            names::one_of(
                errors,
                mount,
                "recursiveReadOnly",
                &path,
                &["Disabled", "Enabled", "IfPossible"],
            );
        } else if matches!(text(mount, "/recursiveReadOnly"), "Enabled" | "IfPossible") {
            errors.push(FieldError::forbidden(
                &path.child("recursiveReadOnly"),
                "may only be specified when readOnly is true",
            ));
        }
        names::one_of(
            errors,
            mount,
            "mountPropagation",
            &path,
            &["Bidirectional", "HostToContainer", "None"],
        );
        if text(mount, "/mountPropagation") == "Bidirectional"
            && !flag(container, "/securityContext/privileged")
        {
            errors.push(FieldError::forbidden(
                &path.child("mountPropagation"),
                "Bidirectional mount propagation is available only to privileged containers",
            ));
        }
    }
}

fn sub_path(mount: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["subPath", "subPathExpr"] {
        let value = text(mount, &format!("/{field}"));
        below(value, &path.child(field), errors);
    }
    if !text(mount, "/subPath").is_empty() && !text(mount, "/subPathExpr").is_empty() {
        errors.push(FieldError::invalid(
            &path.child("subPathExpr"),
            text(mount, "/subPathExpr"),
            "subPathExpr and subPath are mutually exclusive",
        ));
    }
}

fn devices(container: &Value, list: &FieldPath, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    for (index, device) in items(container, "/volumeDevices").iter().enumerate() {
        let path = list.index(index);
        match text(device, "/name") {
            "" => errors.push(FieldError::required(&path.child("name"), "")),
            name if !pod.volumes.contains(name) => {
                errors.push(FieldError::not_found(&path.child("name"), name));
            }
            _ => {}
        }
        if text(device, "/devicePath").is_empty() {
            errors.push(FieldError::required(&path.child("devicePath"), ""));
        }
    }
}

/// The number or name of a port at `pointer`; a fault unless it is a good one.
pub(super) fn port(object: &Value, field: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child(field);
    match object.get(field) {
        Some(Value::String(name)) => names::check(errors, &path, name, names::port_name),
        _ => {
            let number = maybe_int(object, &format!("/{field}")).unwrap_or_default();
            if let Some(why) = names::port_number(number) {
                errors.push(FieldError::invalid(&path, number, why));
            }
        }
    }
}
