use rand::{SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};

use super::*;
use crate::{Decision, Scheduler, Snapshot};

fn node(name: &str) -> Arc<Node> {
    let node: k8s_openapi::api::core::v1::Node = serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": {
            "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "10" },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    }))
    .unwrap();
    Arc::new(Node::from(node))
}

/// A pod that will not have any of these terms' pods near.
fn apart(name: &str, terms: &[Value]) -> Arc<Pod> {
    let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "uid": name, "labels": { "app": "web" } },
        "spec": {
            "containers": [{ "name": "c" }],
            "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } },
        },
    }))
    .unwrap();
    Arc::new(Pod::from(pod))
}

fn from(label: &str, app: &str) -> Value {
    json!({ "topologyKey": label, "labelSelector": { "matchLabels": { "app": app } } })
}

fn place(snapshot: &mut Snapshot, pod: &Arc<Pod>) -> Option<String> {
    let mut rng = SmallRng::seed_from_u64(1);
    match Scheduler::default().schedule(pod, snapshot, &mut rng) {
        Decision::Bind { node, .. } => {
            snapshot.place(Arc::clone(pod), &node);
            Some(node)
        }
        _ => None,
    }
}

#[test]
fn nodes_that_come_and_go_under_ever_new_names_leave_nothing_behind() {
    let own = [from("kubernetes.io/hostname", "web")];
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("stays"));
    assert_eq!(
        place(&mut snapshot, &apart("first", &own)).as_deref(),
        Some("stays")
    );
    for turn in 0..1_000 {
        let name = format!("turn-{turn}");
        snapshot.set_node(node(&name));
        let pod = apart("next", &own);
        assert_eq!(place(&mut snapshot, &pod).as_ref(), Some(&name));
        assert_eq!(place(&mut snapshot, &apart("no-room", &own)), None);
        snapshot.remove_pod(&pod.key());
        snapshot.remove_node(&name);
    }
    let topology = snapshot.topology();
    let counted = topology.groups.iter().map(|group| &group.table);
    let tables = counted.chain(topology.carried.values().map(|rule| &rule.table));
    for table in tables {
        assert!(table.pods.len() < 100, "{}", table.pods.len());
        assert_eq!(table.pods.iter().sum::<u32>(), 1);
    }
}

#[test]
fn labels_that_nobody_asks_for_any_more_are_forgotten() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("a"));
    for turn in 0..2 * GROUPS {
        // No node has the label: nobody is near, whoever it is.
        let pod = apart("next", &[from(&format!("label-{turn}"), "web")]);
        assert!(place(&mut snapshot, &pod).is_some());
        snapshot.remove_pod(&pod.key());
    }
    let topology = snapshot.topology();
    assert!(topology.groups.len() <= GROUPS && topology.carried.is_empty());
    assert!(topology.keys.len() <= GROUPS + 1, "{}", topology.keys.len());
}

#[test]
fn a_pod_with_more_rules_than_are_kept_has_them_all() {
    let terms: Vec<Value> = (0..GROUPS + 100)
        .map(|at| from("kubernetes.io/hostname", &format!("app-{at}")))
        .collect();
    for at in [0, GROUPS - 1, GROUPS + 99] {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(node("a"));
        let mut other = Pod::clone(&apart("other", &[]));
        other.labels.insert("app".to_owned(), format!("app-{at}"));
        snapshot.place(Arc::new(other), "a");
        assert_eq!(place(&mut snapshot, &apart("choosy", &terms)), None, "{at}");
    }
}
