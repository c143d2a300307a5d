//! What a node's identity may write of its own Node: what registering and reporting take, and no more.
//! A node that was broken into must not draw pods to itself, nor widen its range of pod addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::{Status, storage};
use serde_json::{Map, Value};

use crate::dispatch::Call;

/// What of its spec a node says itself, when it registers.
const REGISTERED: [&str; 2] = ["taints", "providerID"];
/// What of its metadata a node may change. The server keeps the last three: who wrote what is not a node's to say.
const METADATA: [&str; 5] = [
    "labels",
    "annotations",
    "managedFields",
    "resourceVersion",
    "generation",
];
/// Labels of Kubernetes' domains that nodes give themselves.
const LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];
/// Domains of which nodes may give themselves any label.
const DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Refuses what a node would change of its Node beyond its own affairs. `old` is what is stored, none
/// when it registers.
pub(super) fn own_node(call: &Call, old: Option<&Value>, new: &Value) -> Result<(), Status> {
    let nodes = call.resource.plural == "nodes" && call.resource.group.is_empty();
    let Some(node) = call
        .identity
        .node()
        .filter(|_| nodes && !call.identity.is_superuser())
    else {
        return Ok(());
    };
    judge(old, new).map_err(|why| {
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        let why = format!("node {node:?} is not allowed to {why}");
        Status::forbidden(call.resource, name, &why)
    })
}

fn judge(old: Option<&Value>, new: &Value) -> Result<(), String> {
    let labels = changed(
        old.map(|o| &o["metadata"]["labels"]),
        &new["metadata"]["labels"],
    );
    let reserved: Vec<&str> = labels.into_iter().filter(|l| is_reserved(l)).collect();
    let Some(old) = old else {
        let fields = changed(None, &new["spec"]);
        if let Some(field) = fields.into_iter().find(|f| !REGISTERED.contains(f)) {
            return Err(format!("set spec.{field}"));
        }
        return none("set the following labels", &reserved);
    };
    if let Some(field) = changed(Some(&old["spec"]), &new["spec"]).first() {
        return Err(format!("modify spec.{field}"));
    }
    let metadata = changed(Some(&old["metadata"]), &new["metadata"]);
    if let Some(field) = metadata.into_iter().find(|f| !METADATA.contains(f)) {
        return Err(format!("modify metadata.{field}"));
    }
    none("modify labels", &reserved)
}

/// Judges a node's write to a pod of its own: it reports a status, and leaves alone what the pod
/// belongs to, how it is found, and which claims were made for it.
pub(super) fn judge_pod(old: &Value, new: &Value) -> Result<(), String> {
    let kept = ["labels", "annotations", "finalizers", "ownerReferences"];
    let metadata = changed(Some(&old["metadata"]), &new["metadata"]);
    if let Some(field) = kept.into_iter().find(|field| metadata.contains(field)) {
        return Err(format!("is not allowed to modify metadata.{field}"));
    }
    if changed(Some(&old["status"]), &new["status"]).contains("resourceClaimStatuses") {
        return Err("cannot update resource claim statuses".to_owned());
    }
    Ok(())
}

/// Judges the addresses that a node says its pod has: policies go by them, and what is not of its ranges is other pods'.
pub(super) fn judge_addresses(
    old: &Value,
    new: &Value,
    ranges: impl FnOnce() -> Vec<String>,
) -> Result<(), String> {
    // Nobody's rules are about its node's address.
    if new["spec"]["hostNetwork"] == true {
        return Ok(());
    }
    let held = addresses(old);
    let mut claimed = addresses(new);
    claimed.retain(|address| !held.contains(address));
    if claimed.is_empty() {
        return Ok(());
    }
    let ranges = ranges();
    let is_foreign = |address: &&&str| !ranges.iter().any(|range| is_in(range, address));
    match claimed.iter().find(is_foreign) {
        None => Ok(()),
        Some(address) => Err(format!(
            "can only give pods addresses of its podCIDR, not {address:?}"
        )),
    }
}

/// All that a pod's status says to be its addresses.
fn addresses(pod: &Value) -> BTreeSet<&str> {
    let status = &pod["status"];
    let further = status["podIPs"].as_array().into_iter().flatten();
    let all = further.map(|of| &of["ip"]).chain([&status["podIP"]]);
    all.filter_map(Value::as_str)
        .filter(|address| !address.is_empty())
        .collect()
}

fn is_in(range: &str, address: &str) -> bool {
    let Some((first, bits)) = range.split_once('/') else {
        return false;
    };
    let (Ok(first), Ok(bits), Ok(address)) = (first.parse(), bits.parse::<u32>(), address.parse())
    else {
        return false;
    };
    match (first, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            let differ = first.to_bits() ^ address.to_bits();
            bits <= 32 && differ.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            let differ = first.to_bits() ^ address.to_bits();
            bits <= 128 && differ.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Refuses what a node would change of a volume, but that one of its own disk is gone from there.
pub(super) fn own_volume(call: &Call, old: &Value, new: &Value) -> Result<(), Status> {
    let volumes = call.resource.plural == "persistentvolumes" && call.resource.group.is_empty();
    let node = call.identity.node();
    let Some(node) = node.filter(|_| volumes && !call.identity.is_superuser()) else {
        return Ok(());
    };
    if is_removal(node, old, new) {
        return Ok(());
    }
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let why = format!(
        "node {node:?} can only take the finalizer {:?} from a volume of its own disk that is being deleted",
        storage::PROVISIONER
    );
    Err(Status::forbidden(call.resource, name, &why))
}

/// Whether all that changes is that a volume on the node's disk, which is being deleted and bound to nothing, loses the
/// finalizer that waits for the node.
fn is_removal(node: &str, old: &Value, new: &Value) -> bool {
    let (before, after) = (&old["metadata"], &new["metadata"]);
    let is_own = before["labels"][storage::NODE] == node && before["deletionTimestamp"].is_string();
    let held =
        |meta: &Value| -> Vec<Value> { meta["finalizers"].as_array().cloned().unwrap_or_default() };
    let mut left = held(before);
    let is_bound = left.iter().any(|f| f == storage::PROTECTION);
    left.retain(|finalizer| finalizer != storage::PROVISIONER);
    let kept = ["finalizers", "managedFields", "resourceVersion"];
    let mut metadata = changed(Some(before), after);
    metadata.retain(|field| !kept.contains(field));
    is_own
        && !is_bound
        && metadata.is_empty()
        && held(after) == left
        && changed(Some(&old["spec"]), &new["spec"]).is_empty()
        && changed(Some(&old["status"]), &new["status"]).is_empty()
}

fn none(what: &str, labels: &[&str]) -> Result<(), String> {
    if labels.is_empty() {
        return Ok(());
    }
    Err(format!("{what}: {}", labels.join(", ")))
}

/// The fields in which two objects differ, sorted. One that is null or empty is not there.
pub(super) fn changed<'a>(old: Option<&'a Value>, new: &'a Value) -> BTreeSet<&'a str> {
    let fields = |value: Option<&'a Value>| value.and_then(Value::as_object);
    let (old, new) = (fields(old), fields(Some(new)));
    let get = |map: Option<&'a Map<String, Value>>, key: &str| {
        map.and_then(|m| m.get(key)).filter(|v| !is_nothing(v))
    };
    old.into_iter()
        .chain(new)
        .flat_map(Map::keys)
        .map(String::as_str)
        .filter(|key| get(old, key) != get(new, key))
        .collect()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Whether a label is in a domain that is Kubernetes', and not one that nodes set.
fn is_reserved(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else {
        return false;
    };
    let within = |suffix: &str| {
        domain
            .strip_suffix(suffix)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    (within("kubernetes.io") || within("k8s.io"))
        && !LABELS.contains(&label)
        && !DOMAINS.into_iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> Value {
        json!({
            "metadata": {"name": "n1", "uid": "u", "labels": {"disk": "ssd", "kubernetes.io/os": "linux"}},
            "spec": {"podCIDR": "10.128.0.0/18", "taints": [{"key": "k", "effect": "NoSchedule"}]},
        })
    }

    #[test]
    fn a_node_registers_with_labels_and_taints() {
        let mut new = node();
        new["spec"] =
            json!({"taints": [{"key": "k", "effect": "NoSchedule"}], "unschedulable": false});
        assert_eq!(judge(None, &new), Ok(()));
        new["spec"]["podCIDR"] = "10.0.0.0/8".into();
        assert_eq!(judge(None, &new), Err("set spec.podCIDR".to_owned()));
        new["spec"] = json!({});
        new["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = "".into();
        assert_eq!(
            judge(None, &new),
            Err("set the following labels: node-role.kubernetes.io/control-plane".to_owned())
        );
    }

    #[test]
    fn afterwards_it_changes_its_status_and_its_labels() {
        let old = node();
        for (path, value, want) in [
            ("/status", json!({"phase": "x"}), Ok(())),
            ("/metadata/labels", json!({"disk": "hdd"}), Ok(())),
            ("/metadata/annotations", json!({"a": "b"}), Ok(())),
            ("/spec/unschedulable", json!(false), Ok(())),
            ("/spec/taints", json!([]), Err("modify spec.taints")),
            (
                "/spec/unschedulable",
                json!(true),
                Err("modify spec.unschedulable"),
            ),
            (
                "/spec/podCIDR",
                json!("10.0.0.0/8"),
                Err("modify spec.podCIDR"),
            ),
            (
                "/metadata/finalizers",
                json!(["a/b"]),
                Err("modify metadata.finalizers"),
            ),
            (
                "/metadata/labels",
                json!({"node-restriction.kubernetes.io/x": "1"}),
                Err("modify labels: node-restriction.kubernetes.io/x"),
            ),
        ] {
            let mut new = old.clone();
            let (parent, field) = path.rsplit_once('/').unwrap();
            new.pointer_mut(parent).unwrap()[field] = value;
            assert_eq!(
                judge(Some(&old), &new),
                want.map_err(str::to_owned),
                "{path}"
            );
        }
    }

    #[test]
    fn of_its_pod_a_node_reports_the_status() {
        let claims = json!([{"name": "gpu", "resourceClaimName": "p-gpu"}]);
        let old = json!({
            "metadata": {"name": "p", "labels": {"app": "web"}},
            "status": {"phase": "Pending", "resourceClaimStatuses": claims},
        });
        for (parent, field, value, want) in [
            ("/status", "phase", json!("Running"), Ok(())),
            ("/status", "resourceClaimStatuses", claims.clone(), Ok(())),
            (
                "/status",
                "resourceClaimStatuses",
                json!([{"name": "gpu", "resourceClaimName": "another"}]),
                Err("cannot update resource claim statuses"),
            ),
            (
                "/status",
                "resourceClaimStatuses",
                Value::Null,
                Err("cannot update resource claim statuses"),
            ),
            (
                "/metadata",
                "labels",
                json!({"app": "bank"}),
                Err("is not allowed to modify metadata.labels"),
            ),
        ] {
            let mut new = old.clone();
            new.pointer_mut(parent).unwrap()[field] = value;
            let judged = judge_pod(&old, &new);
            assert_eq!(judged, want.map_err(str::to_owned), "{field}");
        }
        // Nor does it make up any.
        let bare = json!({"metadata": {}, "status": {}});
        let with = json!({"metadata": {}, "status": {"resourceClaimStatuses": claims}});
        assert!(judge_pod(&bare, &with).is_err());
        assert_eq!(judge_pod(&bare, &bare), Ok(()));
    }

    #[test]
    fn of_a_volume_a_node_says_that_it_is_gone_from_its_disk() {
        let old = json!({
            "metadata": {"name": "v", "labels": {storage::NODE: "n1"}, "resourceVersion": "1",
                "deletionTimestamp": "2026-11-21T10:00:00Z",
                "finalizers": ["example.com/mine", storage::PROVISIONER]},
            "spec": {"local": {"path": "v"}},
            "status": {"phase": "Released"},
        });
        let mut gone = old.clone();
        gone["metadata"]["finalizers"] = json!(["example.com/mine"]);
        gone["metadata"]["resourceVersion"] = json!("2");
        assert!(is_removal("n1", &old, &gone));
        assert!(!is_removal("n2", &old, &gone));
        for (path, value) in [
            ("/metadata/finalizers", json!([])),
            ("/metadata/finalizers", json!([storage::PROVISIONER])),
            ("/metadata/labels", json!({storage::NODE: "n2"})),
            ("/metadata/annotations", json!({"a": "b"})),
            ("/spec/local", json!({"path": "w"})),
            ("/status/phase", json!("Available")),
        ] {
            let mut new = gone.clone();
            let (parent, field) = path.rsplit_once('/').unwrap();
            new.pointer_mut(parent).unwrap()[field] = value;
            assert!(!is_removal("n1", &old, &new), "{path}");
        }
        let mut alive = old.clone();
        alive["metadata"]["deletionTimestamp"] = Value::Null;
        assert!(!is_removal("n1", &alive, &gone));
        let (mut bound, mut freed) = (old, gone);
        for object in [&mut bound, &mut freed] {
            let held = object["metadata"]["finalizers"].as_array_mut().unwrap();
            held.push(storage::PROTECTION.into());
        }
        assert!(!is_removal("n1", &bound, &freed));
    }

    #[test]
    fn reserved_labels() {
        for label in [
            "kubernetes.io/x",
            "a.k8s.io/x",
            "node-role.kubernetes.io/worker",
        ] {
            assert!(is_reserved(label), "{label}");
        }
        for label in [
            "disk",
            "example.com/x",
            "notkubernetes.io/x",
            "kubernetes.io/arch",
            "node.kubernetes.io/x",
            "a.kubelet.kubernetes.io/x",
        ] {
            assert!(!is_reserved(label), "{label}");
        }
    }
}
