//! What is looked at, and when again.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{Filter, Plugin, PreFilter, Rejection};

/// Counts how often it is asked about a node.
struct Asked(AtomicUsize);

struct Asking<'a>(&'a Asked);

static ASKED: Asked = Asked(AtomicUsize::new(0));

impl Plugin for Asked {
    fn name(&self) -> &'static str {
        "Asked"
    }

    fn pre_filter<'a>(&'a self, _: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Filter(Box::new(Asking(self)))
    }
}

impl Filter for Asking<'_> {
    fn check(&self, _: &NodeState) -> Result<(), Rejection> {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn only_nodes_that_have_changed_are_asked_about_again() {
    let mut snapshot = Snapshot::default();
    for number in 0..100 {
        snapshot.set_node(node(&format!("n{number}"), json!({})));
    }
    let mut scheduler = Scheduler::new(Plugins::of(vec![&ASKED]));
    let (mut rng, one, other) = (
        rng(),
        pod("p", json!({})),
        pod("q", asking(json!({ "cpu": "1" }))),
    );
    let mut asked = |pod: &Pod, snapshot: &Snapshot| {
        scheduler.schedule(pod, &mut snapshot.clone(), &mut rng);
        ASKED.0.swap(0, Ordering::Relaxed)
    };
    assert_eq!(asked(&one, &snapshot), 100);
    assert_eq!(asked(&one, &snapshot), 0);
    assert_eq!(asked(&pod("twin", json!({})), &snapshot), 0);
    assert_eq!(asked(&other, &snapshot), 100, "it asks for something else");
    snapshot.place(Arc::new(one.clone()), "n5");
    assert_eq!(asked(&one, &snapshot), 1);
    assert_eq!(asked(&other, &snapshot), 1);
    snapshot.set_node(node("n7", json!({ "cpu": "1" })));
    snapshot.remove_pod(&one.key());
    assert_eq!(asked(&one, &snapshot), 2);
    snapshot.remove_node("n9");
    assert_eq!(asked(&one, &snapshot), 99);
}

#[test]
fn all_nodes_are_looked_at() {
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
    assert_eq!(bound(&wanting, &snapshot), "n777");
}

#[test]
fn what_a_pod_frees_may_help_those_that_lack_room() {
    let plugins = Plugins::default();
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("n", json!({})));
    let gone = pod("gone", json!({}));
    let event = Event::Freed(snapshot.node("n").unwrap(), &gone);
    let waiting = pod("p", json!({}));
    assert!(plugins.help(&["NodeResourcesFit"], &waiting, &event));
    let larger = pod("q", asking(json!({ "cpu": "1000000" })));
    assert!(!plugins.help(&["NodeResourcesFit"], &larger, &event));
    assert!(!plugins.help(&["TaintToleration", "NodeAffinity"], &waiting, &event));
}
