//! Rules of probes and lifecycle hooks.

use super::containers::port;
use crate::kinds::field::{int, items, maybe_int, present, text};
use crate::kinds::names;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

/// The probes a container may have, in the order in which their faults are told.
pub(super) const KINDS: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

pub(super) fn validate(probe: &Value, kind: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    handler(
        probe,
        path,
        &["exec", "httpGet", "tcpSocket", "grpc"],
        None,
        errors,
    );
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        names::not_negative(errors, probe, field, path);
    }
    if let Some(seconds) = maybe_int(probe, "/terminationGracePeriodSeconds") {
        let path = path.child("terminationGracePeriodSeconds");
        if kind == "readinessProbe" {
            errors.push(FieldError::invalid(
                &path,
                seconds,
                "must not be set for readinessProbes",
            ));
        } else if seconds <= 0 {
            errors.push(FieldError::invalid(
                &path,
                seconds,
                "must be greater than 0",
            ));
        }
    }
    let successes = int(probe, "/successThreshold");
    if kind != "readinessProbe" && successes != 1 {
        errors.push(FieldError::invalid(
            &path.child("successThreshold"),
            successes,
            "must be 1",
        ));
    }
}

/// Judges the hooks of a container whose pod has `grace` seconds to end.
pub(super) fn lifecycle(
    lifecycle: &Value,
    grace: Option<i64>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for hook in ["postStart", "preStop"] {
        if let Some(held) = present(lifecycle, &format!("/{hook}")) {
            let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
            handler(held, &path.child(hook), &kinds, grace, errors);
        }
    }
}

/// Judges the one action that must be there.
fn handler(
    holder: &Value,
    path: &FieldPath,
    kinds: &[&str],
    grace: Option<i64>,
    errors: &mut Vec<FieldError>,
) {
    let mut seen = false;
    for kind in kinds {
        let Some(action) = present(holder, &format!("/{kind}")) else {
            continue;
        };
        let path = path.child(kind);
        if seen {
            errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 handler type",
            ));
            continue;
        }
        seen = true;
        match *kind {
            "sleep" => sleep(action, grace, &path, errors),
            kind => judge(kind, action, &path, errors),
        }
    }
    if !seen {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

/// A pause that the pod has no time for is told at the pause, not at its seconds.
fn sleep(action: &Value, grace: Option<i64>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let seconds = int(action, "/seconds");
    if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
        let why =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(path, seconds, &why));
    }
}

fn judge(kind: &str, action: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match kind {
        "exec" => {
            if items(action, "/command").is_empty() {
                errors.push(FieldError::required(&path.child("command"), ""));
            }
        }
        "httpGet" => {
            if text(action, "/path").is_empty() {
                errors.push(FieldError::required(&path.child("path"), ""));
            }
            port(action, "port", path, errors);
            names::one_of(errors, action, "scheme", path, &["HTTP", "HTTPS"]);
            for (index, header) in items(action, "/httpHeaders").iter().enumerate() {
                let name = text(header, "/name");
                if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                    errors.push(FieldError::invalid(
                        &path.child("httpHeaders").index(index).child("name"),
                        name,
                        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
                    ));
                }
            }
        }
        _ => port(action, "port", path, errors),
    }
}
