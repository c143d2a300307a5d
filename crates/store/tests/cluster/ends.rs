//! Members that end because they were told to.

use std::time::Duration;

use store::Error;
use store::Store;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::harness::Cluster;
use crate::harness::Node;
use crate::harness::take_leader;
use crate::harness::until;

async fn shut_down(node: &Node) -> Result<(), Error> {
    node.run(Store::shutdown).await
}

async fn hand_over(node: &Node) -> Result<(), Error> {
    node.run(|store| async move { store.transfer_leadership().await })
        .await
}

/// That nobody takes over is known from the others, and not from a wait that was in vain.
fn refused(handed_over: &Result<(), Error>) -> bool {
    matches!(handed_over, Err(Error::Unavailable(reason)) if reason.starts_with("none of the members"))
}

#[tokio::test]
async fn leadership_is_handed_over_before_a_clean_stop() {
    let cluster = Cluster::new();
    let mut nodes = cluster.three().await;
    let old = take_leader(&mut nodes).await;
    hand_over(&old).await.expect("handed over");
    let mut leadership = nodes[0].store.leadership();
    // The old leader runs on and sends its heartbeats: without its consent there would be no election.
    let taken = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != old.id));
    tokio::time::timeout(Duration::from_secs(20), taken)
        .await
        .expect("another leads")
        .expect("running");
    shut_down(&old).await.expect("shutdown");
    nodes[0].put("/k", "v").await.expect("put");
    let id = old.id;
    old.kill();
    nodes[0]
        .run(move |store| async move { store.remove_member(id).await })
        .await
        .expect("remove");
    until("gone", || {
        nodes.iter().all(|node| node.store.members().len() == 2)
    })
    .await;
}

#[tokio::test]
async fn a_leader_whose_followers_have_ended_does_not_wait_for_them() {
    let cluster = Cluster::new();
    let mut nodes = cluster.three().await;
    let old = take_leader(&mut nodes).await;
    for node in &nodes {
        shut_down(node).await.expect("shutdown");
    }
    let handed_over = hand_over(&old).await;
    assert!(refused(&handed_over), "{handed_over:?}");
    shut_down(&old).await.expect("shutdown");
}

/// Whoever is asked first may be the one that is gone.
#[tokio::test]
async fn a_leader_hands_over_to_whoever_is_left() {
    for gone in [0, 1] {
        let cluster = Cluster::new();
        let mut nodes = cluster.three().await;
        let old = take_leader(&mut nodes).await;
        shut_down(&nodes.remove(gone)).await.expect("shutdown");
        hand_over(&old).await.expect("handed over");
        shut_down(&old).await.expect("shutdown");
    }
}

#[tokio::test]
async fn all_members_may_end_at_once() {
    for _ in 0..3 {
        let cluster = Cluster::new();
        let mut nodes = cluster.three().await;
        let old = take_leader(&mut nodes).await;
        let (handed_over, one, other) =
            tokio::join!(hand_over(&old), shut_down(&nodes[0]), shut_down(&nodes[1]));
        one.expect("shutdown");
        other.expect("shutdown");
        assert!(
            handed_over.is_ok() || refused(&handed_over),
            "{handed_over:?}"
        );
        shut_down(&old).await.expect("shutdown");
    }
}

#[tokio::test]
async fn a_leader_pauses_before_it_calls_again_where_nobody_is() {
    let cluster = Cluster::new();
    let mut nodes = cluster.three().await;
    let _leader = take_leader(&mut nodes).await;
    let gone = nodes.remove(0);
    let address = gone.address;
    gone.kill();
    let mut taken = None;
    until("its port is free", || {
        taken = std::net::TcpListener::bind(address).ok();
        taken.is_some()
    })
    .await;
    let listener = taken.expect("taken");
    listener.set_nonblocking(true).expect("non-blocking");
    let listener = TcpListener::from_std(listener).expect("listener");
    let began = Instant::now();
    // Entries and heartbeats are sent some times a second each, and as often come to nothing.
    for _ in 0..20 {
        drop(listener.accept().await.expect("a call"));
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(1), "20 calls within {took:?}");
}
