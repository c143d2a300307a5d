//! Judgements about a write that need more than the object: its namespace, its writer, what else there is.
//!
//! In Kubernetes' order: [`namespace`], then [`admit`] with the mutating plugins, between an object's
//! defaults and its validation, then [`judge`] on what is valid.

mod admit;
mod claim_resize;
mod default_class;
mod limit_ranger;
mod mirror;
mod node;
mod node_token;
mod priority;
mod protection;
mod runtime_class;
mod service_account;
mod tolerations;
mod unserved;

use api::status::Cause;
use api::{Resource, Status};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use memchr::memmem;
use serde_json::Value;
use store::When;

use crate::authz::NODE_LEASES;
use crate::dispatch::Call;
use crate::rbac;
use crate::request::Verb;

pub(crate) use admit::{admit, settle};
pub(crate) use node_token::{another_uid, node_token};
pub(crate) use unserved::warning;

/// Whether a stored object may be on its way out. Asked of the bytes before they are parsed: hardly any is, and this is
/// on the way of every create.
pub(crate) fn may_be_going(object: &[u8]) -> bool {
    memmem::find(object, b"\"deletionTimestamp\"").is_some()
}

/// Refuses a create in a namespace that is not there, or is going away, as far as this server knows.
/// Returns on what condition the create is right: that nothing has happened to the namespace since.
pub(crate) fn namespace(call: &Call, name: &str) -> Result<Option<When>, Status> {
    let Some(namespace) = call.namespace() else {
        return Ok(None);
    };
    let namespaces = Resource::of::<Namespace>();
    let key = Bytes::from(namespaces.key(None, namespace));
    let entry = call
        .server
        .local(&key)
        .ok_or_else(|| Status::not_found(namespaces, namespace))?;
    let going = may_be_going(&entry.value)
        && serde_json::from_slice::<Value>(&entry.value).is_ok_and(|v| {
            v.pointer("/metadata/deletionTimestamp")
                .is_some_and(Value::is_string)
        });
    if going {
        return Err(terminating(call, namespace, name));
    }
    Ok(Some(When::Revision {
        key,
        is: entry.modified,
    }))
}

fn terminating(call: &Call, namespace: &str, name: &str) -> Status {
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut status = Status::forbidden(call.resource, name, &why);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    status
}

/// Refuses what a node's identity may not write although its verb and resource are allowed: pods that mirror nothing of
/// its own, another node's Node or Lease, found out only from the body.
fn node_restriction(call: &Call, old: Option<&Value>, object: &mut Value) -> Result<(), Status> {
    let Some(node) = call
        .identity
        .node()
        .filter(|_| !call.identity.is_superuser())
    else {
        return Ok(());
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if node_at_a_pod(call).is_none() {
        return own_name(call, node, name);
    }
    if let Some(subresource) = call.path.subresource.as_deref() {
        return node_subresource(call, name, subresource);
    }
    let judged = match old {
        None => mirror::judge(node, object, || find_node(call, node)),
        Some(_) => Err(format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        )),
    };
    judged.map_err(|why| Status::forbidden(call.resource, name, &why))
}

/// The uid of a Node, as far as this server knows.
fn find_node(call: &Call, name: &str) -> Option<String> {
    let node: Value = admit::find(call, Resource::of::<Node>(), None, name)?;
    node["metadata"]["uid"].as_str().map(str::to_owned)
}

/// The ranges of a Node's pods' addresses, as far as this server knows.
fn find_ranges(call: &Call, name: &str) -> Vec<String> {
    let node: Option<Node> = admit::find(call, Resource::of::<Node>(), None, name);
    let spec = node.and_then(|node| node.spec).unwrap_or_default();
    let further = spec.pod_cidrs.into_iter().flatten();
    spec.pod_cidr.into_iter().chain(further).collect()
}

/// Refuses a node whatever else pods have beside a status and an end.
pub(crate) fn node_subresource(call: &Call, name: &str, subresource: &str) -> Result<(), Status> {
    let is_node = call.identity.node().is_some() && !call.identity.is_superuser();
    if !is_node || matches!(subresource, "status" | "eviction") {
        return Ok(());
    }
    let why = format!(
        "unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed"
    );
    Err(Status::forbidden(Resource::of::<Pod>(), name, &why))
}

/// Refuses a node another node's Node, Lease and CSINode.
fn own_name(call: &Call, node: &str, name: &str) -> Result<(), Status> {
    let own_name_only = match (call.resource.group, call.resource.plural) {
        ("", "nodes") | ("storage.k8s.io", "csinodes") => true,
        ("coordination.k8s.io", "leases") => call.namespace() == Some(NODE_LEASES),
        _ => false,
    };
    if own_name_only && name != node {
        let why = format!(
            "node {node:?} is not allowed to write {} {name:?}",
            call.resource.plural
        );
        return Err(Status::forbidden(call.resource, name, &why));
    }
    Ok(())
}

/// Judges what is about to be stored, which is valid: by what else there is, and by who writes it.
/// `old` is what is stored, none for a create.
pub(crate) fn judge(call: &Call, old: Option<&Value>, new: &Value) -> Result<(), Status> {
    limit_ranger::judge(call, old, new)?;
    priority::judge(call, new)?;
    node::own_node(call, old, new)?;
    rbac::escalation::judge(call, old, new)?;
    if let Some(old) = old {
        node::own_volume(call, old, new)?;
        node_status(call, old, new)?;
    }
    Ok(())
}

/// The node that writes, where it is one and what it writes is a pod.
fn node_at_a_pod(call: &Call) -> Option<&str> {
    let pods = call.resource.plural == "pods" && call.resource.group.is_empty();
    let node = call.identity.node();
    node.filter(|_| pods && !call.identity.is_superuser())
}

/// Refuses a node's write to a pod that is not bound to it: the last word, given on the very object
/// that is written, whatever authorization knew.
pub(crate) fn node_pod(call: &Call, stored: &Value) -> Result<(), Status> {
    let Some(node) = node_at_a_pod(call) else {
        return Ok(());
    };
    if stored["spec"]["nodeName"] == node {
        return Ok(());
    }
    let name = stored["metadata"]["name"].as_str().unwrap_or_default();
    let what = match (call.verb, call.path.subresource.as_deref()) {
        (_, Some("status")) => "update pod status for pods",
        (_, Some("eviction")) => "evict pods",
        (Verb::Delete | Verb::DeleteCollection, _) => "delete pods",
        _ => "write pods",
    };
    let why = format!("node {node:?} can only {what} with spec.nodeName set to itself");
    Err(Status::forbidden(call.resource, name, &why))
}

/// Refuses a node's change of what is not its own of a pod's status.
fn node_status(call: &Call, old: &Value, new: &Value) -> Result<(), Status> {
    let Some(node) = node_at_a_pod(call) else {
        return Ok(());
    };
    let ranges = || find_ranges(call, node);
    let judged = node::judge_pod(old, new);
    let judged = judged.and_then(|()| node::judge_addresses(old, new, ranges));
    judged.map_err(|why| {
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        Status::forbidden(call.resource, name, &format!("node {node:?} {why}"))
    })
}

/// Refuses a deletion that would take the cluster's floor away, or what is another node's.
pub(crate) fn deletion(call: &Call, name: &str) -> Result<(), Status> {
    let immortal = ["default", "kube-system", "kube-public"];
    let namespace = call.resource.plural == "namespaces" && call.resource.group.is_empty();
    if namespace && immortal.contains(&name) {
        return Err(Status::forbidden(
            call.resource,
            name,
            "this namespace may not be deleted",
        ));
    }
    let class = call.resource.plural == "priorityclasses";
    if class && api::priority::of_system(name).is_some() {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Status::forbidden(call.resource, name, why));
    }
    match call.identity.node() {
        Some(node) if !call.identity.is_superuser() => own_name(call, node, name),
        _ => Ok(()),
    }
}
