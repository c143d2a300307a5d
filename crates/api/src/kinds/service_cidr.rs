//! ServiceCIDRs: from which addresses services are given theirs.

use super::Hooks;
use super::address::{check_cidr, cidr};
use super::field::{items, text};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "networking.k8s.io/v1 ServiceCIDR",
    validate,
    ..Hooks::NONE
};

fn validate(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("spec").child("cidrs");
    let blocks = items(object, "/spec/cidrs");
    if let Some(old) = old {
        // A block of the other family may be added.
        if !blocks.starts_with(items(old, "/spec/cidrs")) {
            let why = "field is immutable";
            errors.push(FieldError::invalid(&path, blocks.to_vec(), why));
        }
        return;
    }
    let family = |block: &Value| cidr(text(block, "")).map(|(address, _)| address.is_ipv4());
    let why = match blocks {
        [] => {
            let why = "at least one CIDR required";
            errors.push(FieldError::required(&path, why));
            return;
        }
        [_] => "",
        [one, other] if family(one) != family(other) => "",
        [_, _] => {
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        }
        _ => "may only hold up to 2 values",
    };
    if !why.is_empty() {
        errors.push(FieldError::invalid(&path, object["spec"].clone(), why));
        return;
    }
    for (index, block) in blocks.iter().enumerate() {
        check_cidr(errors, &path.index(index), text(block, ""));
    }
}
