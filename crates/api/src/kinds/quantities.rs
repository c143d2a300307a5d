//! Names of resources, and how much of them may be given: the rules that containers, limit ranges
//! and quotas share (`validateResourceName` and its kin in Kubernetes).

use super::field::text;
use super::names;
use crate::quantity::Quantity;
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value};

/// Resources of which only whole units exist.
const WHOLE: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// Resources without a slash that are no object counts.
const COMPUTE: [&str; 11] = [
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "storage",
];

/// Whether the name is of Kubernetes itself.
pub(super) fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

/// Whether the resource is one that a device plugin offers.
pub(super) fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && names::qualified_name(&format!("requests.{resource}")).is_empty()
}

/// CPU, memory and the like may be promised more often than there is; devices and huge pages not.
pub(super) fn overcommits(resource: &str) -> bool {
    is_native(resource) && !is_huge_pages(resource)
}

/// Whether the resource is memory in huge pages of one size.
pub(super) fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

fn is_quota_huge_pages(resource: &str) -> bool {
    is_huge_pages(resource) || resource.starts_with("requests.hugepages-")
}

/// The quantity of the resource in the list, if it is there and well formed.
pub(super) fn quantity(list: Option<&Map<String, Value>>, resource: &str) -> Option<Quantity> {
    Quantity::parse(list?.get(resource)?.as_str()?).ok()
}

/// Judges the name of any resource.
pub(super) fn resource_name(resource: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let before = errors.len();
    names::check(errors, path, resource, names::qualified_name);
    let standard =
        WHOLE.contains(&resource) || COMPUTE.contains(&resource) || is_quota_huge_pages(resource);
    if errors.len() == before && !resource.contains('/') && !standard {
        errors.push(FieldError::invalid(
            path,
            resource,
            "must be a standard resource type or fully qualified",
        ));
    }
}

/// Judges the name of a resource that a container asks for.
pub(super) fn container_resource_name(
    resource: &str,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    resource_name(resource, path, errors);
    let standard =
        matches!(resource, "cpu" | "memory" | "ephemeral-storage") || is_huge_pages(resource);
    let why = if !resource.contains('/') && !standard {
        "must be a standard resource for containers"
    } else if !is_native(resource) && !is_extended(resource) {
        "doesn't follow extended resource name standard"
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, resource, why));
}

/// Whether quotas know the resource by a name of their own.
pub(super) fn is_standard_for_quotas(resource: &str) -> bool {
    WHOLE.contains(&resource)
        || (COMPUTE.contains(&resource) && resource != "storage")
        || is_quota_huge_pages(resource)
}

/// Judges the name of a resource that a quota limits.
pub(super) fn quota_resource_name(resource: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    resource_name(resource, path, errors);
    if !resource.contains('/') && !is_standard_for_quotas(resource) {
        errors.push(FieldError::invalid(
            path,
            resource,
            "must be a standard resource for quota",
        ));
    }
}

/// Judges how much of a resource is given. A text that is no quantity is the decoder's affair.
pub(super) fn amount(
    resource: &str,
    value: &Value,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let Ok(quantity) = Quantity::parse(text(value, "")) else {
        return;
    };
    if quantity.is_negative() {
        errors.push(FieldError::invalid(
            path,
            value.clone(),
            "must be greater than or equal to 0",
        ));
    }
    let whole = WHOLE.contains(&resource) || is_extended(resource);
    if whole && quantity.milli() % 1000 != 0 {
        errors.push(FieldError::invalid(
            path,
            value.clone(),
            "must be an integer",
        ));
    }
}

/// Judges a quantity that must be above nothing.
pub(super) fn positive(value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if Quantity::parse(text(value, "")).is_ok_and(|held| held.is_zero() || held.is_negative()) {
        errors.push(FieldError::invalid(
            path,
            value.clone(),
            "must be greater than zero",
        ));
    }
}
