//! The table of controllers: which reconciler a key is for.

use client::Key;
use jiff::Timestamp;

use crate::plan::Plan;
use crate::view::View;
use crate::volume_binding::Promises;
use crate::{
    cluster_role, deployment, endpoint_slice, endpoints, ephemeral_volume, ingress_status, job,
    local_path, namespace, node_ipam, node_lifecycle, pod_garbage, replica_set, service_status,
    storage_protection, volume_binding,
};

/// What the driver knows of a key that no view shows.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// When the node of that name was last heard of.
    pub(crate) heartbeat: Timestamp,
    /// What the API refused when the key was looked at last.
    pub(crate) refused: Option<Refusal>,
    /// The volumes that other claims were promised.
    pub(crate) promised: Promises,
}

/// A pod that the API would not make or delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `FailedCreate` or `FailedDelete`.
    pub(crate) reason: &'static str,
    /// What the API said.
    pub(crate) message: String,
}

/// One controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    /// Claims: [`volume_binding`].
    ClaimBinding,
    /// Claims: [`storage_protection`].
    ClaimProtection,
    /// [`cluster_role`]
    ClusterRole,
    /// [`deployment`]
    Deployment,
    /// [`endpoint_slice`]; a Service's under its key.
    EndpointSlice,
    /// [`endpoints`]; a Service's under its key.
    Endpoints,
    /// [`ephemeral_volume`]; a pod's under its key.
    EphemeralVolume,
    /// [`ingress_status`]
    IngressStatus,
    /// [`job`]
    Job,
    /// Claims whose volumes it makes: [`local_path`].
    LocalPath,
    /// The volumes that it made: [`local_path`].
    LocalVolume,
    /// [`service_status`]
    ServiceStatus,
    /// [`namespace`]
    Namespace,
    /// [`node_ipam`]; all nodes under one key.
    NodeIpam,
    /// [`node_lifecycle`]
    NodeLifecycle,
    /// [`pod_garbage`], and pods of vanished nodes: [`node_lifecycle::reconcile_pod`].
    PodGarbage,
    /// [`replica_set`]
    ReplicaSet,
    /// Volumes: [`volume_binding`].
    VolumeBinding,
    /// Volumes: [`storage_protection`].
    VolumeProtection,
}

impl Controller {
    /// The kind whose objects the keys name, for events.
    pub(crate) fn kind(self) -> (&'static str, &'static str) {
        match self {
            Controller::ClaimBinding | Controller::ClaimProtection | Controller::LocalPath => {
                ("v1", "PersistentVolumeClaim")
            }
            Controller::ClusterRole => ("rbac.authorization.k8s.io/v1", "ClusterRole"),
            Controller::Deployment => ("apps/v1", "Deployment"),
            Controller::EndpointSlice | Controller::Endpoints | Controller::ServiceStatus => {
                ("v1", "Service")
            }
            Controller::IngressStatus => ("networking.k8s.io/v1", "Ingress"),
            Controller::Job => ("batch/v1", "Job"),
            Controller::Namespace => ("v1", "Namespace"),
            Controller::NodeIpam | Controller::NodeLifecycle => ("v1", "Node"),
            Controller::EphemeralVolume | Controller::PodGarbage => ("v1", "Pod"),
            Controller::ReplicaSet => ("apps/v1", "ReplicaSet"),
            Controller::LocalVolume | Controller::VolumeBinding | Controller::VolumeProtection => {
                ("v1", "PersistentVolume")
            }
        }
    }

    /// The component name under which its events appear, as Kubernetes names it.
    pub(crate) fn component(self) -> &'static str {
        match self {
            Controller::ClaimBinding | Controller::VolumeBinding => "persistentvolume-controller",
            Controller::ClaimProtection => "pvc-protection-controller",
            Controller::ClusterRole => "clusterrole-aggregation-controller",
            Controller::Deployment => "deployment-controller",
            Controller::EndpointSlice => "endpoint-slice-controller",
            Controller::Endpoints => "endpoint-controller",
            Controller::EphemeralVolume => "ephemeral_volume",
            Controller::IngressStatus => "ingress-controller",
            Controller::Job => "job-controller",
            Controller::LocalPath | Controller::LocalVolume => api::storage::PROVISIONER,
            Controller::ServiceStatus => "service-controller",
            Controller::Namespace => "namespace-controller",
            Controller::NodeIpam | Controller::NodeLifecycle => "node-controller",
            Controller::PodGarbage => "pod-garbage-collector",
            Controller::ReplicaSet => "replicaset-controller",
            Controller::VolumeProtection => "pv-protection-controller",
        }
    }

    /// What is to be done about `key`.
    pub(crate) fn reconcile(self, key: &Key, view: &View, memory: &Memory, now: Timestamp) -> Plan {
        match self {
            Controller::ClaimBinding => {
                volume_binding::reconcile_claim(key, view, &memory.promised)
            }
            Controller::ClaimProtection => storage_protection::reconcile_claim(key, view),
            Controller::ClusterRole => cluster_role::reconcile(key, view),
            Controller::Deployment => deployment::reconcile(key, view, now),
            Controller::EndpointSlice => endpoint_slice::reconcile(key, view),
            Controller::Endpoints => endpoints::reconcile(key, view),
            Controller::EphemeralVolume => ephemeral_volume::reconcile(key, view),
            Controller::IngressStatus => ingress_status::reconcile(key, view),
            Controller::Job => job::reconcile(key, view, now),
            Controller::LocalPath => local_path::reconcile_claim(key, view),
            Controller::LocalVolume => local_path::reconcile_volume(key, view),
            Controller::ServiceStatus => service_status::reconcile(key, view, now),
            Controller::Namespace => namespace::reconcile(key, view),
            Controller::NodeIpam => node_ipam::reconcile(view),
            Controller::NodeLifecycle => {
                node_lifecycle::reconcile(key, view, memory.heartbeat, now)
            }
            Controller::PodGarbage => pod_garbage::reconcile(key, view, now),
            Controller::ReplicaSet => {
                replica_set::reconcile(key, view, memory.refused.as_ref(), now)
            }
            Controller::VolumeBinding => volume_binding::reconcile_volume(key, view),
            Controller::VolumeProtection => storage_protection::reconcile_volume(key, view),
        }
    }
}
