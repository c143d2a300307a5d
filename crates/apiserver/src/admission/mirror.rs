//! The only pods that nodes make: those that mirror what they have from files.

use api::static_pods::{is_mirror, reference};
use serde_json::Value;

/// Refuses a node a pod that is no mirror, or one that would reach beyond the node: another's, one that hides whose it is,
/// or one by which the node might read what it may not. `uid` finds the Node's.
pub(super) fn judge(
    node: &str,
    pod: &Value,
    uid: impl FnOnce() -> Option<String>,
) -> Result<(), String> {
    if !is_mirror(pod) {
        return Err(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    let only = |what: &str| {
        Err(format!(
            "node {node:?} can only create pods with {what} set to itself"
        ))
    };
    if pod["spec"]["nodeName"] != node {
        return only("spec.nodeName");
    }
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let owner = match owners.map(Vec::as_slice) {
        Some([owner]) => owner,
        Some([_, _, ..]) => return only("a single owner reference"),
        Some([]) | None => return only("an owner reference"),
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return only("an owner reference");
    }
    if owner["controller"] != true {
        return only("a controller owner reference");
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let uid = uid().ok_or_else(|| {
        format!("error looking up node {node} to verify uid: node {node:?} not found")
    })?;
    let given = owner["uid"].as_str().unwrap_or_default();
    if given != uid {
        return Err(format!(
            "node {node} UID mismatch: expected {given} got {uid}"
        ));
    }
    match reference(&pod["spec"]) {
        Some(what) => Err(format!(
            "node {node:?} can not create pods that reference {what}"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mirror() -> Value {
        json!({
            "metadata": {
                "name": "p-n1", "annotations": {"kubernetes.io/config.mirror": "h"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": true}],
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        })
    }

    #[test]
    fn a_node_makes_mirrors_of_its_own_pods_and_nothing_else() {
        let owner = "/metadata/ownerReferences";
        let itself =
            |what: &str| format!("node \"n1\" can only create pods with {what} set to itself");
        let references =
            |what: &str| format!("node \"n1\" can not create pods that reference {what}");
        let two = json!([mirror()["metadata"]["ownerReferences"][0], {}]);
        let claim = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        let env = json!([{"configMapRef": {"name": "c"}}]);
        for (place, value, fault) in [
            (
                "/metadata/annotations".to_owned(),
                json!({"a": "b"}),
                "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods".to_owned(),
            ),
            ("/spec/nodeName".to_owned(), json!("n2"), itself("spec.nodeName")),
            ("/spec/nodeName".to_owned(), json!(null), itself("spec.nodeName")),
            (owner.to_owned(), two, itself("a single owner reference")),
            (owner.to_owned(), json!([]), itself("an owner reference")),
            (owner.to_owned(), json!(null), itself("an owner reference")),
            (format!("{owner}/0/apiVersion"), json!("v2"), itself("an owner reference")),
            (format!("{owner}/0/kind"), json!("Pod"), itself("an owner reference")),
            (format!("{owner}/0/name"), json!("n2"), itself("an owner reference")),
            (format!("{owner}/0/controller"), json!(null), itself("a controller owner reference")),
            (format!("{owner}/0/controller"), json!(false), itself("a controller owner reference")),
            (format!("{owner}/0/uid"), json!("v"), "node n1 UID mismatch: expected v got u".to_owned()),
            ("/spec/serviceAccountName".to_owned(), json!("a"), references("serviceaccounts")),
            ("/spec/imagePullSecrets".to_owned(), json!([{"name": "s"}]), references("secrets")),
            ("/spec/containers/0/envFrom".to_owned(), env, references("configmaps")),
            ("/spec/resourceClaims".to_owned(), json!([{"name": "c"}]), references("resourceclaims")),
            ("/spec/volumes".to_owned(), claim, references("persistentvolumeclaims")),
            (
                format!("{owner}/0/blockOwnerDeletion"),
                json!(true),
                "node \"n1\" must not set blockOwnerDeletion on an owner reference".to_owned(),
            ),
        ] {
            let mut pod = mirror();
            let (parent, field) = place.rsplit_once('/').expect("a path");
            match (pod.pointer_mut(parent), field.parse::<usize>()) {
                (Some(parent), Err(_)) => parent[field] = value,
                (parent, index) => panic!("{place}: {parent:?} {index:?}"),
            }
            let judged = judge("n1", &pod, || Some("u".to_owned()));
            assert_eq!(judged, Err(fault), "{place}");
        }
        assert_eq!(judge("n1", &mirror(), || Some("u".to_owned())), Ok(()));
        let unknown = judge("n1", &mirror(), || None);
        let why = "error looking up node n1 to verify uid: node \"n1\" not found";
        assert_eq!(unknown, Err(why.to_owned()));
    }
}
