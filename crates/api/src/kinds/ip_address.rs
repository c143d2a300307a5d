//! IPAddresses: who holds an address of the cluster.

use super::field::{present, text};
use super::{Hooks, address, names, template};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "networking.k8s.io/v1 IPAddress",
    validate,
    ..Hooks::NONE
};

fn validate(address: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("spec");
    if let Some(old) = old {
        let (new, old) = (&address["spec"], &old["spec"]);
        template::immutable(new, old, "parentRef", &path, errors);
        return;
    }
    name(text(address, "/metadata/name"), errors);
    let path = path.child("parentRef");
    let Some(parent) = present(address, "/spec/parentRef") else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    let group = text(parent, "/group");
    if !group.is_empty() {
        names::check(errors, &path.child("group"), group, names::dns_subdomain);
    }
    for field in ["resource", "name", "namespace"] {
        match text(parent, &format!("/{field}")) {
            "" if field == "namespace" => {}
            "" => errors.push(FieldError::required(&path.child(field), "")),
            value => names::check(errors, &path.child(field), value, names::path_segment),
        }
    }
}

/// The name is the address, in the one form that all write it in.
fn name(name: &str, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("metadata").child("name");
    match address::ip(name) {
        None => address::check_ip(errors, &path, name),
        Some(held) if held.to_string() != name && !name.contains('.') => {
            let why = format!("must be in canonical form (\"{held}\")");
            errors.push(FieldError::invalid(&path, name, &why));
        }
        Some(_) => {}
    }
}
