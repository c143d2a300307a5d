//! What single kinds add to the schema: defaults that need code, fields that the server sets,
//! rules. One file a kind and one line in the table `ALL`.

mod address;
mod admission_rules;
mod api_service;
mod certificate_signing_request;
mod config_map;
mod controller_revision;
mod cron_job;
mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod device_class;
mod endpoint_slice;
mod endpoints;
mod event;
pub(crate) mod field;
mod flow_schema;
mod horizontal_pod_autoscaler;
mod ingress;
mod ingress_class;
mod ip_address;
mod job;
mod lease;
mod limit_range;
pub(crate) mod names;
mod namespace;
mod network_policy;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
pub(crate) mod pod;
mod pod_disruption_budget;
mod pod_spec;
mod pod_template;
mod priority_class;
mod priority_level_configuration;
mod quantities;
mod rbac;
mod replica_set;
mod replication_controller;
mod resource_claim;
mod resource_quota;
mod resource_slice;
mod runtime_class;
mod secret;
mod service;
mod service_cidr;
mod stateful_set;
pub(crate) mod statuses;
mod storage_class;
mod template;
mod validating_admission_policy;
pub mod versions;
mod volume_attachment;
mod volume_attributes_class;
mod volume_source;
mod webhook_configuration;

use serde_json::Value;

use crate::resource::Resource;
use crate::status::{FieldError, FieldErrorKind, FieldPath};
use crate::write::Context;

/// What a kind adds to the write path. Each function gets the object after the schema's types
/// were checked: a field that is there has its type, but any field may be missing.
pub struct Hooks {
    /// `apps/v1 Deployment`: apiVersion and kind.
    pub kind: &'static str,
    /// Fills what the schema's plain defaults cannot express. Runs after them, on create, update
    /// and patch, and must not change an object that it has filled before.
    pub default: fn(&mut Value),
    /// Sets what only the server may set; `old` is the stored object on update. Runs after
    /// `default`. The write path has already kept `status` on an update of the spec and everything
    /// but `status` on an update of the status.
    pub prepare: fn(&mut Value, Option<&Value>, &Context),
    /// Judges the object; `old` is the stored object on update.
    pub validate: fn(&Value, Option<&Value>, &mut Vec<FieldError>),
}

impl Hooks {
    /// A kind with nothing special.
    pub const NONE: Self = Self {
        kind: "",
        default: |_| {},
        prepare: |_, _, _| {},
        validate: |_, _, _| {},
    };
}

/// Every kind with hooks, sorted by `kind`.
static ALL: &[Hooks] = &[
    validating_admission_policy::MUTATING_POLICY,
    validating_admission_policy::MUTATING_BINDING,
    webhook_configuration::MUTATING,
    validating_admission_policy::POLICY,
    validating_admission_policy::BINDING,
    webhook_configuration::VALIDATING,
    custom_resource_definition::HOOKS,
    api_service::HOOKS,
    controller_revision::HOOKS,
    daemon_set::HOOKS,
    deployment::HOOKS,
    replica_set::HOOKS,
    stateful_set::HOOKS,
    horizontal_pod_autoscaler::V1,
    horizontal_pod_autoscaler::V2,
    cron_job::HOOKS,
    job::HOOKS,
    certificate_signing_request::HOOKS,
    lease::HOOKS,
    endpoint_slice::HOOKS,
    event::STRICT,
    flow_schema::HOOKS,
    priority_level_configuration::HOOKS,
    ip_address::HOOKS,
    ingress::HOOKS,
    ingress_class::HOOKS,
    network_policy::HOOKS,
    service_cidr::HOOKS,
    runtime_class::HOOKS,
    pod_disruption_budget::HOOKS,
    rbac::CLUSTER_ROLE,
    rbac::CLUSTER_ROLE_BINDING,
    rbac::ROLE,
    rbac::ROLE_BINDING,
    device_class::HOOKS,
    resource_claim::CLAIM,
    resource_claim::TEMPLATE,
    resource_slice::HOOKS,
    priority_class::HOOKS,
    csi_driver::HOOKS,
    csi_node::HOOKS,
    csi_storage_capacity::HOOKS,
    storage_class::HOOKS,
    volume_attachment::HOOKS,
    volume_attributes_class::HOOKS,
    config_map::HOOKS,
    endpoints::HOOKS,
    event::CORE,
    limit_range::HOOKS,
    namespace::HOOKS,
    node::HOOKS,
    persistent_volume::HOOKS,
    persistent_volume_claim::HOOKS,
    pod::HOOKS,
    pod_template::HOOKS,
    replication_controller::HOOKS,
    resource_quota::HOOKS,
    secret::HOOKS,
    service::HOOKS,
];

/// Judges what a subresource made of an object; given are the next object and the stored one.
type JudgePart = fn(&Value, &Value, &mut Vec<FieldError>);

/// Subresources with rules of their own, instead of their kind's.
static PARTS: &[(&str, &str, JudgePart)] = &[("v1 Pod", "resize", pod::resize::validate)];

/// The rules of writing a resource by a subresource, where they are not those of writing it as a whole.
pub(crate) fn part(resource: &Resource, subresource: Option<&str>) -> Option<JudgePart> {
    let subresource = subresource?;
    let kind = format!("{} {}", resource.api_version, resource.kind);
    let mut parts = PARTS.iter();
    let found = parts.find(|(of, part, _)| *of == kind && *part == subresource)?;
    Some(found.2)
}

/// A fault whose value is not told.
fn omitted(path: &FieldPath, why: &str) -> FieldError {
    FieldError {
        kind: FieldErrorKind::Invalid,
        field: path.clone(),
        message: format!("Invalid value: {why}"),
    }
}

/// The hooks of a resource; those that do nothing if it has none.
pub fn hooks(resource: &Resource) -> &'static Hooks {
    static NONE: Hooks = Hooks::NONE;
    let kind = format!("{} {}", resource.api_version, resource.kind);
    match ALL.binary_search_by(|hooks| hooks.kind.cmp(kind.as_str())) {
        Ok(at) => &ALL[at],
        Err(_) => &NONE,
    }
}

#[cfg(test)]
mod tests;
