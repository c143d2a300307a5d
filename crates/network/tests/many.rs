//! As many pods on a node as it has room for.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use network::{AddressError, Listener, Network, PodNet};

/// What a node advertises.
const PODS: usize = 16_000;
/// What its range has, without the first and the last address.
const ADDRESSES: usize = (1 << 14) - 2;

fn network() -> Network {
    Network::new("10.128.0.0/18".parse().unwrap())
}

fn join(network: &Network, count: usize) -> Vec<PodNet> {
    let pod = |number: usize| network.join(&number.to_string()).unwrap();
    (0..count).map(pod).collect()
}

fn addresses(pods: &[PodNet]) -> BTreeSet<Ipv4Addr> {
    pods.iter().map(PodNet::address).collect()
}

#[tokio::test]
async fn every_pod_is_reached_by_its_address() {
    let network = network();
    let pods = join(&network, PODS);
    assert_eq!((addresses(&pods).len(), network.pods()), (PODS, PODS));
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80);
    let listeners: Vec<_> = pods
        .iter()
        .map(|pod| Listener::new(Arc::new(pod.bind_stream(any).unwrap()), 1))
        .collect();
    for (client, (server, listener)) in pods.iter().zip(pods.iter().zip(&listeners).rev()) {
        let near = client
            .connect(SocketAddrV4::new(server.address(), 80))
            .await
            .unwrap();
        let far = listener.accept().await;
        assert_eq!(
            (far.local().ip(), far.remote()),
            (server.address().into(), near.local())
        );
        assert_eq!(near.local().ip(), client.address());
    }
    drop((listeners, pods));
    assert_eq!(network.pods(), 0);
}

/// A range that is nearly full is searched no longer for it.
#[tokio::test]
async fn addresses_come_and_go_where_few_are_free() {
    let network = network();
    let mut pods = join(&network, ADDRESSES);
    assert_eq!(addresses(&pods).len(), ADDRESSES);
    assert_eq!(
        network.join("late").unwrap_err(),
        AddressError::Exhausted(network.cidr())
    );
    for turn in 0..2 * ADDRESSES {
        drop(pods.swap_remove(turn % 7_919));
        pods.push(network.join("next").unwrap());
    }
    assert_eq!(addresses(&pods).len(), ADDRESSES);
    // One that a restarted agent takes back is given to nobody else, wherever it lies.
    let held = pods.swap_remove(9_000).address();
    let again = network.rejoin(held, "again").unwrap();
    assert_eq!(again.address(), held);
    assert!(network.join("late").is_err());
    drop(pods.drain(..3));
    let next = join(&network, 3);
    assert!(!addresses(&next).contains(&held));
    assert!(network.join("late").is_err());
}
