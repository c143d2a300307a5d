//! What a pod may not ask of the operating system that it names.

use super::CONTAINERS;
use crate::kinds::field::{flag, items, present, text};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";

/// Fields of the spec, then of the pod's security context, then of a container's, that Windows has
/// nothing for.
const WINDOWS_SPEC: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
const WINDOWS_POD: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const WINDOWS_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Judges `os`, and what does not go with it.
pub(super) fn validate(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if present(spec, "/os").is_none() {
        return;
    }
    let os = path.child("os");
    match text(spec, "/os/name") {
        "" => errors.push(FieldError::required(&os.child("name"), "cannot be empty")),
        "linux" => {
            let why = "windows options cannot be set for a linux pod";
            contexts(
                spec,
                path,
                &["windowsOptions"],
                &["windowsOptions"],
                why,
                errors,
            );
        }
        "windows" => windows(spec, path, errors),
        other => errors.push(FieldError::not_supported(&os, other, &["linux", "windows"])),
    }
}

fn windows(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in WINDOWS_SPEC {
        let pointer = format!("/{field}");
        // The host's process and IPC namespaces are plain flags: false is as good as absent.
        let given = match field {
            "hostPID" | "hostIPC" => flag(spec, &pointer),
            _ => present(spec, &pointer).is_some(),
        };
        if given {
            errors.push(FieldError::forbidden(&path.child(field), NOT_ON_WINDOWS));
        }
    }
    contexts(
        spec,
        path,
        &WINDOWS_POD,
        &WINDOWS_CONTAINER,
        NOT_ON_WINDOWS,
        errors,
    );
}

/// A fault for each of these fields in the security contexts of the pod and of its containers.
fn contexts(
    spec: &Value,
    path: &FieldPath,
    of_pod: &[&str],
    of_container: &[&str],
    why: &str,
    errors: &mut Vec<FieldError>,
) {
    let mut judge = |holder: &Value, path: &FieldPath, fields: &[&str]| {
        for field in fields {
            let held = present(holder, &format!("/securityContext/{field}"));
            if held.is_some_and(|held| held.as_array().is_none_or(|list| !list.is_empty())) {
                let path = path.child("securityContext").child(field);
                errors.push(FieldError::forbidden(&path, why));
            }
        }
    };
    judge(spec, path, of_pod);
    for list in CONTAINERS {
        for (index, container) in items(spec, &format!("/{list}")).iter().enumerate() {
            judge(container, &path.child(list).index(index), of_container);
        }
    }
}
