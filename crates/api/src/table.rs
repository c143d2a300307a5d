//! Objects as rows: what a client gets that asks for `as=Table` (`kubectl get`).
//!
//! The columns come from [`Resource::columns`]; the functions that fill them stand in the modules
//! below, with a line each in the table `CELLS`. A kind without a line has its name and its creation time.

mod access;
mod age;
mod cell;
mod cluster;
mod network;
mod pod;
mod scale;
mod storage;
mod usage;
mod workload;

pub use age::human_duration;
pub use scale::scale;

use crate::object::{Object, ObjectError};
use crate::resource::{Column, Resource};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What a row carries of its object besides the cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata, as a `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// Reads the query parameter `includeObject`; empty or absent is [`Include::Metadata`]. None: it is no such word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// What stands around the rows.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The revision of the list, or of the object if there is one only.
    pub resource_version: String,
    /// Token for the rest of a list that was cut off; else empty.
    pub continue_token: String,
    /// How many objects that rest has, if known.
    pub remaining: Option<i64>,
    /// Leave out the column definitions: in a watch only the first event has them.
    pub without_columns: bool,
}

/// The table of `objects` as `meta.k8s.io/v1 Table` in JSON. Ages count up to `now`.
///
/// # Errors
///
/// When an object's bytes are no JSON.
pub fn table<'a>(
    resource: &Resource,
    objects: impl IntoIterator<Item = &'a Object>,
    now: Timestamp,
    include: Include,
    frame: &Frame,
) -> Result<Vec<u8>, ObjectError> {
    let mut rows = Vec::new();
    for object in objects {
        rows.push(row(resource, object.value()?, now, include));
    }
    let columns: Vec<Value> = if frame.without_columns {
        Vec::new()
    } else {
        columns(resource).iter().map(definition).collect()
    };
    let table = json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta(frame),
        "columnDefinitions": columns,
        "rows": rows,
    });
    Ok(serde_json::to_vec(&table)?)
}

/// The object's metadata alone, as a `meta.k8s.io/v1 PartialObjectMetadata`.
pub fn partial_object_metadata(object: Value) -> Value {
    let metadata = match object {
        Value::Object(mut object) => object.remove("metadata").unwrap_or_default(),
        _ => Value::Null,
    };
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
    })
}

/// The cells of one object, in the order of [`columns`].
pub fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let kind = (resource.group, resource.kind);
    match CELLS.binary_search_by(|(known, _)| known.cmp(&kind)) {
        Ok(at) => CELLS[at].1(object, now),
        Err(_) => columns(resource)
            .iter()
            .map(|column| match column.name {
                "Name" => cell::name(object),
                "Age" => cell::age(object, now),
                "Created At" => cell::created_at(object),
                _ => Value::Null,
            })
            .collect(),
    }
}

/// The columns of a resource's tables; name and creation time where it has none of its own.
pub fn columns(resource: &Resource) -> &'static [Column] {
    static PLAIN: [Column; 2] = [
        Column {
            name: "Name",
            kind: "string",
            format: "name",
            priority: 0,
        },
        Column {
            name: "Created At",
            kind: "date",
            format: "",
            priority: 0,
        },
    ];
    if resource.columns.is_empty() {
        &PLAIN
    } else {
        resource.columns
    }
}

fn row(resource: &Resource, object: Value, now: Timestamp, include: Include) -> Value {
    let mut row = Map::new();
    row.insert("cells".to_owned(), cells(resource, &object, now).into());
    if resource.kind == "Pod"
        && resource.group.is_empty()
        && let Some(conditions) = pod::conditions(&object)
    {
        row.insert("conditions".to_owned(), conditions);
    }
    let held = match include {
        Include::None => Value::Null,
        Include::Metadata => partial_object_metadata(object),
        Include::Object => object,
    };
    row.insert("object".to_owned(), held);
    Value::Object(row)
}

fn list_meta(frame: &Frame) -> Value {
    let mut meta = Map::new();
    for (field, value) in [
        ("resourceVersion", &frame.resource_version),
        ("continue", &frame.continue_token),
    ] {
        if !value.is_empty() {
            meta.insert(field.to_owned(), value.as_str().into());
        }
    }
    if let Some(remaining) = frame.remaining {
        meta.insert("remainingItemCount".to_owned(), remaining.into());
    }
    Value::Object(meta)
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": description(column.name),
        "priority": column.priority,
    })
}

/// What a heading means, where it does not say so itself.
fn description(column: &str) -> &'static str {
    match column {
        "Name" => "The object's name, unique within its namespace.",
        "Age" => "The time since the object was created.",
        "Created At" => "When the object was created.",
        "Ready" => "How many are ready, of how many there should be.",
        "Status" => "The object's state in one word.",
        "Restarts" => "How often containers were started again, and when last.",
        "Up-to-date" => "How many are of the newest template.",
        "Available" => "How many have been ready for long enough.",
        "Desired" => "How many there should be.",
        "Current" => "How many there are.",
        "Node" => "The node that the pod runs on.",
        "Nominated Node" => "The node on which others make room for the pod.",
        "Readiness Gates" => "How many of the pod's own conditions hold.",
        "Containers" => "The names of the template's containers.",
        "Images" => "The images of the template's containers.",
        "Selector" => "The labels by which its objects are found.",
        "Window" => "Over which time the CPU's use is averaged.",
        "Last Seen" => "The time since it happened last.",
        "First Seen" => "The time since it happened first.",
        _ => "",
    }
}

type Cells = fn(&Value, Timestamp) -> Vec<Value>;

/// Group and kind, sorted, and what fills the row.
static CELLS: &[((&str, &str), Cells)] = &[
    (("", "ComponentStatus"), cluster::component_status),
    (("", "ConfigMap"), cluster::config_map),
    (("", "Endpoints"), network::endpoints),
    (("", "Event"), cluster::event),
    (("", "Namespace"), cluster::namespace),
    (("", "Node"), cluster::node),
    (("", "PersistentVolume"), storage::persistent_volume),
    (
        ("", "PersistentVolumeClaim"),
        storage::persistent_volume_claim,
    ),
    (("", "Pod"), pod::cells),
    (("", "PodTemplate"), workload::pod_template),
    (
        ("", "ReplicationController"),
        workload::replication_controller,
    ),
    (("", "ResourceQuota"), cluster::resource_quota),
    (("", "Secret"), cluster::secret),
    (("", "Service"), network::service),
    (
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
        access::mutating_policy,
    ),
    (
        (
            "admissionregistration.k8s.io",
            "MutatingAdmissionPolicyBinding",
        ),
        access::policy_binding,
    ),
    (
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration",
        ),
        access::webhooks,
    ),
    (
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        access::validating_policy,
    ),
    (
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding",
        ),
        access::policy_binding,
    ),
    (
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration",
        ),
        access::webhooks,
    ),
    (
        ("apiregistration.k8s.io", "APIService"),
        access::api_service,
    ),
    (
        ("apps", "ControllerRevision"),
        workload::controller_revision,
    ),
    (("apps", "DaemonSet"), workload::daemon_set),
    (("apps", "Deployment"), workload::deployment),
    (("apps", "ReplicaSet"), workload::replica_set),
    (("apps", "StatefulSet"), workload::stateful_set),
    (
        ("autoscaling", "HorizontalPodAutoscaler"),
        workload::horizontal_pod_autoscaler,
    ),
    (("batch", "CronJob"), workload::cron_job),
    (("batch", "Job"), workload::job),
    (
        ("certificates.k8s.io", "CertificateSigningRequest"),
        access::certificate_signing_request,
    ),
    (("coordination.k8s.io", "Lease"), cluster::lease),
    (
        ("discovery.k8s.io", "EndpointSlice"),
        network::endpoint_slice,
    ),
    (("events.k8s.io", "Event"), cluster::event),
    (
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
        access::flow_schema,
    ),
    (
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
        access::priority_level,
    ),
    (("metrics.k8s.io", "NodeMetrics"), usage::node),
    (("metrics.k8s.io", "PodMetrics"), usage::pod),
    (("networking.k8s.io", "IPAddress"), network::ip_address),
    (("networking.k8s.io", "Ingress"), network::ingress),
    (
        ("networking.k8s.io", "IngressClass"),
        network::ingress_class,
    ),
    (
        ("networking.k8s.io", "NetworkPolicy"),
        network::network_policy,
    ),
    (("networking.k8s.io", "ServiceCIDR"), network::service_cidr),
    (("node.k8s.io", "RuntimeClass"), cluster::runtime_class),
    (
        ("policy", "PodDisruptionBudget"),
        workload::pod_disruption_budget,
    ),
    (
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        access::binding,
    ),
    (
        ("rbac.authorization.k8s.io", "RoleBinding"),
        access::binding,
    ),
    (
        ("resource.k8s.io", "ResourceClaim"),
        cluster::resource_claim,
    ),
    (
        ("resource.k8s.io", "ResourceSlice"),
        cluster::resource_slice,
    ),
    (
        ("scheduling.k8s.io", "PriorityClass"),
        cluster::priority_class,
    ),
    (("storage.k8s.io", "CSIDriver"), storage::csi_driver),
    (("storage.k8s.io", "CSINode"), storage::csi_node),
    (("storage.k8s.io", "StorageClass"), storage::storage_class),
    (
        ("storage.k8s.io", "VolumeAttachment"),
        storage::volume_attachment,
    ),
    (
        ("storage.k8s.io", "VolumeAttributesClass"),
        storage::volume_attributes_class,
    ),
];

#[cfg(test)]
mod tests;
