//! Who goes, in which order, and what is said of that.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::eviction::{Amount, Used};

const MIB: u64 = 1 << 20;

/// A pod of one container that asks for so many MiB of both and uses so many.
fn candidate(uid: &str, priority: i32, asked: Option<u64>, used: u64) -> Candidate {
    let asked = asked.map(|mib| format!("{mib}Mi"));
    let requests = match asked {
        Some(asked) => json!({"memory": asked, "ephemeral-storage": asked}),
        None => json!({}),
    };
    let used = Used {
        memory: used * MIB,
        disk: Amount {
            bytes: used * MIB,
            inodes: used,
        },
    };
    Candidate {
        uid: uid.to_owned(),
        pod: pod(json!({
            "priority": priority,
            "containers": [{"name": "c", "resources": {"requests": requests}}],
        })),
        usage: Usage {
            containers: [("c".to_owned(), used)].into(),
            ..Usage::default()
        },
        lately: 0,
    }
}

fn pod(spec: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(json!({ "spec": spec })).unwrap())
}

fn met(signal: Signal) -> Met {
    Met {
        signal,
        threshold: 100 * MIB,
        available: 1_500,
        wanted: 0,
    }
}

/// A little is missing.
fn short_of(signal: Signal) -> Met {
    Met {
        available: 100 * MIB - 1,
        ..met(signal)
    }
}

#[test]
fn nobody_goes_for_what_others_have_taken() {
    let mut pods = vec![
        candidate("critical", CRITICAL, None, 900),
        candidate("idle", -1, None, 0),
        candidate("modest", 0, Some(50), 40),
        candidate("small", 1, Some(50), 9),
    ];
    let missing = |mib: u64| Met {
        available: (100 - mib) * MIB,
        ..met(Signal::Memory)
    };
    assert!(choose(&missing(50), &pods).is_none());
    assert_eq!(choose(&missing(49), &pods).unwrap().0.uid, "modest");
    pods.truncate(2);
    assert!(choose(&short_of(Signal::Memory), &pods).is_none());
}

#[test]
fn who_goes_first() {
    for signal in [Signal::Memory, Signal::Nodefs] {
        let mut pods = vec![
            candidate("critical", CRITICAL, None, 900),
            candidate("within, most important", 9, Some(500), 500),
            candidate("within, uses less of it", 0, Some(500), 400),
            candidate("within, uses more of it", 0, Some(100), 90),
            candidate("within, all of it", 0, Some(10), 10),
            candidate("beyond, important", 9, Some(1), 900),
            candidate("beyond, a little", 0, Some(800), 801),
            candidate("beyond, best effort", 0, None, 2),
            candidate("beyond, the same", 0, None, 2),
            candidate("beyond, unimportant", -1, Some(1), 2),
        ];
        let mut order = Vec::new();
        while let Some((first, _)) = choose(&short_of(signal), &pods) {
            let uid = first.uid.clone();
            pods.retain(|pod| pod.uid != uid);
            order.push(uid);
        }
        assert_eq!(
            order,
            [
                "beyond, unimportant",
                "beyond, best effort",
                "beyond, the same",
                "beyond, a little",
                "beyond, important",
                "within, all of it",
                "within, uses more of it",
                "within, uses less of it",
                "within, most important",
            ]
        );
        assert_eq!(pods.len(), 1);
    }
    // Nobody asks for inodes.
    let pods = [
        candidate("few", 0, None, 2),
        candidate("many", 0, Some(100), 3),
    ];
    let (first, message) = choose(&short_of(Signal::Inodes), &pods).unwrap();
    assert_eq!(first.uid, "many");
    assert_eq!(
        message,
        "The node was low on resource: inodes. Threshold quantity: 104857600, available: 104857599. "
    );
    assert!(choose(&short_of(Signal::Memory), &[]).is_none());
}

#[test]
fn of_equals_the_writer_goes_first() {
    let writer = |uid: &str, priority: i32, asked: Option<u64>, used: u64, lately: u64| {
        let of = candidate(uid, priority, asked, used);
        let lately = lately * MIB;
        Candidate { lately, ..of }
    };
    let mut pods = vec![
        writer("critical", CRITICAL, None, 900, 900),
        writer("within what it asked for", 0, Some(1_000), 0, 999),
        writer("important", 1, None, 900, 900),
        writer("much, long ago", 0, None, 900, 0),
        writer("little, long ago", 0, None, 2, 0),
        // A sixteenth of 100 MiB is much.
        writer("a little of late", 0, None, 800, 6),
        writer("into a claim", 0, None, 0, 500),
        writer("beyond what it asked for", 0, Some(300), 0, 301),
        writer("less", 0, None, 0, 7),
        writer("unimportant", -1, None, 1, 0),
    ];
    let mut order = Vec::new();
    while let Some((first, _)) = choose(&short_of(Signal::Nodefs), &pods) {
        let uid = first.uid.clone();
        pods.retain(|pod| pod.uid != uid);
        order.push(uid);
    }
    assert_eq!(
        order,
        [
            "unimportant",
            "into a claim",
            "beyond what it asked for",
            "less",
            "much, long ago",
            "a little of late",
            "little, long ago",
            "important",
            "within what it asked for",
        ]
    );
}

#[test]
fn what_a_writer_waits_for_is_missing() {
    let met = Met {
        available: 101 * MIB,
        wanted: 10 * MIB,
        ..met(Signal::Nodefs)
    };
    let goes = |used: u64, lately: u64| {
        let of = candidate("pod", 0, None, used);
        let lately = lately * MIB;
        choose(&met, &[Candidate { lately, ..of }]).is_some()
    };
    assert!(!goes(8, 0) && !goes(0, 8));
    assert!(goes(9, 0) && goes(0, 9));
}

#[test]
fn what_lies_in_memory_is_memory() {
    let mut pods = [
        candidate("guests", 0, None, 10),
        candidate("files", 0, None, 5),
    ];
    let amount = Amount {
        bytes: 6 * MIB,
        inodes: 1,
    };
    pods[1].usage.in_memory.insert("v".to_owned(), amount);
    assert_eq!(
        choose(&short_of(Signal::Memory), &pods).unwrap().0.uid,
        "files"
    );
    assert_eq!(
        choose(&short_of(Signal::Nodefs), &pods).unwrap().0.uid,
        "guests"
    );
}

#[test]
fn the_kubelets_words() {
    let pod = pod(json!({"containers": [
        {"name": "much", "resources": {"requests": {"memory": "64Mi", "ephemeral-storage": "1Gi"}}},
        {"name": "enough", "resources": {"requests": {"memory": "64Mi"}}},
        {"name": "unasked"},
        {"name": "never-ran"},
        {"name": "unmeasured"},
    ]}));
    let used = |memory, bytes| Used {
        memory,
        disk: Amount { bytes, inodes: 1 },
    };
    let usage = Usage {
        containers: [
            ("much".to_owned(), used(65 * MIB, 65 * MIB)),
            ("enough".to_owned(), used(64 * MIB, 0)),
            ("unasked".to_owned(), used(1_001, 4_096)),
            ("unmeasured".to_owned(), used(u64::MAX, u64::MAX)),
        ]
        .into(),
        ..Usage::default()
    };
    let one = Candidate {
        uid: "u".to_owned(),
        pod,
        usage,
        lately: 0,
    };
    assert_eq!(
        message(&met(Signal::Memory), &one),
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 1500. \
         Container much was using 65Mi, request is 64Mi, has larger consumption of memory. \
         Container unasked was using 1001, request is 0, has larger consumption of memory. "
    );
    assert_eq!(
        message(&met(Signal::Nodefs), &one),
        "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 1500. \
         Container unasked was using 4Ki, request is 0, has larger consumption of ephemeral-storage. "
    );
}

#[test]
fn who_is_taken_in_under_pressure() {
    let best_effort = json!({"containers": [{"name": "c"}]});
    let burstable = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
    let critical = json!({"priority": CRITICAL, "containers": [{"name": "c"}]});
    let tolerant =
        |toleration: Value| json!({"tolerations": [toleration], "containers": [{"name": "c"}]});
    let memory = json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"});
    let all = json!({"operator": "Exists"});
    let other = json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoExecute"});
    let valued = json!({"key": "node.kubernetes.io/memory-pressure", "value": "x"});
    for (spec, memory, disk, both) in [
        (best_effort, false, false, false),
        (burstable, true, false, false),
        (critical, true, true, true),
        (tolerant(memory), true, false, false),
        (tolerant(all), true, false, false),
        (tolerant(other), false, false, false),
        (tolerant(valued), false, false, false),
    ] {
        let case = spec.to_string();
        let pod = pod(spec);
        let refused = |memory, disk| refusal(&pod, Pressures { memory, disk });
        assert_eq!(refused(false, false), None, "{case}");
        assert_eq!(refused(true, false).is_none(), memory, "{case}");
        assert_eq!(refused(false, true).is_none(), disk, "{case}");
        assert_eq!(refused(true, true).is_none(), both, "{case}");
    }
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let both = Pressures {
        memory: true,
        disk: true,
    };
    assert_eq!(
        refusal(&pod, both).unwrap(),
        "The node had condition: [MemoryPressure DiskPressure]. "
    );
}

#[test]
fn files_in_memory_are_what_counts_where_they_have_no_room() {
    let with_files = |uid: &str, guests: u64, files: u64| {
        let mut candidate = candidate(uid, 0, None, guests);
        let files = Amount {
            bytes: files * MIB,
            inodes: 1,
        };
        candidate.usage.in_memory = [("v".to_owned(), files)].into();
        candidate
    };
    let pods = [
        with_files("guests", 900, 1),
        with_files("files", 1, 20),
        candidate("none", 0, None, 900),
    ];
    let (first, message) = choose(&short_of(Signal::Files), &pods).unwrap();
    assert_eq!(first.uid, "files");
    assert!(message.starts_with("The node was low on resource: /dev/shm. "));
    assert!(!message.contains("Container"), "{message}");
    let none = choose(&short_of(Signal::Files), &pods[2..]);
    assert!(none.is_none());
}
