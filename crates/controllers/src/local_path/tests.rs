use serde_json::{Value, json};

use super::*;
use crate::simulation::Simulation;

fn cluster() -> Simulation {
    let mut sim = Simulation::new(1);
    sim.create(
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "local-path"}, "provisioner": storage::PROVISIONER,
        "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    sim.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
    sim
}

fn claim(more: Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
        "resources": {"requests": {"storage": "2Gi"}}});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "ns"}, "spec": spec})
}

fn select(sim: &mut Simulation, claim: &Key, node: &str) {
    sim.change("PersistentVolumeClaim", claim, |claim| {
        claim["metadata"]["annotations"][storage::SELECTED_NODE] = node.into();
    });
    sim.settle();
}

/// The volume of the claim.
fn volume(sim: &Simulation, claim: &Key) -> Option<(Key, Value)> {
    let claim = sim.load("PersistentVolumeClaim", claim).expect("there");
    let uid = claim["metadata"]["uid"].as_str().unwrap_or_default();
    let key = Key::new("", format!("pvc-{uid}"));
    sim.load("PersistentVolume", &key)
        .map(|volume| (key, volume))
}

#[test]
fn a_volume_is_made_on_the_chosen_node_and_goes_with_its_claim() {
    let mut sim = cluster();
    let key = sim.create(claim(json!({})));
    sim.settle();
    assert_eq!(volume(&sim, &key), None, "no pod uses it");
    select(&mut sim, &key, "n1");
    let (at, made) = volume(&sim, &key).expect("made");
    let bound = sim.load("PersistentVolumeClaim", &key).expect("there");
    assert_eq!(bound["status"]["phase"], "Bound");
    assert_eq!(bound["spec"]["volumeName"], *at.name);
    let hostname = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]});
    for (pointer, value) in [
        ("/spec/local/path", json!(at.name)),
        ("/spec/capacity/storage", json!("2Gi")),
        ("/spec/accessModes", json!(["ReadWriteOnce"])),
        ("/spec/storageClassName", json!("local-path")),
        ("/spec/persistentVolumeReclaimPolicy", json!("Delete")),
        (
            "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0",
            hostname,
        ),
        ("/metadata/labels", json!({storage::NODE: "n1"})),
        (
            "/metadata/annotations",
            json!({storage::PROVISIONED_BY: storage::PROVISIONER}),
        ),
        ("/status/phase", json!("Bound")),
    ] {
        assert_eq!(made.pointer(pointer), Some(&value), "{pointer}");
    }
    for event in [
        "Provisioning External provisioner is provisioning volume for claim \"ns/data\"",
        &format!(
            "ProvisioningSucceeded Successfully provisioned volume {}",
            at.name
        ),
    ] {
        assert_eq!(
            sim.events.iter().filter(|told| *told == event).count(),
            1,
            "{event}"
        );
    }

    sim.delete("PersistentVolumeClaim", &key, false);
    sim.settle();
    let going = sim
        .load("PersistentVolume", &at)
        .expect("the node has yet to remove it");
    assert_eq!(going["status"]["phase"], "Released");
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(
        going["metadata"]["finalizers"],
        json!([storage::PROVISIONER])
    );
    sim.delete("Node", &Key::new("", "n1"), false);
    sim.settle();
    assert_eq!(
        sim.load("PersistentVolume", &at),
        None,
        "nobody will remove it"
    );
}

#[test]
fn what_is_retained_stays() {
    let mut sim = cluster();
    let key = sim.create(claim(json!({})));
    select(&mut sim, &key, "n1");
    let (at, _) = volume(&sim, &key).expect("made");
    sim.change("PersistentVolume", &at, |volume| {
        volume["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into();
    });
    sim.delete("PersistentVolumeClaim", &key, false);
    sim.settle();
    let kept = sim.load("PersistentVolume", &at).expect("kept");
    assert_eq!(kept["status"]["phase"], "Released");
    assert_eq!(kept["metadata"]["deletionTimestamp"], Value::Null);
    // Its object may go without its files.
    sim.delete("PersistentVolume", &at, false);
    sim.settle();
    assert_eq!(sim.load("PersistentVolume", &at), None);
}

#[test]
fn a_volume_that_is_deleted_while_it_is_bound_waits() {
    let mut sim = cluster();
    let key = sim.create(claim(json!({})));
    select(&mut sim, &key, "n1");
    let (at, _) = volume(&sim, &key).expect("made");
    sim.delete("PersistentVolume", &at, false);
    sim.delete("Node", &Key::new("", "n1"), false);
    sim.settle();
    let bound = sim.load("PersistentVolume", &at).expect("bound");
    assert_eq!(
        bound["metadata"]["finalizers"],
        json!([storage::PROVISIONER, storage::PROTECTION])
    );
}

#[test]
fn a_volume_grows_with_its_claim_where_its_class_says_so() {
    for (grows, size) in [
        (json!(true), "3Gi"),
        (json!(false), "2Gi"),
        (Value::Null, "2Gi"),
    ] {
        let mut sim = cluster();
        sim.change("StorageClass", &Key::new("", "local-path"), |class| {
            class["allowVolumeExpansion"] = grows.clone();
        });
        let key = sim.create(claim(json!({})));
        select(&mut sim, &key, "n1");
        sim.change("PersistentVolumeClaim", &key, |claim| {
            claim["spec"]["resources"]["requests"]["storage"] = "3Gi".into();
        });
        sim.settle();
        let (_, volume) = volume(&sim, &key).expect("made");
        assert_eq!(volume["spec"]["capacity"]["storage"], size, "{grows}");
        let claim = sim.load("PersistentVolumeClaim", &key).expect("there");
        assert_eq!(claim["status"]["capacity"]["storage"], size, "{grows}");
    }
}

#[test]
fn what_cannot_be_made_is_said() {
    let failed = |why: &str| {
        format!(
            "ProvisioningFailed failed to provision volume with StorageClass \"local-path\": {why}"
        )
    };
    let modes =
        "carob.dev/local-path only supports the access modes ReadWriteOnce and ReadWriteOncePod";
    let source = json!({"kind": "PersistentVolumeClaim", "name": "other"});
    for (spec, why) in [
        (json!({"accessModes": ["ReadWriteMany"]}), modes),
        (
            json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}),
            modes,
        ),
        (
            json!({"volumeMode": "Block"}),
            "carob.dev/local-path does not support block volume provisioning",
        ),
        (
            json!({"selector": {"matchLabels": {"a": "b"}}}),
            "claim.Spec.Selector is not supported",
        ),
        (
            json!({"dataSource": source}),
            "claim.Spec.DataSource is not supported",
        ),
    ] {
        let mut sim = cluster();
        let key = sim.create(claim(spec.clone()));
        select(&mut sim, &key, "n1");
        assert_eq!(volume(&sim, &key), None, "{spec}");
        assert!(
            sim.events.contains(&failed(why)),
            "{spec}: {:?}",
            sim.events
        );
    }
    for (field, value, why) in [
        (
            "parameters",
            json!({"pathPattern": "x"}),
            "invalid parameter \"pathPattern\"",
        ),
        (
            "mountOptions",
            json!(["ro"]),
            "Mount options are not supported by the provisioner but StorageClass has mount options [\"ro\"]",
        ),
    ] {
        let mut sim = cluster();
        sim.change("StorageClass", &Key::new("", "local-path"), |class| {
            class[field] = value
        });
        let key = sim.create(claim(json!({})));
        select(&mut sim, &key, "n1");
        assert!(
            sim.events.contains(&failed(why)),
            "{field}: {:?}",
            sim.events
        );
    }
    // The scheduler is to choose another node.
    let mut sim = cluster();
    let key = sim.create(claim(json!({})));
    select(&mut sim, &key, "gone");
    assert!(
        sim.events.contains(&failed("node \"gone\" not found")),
        "{:?}",
        sim.events
    );
    let left = sim.load("PersistentVolumeClaim", &key).expect("there");
    assert_eq!(
        left["metadata"]["annotations"].get(storage::SELECTED_NODE),
        None
    );
    // Without a consumer there is no node.
    let mut sim = cluster();
    sim.change("StorageClass", &Key::new("", "local-path"), |class| {
        class["volumeBindingMode"] = "Immediate".into();
    });
    sim.create(claim(json!({})));
    sim.settle();
    assert!(
        sim.events
            .contains(&failed("configuration error, no node was specified")),
        "{:?}",
        sim.events
    );
}
