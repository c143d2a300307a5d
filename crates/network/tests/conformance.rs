//! The network, held to its own contract.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use network::{Listener, Network};

fn network() -> Network {
    Network::new("10.128.0.0/24".parse().unwrap())
}

#[tokio::test]
async fn pods_of_one_node() {
    let network = network();
    network::conformance::suite(&network).await;
    assert_eq!(network.pods(), 0, "every address is free again");
}

#[tokio::test]
async fn a_pod_that_floods_is_bounded() {
    let network = network();
    let pod = network.join("uid").unwrap();
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
    let listener = Listener::new(Arc::new(pod.bind_stream(address).unwrap()), 4096);
    let chunk = Bytes::from(vec![0; 64 << 10]);
    let mut written = 0;
    let mut streams = Vec::new();
    for _ in 0..1_000 {
        let stream = pod.connect(address).await.unwrap();
        while let Ok(room @ 1..) = stream.writer.room() {
            let part = chunk.slice(..room.min(chunk.len()));
            written += part.len();
            stream.writer.write(part).unwrap();
        }
        streams.push((stream, listener.accept().await));
    }
    assert!(written < 80 << 20, "{written} bytes wait");
    // And it goes on once somebody reads.
    let (near, far) = &streams[999];
    assert_eq!(near.writer.room(), Ok(0));
    while near.writer.room() == Ok(0) {
        far.reader.read(1 << 20).await.unwrap();
    }
    drop(streams);
    let stream = pod.connect(address).await.unwrap();
    assert!(stream.writer.room().unwrap() > 200_000, "given back");
}

#[tokio::test]
async fn ports_run_out_and_come_back() {
    let network = network();
    let pod = network.join("uid").unwrap();
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let mut held: Vec<_> = std::iter::from_fn(|| pod.bind_stream(any).ok()).collect();
    assert_eq!(held.len(), 60_999 - 32_768 + 1);
    held.pop();
    pod.bind_stream(any).unwrap();
}
