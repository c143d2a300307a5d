//! EndpointSlices: a part each of the addresses behind a service.

use super::field::{children, default, default_text, items, root, text};
use super::{Hooks, names, template};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "discovery.k8s.io/v1 EndpointSlice",
    default: |slice| {
        let Some(slice) = root(slice) else { return };
        for port in children(slice, "ports") {
            default(port, "name", "");
            default_text(port, "protocol", "TCP");
        }
    },
    validate,
    ..Hooks::NONE
};

fn validate(slice: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    let kinds = ["FQDN", "IPv4", "IPv6"];
    if text(slice, "/addressType").is_empty() {
        errors.push(FieldError::required(&root.child("addressType"), ""));
    }
    names::one_of(errors, slice, "addressType", &root, &kinds);
    let endpoints = items(slice, "/endpoints");
    if endpoints.len() > 1000 {
        errors.push(FieldError::too_many(
            &root.child("endpoints"),
            endpoints.len(),
            1000,
        ));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        if items(endpoint, "/addresses").is_empty() {
            let path = root.child("endpoints").index(index).child("addresses");
            errors.push(FieldError::required(
                &path,
                "must contain at least 1 address",
            ));
        }
    }
    if let Some(old) = old {
        template::immutable(slice, old, "addressType", &root, errors);
    }
}
