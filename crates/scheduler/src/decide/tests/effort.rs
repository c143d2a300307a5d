//! What is looked at, and when again.

use super::*;

#[test]
fn of_many_nodes_enough_are_looked_at() {
    assert_eq!(enough(3), 3);
    assert_eq!(enough(100), 100);
    assert_eq!(enough(120), 100);
    assert_eq!(enough(1000), 420);
    assert_eq!(enough(5000), 500);
    assert_eq!(enough(100_000), 5000);
    let mut snapshot = Snapshot::default();
    for number in 0..1000 {
        let spec = if number == 777 {
            json!({ "gpu": "1" })
        } else {
            json!({})
        };
        snapshot.set_node(node(&format!("n{number}"), spec));
    }
    let wanting = pod("p", asking(json!({ "example.com/gpu": "1" })));
    assert_eq!(
        bound(&wanting, &snapshot),
        "n777",
        "all are looked at until one will do"
    );
}

#[test]
fn what_a_pod_frees_may_help_those_that_lack_room() {
    let plugins = Plugins::default();
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("n", json!({})));
    let event = Event::Freed(snapshot.node("n").unwrap());
    let waiting = pod("p", json!({}));
    assert!(plugins.help(&["NodeResourcesFit"], &waiting, &event));
    let larger = pod("q", asking(json!({ "cpu": "1000000" })));
    assert!(!plugins.help(&["NodeResourcesFit"], &larger, &event));
    assert!(!plugins.help(&["TaintToleration", "NodeAffinity"], &waiting, &event));
}
