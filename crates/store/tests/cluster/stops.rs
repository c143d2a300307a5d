//! What remains when members stop without a word.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::Error;
use tokio::time::Instant;

use crate::harness::Cluster;
use crate::harness::leader;
use crate::harness::put;
use crate::harness::released;
use crate::harness::same_state;
use crate::harness::take_leader;
use crate::harness::until;

#[tokio::test]
async fn writes_resume_when_the_leader_is_gone_and_nothing_acknowledged_is_lost() {
    let cluster = Cluster::new();
    let mut nodes = cluster.three().await;
    let done = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let first_leader = take_leader(&mut nodes).await;
    let writer = nodes[0].store.clone();
    let writing = {
        let (done, acknowledged) = (Arc::clone(&done), Arc::clone(&acknowledged));
        nodes[0].spawn(async move {
            let mut longest = Duration::ZERO;
            let mut at = 0;
            while !done.load(Ordering::SeqCst) {
                let start = Instant::now();
                let command = put(&format!("/w{at:06}"), "v");
                writer
                    .write(command)
                    .await
                    .expect("tried again across the election");
                longest = longest.max(start.elapsed());
                at += 1;
                acknowledged.store(at, Ordering::SeqCst);
            }
            longest
        })
    };
    until("some writes", || acknowledged.load(Ordering::SeqCst) > 20).await;
    first_leader.kill();
    let before = acknowledged.load(Ordering::SeqCst);
    until("writes after the leader's end", || {
        acknowledged.load(Ordering::SeqCst) > before + 20
    })
    .await;
    done.store(true, Ordering::SeqCst);
    let longest = writing.await.expect("writer");
    println!("the longest write across the election took {longest:?}");
    assert!(
        longest < Duration::from_secs(2),
        "writes stood still for {longest:?}"
    );
    let count = acknowledged.load(Ordering::SeqCst);
    for node in &nodes {
        node.run(|store| async move { store.barrier().await })
            .await
            .expect("barrier");
        let state = node.store.state();
        assert_eq!(state.range(b"/w").count() as u64, count);
        assert_eq!(state.revision(), count, "none applied twice");
    }
}

#[tokio::test]
async fn a_minority_neither_reads_nor_writes() {
    let cluster = Cluster::new();
    let mut nodes = cluster.three().await;
    nodes[0].put("/k", "v").await.expect("put");
    let lone = nodes.remove(0);
    for node in nodes {
        node.kill();
    }
    let written = lone.put("/k", "stale").await;
    assert!(matches!(written, Err(Error::Unavailable(_))), "{written:?}");
    let read = lone.run(|store| async move { store.barrier().await }).await;
    assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
    assert_eq!(
        lone.store.leadership().borrow().leader,
        None,
        "nobody leads a minority"
    );
    assert_eq!(
        lone.get("/k"),
        Some("v".into()),
        "the last known state stays readable"
    );
}

#[tokio::test]
async fn all_members_stopped_at_once_come_back_with_everything_acknowledged() {
    let cluster = Cluster {
        snapshot_after: 300,
        ..Cluster::new()
    };
    let mut nodes = cluster.three().await;
    let addresses: BTreeMap<u64, _> = nodes.iter().map(|node| (node.id, node.address)).collect();
    let mut acknowledged = 0;
    for round in 0..4 {
        let writes = (0..200).map(|at| {
            let node = &nodes[at % 3];
            async move {
                node.put(&format!("/r{round}/{at:03}"), &"x".repeat(at))
                    .await
                    .expect("put")
            }
        });
        futures::future::join_all(writes).await;
        acknowledged += 200;
        for node in nodes.drain(..) {
            node.kill();
        }
        for (id, address) in &addresses {
            nodes.push(
                cluster
                    .start_at(*id, *address, &cluster.path(*id))
                    .await
                    .expect("open"),
            );
        }
        for node in &nodes {
            leader(node).await;
            node.run(|store| async move { store.barrier().await })
                .await
                .expect("barrier");
            assert_eq!(node.store.state().range(b"/r").count(), acknowledged);
            assert_eq!(node.store.state().revision(), acknowledged as u64);
        }
    }
    let state = nodes[0].store.state();
    assert_eq!(state.get(b"/r3/199").expect("there").value.len(), 199);
    assert!(
        nodes[0].store.metrics().purged_index.is_some(),
        "the log was cut on the way"
    );
    assert_eq!(*state, *nodes[1].store.state());
    assert_eq!(*state, *nodes[2].store.state());
}

#[tokio::test]
async fn history_goes_on_after_a_restart() {
    let cluster = Cluster::new();
    let node = cluster.start(1).await;
    node.run(|store| async move { store.bootstrap().await })
        .await
        .expect("bootstrap");
    for at in 0..10 {
        node.put("/k", &at.to_string()).await.expect("put");
    }
    let store = node.store.clone();
    node.run(|_| async move { store.shutdown().await })
        .await
        .expect("shutdown");
    node.kill();
    let node = cluster.start(1).await;
    leader(&node).await;
    assert_eq!(node.store.state().revision(), 10);
    // What the log held beyond the copy of the state is history again.
    let compacted = node.store.state().compacted();
    assert!(node.store.watch(compacted).is_ok());
    if let Some(before) = compacted.checked_sub(1) {
        let refused = node.store.watch(before);
        assert!(matches!(refused, Err(Error::Compacted { .. })));
    }
    let mut watch = node.store.watch(10).expect("from now on");
    node.put("/k", "again").await.expect("put");
    assert_eq!(watch.next().await.expect("event")[0].revision, 11);
}

#[tokio::test]
async fn an_emptied_member_catches_up_by_snapshot_and_log() {
    let cluster = Cluster {
        snapshot_after: 100,
        ..Cluster::new()
    };
    let mut nodes = cluster.three().await;
    for at in 0..350 {
        nodes[0]
            .put(&format!("/k{at:04}"), &"v".repeat(at * 10))
            .await
            .expect("put");
    }
    let id = leader(&nodes[0]).await;
    let at = nodes
        .iter()
        .position(|node| node.id != id)
        .expect("follower");
    let emptied = nodes.remove(at);
    let (id, address) = (emptied.id, emptied.address);
    emptied.kill();
    released(&cluster.path(id)).await;
    std::fs::remove_dir_all(cluster.path(id)).expect("empty");
    nodes[0]
        .put("/meanwhile", "v")
        .await
        .expect("two of three are a majority");
    until("the log is cut", || {
        nodes[0].store.metrics().purged_index > Some(100)
    })
    .await;
    let back = cluster
        .start_at(id, address, &cluster.path(id))
        .await
        .expect("open");
    leader(&back).await;
    same_state(&back, &nodes[0]).await;
    assert!(
        back.store.state().compacted() > 0,
        "what the snapshot holds has no history here"
    );
    back.put("/after", "v").await.expect("a full member again");
    nodes.remove(0).kill();
    nodes[0].put("/with-it", "v").await.expect("it votes again");
}

/// A second member that fell right after it joined, then the first with more in its log than the second: only the
/// second's vote can bring a leader back.
#[tokio::test]
async fn a_pair_that_stopped_right_after_joining_comes_back() {
    let cluster = Cluster::new();
    let (first, second) = (cluster.start(1).await, cluster.start(2).await);
    let addresses = [first.address, second.address];
    first
        .run(|store| async move { store.bootstrap().await })
        .await
        .expect("bootstrap");
    let member = second.member();
    first
        .run(|store| async move { store.add_member(member).await })
        .await
        .expect("add");
    second.kill();
    let alone = first.put("/k", "never acknowledged").await;
    assert!(matches!(alone, Err(Error::Unavailable(_))), "{alone:?}");
    first.kill();
    let mut back = Vec::new();
    for (id, address) in [1, 2].into_iter().zip(addresses) {
        let node = cluster.start_at(id, address, &cluster.path(id)).await;
        back.push(node.expect("open"));
    }
    for node in &back {
        leader(node).await;
    }
    back[1].put("/k", "v").await.expect("a leader takes writes");
}

/// Turns the bytes of every file under `dir` that is called `name` into others.
fn damage(dir: &std::path::Path, name: &str) -> usize {
    let mut damaged = 0;
    for file in std::fs::read_dir(dir).expect("dir").flatten() {
        if file.file_type().expect("type").is_dir() {
            damaged += damage(&file.path(), name);
        } else if file.file_name() == name {
            let bytes = std::fs::read(file.path())
                .expect("read")
                .iter()
                .map(|byte| byte ^ 0xa5)
                .collect::<Vec<_>>();
            std::fs::write(file.path(), bytes).expect("write");
            damaged += 1;
        }
    }
    damaged
}

#[tokio::test]
async fn a_member_whose_state_is_damaged_gets_it_from_another_and_keeps_its_log() {
    let cluster = Cluster {
        snapshot_after: 50,
        ..Cluster::new()
    };
    let mut nodes = cluster.three().await;
    for at in 0..200 {
        nodes[at % 3]
            .put(&format!("/k{at:03}"), "v")
            .await
            .expect("put");
    }
    let victim = nodes.remove(1);
    until("its log is cut", || {
        victim.store.metrics().purged_index.is_some()
    })
    .await;
    let (id, address) = (victim.id, victim.address);
    victim.kill();
    released(&cluster.path(id)).await;
    assert_eq!(damage(&cluster.path(id).join("state"), "db"), 1);
    let back = cluster
        .start_at(id, address, &cluster.path(id))
        .await
        .expect("open");
    leader(&back).await;
    nodes.remove(0).kill();
    back.put("/after", "v")
        .await
        .expect("it is one of a majority");
    same_state(&back, &nodes[0]).await;
    assert_eq!(back.store.state().range(b"/k").count(), 200);
}

#[tokio::test]
async fn a_damaged_log_is_refused_by_name_and_left_alone() {
    let cluster = Cluster::new();
    let node = cluster.start(1).await;
    node.run(|store| async move { store.bootstrap().await })
        .await
        .expect("bootstrap");
    for at in 0..10 {
        node.put("/k", &at.to_string()).await.expect("put");
    }
    let address = node.address;
    node.kill();
    released(&cluster.path(1)).await;
    let log = cluster.path(1).join("log/0000000000000001.wal");
    let mut bytes = std::fs::read(&log).expect("read");
    bytes[600] ^= 1;
    std::fs::write(&log, &bytes).expect("write");
    let Err(error) = cluster.start_at(1, address, &cluster.path(1)).await else {
        panic!("opened")
    };
    assert!(
        error.to_string().contains("0000000000000001.wal"),
        "{error}"
    );
    assert_eq!(
        std::fs::read(&log).expect("read"),
        bytes,
        "nothing was thrown away"
    );
    bytes[600] ^= 1;
    std::fs::write(&log, &bytes).expect("write");
    let node = cluster
        .start_at(1, address, &cluster.path(1))
        .await
        .expect("whole again");
    leader(&node).await;
    assert_eq!(node.get("/k"), Some("9".into()));
}

/// Says to a process of this test which directory it is to write into until it is killed.
const WRITER: &str = "STORE_TEST_WRITER";

/// Writes for ever, and prints what is acknowledged.
#[tokio::main(worker_threads = 2)]
async fn write_until_killed(dir: &std::path::Path) {
    let cluster = Cluster {
        snapshot_after: 200,
        ..Cluster::new()
    };
    let address = ([127, 0, 0, 1], 0).into();
    let node = cluster.start_at(1, address, dir).await.expect("open");
    node.run(|store| async move { store.bootstrap().await })
        .await
        .expect("bootstrap");
    leader(&node).await;
    let first = node.store.state().revision();
    println!("\nat {first}");
    for at in first.. {
        let writes = (0..4).map(|n| {
            let node = &node;
            async move {
                node.put(&format!("/{at:08}-{n}"), &"v".repeat(at as usize % 3000))
                    .await
                    .expect("put")
            }
        });
        futures::future::join_all(writes).await;
        println!("\nat {}", node.store.state().revision());
    }
}

/// A child that does not outlive the test, whatever becomes of it.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_killed_at_any_moment_loses_nothing_it_acknowledged() {
    use std::io::BufRead;
    if let Some(dir) = std::env::var_os(WRITER) {
        return write_until_killed(std::path::Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("dir");
    let itself = concat!(
        module_path!(),
        "::a_process_killed_at_any_moment_loses_nothing_it_acknowledged"
    );
    let (_, itself) = itself.split_once("::").expect("a module of this crate");
    let mut acknowledged = 0;
    for round in 0..12 {
        let child = std::process::Command::new(std::env::current_exe().expect("exe"))
            .args(["--exact", itself, "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("child");
        let mut child = Child(child);
        let lines = std::io::BufReader::new(child.0.stdout.take().expect("stdout")).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let Some(revision) = line
                .strip_prefix("at ")
                .and_then(|at| at.parse::<u64>().ok())
            else {
                continue;
            };
            if seen == 0 {
                assert!(
                    revision >= acknowledged,
                    "round {round}: {revision} of {acknowledged} came back"
                );
            }
            acknowledged = revision;
            seen += 1;
            // Sometimes in the middle of writing, sometimes right after the start.
            if seen > 1 + round * 7 % 40 {
                child.0.kill().expect("kill");
            }
        }
        drop(child);
        assert!(seen > 1, "the child wrote");
    }
    assert!(acknowledged > 500, "{acknowledged}");
}
