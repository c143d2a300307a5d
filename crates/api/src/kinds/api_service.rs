//! APIServices: who serves a group's version.

use super::field::{flag, int, maybe_int, present, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "apiregistration.k8s.io/v1 APIService",
    validate,
    ..Hooks::NONE
};

fn validate(service: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &service["spec"];
    let path = FieldPath::new("spec");
    let (group, version) = (text(spec, "/group"), text(spec, "/version"));
    let name = text(service, "/metadata/name");
    let expected = format!("{version}.{group}");
    if name != expected {
        let path = FieldPath::new("metadata").child("name");
        let why = format!("must be `spec.version+\".\"+spec.group`: {expected:?}");
        errors.push(FieldError::invalid(&path, name, &why));
    }
    let at = path.child("group");
    if !group.is_empty() {
        names::check(errors, &at, group, names::dns_subdomain);
    } else if version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.push(FieldError::required(&at, why));
    }
    let at = path.child("version");
    names::check(errors, &at, version, names::dns_1035_label);
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let number = int(spec, &format!("/{field}"));
        if !(1..=most).contains(&number) {
            let why = format!("must be positive and less than {most}");
            errors.push(FieldError::invalid(&path.child(field), number, &why));
        }
    }
    let skips = flag(spec, "/insecureSkipTLSVerify");
    let bundle = text(spec, "/caBundle");
    let backend = path.child("service");
    let skip = path.child("insecureSkipTLSVerify");
    let Some(held) = present(spec, "/service") else {
        if !bundle.is_empty() {
            let size = super::config_map::decoded_length(&spec["caBundle"]);
            errors.push(FieldError::invalid(
                &path.child("caBundle"),
                format!("{size} bytes"),
                "local APIServices may not have a caBundle",
            ));
        }
        if skips {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(&skip, true, why));
        }
        return;
    };
    for field in ["namespace", "name"] {
        if text(held, &format!("/{field}")).is_empty() {
            errors.push(FieldError::required(&backend.child(field), ""));
        }
    }
    if let Some(port) = maybe_int(held, "/port")
        && let Some(why) = names::port_number(port)
    {
        let why = format!("port is not valid: {why}");
        errors.push(FieldError::invalid(&backend.child("port"), port, &why));
    }
    if skips && !bundle.is_empty() {
        let why = "may not be true if caBundle is present";
        errors.push(FieldError::invalid(&skip, true, why));
    }
}
