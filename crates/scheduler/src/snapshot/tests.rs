use super::*;
use api::resources::Requests;

fn node(name: &str, milli_cpu: i64) -> Arc<Node> {
    Arc::new(Node {
        name: name.to_owned(),
        allocatable: Resources {
            milli_cpu,
            ..Resources::default()
        },
        ..Node::default()
    })
}

fn pod(name: &str, milli_cpu: i64) -> Arc<Pod> {
    let asked = Resources {
        milli_cpu,
        pods: 1,
        ..Resources::default()
    };
    let scored = Scored {
        milli_cpu,
        memory: 1,
    };
    Arc::new(Pod {
        name: name.to_owned(),
        requests: Requests { asked, scored },
        ..Pod::default()
    })
}

fn counted(snapshot: &Snapshot, node: &str) -> (i64, i64, i64) {
    let state = snapshot.node(node).unwrap();
    let requested = &state.requested;
    (requested.milli_cpu, requested.pods, state.scored.memory)
}

#[test]
fn pods_are_counted_once_wherever_they_are() {
    let mut snapshot = Snapshot::default();
    snapshot.place(pod("early", 5), "b");
    assert!(snapshot.set_node(node("a", 100)));
    assert!(snapshot.set_node(node("b", 100)));
    assert_eq!(
        counted(&snapshot, "b"),
        (5, 1, 1),
        "it was there before its node"
    );
    snapshot.place(pod("one", 10), "a");
    snapshot.place(pod("one", 20), "a");
    assert_eq!(counted(&snapshot, "a"), (20, 1, 1), "it was resized");
    snapshot.place(pod("one", 20), "b");
    assert_eq!(counted(&snapshot, "a"), (0, 0, 0));
    assert_eq!(counted(&snapshot, "b"), (25, 2, 2));
    let key = Key::new("", "one");
    assert_eq!(snapshot.placement(&key), Some("b"));
    assert_eq!(snapshot.remove_pod(&key).unwrap().name, "one");
    assert!(snapshot.remove_pod(&key).is_none());
    assert_eq!(counted(&snapshot, "b"), (5, 1, 1));
}

#[test]
fn nodes_come_and_go() {
    let mut snapshot = Snapshot::default();
    for name in ["a", "b", "c"] {
        snapshot.set_node(node(name, 100));
    }
    snapshot.place(pod("one", 10), "a");
    snapshot.place(pod("two", 20), "c");
    snapshot.remove_node("a");
    snapshot.remove_node("absent");
    assert!(snapshot.node("a").is_none());
    assert_eq!(snapshot.nodes().len(), 2);
    assert_eq!(
        counted(&snapshot, "c"),
        (20, 1, 1),
        "another node took its place in the list"
    );
    snapshot.set_node(node("a", 100));
    assert_eq!(
        counted(&snapshot, "a"),
        (10, 1, 1),
        "its pods are still on it"
    );
}

#[test]
fn a_heartbeat_is_no_change() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("a", 100));
    let before = snapshot.version();
    assert!(!snapshot.set_node(node("a", 100)));
    assert_eq!(snapshot.version(), before);
    assert!(snapshot.set_node(node("a", 200)));
    assert_ne!(snapshot.version(), before);
}

#[test]
fn what_has_changed_is_known_for_as_long_as_that_is_less_than_all() {
    let mut snapshot = Snapshot::default();
    for name in ["a", "b", "c"] {
        snapshot.set_node(node(name, 100));
    }
    let before = snapshot.version();
    let since = |snapshot: &Snapshot, then| {
        let changed = snapshot.changed_since(then)?;
        Some(changed.collect::<Vec<_>>())
    };
    assert_eq!(since(&snapshot, before), Some(vec![]));
    snapshot.place(pod("one", 1), "b");
    snapshot.place(pod("two", 1), "nowhere");
    snapshot.remove_pod(&Key::new("", "one"));
    snapshot.set_node(node("c", 200));
    assert_eq!(since(&snapshot, before), Some(vec![1, 1, 2]));
    snapshot.place(pod("one", 1), "a");
    assert_eq!(since(&snapshot, before), None, "a look at all is as fast");
    let before = snapshot.version();
    snapshot.remove_node("a");
    assert_eq!(since(&snapshot, before), None, "another is in its place");
}

#[test]
fn the_lowest_priority_is_known() {
    let of = |name, priority| {
        Arc::new(Pod {
            priority,
            ..Pod::clone(&pod(name, 1))
        })
    };
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("a", 100));
    snapshot.place(of("low", -5), "a");
    snapshot.place(of("high", 7), "a");
    let lower = |snapshot: &Snapshot, than| snapshot.node("a").unwrap().has_lower(than);
    assert!(lower(&snapshot, 0) && !lower(&snapshot, -5));
    snapshot.remove_pod(&Key::new("", "low"));
    assert!(lower(&snapshot, 8) && !lower(&snapshot, 7));
}
