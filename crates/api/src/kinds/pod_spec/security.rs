//! Rules of security contexts.

use crate::kinds::field::{flag, int, items, maybe_flag, maybe_int, present, text};
use crate::kinds::names;
use crate::kinds::volume_source::below;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

const LARGEST_ID: i64 = i32::MAX as i64;
const LONGEST_PROFILE: usize = 4095;
const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn ids(context: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        if let Some(id) = maybe_int(context, &format!("/{field}")) {
            id_range(id, &path.child(field), errors);
        }
    }
}

fn id_range(id: i64, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if !(0..=LARGEST_ID).contains(&id) {
        errors.push(FieldError::invalid(
            path,
            id,
            "must be between 0 and 2147483647, inclusive",
        ));
    }
}

/// Judges a container's security context; `host_users` says that the pod shares the node's users.
pub(super) fn container(
    context: &Value,
    host_users: bool,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    ids(context, path, errors);
    names::one_of(errors, context, "procMount", path, &["Default", "Unmasked"]);
    if host_users && text(context, "/procMount") == "Unmasked" {
        errors.push(FieldError::invalid(
            &path.child("procMount"),
            "Unmasked",
            "`hostUsers` must be false to use `Unmasked`",
        ));
    }
    seccomp(context, path, errors);
    if maybe_flag(context, "/allowPrivilegeEscalation") == Some(false) {
        if flag(context, "/privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context.clone(), why));
        }
        for capability in items(context, "/capabilities/add") {
            if capability == "CAP_SYS_ADMIN" {
                let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
                errors.push(FieldError::invalid(path, context.clone(), why));
            }
        }
    }
    app_armor(context, path, errors);
}

/// Judges the security context of the pod spec at `path`.
pub(super) fn pod(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(context) = present(spec, "/securityContext") else {
        return;
    };
    let path = &path.child("securityContext");
    ids(context, path, errors);
    for (index, group) in items(context, "/supplementalGroups").iter().enumerate() {
        let path = path.child("supplementalGroups").index(index);
        id_range(int(group, ""), &path, errors);
    }
    if flag(spec, "/hostPID") && flag(spec, "/shareProcessNamespace") {
        errors.push(FieldError::invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    sysctls(spec, &path.child("sysctls"), errors);
    for (field, allowed) in [
        ("fsGroupChangePolicy", ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
        ("seLinuxChangePolicy", ["MountOption", "Recursive"]),
    ] {
        names::one_of(errors, context, field, path, &allowed);
    }
    seccomp(context, path, errors);
    app_armor(context, path, errors);
}

/// Judges what a pod with users of its own may not share with its node.
pub(super) fn host_users(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if maybe_flag(spec, "/hostUsers") != Some(false) {
        return;
    }
    let why = "when `hostUsers` is false";
    // The names of these fields as Kubernetes tells them.
    for (field, told) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if flag(spec, &format!("/{field}")) {
            errors.push(FieldError::forbidden(&path.child(told), why));
        }
    }
}

fn sysctls(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, sysctl) in items(spec, "/securityContext/sysctls").iter().enumerate() {
        let path = list.index(index).child("name");
        let name = text(sysctl, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !is_sysctl(name) {
            errors.push(FieldError::invalid(
                &path,
                name,
                "must have at most 253 characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        let of_ipc = name == "kernel.sem"
            || ["kernel.shm", "kernel.msg", "fs.mqueue."]
                .iter()
                .any(|prefix| name.starts_with(prefix));
        for (shared, theirs) in [
            ("hostNetwork", name.starts_with("net.")),
            ("hostIPC", of_ipc),
        ] {
            if theirs && flag(spec, &format!("/{shared}")) {
                let why = format!("may not be specified when '{shared}' is true");
                errors.push(FieldError::invalid(&path, name, &why));
            }
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            part.starts_with(edge)
                && part.ends_with(edge)
                && part.chars().all(|c| edge(c) || matches!(c, '-' | '_'))
        })
}

fn seccomp(context: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(profile) = present(context, "/seccompProfile") else {
        return;
    };
    let path = path.child("seccompProfile");
    profile_type(profile, "seccompProfile", &path, errors);
    let local = path.child("localhostProfile");
    let file = profile.get("localhostProfile").and_then(Value::as_str);
    match (text(profile, "/type"), file) {
        ("Localhost", None) => errors.push(FieldError::required(
            &local,
            "must be set when seccomp type is Localhost",
        )),
        ("Localhost", Some(file)) => below(file, &local, errors),
        (_, Some(_)) => errors.push(FieldError::invalid(
            &local,
            profile.clone(),
            "can only be set when seccomp type is Localhost",
        )),
        (_, None) => {}
    }
}

fn app_armor(context: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(profile) = present(context, "/appArmorProfile") else {
        return;
    };
    let path = path.child("appArmorProfile");
    let local = path.child("localhostProfile");
    let name = profile.get("localhostProfile").and_then(Value::as_str);
    match (text(profile, "/type"), name) {
        ("Localhost", None | Some("")) => errors.push(FieldError::required(
            &local,
            "must be set when AppArmor type is Localhost",
        )),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                let why = "must not be padded with whitespace";
                errors.push(FieldError::invalid(&local, name, why));
            }
            if name.len() > LONGEST_PROFILE {
                errors.push(FieldError::too_long(&local, LONGEST_PROFILE));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => errors.push(FieldError::invalid(
            &local,
            name,
            "can only be set when AppArmor type is Localhost",
        )),
        _ => profile_type(profile, "appArmorProfile", &path, errors),
    }
}

fn profile_type(profile: &Value, field: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if text(profile, "/type").is_empty() {
        let why = format!("type is required when {field} is set");
        errors.push(FieldError::required(&path.child("type"), &why));
    }
    names::one_of(errors, profile, "type", path, &PROFILES);
}
