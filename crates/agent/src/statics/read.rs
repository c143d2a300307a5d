//! What a file says: a pod, or what is wrong with it. Pure.

use std::sync::Arc;

use api::Resource;
use api::codec::{self, Expected, FieldValidation, Format};
use api::static_pods::{HASH, MIRROR, SEEN, SOURCE, reference};
use api::write::{self, Context, User};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::pod::PodView as _;

/// Digits of a uid, as many as the kubelet's have.
const UID: usize = 32;

/// A pod from a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StaticPod {
    /// The file's name.
    pub(crate) file: String,
    /// The pod with its defaults, as the API would hold it.
    pub(crate) object: Value,
    /// The same to read.
    pub(crate) pod: Arc<Pod>,
}

/// How it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    file: String,
    object: Value,
}

impl StaticPod {
    fn new(file: String, object: Value) -> Result<Self, serde_json::Error> {
        let pod = Arc::new(Pod::deserialize(&object)?);
        Ok(Self { file, object, pod })
    }

    /// What is kept of it.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let kept: Kept = serde_json::from_slice(bytes)?;
        Self::new(kept.file, kept.object)
    }

    /// To be kept.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        json!({"file": self.file, "object": self.object})
            .to_string()
            .into_bytes()
    }

    /// What is to be said where a class gives it a priority that only the API knows.
    pub(crate) fn unknown_priority(&self) -> Option<String> {
        let spec = self.pod.pod_spec()?;
        let class = spec.priority_class_name.as_deref()?;
        (!class.is_empty() && spec.priority.is_none()).then(|| {
            format!(
                "spec.priorityClassName: a node does not know the priority of {class:?}: among pods that wait for room this one has 0, unless spec.priority says another"
            )
        })
    }

    /// Another one for each node, file and content.
    pub(crate) fn uid(&self) -> &str {
        self.pod.uid()
    }
}

/// The pod of a file of this node.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn read(
    node: &str,
    file: &str,
    text: &[u8],
    now: Timestamp,
) -> Result<StaticPod, String> {
    let pods = Resource::of::<Pod>();
    let expected = Expected::from(pods);
    // JSON is YAML, too.
    let decoded = codec::decode(text, expected, Format::Yaml, FieldValidation::Strict);
    let mut object = decoded.map_err(|status| status.message)?.value;
    let uid = uid(node, file, &object);
    check(node, &object)?;
    let namespace = match object["metadata"]["namespace"].as_str() {
        Some(namespace) if !namespace.is_empty() => namespace.to_owned(),
        _ => "default".to_owned(),
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    object["metadata"]["name"] = format!("{name}-{}", node.to_lowercase()).into();
    write::place(pods, Some(&namespace), None, &mut object).map_err(|status| status.message)?;
    place_on(node, &uid, now, &mut object);
    prioritise(&mut object["spec"])?;
    let context = Context {
        now,
        uid,
        suffix: String::new(),
        user: User::default(),
        manager: "kubelet".to_owned(),
    };
    let mut made = write::create(pods, object, &context).map_err(|status| status.message)?;
    if let Some(metadata) = made["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    StaticPod::new(file.to_owned(), made).map_err(|error| error.to_string())
}

fn uid(node: &str, file: &str, object: &Value) -> String {
    let hash = Sha256::digest(format!("{node}\0{file}\0{object}"));
    let mut uid = hex::encode(hash);
    uid.truncate(UID);
    uid
}

/// Refuses what a pod from a file cannot have.
fn check(node: &str, object: &Value) -> Result<(), String> {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    if metadata["name"].as_str().is_none_or(str::is_empty) {
        return Err("metadata.name: Required value: name is needed for the pod".to_owned());
    }
    for field in ["ownerReferences", "finalizers"] {
        if metadata[field]
            .as_array()
            .is_some_and(|all| !all.is_empty())
        {
            return Err(format!(
                "metadata.{field}: Forbidden: a static pod has none"
            ));
        }
    }
    if !metadata["annotations"][MIRROR].is_null() {
        return Err(format!(
            "metadata.annotations[{MIRROR}]: Forbidden: the file is a pod's own, not that of its mirror"
        ));
    }
    let place = spec["nodeName"].as_str().unwrap_or_default();
    if !place.is_empty() && place != node {
        return Err(format!(
            "spec.nodeName: Invalid value: {place:?}: the file is on node {node:?}"
        ));
    }
    match reference(spec) {
        Some(what) => Err(format!("static pods may not reference {what}")),
        None => Ok(()),
    }
}

/// Says where the pod is and where it came from, and has it stay there whatever befalls the node.
fn place_on(node: &str, uid: &str, now: Timestamp, object: &mut Value) {
    object["spec"]["nodeName"] = node.into();
    let tolerations = &mut object["spec"]["tolerations"];
    let stays = json!({"operator": "Exists", "effect": "NoExecute"});
    match tolerations.as_array_mut() {
        Some(all) if all.contains(&stays) => {}
        Some(all) => all.push(stays),
        None => *tolerations = json!([stays]),
    }
    let annotations = &mut object["metadata"]["annotations"];
    annotations[HASH] = uid.into();
    annotations[SOURCE] = "file".into();
    annotations[SEEN] = now.to_string().into();
}

/// Gives a pod the priority of its class, as admission does, where every node knows that.
fn prioritise(spec: &mut Value) -> Result<(), String> {
    let class = spec["priorityClassName"].as_str().unwrap_or_default();
    let Some(priority) = api::priority::of_system(class) else {
        return Ok(());
    };
    match spec["priority"].as_i64() {
        Some(other) if other != i64::from(priority) => Err(format!(
            "spec.priority: Invalid value: {other}: that of {class} is {priority}"
        )),
        _ => {
            spec["priority"] = priority.into();
            Ok(())
        }
    }
}

/// What of a pod from a file stands in the API of its node.
pub(crate) fn mirror_of(found: &StaticPod, node: &str, node_uid: &str) -> Value {
    let mut mirror = found.object.clone();
    if let Some(mirror) = mirror.as_object_mut() {
        mirror.remove("status");
    }
    if let Some(metadata) = mirror["metadata"].as_object_mut() {
        for given in ["uid", "creationTimestamp", "generation"] {
            metadata.remove(given);
        }
    }
    mirror["metadata"]["annotations"][MIRROR] = found.uid().into();
    mirror["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": true,
    }]);
    mirror
}

/// The uid of the pod that this one only mirrors.
pub(crate) fn mirrored(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.as_ref()?.get(MIRROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  containers:
  - {name: main, image: hello:1}
";

    fn read_at(text: &str, second: i64) -> Result<StaticPod, String> {
        let now = Timestamp::from_second(second).expect("a time");
        read("n1", "web.yaml", text.as_bytes(), now)
    }

    fn fault(text: &str) -> String {
        match read_at(text, 0) {
            Err(fault) => fault,
            Ok(found) => panic!("{}", found.object),
        }
    }

    #[test]
    fn a_file_is_a_pod_of_its_node() {
        let found = read_at(POD, 7).expect("a pod");
        let (metadata, spec) = (&found.object["metadata"], &found.object["spec"]);
        assert_eq!(metadata["name"], "web-n1");
        assert_eq!(metadata["namespace"], "default");
        assert_eq!(metadata["labels"], json!({"app": "web"}));
        assert_eq!(found.uid().len(), UID);
        let annotations = json!({
            "kubernetes.io/config.hash": found.uid(), "kubernetes.io/config.source": "file",
            "kubernetes.io/config.seen": "1970-01-01T00:00:07Z",
        });
        assert_eq!(metadata["annotations"], annotations);
        assert_eq!(spec["nodeName"], "n1");
        assert_eq!(spec["restartPolicy"], "Always");
        assert_eq!(
            spec["tolerations"],
            json!([{"operator": "Exists", "effect": "NoExecute"}])
        );
        assert_eq!(found.object["status"]["phase"], "Pending");
        assert_eq!(found.pod.name(), "web-n1");
        let kept = StaticPod::from_bytes(&found.to_bytes()).expect("what was kept");
        assert_eq!(kept, found);
    }

    #[test]
    fn what_it_says_makes_another_of_it_and_how_does_not() {
        let uid = |text: &str| read_at(text, 0).expect("a pod").uid().to_owned();
        let first = uid(POD);
        assert_eq!(
            uid(&POD.replace("kind: Pod", "# the web\nkind:   Pod")),
            first
        );
        assert_eq!(read_at(POD, 99).expect("a pod").uid(), first);
        assert_ne!(uid(&POD.replace("hello:1", "hello:2")), first);
        let now = Timestamp::UNIX_EPOCH;
        for (node, file) in [("n2", "web.yaml"), ("n1", "web.yml")] {
            let other = read(node, file, POD.as_bytes(), now).expect("a pod");
            assert_ne!(other.uid(), first, "{node} {file}");
        }
        let json = r#"{"metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}"#;
        assert_eq!(read_at(json, 0).expect("a pod").pod.namespace(), "b");
    }

    #[test]
    fn what_every_node_knows_of_a_class_it_has() {
        for (class, given, priority, is_told) in [
            (
                "priorityClassName: system-node-critical",
                "",
                Some(2_000_001_000),
                false,
            ),
            (
                "priorityClassName: system-cluster-critical",
                "priority: 2000000000",
                Some(2_000_000_000),
                false,
            ),
            ("priorityClassName: high", "", None, true),
            ("priorityClassName: high", "priority: 9", Some(9), false),
            ("priorityClassName: ''", "", None, false),
            ("", "", None, false),
        ] {
            let found = read_at(&format!("{POD}  {class}\n  {given}\n"), 0).expect("a pod");
            let spec = found.pod.pod_spec().expect("a spec");
            assert_eq!(spec.priority, priority, "{class}");
            assert_eq!(
                found.object["spec"]["priority"].as_i64(),
                priority.map(i64::from)
            );
            let said = found.unknown_priority();
            let named = said.map(|said| said.starts_with("spec.priorityClassName: "));
            assert_eq!(named, is_told.then_some(true), "{class}");
        }
    }

    #[test]
    fn a_fault_has_its_place() {
        let with = |spec: &str| format!("{POD}  {spec}\n");
        for (text, wanted) in [
            (String::new(), ""),
            (
                POD.replace("labels: {app: web}", "labels: {app: web"),
                "line ",
            ),
            (POD.replace("spec:", "spec"), "line "),
            (
                POD.replace("name: main", "nam: main"),
                "spec.containers[0].nam",
            ),
            (POD.replace("kind: Pod", "kind: Secret"), "Secret"),
            (
                POD.replace("  name: web\n", ""),
                "metadata.name: Required value",
            ),
            (
                POD.replace("name: web", "name: Web"),
                "metadata.name: Invalid value",
            ),
            (
                POD.replace("image: hello:1", "image: ''"),
                "spec.containers[0].image: Required value",
            ),
            (
                POD.replace("labels: {app: web}", "finalizers: [a/b]"),
                "metadata.finalizers: Forbidden",
            ),
            (
                POD.replace(
                    "labels: {app: web}",
                    "ownerReferences: [{apiVersion: v1, kind: Node, name: n, uid: u}]",
                ),
                "metadata.ownerReferences: Forbidden",
            ),
            (
                POD.replace(
                    "labels: {app: web}",
                    "annotations: {kubernetes.io/config.mirror: x}",
                ),
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden",
            ),
            (with("nodeName: n2"), "spec.nodeName: Invalid value: \"n2\""),
            (
                with("priorityClassName: system-node-critical\n  priority: 7"),
                "spec.priority: Invalid value: 7",
            ),
            (
                with("serviceAccountName: a"),
                "static pods may not reference serviceaccounts",
            ),
            (
                with("volumes: [{name: v, configMap: {name: c}}]"),
                "static pods may not reference configmaps",
            ),
            (format!("{POD}---{POD}"), "more than one document"),
        ] {
            let found = fault(&text);
            assert!(found.contains(wanted), "{wanted}: {found}\n{text}");
        }
    }

    #[test]
    fn a_mirror_is_what_the_node_runs_and_says_whose_it_is() {
        let found = read_at(POD, 7).expect("a pod");
        let mirror = mirror_of(&found, "n1", "u");
        let metadata = &mirror["metadata"];
        for given in [
            "/status",
            "/metadata/uid",
            "/metadata/creationTimestamp",
            "/metadata/generation",
        ] {
            assert_eq!(mirror.pointer(given), None, "{given}");
        }
        assert_eq!(
            metadata["annotations"]["kubernetes.io/config.mirror"],
            found.uid()
        );
        assert_eq!(
            metadata["annotations"]["kubernetes.io/config.source"],
            "file"
        );
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": true});
        assert_eq!(metadata["ownerReferences"], json!([owner]));
        assert_eq!(mirror["spec"], found.object["spec"]);
        let pod: Pod = serde_json::from_value(mirror).expect("a pod");
        assert_eq!(mirrored(&pod).map(String::as_str), Some(found.uid()));
        assert_eq!(mirrored(&found.pod), None);
    }
}
