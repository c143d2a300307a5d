//! What three members do together while none is hurt.

use std::time::Duration;

use bytes::Bytes;
use store::Command;
use store::Error;
use store::EventKind;
use store::Op;
use store::RequestId;
use store::Written;

use crate::harness::Cluster;
use crate::harness::create;
use crate::harness::leader;
use crate::harness::put;
use crate::harness::until;

fn revision(written: &Written) -> u64 {
    match written {
        Written::Applied { revision } | Written::Refused { revision, .. } => *revision,
    }
}

#[tokio::test]
async fn any_member_takes_writes_and_serves_linearizable_reads() {
    let cluster = Cluster::new();
    let nodes = cluster.three().await;
    let mut last = 0;
    for (at, node) in nodes.iter().enumerate() {
        let written = node
            .put(&format!("/k{at}"), &format!("v{at}"))
            .await
            .expect("write");
        assert!(
            revision(&written) > last,
            "revisions grow whichever member writes"
        );
        last = revision(&written);
        assert_eq!(
            node.get(&format!("/k{at}")),
            Some(Bytes::from(format!("v{at}"))),
            "the writer sees it"
        );
    }
    for node in &nodes {
        let read = node
            .run(|store| async move { store.barrier().await })
            .await
            .expect("barrier");
        assert_eq!(read, last);
        let state = node.store.state();
        let keys: Vec<_> = state.range(b"/k").map(|(key, _)| key.clone()).collect();
        assert_eq!(keys, ["/k0", "/k1", "/k2"]);
        assert_eq!(
            node.store
                .members()
                .iter()
                .filter(|member| member.voter)
                .count(),
            3
        );
    }
}

#[tokio::test]
async fn one_of_many_that_create_the_same_key_wins() {
    let cluster = Cluster::new();
    let nodes = cluster.three().await;
    let attempts = nodes.iter().flat_map(|node| {
        (0..8).map(move |at| async move {
            let command = create("/contested", &format!("{}-{at}", node.id));
            node.run(|store| async move { store.write(command).await })
                .await
                .expect("write")
        })
    });
    let written = futures::future::join_all(attempts).await;
    let winners: Vec<_> = written
        .iter()
        .filter(|written| matches!(written, Written::Applied { .. }))
        .collect();
    assert_eq!(winners.len(), 1, "{written:?}");
    for refused in written.iter().filter(|written| !winners.contains(written)) {
        let Written::Refused { current, .. } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(
            *current,
            [(Bytes::from("/contested"), revision(winners[0]))]
        );
    }
}

#[tokio::test]
async fn a_watch_is_the_log_played_again_on_every_member() {
    let cluster = Cluster::new();
    let nodes = cluster.three().await;
    let watches: Vec<_> = nodes
        .iter()
        .map(|node| node.store.watch(0).expect("watch"))
        .collect();
    for round in 0..50 {
        let node = &nodes[round % 3];
        node.put(&format!("/k{}", round % 7), &round.to_string())
            .await
            .expect("put");
        if round % 5 == 4 {
            let delete = Command::always(vec![Op::Delete {
                key: Bytes::from(format!("/k{}", round % 7)),
            }]);
            node.run(|store| async move { store.write(delete).await })
                .await
                .expect("delete");
        }
    }
    let mut histories = Vec::new();
    for (node, mut watch) in nodes.iter().zip(watches) {
        let end = node
            .run(|store| async move { store.barrier().await })
            .await
            .expect("barrier");
        let mut replayed = std::collections::BTreeMap::new();
        let mut history = Vec::new();
        while watch.seen() < end {
            for event in watch.next().await.expect("events").iter() {
                match &event.kind {
                    EventKind::Put { value, .. } => {
                        drop(replayed.insert(event.key.clone(), value.clone()))
                    }
                    EventKind::Delete => drop(replayed.remove(&event.key)),
                }
                history.push(event.clone());
            }
        }
        let revisions: Vec<_> = history.iter().map(|event| event.revision).collect();
        assert_eq!(
            revisions,
            (1..=end).collect::<Vec<_>>(),
            "one event a revision, in order, none missing"
        );
        let state = node.store.state();
        let stored: std::collections::BTreeMap<_, _> = state
            .range(b"")
            .map(|(key, entry)| (key.clone(), entry.value.clone()))
            .collect();
        assert_eq!(stored, replayed);
        histories.push(history);
    }
    assert_eq!(histories[0], histories[1]);
    assert_eq!(histories[0], histories[2]);
}

#[tokio::test]
async fn a_watch_from_forgotten_revisions_is_refused() {
    let cluster = Cluster {
        history: 10,
        ..Cluster::new()
    };
    let node = cluster.start(1).await;
    node.run(|store| async move { store.bootstrap().await })
        .await
        .expect("bootstrap");
    leader(&node).await;
    let mut slow = node.store.watch(0).expect("everything is kept yet");
    for at in 0..40 {
        node.put("/k", &at.to_string()).await.expect("put");
    }
    let oldest = match node.store.watch(1) {
        Err(Error::Compacted { from: 1, oldest }) => oldest,
        other => panic!("{:?}", other.map(|watch| watch.seen())),
    };
    assert!((20..=30).contains(&oldest), "{oldest}");
    assert!(matches!(
        slow.next().await,
        Err(Error::Compacted { from: 0, .. })
    ));
    let mut fresh = node.store.watch(oldest).expect("watch");
    assert_eq!(fresh.next().await.expect("events")[0].revision, oldest + 1);
}

#[tokio::test]
async fn a_command_sent_twice_is_applied_once() {
    let cluster = Cluster::new();
    let nodes = cluster.three().await;
    let id = RequestId(7);
    let mut answers = Vec::new();
    for node in &nodes {
        let command = create("/once", "x");
        answers.push(
            node.run(|store| async move { store.write_as(id, command).await })
                .await
                .expect("write"),
        );
    }
    assert_eq!(answers, vec![Written::Applied { revision: 1 }; 3]);
    assert_eq!(nodes[0].store.state().revision(), 1);
}

#[tokio::test]
async fn a_lease_that_is_not_kept_alive_takes_its_keys_along() {
    let cluster = Cluster::new();
    let nodes = cluster.three().await;
    let key = Bytes::from("/leased");
    let grant = Command::always(vec![
        Op::GrantLease {
            id: 5,
            ttl_ms: 1500,
        },
        Op::Put {
            key: key.clone(),
            value: Bytes::from("here"),
            lease: Some(5),
        },
    ]);
    nodes[1]
        .run(|store| async move { store.write(grant).await })
        .await
        .expect("grant");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let alive = Command::always(vec![Op::KeepAlive { id: 5 }]);
        nodes[2]
            .run(|store| async move { store.write(alive).await })
            .await
            .expect("keep alive");
    }
    assert!(
        nodes[0].get("/leased").is_some(),
        "kept alive beyond its time to live"
    );
    until("the lease ends", || {
        nodes.iter().all(|node| node.get("/leased").is_none())
    })
    .await;
    assert!(nodes[0].store.state().lease(5).is_none());
    let put = Command::always(vec![Op::Put {
        key,
        value: Bytes::new(),
        lease: Some(5),
    }]);
    let refused = nodes[0]
        .run(|store| async move { store.write(put).await })
        .await;
    assert!(
        matches!(refused, Err(Error::LeaseNotFound(5))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn many_writers_share_a_sync() {
    let cluster = Cluster::new();
    let nodes = cluster.three().await;
    let writer = nodes
        .iter()
        .find(|node| node.store.leadership().borrow().is_leader)
        .expect("leader");
    let before = writer.store.metrics();
    let writes =
        (0..512).map(|at| async move { writer.put(&format!("/k{at}"), "v").await.expect("put") });
    futures::future::join_all(writes).await;
    let after = writer.store.metrics();
    let syncs = after.log_syncs - before.log_syncs;
    assert_eq!(after.revision - before.revision, 512);
    assert!(syncs < 128, "512 writes took {syncs} syncs");
}

#[tokio::test]
async fn only_servers_may_call() {
    let cluster = Cluster::new();
    let node = cluster.start(1).await;
    node.run(|store| async move { store.bootstrap().await })
        .await
        .expect("bootstrap");
    leader(&node).await;
    for tls in [
        cluster.ca.issue("system:nodes"),
        crate::harness::Ca::new().issue(crate::harness::SERVERS),
    ] {
        // A member with a certificate that is not one: whatever it says must not be heard.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind");
        let address = listener.local_addr().expect("address");
        let dir = tempfile::tempdir().expect("dir");
        let config = store::Config {
            dir: dir.path().to_owned(),
            id: 9,
            name: "intruder".to_owned(),
            address,
            snapshot_after: 1000,
            history: 10,
            tls,
        };
        let intruder = store::Store::open(config, listener).await.expect("open");
        let member = store::Member {
            id: 9,
            name: "intruder".to_owned(),
            address,
            voter: false,
        };
        node.run(|store| async move { store.add_member(member).await })
            .await
            .expect("a learner need not be there");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!intruder.initialised(), "the log must not reach it");
        node.run(|store| async move { store.remove_member(9).await })
            .await
            .expect("remove");
        intruder.shutdown().await.expect("shutdown");
    }
    node.put("/k", "v").await.expect("unharmed");
}

#[tokio::test]
async fn limits_are_kept_before_anything_is_proposed() {
    let cluster = Cluster::new();
    let node = cluster.start(1).await;
    node.run(|store| async move { store.bootstrap().await })
        .await
        .expect("bootstrap");
    let long = "k".repeat(store::MAX_KEY_BYTES + 1);
    let large = "v".repeat(store::MAX_COMMAND_BYTES + 1);
    for command in [
        put("", "v"),
        put(&long, "v"),
        put("/k", &large),
        Command::default(),
    ] {
        let refused = node
            .run(|store| async move { store.write(command).await })
            .await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let most = "v".repeat(store::MAX_COMMAND_BYTES - 2);
    node.put("/k", &most)
        .await
        .expect("the largest command there may be");
}
