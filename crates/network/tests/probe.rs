//! What a node finds out by connecting to its pods itself.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use network::policy::{Isolation, PodPolicy};
use network::{Listener, Network, PodNet, SocketError};
use tokio::task::JoinSet;

fn listen(pod: &PodNet, on: Ipv4Addr) -> Listener {
    let at = SocketAddrV4::new(on, 80);
    Listener::new(Arc::new(pod.bind_stream(at).unwrap()), 8)
}

fn pod() -> (Network, PodNet, SocketAddrV4) {
    let network = Network::new("10.128.0.0/24".parse().unwrap());
    let pod = network.join("uid").unwrap();
    let at = SocketAddrV4::new(pod.address(), 80);
    (network, pod, at)
}

#[tokio::test]
async fn who_listens_at_the_pods_address_is_met() {
    for (on, due) in [
        (Ipv4Addr::UNSPECIFIED, None),
        (Ipv4Addr::new(10, 128, 0, 1), None),
        // As in Kubernetes: nobody else could reach it either.
        (Ipv4Addr::LOCALHOST, Some(SocketError::Refused)),
    ] {
        let (network, pod, at) = pod();
        let _listener = listen(&pod, on);
        assert_eq!(network.reach(at).await.err(), due, "{on}");
    }
    let (network, _pod, at) = pod();
    assert_eq!(network.reach(at).await.err(), Some(SocketError::Refused));
    let nobody = SocketAddrV4::new(Ipv4Addr::new(10, 128, 0, 9), 80);
    let unreachable = Some(SocketError::Unreachable);
    assert_eq!(network.reach(nobody).await.err(), unreachable);
    assert_eq!(network.listening(nobody).await.err(), unreachable);
}

#[tokio::test]
async fn no_policy_shuts_the_node_out() {
    let (network, pod, at) = pod();
    let shut = PodPolicy {
        uid: "uid".to_owned(),
        ingress: Isolation::Only(Vec::new()),
        ..PodPolicy::default()
    };
    network.update(|table| table.policies.update([(pod.address(), Some(shut))]));
    let listener = listen(&pod, Ipv4Addr::UNSPECIFIED);
    let other = network.join("other").unwrap();
    assert_eq!(other.connect(at).await.err(), Some(SocketError::Refused));
    let near = network.reach(at).await.unwrap();
    let far = listener.accept().await;
    assert_eq!(far.remote().ip(), network.cidr().first());
    assert_eq!(near.local(), far.remote());
    // Nor is a connection that is open ended by rules that come later.
    network.judge_again(&[pod.address()].into());
    near.writer.write("still there".into()).unwrap();
    assert_eq!(
        far.reader.read(64).await.unwrap().unwrap(),
        "still there".as_bytes()
    );
}

#[tokio::test]
async fn a_listener_that_is_to_come_is_waited_for() {
    let (network, pod, at) = pod();
    let mut probes = JoinSet::new();
    for _ in 0..40 {
        let network = network.clone();
        probes.spawn(async move { network.listening(at).await });
    }
    // Who listens elsewhere is not meant.
    for other in [
        SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 81),
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80),
    ] {
        tokio::task::yield_now().await;
        let _listener = Listener::new(Arc::new(pod.bind_stream(other).unwrap()), 8);
        tokio::task::yield_now().await;
        assert!(probes.try_join_next().is_none(), "{other}");
    }
    let _listener = listen(&pod, Ipv4Addr::UNSPECIFIED);
    for heard in probes.join_all().await {
        assert_eq!(heard, Ok(()));
    }
    assert_eq!(network.listening(at).await, Ok(()));
}
