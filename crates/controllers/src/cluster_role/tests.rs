//! Roles that gather others' rules.

use client::Key;
use serde_json::{Value, json};

use crate::simulation::Simulation;

fn role(name: &str, labels: Value, resources: &[&str]) -> Value {
    let rules: Vec<Value> = resources.iter().map(|r| rule(r)).collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels}, "rules": rules,
    })
}

fn rule(resource: &str) -> Value {
    json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]})
}

fn gathering(name: &str, labels: Value, selectors: Value) -> Value {
    let mut role = role(name, labels, &[]);
    role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
    role
}

/// The resources that a role's rules name, in order.
fn gathered(sim: &Simulation, name: &str) -> Vec<String> {
    let role = sim.load("ClusterRole", &Key::new("", name)).expect(name);
    let rules = role["rules"].as_array().cloned().unwrap_or_default();
    let text = |rule: Value| rule["resources"][0].as_str().unwrap_or_default().to_owned();
    rules.into_iter().map(text).collect()
}

#[test]
fn a_role_has_the_rules_of_those_it_selects() {
    let mut sim = Simulation::new(1);
    sim.create(role("b", json!({"to": "x"}), &["pods", "nodes"]));
    sim.create(role("a", json!({"to": "x"}), &["secrets", "pods"]));
    sim.create(role("c", json!({"to": "y"}), &["events"]));
    sim.create(gathering(
        "sum",
        json!({"to": "x"}),
        json!([{"matchLabels": {"to": "y"}}, {"matchLabels": {"to": "x"}}]),
    ));
    sim.settle();
    // The first selector first, then by names, none twice, its own never.
    assert_eq!(
        gathered(&sim, "sum"),
        ["events", "secrets", "pods", "nodes"]
    );
    assert_eq!(gathered(&sim, "a"), ["secrets", "pods"]);
    sim.change("ClusterRole", &Key::new("", "c"), |role| {
        role["metadata"]["labels"] = json!({});
    });
    sim.delete("ClusterRole", &Key::new("", "b"), true);
    sim.settle();
    assert_eq!(gathered(&sim, "sum"), ["secrets", "pods"]);
}

#[test]
fn what_somebody_else_writes_into_it_goes() {
    let mut sim = Simulation::new(1);
    let key = sim.create(gathering(
        "sum",
        json!({}),
        json!([{"matchLabels": {"to": "x"}}]),
    ));
    sim.change("ClusterRole", &key, |role| {
        role["rules"] = json!([rule("pods")])
    });
    sim.settle();
    assert!(gathered(&sim, "sum").is_empty());
}

#[test]
fn roles_gather_what_others_have_gathered() {
    let mut sim = Simulation::new(1);
    let to = |name: &str| json!({"to": name});
    let by = |name: &str| json!([{"matchLabels": {"to": name}}]);
    sim.create(gathering("admin", json!({}), by("admin")));
    sim.create(gathering("edit", to("admin"), by("edit")));
    sim.create(gathering("view", to("edit"), by("view")));
    sim.create(role("part", to("view"), &["pods"]));
    sim.settle();
    for name in ["view", "edit", "admin"] {
        assert_eq!(gathered(&sim, name), ["pods"], "{name}");
    }
}

#[test]
fn a_role_that_gathers_nothing_keeps_its_rules() {
    let mut sim = Simulation::new(1);
    let key = sim.create(role("own", json!({}), &["pods"]));
    assert!(super::reconcile(&key, &sim.view).is_empty());
    assert!(super::reconcile(&Key::new("", "gone"), &sim.view).is_empty());
}
