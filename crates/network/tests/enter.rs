//! The node's own connections into its pods.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use network::pipe::Broken;
use network::policy::{Isolation, PodPolicy};
use network::{Listener, Network, PodNet, SocketError};

fn pod() -> (Network, PodNet) {
    let network = Network::new("10.128.0.0/24".parse().unwrap());
    let pod = network.join("uid").unwrap();
    (network, pod)
}

fn listen(pod: &PodNet, ip: Ipv4Addr, most: usize) -> Listener {
    let at = SocketAddrV4::new(ip, 8080);
    Listener::new(Arc::new(pod.bind_stream(at).unwrap()), most)
}

#[tokio::test]
async fn whoever_listens_by_ipv6_alone_is_entered_too() {
    let (network, pod) = pod();
    let at = SocketAddr::from((Ipv6Addr::LOCALHOST, 8080));
    let listener = Listener::new(Arc::new(pod.bind_stream(at).unwrap()), 8);
    let near = network.enter(pod.address(), 8080).await.unwrap();
    let far = listener.accept().await;
    assert_eq!((near.remote(), far.local()), (at, at));
    assert_eq!(far.remote().ip(), at.ip());
    let refused = network.enter(pod.address(), 8081).await.err();
    assert_eq!(refused, Some(SocketError::Refused));
}

#[tokio::test]
async fn which_listener_is_reached() {
    use SocketError::{Refused, Unreachable};
    let own = Ipv4Addr::new(10, 128, 0, 1);
    let (loopback, any) = (Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
    for (at, entered, reached) in [
        (None, Err(Refused), Err(Refused)),
        (Some(any), Ok(loopback), Ok(Ipv4Addr::new(10, 128, 0, 0))),
        (Some(loopback), Ok(loopback), Err(Refused)),
        (Some(own), Err(Refused), Ok(Ipv4Addr::new(10, 128, 0, 0))),
    ] {
        let (network, pod) = pod();
        assert_eq!(pod.address(), own);
        let listener = at.map(|at| listen(&pod, at, 8));
        let seen = async |made: Result<_, SocketError>| {
            let _stream: network::Stream = made?;
            let far = listener.as_ref().unwrap().accept().await;
            Ok(far.remote().ip())
        };
        assert_eq!(
            seen(network.enter(own, 8080).await).await,
            entered.map(IpAddr::V4),
            "{at:?}"
        );
        assert_eq!(
            seen(network.reach(SocketAddrV4::new(own, 8080)).await).await,
            reached.map(IpAddr::V4),
            "{at:?}"
        );
        assert_eq!(seen(network.enter(own, 8081).await).await, Err(Refused));
        let nobody = Ipv4Addr::new(10, 128, 0, 9);
        assert_eq!(
            seen(network.enter(nobody, 8080).await).await,
            Err(Unreachable)
        );
        assert_eq!(
            seen(network.reach(SocketAddrV4::new(nobody, 8080)).await).await,
            Err(Unreachable)
        );
    }
}

#[tokio::test]
async fn the_node_has_a_place_among_its_pods() {
    let (network, pod) = pod();
    let gateway = network.join("gateway").unwrap().address();
    network.update(|table| {
        table.gateway = Some(gateway);
        // Rules are about the DNS server, and not about the node.
        table.dns = Some(Ipv4Addr::new(10, 128, 0, 9));
    });
    let listener = listen(&pod, Ipv4Addr::UNSPECIFIED, 8);
    let at = SocketAddrV4::new(pod.address(), 8080);
    let _near = network.reach(at).await.unwrap();
    assert_eq!(listener.accept().await.remote().ip(), gateway);
}

#[tokio::test]
async fn no_policy_is_asked() {
    let (network, pod) = pod();
    let listener = listen(&pod, Ipv4Addr::UNSPECIFIED, 8);
    let address = pod.address();
    let before = [network.enter(address, 8080).await.unwrap()];
    let accepted = [listener.accept().await];
    network.update(|table| {
        let policy = PodPolicy {
            ingress: Isolation::Only(Vec::new()),
            egress: Isolation::Only(Vec::new()),
            ..PodPolicy::default()
        };
        table.policies.update([(address, Some(policy))]);
    });
    network.judge_again(&BTreeSet::from([address]));
    let mut open: Vec<_> = before.into_iter().zip(accepted).collect();
    for made in [
        network.enter(address, 8080).await,
        network.reach(SocketAddrV4::new(address, 8080)).await,
    ] {
        let accepted = listener.accept().await;
        network.judge_again(&BTreeSet::from([address]));
        open.push((made.unwrap(), accepted));
    }
    for (near, far) in open {
        near.writer.write(Bytes::from_static(b"in")).unwrap();
        far.writer.write(Bytes::from_static(b"out")).unwrap();
        assert_eq!(far.reader.read(9).await.unwrap().unwrap(), "in");
        assert_eq!(near.reader.read(9).await.unwrap().unwrap(), "out");
    }
}

#[tokio::test]
async fn connections_wait_for_room_and_end_with_the_listener() {
    let (network, pod) = pod();
    let listener = listen(&pod, Ipv4Addr::LOCALHOST, 1);
    let first = network.enter(pod.address(), 8080).await.unwrap();
    let second = tokio::spawn({
        let (network, address) = (network.clone(), pod.address());
        async move { network.enter(address, 8080).await }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished(), "one waits already");
    drop(listener.accept().await);
    let second = second.await.unwrap().unwrap();
    assert_eq!(first.reader.read(1).await, Ok(None));
    drop(listener);
    assert_eq!(second.reader.read(1).await, Err(Broken::Reset));
    drop((first, second));
    let address = pod.address();
    drop(pod);
    let gone = network.enter(address, 8080).await.err();
    assert_eq!(gone, Some(SocketError::Unreachable));
}
