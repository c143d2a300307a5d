//! Pods and the claims that they name.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::*;
use crate::storage::{Readiness, Step};

fn on(node: &str) -> Value {
    let term = json!({ "matchExpressions":
        [{ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }] });
    json!({ "required": { "nodeSelectorTerms": [term] } })
}

fn key(name: &str) -> client::Key {
    client::Key::new("default", name)
}

/// A snapshot with two nodes, to which claims, volumes and classes are added by text.
struct World(Snapshot);

impl World {
    fn new() -> Self {
        let mut world = World(snapshot(&[("a", json!({})), ("b", json!({}))]));
        world.class(
            "later",
            json!({ "volumeBindingMode": "WaitForFirstConsumer" }),
        );
        world.class("now", json!({ "volumeBindingMode": "Immediate" }));
        let fixed = json!({ "volumeBindingMode": "WaitForFirstConsumer",
            "provisioner": "kubernetes.io/no-provisioner" });
        world.class("fixed", fixed);
        world
    }

    fn class(&mut self, name: &str, more: Value) {
        let mut class = json!({ "metadata": { "name": name }, "provisioner": "example.com/p" });
        for (field, value) in more.as_object().unwrap() {
            class[field] = value.clone();
        }
        let class: StorageClass = serde_json::from_value(class).unwrap();
        self.0.storage.set_class(name, Some(Arc::new(class)));
    }

    fn claim(&mut self, name: &str, class: &str, more: Value) {
        let mut claim = json!({
            "metadata": { "namespace": "default", "name": name, "uid": format!("uid-{name}"),
                "resourceVersion": "5", "annotations": more.get("annotations") },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "resources": { "requests": { "storage": "1Gi" } } },
            "status": more.get("status"),
        });
        for (field, value) in more["spec"].as_object().into_iter().flatten() {
            claim["spec"][field] = value.clone();
        }
        for (field, value) in more["metadata"].as_object().into_iter().flatten() {
            claim["metadata"][field] = value.clone();
        }
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
        self.0.storage.set_claim(&key(name), Some(Arc::new(claim)));
    }

    fn bound(&mut self, name: &str, volume: &str) {
        let done = json!({ "pv.kubernetes.io/bind-completed": "yes" });
        self.claim(
            name,
            "later",
            json!({ "annotations": done, "spec": { "volumeName": volume },
                "status": { "phase": "Bound" } }),
        );
    }

    fn volume(&mut self, name: &str, class: &str, more: Value) {
        let mut spec = json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "capacity": { "storage": "2Gi" } });
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": { "name": name }, "spec": spec, "status": { "phase": "Available" },
        }))
        .unwrap();
        self.0.storage.set_volume(name, Some(Arc::new(volume)));
    }

    /// Where a pod with these claims goes and what is to be written first, or why it does not.
    fn decided(&self, claims: &[&str]) -> Result<(String, Vec<Step>), String> {
        match decide(&naming("p", claims), &self.0) {
            Decision::Bind { node, first } => Ok((node, first)),
            Decision::Wait(why) => Err(why.message),
            Decision::Preempt { why, .. } => panic!("nobody is less important: {why:?}"),
        }
    }
}

fn naming(name: &str, claims: &[&str]) -> Pod {
    let volumes = claims.iter().map(|claim| match claim.strip_prefix("own:") {
        Some(volume) => json!({ "name": volume, "ephemeral": {} }),
        None => json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }),
    });
    pod(name, json!({ "volumes": volumes.collect::<Vec<_>>() }))
}

fn set_aside(volume: &str, claim: &str) -> Step {
    Step::SetAside {
        volume: volume.to_owned(),
        claim: key(claim),
    }
}

fn select(claim: &str, node: &str) -> Step {
    Step::Select {
        claim: key(claim),
        node: node.to_owned(),
    }
}

#[test]
fn claims_that_no_node_can_serve() {
    let mut world = World::new();
    world.claim("now", "now", json!({}));
    world.claim("unknown", "unknown", json!({}));
    world.claim("classless", "", json!({}));
    world.claim("named", "later", json!({ "spec": { "volumeName": "v" } }));
    world.claim(
        "lost",
        "later",
        json!({ "status": { "phase": "Lost" }, "spec": { "volumeName": "v" } }),
    );
    world.claim(
        "going",
        "later",
        json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
    );
    world.claim("p-theirs", "later", json!({}));
    let unbound = "pod has unbound immediate PersistentVolumeClaims";
    for (claim, why) in [
        ("none", "persistentvolumeclaim \"none\" not found"),
        (
            "own:none",
            "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-none\"",
        ),
        (
            "own:theirs",
            "PVC default/p-theirs was not created for pod default/p (pod is not owner)",
        ),
        ("now", unbound),
        ("unknown", unbound),
        ("classless", unbound),
        ("named", unbound),
        (
            "lost",
            "persistentvolumeclaim \"lost\" bound to non-existent persistentvolume \"v\"",
        ),
        ("going", "persistentvolumeclaim \"going\" is being deleted"),
    ] {
        let expected = format!("0/2 nodes are available: {why}.");
        assert_eq!(world.decided(&[claim]), Err(expected), "{claim}");
    }
}

#[test]
fn a_pod_goes_to_its_volumes() {
    let mut world = World::new();
    world.volume("on-a", "later", json!({ "nodeAffinity": on("a") }));
    world.volume("on-b", "later", json!({ "nodeAffinity": on("b") }));
    world.volume("anywhere", "later", json!({}));
    for (claim, volume) in [
        ("a", "on-a"),
        ("b", "on-b"),
        ("any", "anywhere"),
        ("gone", "gone"),
    ] {
        world.bound(claim, volume);
    }
    assert_eq!(world.decided(&["b"]), Ok(("b".to_owned(), vec![])));
    assert_eq!(world.decided(&["any", "a"]), Ok(("a".to_owned(), vec![])));
    let refused = |reason: &str| {
        Err(format!(
            "0/2 nodes are available: {reason}. preemption: 0/2 nodes are available: 2 {NOT_HELPFUL}."
        ))
    };
    let elsewhere = "2 node(s) didn't match PersistentVolume's node affinity";
    assert_eq!(world.decided(&["a", "b"]), refused(elsewhere));
    let lost = "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
    assert_eq!(world.decided(&["gone"]), refused(lost));
}

#[test]
fn what_is_free_is_set_aside_and_what_is_not_there_is_made() {
    let mut world = World::new();
    world.claim("data", "later", json!({}));
    let first = |world: &World, claims: &[&str]| world.decided(claims).unwrap();
    let (node, steps) = first(&world, &["data"]);
    assert_eq!(steps, [select("data", &node)], "it is made");
    world.volume("on-b", "later", json!({ "nodeAffinity": on("b") }));
    world.claim("fixed", "fixed", json!({}));
    let none =
        "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.";
    assert!(world.decided(&["fixed"]).unwrap_err().starts_with(none));
    world.volume("disk", "fixed", json!({ "nodeAffinity": on("b") }));
    let (node, steps) = first(&world, &["fixed", "data"]);
    assert_eq!(node, "b");
    let both = [set_aside("on-b", "data"), set_aside("disk", "fixed")];
    assert!(
        both.iter().all(|step| steps.contains(step)) && steps.len() == 2,
        "{steps:?}"
    );
    // One volume is not two claims'.
    world.claim("second", "fixed", json!({}));
    assert!(
        world
            .decided(&["fixed", "second"])
            .unwrap_err()
            .starts_with(none)
    );
    // Nor is it another pod's that was decided before.
    let (pod, steps) = (key("q"), [set_aside("disk", "second")]);
    world.0.storage.assume(&pod, &steps);
    assert!(world.decided(&["fixed"]).unwrap_err().starts_with(none));
    let (node, again) = first(&world, &["second"]);
    assert_eq!(
        (node.as_str(), again.as_slice()),
        ("b", &steps[..]),
        "it is the same claim's"
    );
    world.0.storage.release(&pod, &steps);
    assert_eq!(first(&world, &["fixed"]).1, [set_aside("disk", "fixed")]);
}

#[test]
fn a_node_that_was_chosen_stays_chosen() {
    let mut world = World::new();
    let chosen = json!({ "annotations": { "volume.kubernetes.io/selected-node": "b" } });
    world.claim("data", "later", chosen);
    assert_eq!(
        world.decided(&["data"]),
        Ok(("b".to_owned(), vec![select("data", "b")]))
    );
    let pinned = json!({ "nodeSelector": { "kubernetes.io/hostname": "a" },
        "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }] });
    let why = waits(&pod("p", pinned), &world.0);
    assert_eq!(why.plugins, ["NodeAffinity", "VolumeBinding"]);
    let topologies = json!({ "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies":
        [{ "matchLabelExpressions": [{ "key": "kubernetes.io/hostname", "values": ["a"] }] }] });
    world.class("near", topologies);
    world.claim("near", "near", json!({}));
    assert_eq!(
        world.decided(&["near"]),
        Ok(("a".to_owned(), vec![select("near", "a")]))
    );
}

#[test]
fn a_claim_of_one_pod_alone() {
    let mut world = World::new();
    world.volume("v", "later", json!({}));
    let done = json!({ "pv.kubernetes.io/bind-completed": "yes" });
    let alone = json!({ "annotations": done,
        "spec": { "volumeName": "v", "accessModes": ["ReadWriteOncePod"] } });
    world.claim("alone", "later", alone);
    let first = Arc::new(naming("first", &["alone"]));
    assert!(world.decided(&["alone"]).is_ok());
    world.0.place(Arc::clone(&first), "a");
    let why = waits(&naming("p", &["alone"]), &world.0);
    let reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
    let expected = format!(
        "0/2 nodes are available: 2 {reason}. preemption: 0/2 nodes are available: 2 {NO_VICTIMS}."
    );
    assert_eq!(why.message, expected);
    let help = |claim: &str| {
        let claim = key(claim);
        let (plugins, event) = (Plugins::default(), Event::Unused(&claim));
        plugins.help(&why.plugins, &naming("p", &["alone"]), &event)
    };
    assert!(help("alone") && !help("other"));
    // It is no rival of itself.
    assert!(matches!(decide(&first, &world.0), Decision::Bind { .. }));
    // Nor does a node that has gone free it.
    world.0.remove_node("a");
    assert!(world.decided(&["alone"]).is_err());
    world.0.remove_pod(&key("first"));
    assert!(world.decided(&["alone"]).is_ok());
}

#[test]
fn what_helps_pods_that_wait_for_volumes() {
    let mut world = World::new();
    world.volume("free", "later", json!({}));
    world.volume(
        "mine",
        "later",
        json!({ "claimRef": { "namespace": "default", "name": "data" } }),
    );
    world.volume(
        "theirs",
        "later",
        json!({ "claimRef": { "namespace": "default", "name": "x" } }),
    );
    let waiting = naming("p", &["data"]);
    let plugins = Plugins::default();
    let helps = |event: Event<'_>| plugins.help(&["VolumeBinding"], &waiting, &event);
    let volume = |name: &str| world.0.storage.volume(name).unwrap();
    assert!(helps(Event::Volume(volume("free"))));
    assert!(helps(Event::Volume(volume("mine"))));
    assert!(!helps(Event::Volume(volume("theirs"))));
    assert!(helps(Event::Claim(&key("data"))));
    assert!(!helps(Event::Claim(&key("other"))));
    assert!(helps(Event::Class));
    let node = world.0.node("a").unwrap();
    assert!(helps(Event::Node(node)) && !helps(Event::Freed(node, &waiting)));
}

#[test]
fn a_pod_is_bound_when_its_claims_are() {
    let mut world = World::new();
    let pod = naming("p", &["data"]);
    let readiness = |world: &World, since: u64| {
        let node = Arc::clone(&world.0.node("a").unwrap().node);
        let written = BTreeMap::from([(key("data"), since)]);
        world.0.storage.readiness(&pod.claims, &node, &written)
    };
    assert!(
        matches!(readiness(&world, 0), Readiness::Broken(_)),
        "it is gone"
    );
    world.claim("data", "later", json!({}));
    assert_eq!(
        readiness(&world, 6),
        Readiness::NotYet,
        "it is as before it was written"
    );
    let broken = Readiness::Broken("provisioning failed for PVC \"data\"".to_owned());
    assert_eq!(readiness(&world, 5), broken, "the node was taken back");
    let chosen = json!({ "annotations": { "volume.kubernetes.io/selected-node": "a" } });
    world.claim("data", "later", chosen);
    assert_eq!(readiness(&world, 5), Readiness::NotYet);
    world.bound("data", "v");
    assert_eq!(
        readiness(&world, 5),
        Readiness::NotYet,
        "its volume is not seen yet"
    );
    world.volume("v", "later", json!({ "nodeAffinity": on("b") }));
    assert!(
        matches!(readiness(&world, 5), Readiness::Broken(_)),
        "it is elsewhere"
    );
    world.volume("v", "later", json!({ "nodeAffinity": on("a") }));
    assert_eq!(readiness(&world, 5), Readiness::Ready);
    let done = json!({ "annotations": { "pv.kubernetes.io/bind-completed": "yes" },
        "spec": { "volumeName": "v" }, "status": { "phase": "Pending" } });
    world.claim("data", "later", done);
    let why = "its node would not mount it yet";
    assert_eq!(readiness(&world, 5), Readiness::NotYet, "{why}");
}

#[test]
fn a_claim_that_two_volumes_name_is_one() {
    let mut world = World::new();
    world.claim("data", "fixed", json!({}));
    world.volume("v", "fixed", json!({ "nodeAffinity": on("b") }));
    let first = vec![set_aside("v", "data")];
    let decided = world.decided(&["data", "data"]);
    assert_eq!(decided, Ok(("b".to_owned(), first)));
}
