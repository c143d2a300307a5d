//! Who has to go for whom.

use super::*;
use crate::{Budget, Preemption};

/// A node of 10 pods' room and 4 CPUs with these pods: name, priority, CPUs, labels.
fn with(snapshot: &mut Snapshot, name: &str, pods: &[(&str, i32, &str, Value)]) {
    snapshot.set_node(node(name, json!({ "cpu": "4" })));
    for (pod, priority, cpu, labels) in pods {
        let pod = placed(pod, *priority, cpu, labels.clone());
        snapshot.place(Arc::new(pod), name);
    }
}

fn placed(name: &str, priority: i32, cpu: &str, labels: Value) -> Pod {
    let pod: core::Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": labels },
        "spec": { "priority": priority, "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
        "status": { "startTime": "2030-01-01T00:00:00Z" },
    }))
    .unwrap();
    Pod::from(pod)
}

fn plain(
    name: &'static str,
    priority: i32,
    cpu: &'static str,
) -> (&'static str, i32, &'static str, Value) {
    (name, priority, cpu, json!({}))
}

fn preemption(pod: &Pod, snapshot: &mut Snapshot) -> Preemption {
    let before = format!("{:?}", snapshot.nodes());
    let decision = Scheduler::default().schedule(pod, snapshot, &mut rng());
    assert_eq!(
        format!("{:?}", snapshot.nodes()),
        before,
        "all are there as before"
    );
    match decision {
        Decision::Preempt { preemption, .. } => preemption,
        other => panic!("{other:?}"),
    }
}

/// The node, and who has to leave it.
fn who(pod: &Pod, snapshot: &mut Snapshot) -> (String, Vec<String>) {
    let preemption = preemption(pod, snapshot);
    let victims = preemption.victims.iter().map(|victim| victim.name.clone());
    (preemption.node, victims.collect())
}

fn urgent(cpu: &str) -> Pod {
    placed("urgent", 100, cpu, json!({}))
}

#[test]
fn the_fewest_and_least_important_go() {
    let cases = [
        // Two of three would make room; the least important go.
        (
            vec![vec![
                plain("a", 1, "1"),
                plain("b", 3, "1"),
                plain("c", 2, "2"),
            ]],
            "2",
            vec!["c"],
        ),
        (
            vec![vec![
                plain("a", 1, "1"),
                plain("b", 3, "1"),
                plain("c", 2, "2"),
            ]],
            "3",
            vec!["c", "a"],
        ),
        (
            vec![vec![plain("a", 1, "2"), plain("b", 3, "2")]],
            "2",
            vec!["a"],
        ),
        // Among nodes: the lowest of the highest priorities.
        (
            vec![vec![plain("a", 9, "4")], vec![plain("b", 8, "4")]],
            "4",
            vec!["b"],
        ),
        // The least sum of priorities, and so the fewest.
        (
            vec![
                vec![plain("a", 5, "2"), plain("b", 5, "2")],
                vec![plain("c", 5, "4")],
            ],
            "4",
            vec!["c"],
        ),
        // Whoever is as important stays.
        (
            vec![vec![plain("a", 100, "4")], vec![plain("b", 99, "4")]],
            "4",
            vec!["b"],
        ),
    ];
    for (nodes, cpu, expected) in cases {
        let mut snapshot = Snapshot::default();
        for (number, pods) in nodes.iter().enumerate() {
            with(&mut snapshot, &format!("n{number}"), pods);
        }
        assert_eq!(
            who(&urgent(cpu), &mut snapshot).1,
            expected,
            "{nodes:?} for {cpu}"
        );
    }
}

#[test]
fn who_has_run_for_less_time_goes() {
    let mut snapshot = Snapshot::default();
    for (node, pod, started) in [
        ("n0", "old", "2030-01-01T00:00:00Z"),
        ("n1", "young", "2030-01-02T00:00:00Z"),
    ] {
        with(&mut snapshot, node, &[]);
        let mut pod = placed(pod, 1, "4", json!({}));
        pod.started = Some(started.parse().unwrap());
        snapshot.place(Arc::new(pod), node);
    }
    assert_eq!(who(&urgent("1"), &mut snapshot).1, ["young"]);
}

#[test]
fn budgets_are_respected_where_that_is_possible() {
    let db = || json!({ "app": "db" });
    let budget = |allowed: i32, disrupted: Value| {
        let budget = serde_json::from_value(json!({
            "metadata": { "name": "db", "namespace": "default" },
            "spec": { "selector": { "matchLabels": { "app": "db" } } },
            "status": { "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1,
                "disruptedPods": disrupted },
        }));
        Budget::from(&budget.unwrap())
    };
    let key = client::Key::new("default", "db");
    let mut snapshot = Snapshot::default();
    with(&mut snapshot, "n0", &[("db", 1, "4", db())]);
    with(&mut snapshot, "n1", &[plain("other", 50, "4")]);
    for (budget, expected) in [
        (None, "db"),
        (Some(budget(1, json!({}))), "db"),
        (Some(budget(0, json!({}))), "other"),
        (
            Some(budget(0, json!({ "db": "2030-01-01T00:00:00Z" }))),
            "db",
        ),
    ] {
        let what = format!("{budget:?}");
        snapshot.set_budget(key.clone(), budget);
        assert_eq!(who(&urgent("1"), &mut snapshot).1, [expected], "{what}");
    }
    snapshot.set_budget(key, Some(budget(0, json!({}))));
    snapshot.remove_node("n1");
    assert_eq!(
        who(&urgent("1"), &mut snapshot).1,
        ["db"],
        "there is nobody else"
    );
}

#[test]
fn rules_about_others_can_be_what_is_in_the_way() {
    let mut snapshot = Snapshot::default();
    with(
        &mut snapshot,
        "n0",
        &[
            ("web", 1, "1", json!({ "app": "web" })),
            plain("other", 1, "1"),
        ],
    );
    let mut pod: core::Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "default", "uid": "u" },
        "spec": { "priority": 9, "containers": [{ "name": "c" }], "affinity": { "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "web" } } },
            ] } } },
    }))
    .unwrap();
    assert_eq!(who(&Pod::from(pod.clone()), &mut snapshot).1, ["web"]);
    pod.spec.as_mut().unwrap().preemption_policy = Some("Never".to_owned());
    let why = waits(&Pod::from(pod), &snapshot);
    assert!(
        why.message
            .ends_with("preemption: not eligible due to preemptionPolicy=Never."),
        "{}",
        why.message
    );
}

#[test]
fn what_is_in_vain_is_said() {
    let mut snapshot = Snapshot::default();
    with(&mut snapshot, "small", &[plain("low", 1, "1")]);
    with(&mut snapshot, "full", &[plain("high", 200, "4")]);
    snapshot.set_node(node(
        "tainted",
        json!({ "taints": [{ "key": "k", "effect": "NoSchedule" }] }),
    ));
    let mut large = urgent("4");
    large.requests.asked.memory = 3 << 30;
    let low = Arc::new(placed("mem", 100, "1", json!({})));
    let mut low = Pod::clone(&low);
    low.requests.asked.memory = 2 << 30;
    snapshot.place(Arc::new(low), "small");
    assert_eq!(
        waits(&large, &snapshot).message,
        "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
         preemption: 0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, \
         1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    );
}

#[test]
fn room_that_is_made_for_one_is_no_others() {
    let mut snapshot = Snapshot::default();
    with(&mut snapshot, "n0", &[plain("low", 1, "4")]);
    let first = Arc::new(urgent("4"));
    let (node, _) = who(&first, &mut snapshot);
    snapshot.nominate(&first, &node);
    // On its way out.
    let mut low = placed("low", 1, "4", json!({}));
    low.deleting = true;
    snapshot.place(Arc::new(low.clone()), "n0");
    let why = waits(&first, &snapshot);
    assert!(why.is_awaited);
    assert!(
        why.message
            .ends_with("preemption: not eligible due to a terminating pod on the nominated node."),
        "{}",
        why.message
    );
    snapshot.remove_pod(&low.key());
    let lesser = placed("lesser", 50, "1", json!({}));
    let why = waits(&lesser, &snapshot);
    assert!(
        why.message
            .starts_with("0/1 nodes are available: 1 Insufficient cpu."),
        "{}",
        why.message
    );
    let more = placed("more", 200, "1", json!({}));
    assert_eq!(bound(&more, &snapshot), "n0", "it is more important");
    assert_eq!(bound(&first, &snapshot), "n0");
    // There is a better place by now, but this one was made for it.
    snapshot.set_node(node_of_size("n1"));
    assert_eq!(bound(&first, &snapshot), "n0");
    snapshot.unnominate(&first.key());
    assert_eq!(bound(&lesser, &snapshot), "n1");
}

fn node_of_size(name: &str) -> Arc<Node> {
    node(name, json!({ "cpu": "64" }))
}
