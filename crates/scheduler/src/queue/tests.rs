//! The queue under a clock that only the test moves.

use super::*;
use crate::{Node, Snapshot, storage::ClaimUse};

const FIT: &str = "NodeResourcesFit";
const SECOND: Duration = Duration::from_secs(1);

fn pod(name: &str, priority: i32) -> Arc<Pod> {
    Arc::new(Pod {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        priority,
        ..Pod::default()
    })
}

fn names(queue: &mut Queue) -> Vec<String> {
    let now = Instant::now();
    std::iter::from_fn(|| queue.pop(now).map(|pod| pod.name.clone())).collect()
}

fn unschedulable() -> Failure {
    Failure::Unschedulable(vec![FIT])
}

/// A pod leaves a node that has this much room then.
fn free_cpu(queue: &mut Queue, milli_cpu: i64) {
    let mut node = Node::default();
    node.allocatable.milli_cpu = milli_cpu;
    let mut snapshot = Snapshot::default();
    snapshot.set_node(Arc::new(node));
    let gone = Pod::default();
    let event = Event::Freed(snapshot.node("").unwrap(), &gone);
    queue.tell(&event, &Plugins::default(), Instant::now());
}

fn free(queue: &mut Queue) {
    free_cpu(queue, 1);
}

fn wanting(name: &str, milli_cpu: i64) -> Arc<Pod> {
    let mut pod = Pod::clone(&pod(name, 0));
    pod.requests.asked.milli_cpu = milli_cpu;
    Arc::new(pod)
}

#[tokio::test(start_paused = true)]
async fn by_priority_then_by_arrival() {
    let mut queue = Queue::new();
    for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)] {
        queue.set(pod(name, priority));
    }
    assert_eq!(names(&mut queue), ["b", "d", "a", "c", "e"]);
    assert!(!queue.is_ready(Instant::now()), "they are taken");
    assert_eq!(queue.lengths(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_waits_for_what_helps() {
    let mut queue = Queue::new();
    queue.set(wanting("a", 2));
    let taken = queue.pop(Instant::now()).unwrap();
    queue.put_back(&taken, unschedulable(), Instant::now());
    tokio::time::advance(60 * SECOND).await;
    assert!(queue.pop(Instant::now()).is_none());
    let mut snapshot = Snapshot::default();
    for (milli_cpu, expected) in [(1, Vec::new()), (2, vec!["a"])] {
        let mut node = Node::default();
        node.allocatable.milli_cpu = milli_cpu;
        snapshot.set_node(Arc::new(node));
        let event = Event::Node(snapshot.node("").unwrap());
        queue.tell(&event, &Plugins::default(), Instant::now());
        assert_eq!(names(&mut queue), expected, "{milli_cpu}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_helped_pod_goes_at_once_unless_others_are_active() {
    let mut queue = Queue::new();
    queue.set(pod("a", 9));
    let taken = queue.pop(Instant::now()).unwrap();
    queue.put_back(&taken, unschedulable(), Instant::now());
    free(&mut queue);
    queue.set(pod("b", 0));
    assert_eq!(queue.lengths(), (1, 1, 0));
    assert!(queue.is_ready(Instant::now()));
    assert_eq!(
        names(&mut queue),
        ["b", "a"],
        "its back-off keeps it behind"
    );
}

#[tokio::test(start_paused = true)]
async fn room_wakes_whom_it_fits_until_one_finds_it_taken() {
    let mut queue = Queue::new();
    for (name, milli_cpu) in [("big", 3), ("a", 1), ("b", 1), ("c", 1)] {
        queue.set(wanting(name, milli_cpu));
        let taken = queue.pop(Instant::now()).unwrap();
        queue.put_back(&taken, unschedulable(), Instant::now());
    }
    free_cpu(&mut queue, 1);
    assert_eq!(queue.lengths(), (0, 3, 1));
    let placed = queue.pop(Instant::now()).unwrap();
    queue.remove(&placed.key());
    let late = queue.pop(Instant::now()).unwrap();
    queue.put_back(&late, unschedulable(), Instant::now());
    assert!(queue.pop(Instant::now()).is_none() && !queue.is_ready(Instant::now()));
    // The next that goes makes room for the one that still backs off.
    free_cpu(&mut queue, 1);
    let next = queue.pop(Instant::now()).unwrap();
    assert_eq!([&*placed.name, &*late.name, &*next.name], ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn errors_back_off_from_one_to_ten_seconds() {
    let mut queue = Queue::new();
    queue.set(pod("a", 0));
    let mut pauses = Vec::new();
    let mut taken = queue.pop(Instant::now()).unwrap();
    for _ in 0..6 {
        let began = Instant::now();
        queue.put_back(&taken, Failure::Error, began);
        assert!(queue.pop(began).is_none());
        free(&mut queue);
        assert!(queue.pop(began).is_none(), "nothing shortens it");
        tokio::time::sleep_until(queue.next_deadline().unwrap()).await;
        taken = queue.pop(Instant::now()).unwrap();
        pauses.push(began.elapsed().as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn none_waits_for_ever() {
    let mut queue = Queue::new();
    queue.set(pod("a", 0));
    let taken = queue.pop(Instant::now()).unwrap();
    queue.put_back(&taken, unschedulable(), Instant::now());
    let began = Instant::now();
    tokio::time::sleep_until(queue.next_deadline().unwrap()).await;
    assert_eq!(began.elapsed(), 300 * SECOND);
    assert!(queue.is_ready(Instant::now()));
    assert_eq!(names(&mut queue), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_asks_for_something_else_is_tried_again() {
    let mut queue = Queue::new();
    queue.set(pod("a", 0));
    let taken = queue.pop(Instant::now()).unwrap();
    queue.put_back(&taken, unschedulable(), Instant::now());
    queue.set(pod("a", 0));
    assert!(queue.pop(Instant::now()).is_none(), "nothing has changed");
    let mut changed = Pod::clone(&taken);
    changed.gates.push("gate".to_owned());
    let changed = Arc::new(changed);
    queue.set(Arc::clone(&changed));
    let taken = queue.pop(Instant::now()).unwrap();
    assert_eq!(taken, changed);
    // It changes while the decision is made, which was on its old form.
    queue.set(pod("a", 0));
    queue.put_back(&taken, unschedulable(), Instant::now());
    assert_eq!(names(&mut queue), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn forgotten_pods_and_namesakes() {
    let mut queue = Queue::new();
    queue.set(pod("a", 0));
    let taken = queue.pop(Instant::now()).unwrap();
    assert!(queue.contains(&taken));
    queue.remove(&taken.key());
    queue.put_back(&taken, unschedulable(), Instant::now());
    assert!(!queue.contains(&taken));
    assert_eq!(queue.lengths(), (0, 0, 0));

    queue.set(pod("a", 0));
    let taken = queue.pop(Instant::now()).unwrap();
    let mut namesake = Pod::clone(&taken);
    namesake.uid = "another".to_owned();
    queue.set(Arc::new(namesake));
    queue.put_back(&taken, Failure::Error, Instant::now());
    assert_eq!(queue.pop(Instant::now()).unwrap().uid, "another");
}

#[tokio::test(start_paused = true)]
async fn claims_concern_those_who_name_them() {
    let mut queue = Queue::new();
    let (now, plugins) = (Instant::now(), Plugins::default());
    for (name, claim) in [("a", Some("x")), ("b", Some("y")), ("c", None)] {
        let named = claim.map(|claim| ClaimUse {
            claim: Key::new("", claim),
            is_own: false,
        });
        let claims = named.into_iter().collect();
        let pod = Pod::clone(&pod(name, 0));
        queue.set(Arc::new(Pod { claims, ..pod }));
    }
    while let Some(pod) = queue.pop(now) {
        let why = Failure::Unschedulable(vec!["VolumeBinding"]);
        queue.put_back(&pod, why, now);
    }
    assert_eq!(queue.lengths(), (0, 0, 3));
    let (x, a) = (Key::new("", "x"), Key::new("", "a"));
    queue.tell(&Event::Claim(&x), &plugins, now);
    assert_eq!(queue.lengths(), (0, 1, 2));
    queue.tell(&Event::Class, &plugins, now);
    assert_eq!(queue.lengths(), (0, 2, 1), "one names no claim");
    assert_eq!(queue.users(&x).collect::<Vec<_>>(), [&a]);
    queue.remove(&a);
    assert_eq!(queue.users(&x).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn other_pods_concern_those_who_go_by_them() {
    let mut queue = Queue::new();
    let (now, plugins) = (Instant::now(), Plugins::default());
    for (name, by) in [
        ("a", "InterPodAffinity"),
        ("b", FIT),
        ("c", "PodTopologySpread"),
    ] {
        queue.set(pod(name, 0));
        let pod = queue.pop(now).unwrap();
        queue.put_back(&pod, Failure::Unschedulable(vec![by]), now);
    }
    let concerned = |queue: &Queue| -> Vec<String> {
        let keys = queue.concerned(&Event::Namespace);
        keys.map(|key| key.name.clone()).collect()
    };
    assert_eq!(concerned(&queue), ["a", "c"]);
    queue.tell(&Event::Namespace, &plugins, now);
    assert_eq!(
        queue.lengths(),
        (0, 1, 2),
        "labels of namespaces help affinity alone"
    );
    assert_eq!(concerned(&queue), ["a", "c"]);
    queue.remove(&Key::new("", "c"));
    tokio::time::sleep(SECOND).await;
    assert_eq!(names(&mut queue), ["a"]);
    assert_eq!(concerned(&queue), Vec::<String>::new());
}
