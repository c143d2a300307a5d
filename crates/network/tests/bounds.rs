//! What one end may not do to others: pods that wait, flood, leave, or pretend to be somebody else.

use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use network::policy::{Isolation, PodPolicy};
use network::{Datagrams, Listener, Network, PodNet, SocketError};

fn network() -> Network {
    Network::new("10.128.0.0/24".parse().unwrap())
}

fn at(pod: &PodNet, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(pod.address(), port)
}

fn listen(pod: &PodNet, most: usize) -> Listener {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80);
    Listener::new(Arc::new(pod.bind_stream(any).unwrap()), most)
}

fn datagrams(pod: &PodNet, ip: Ipv4Addr, port: u16) -> Datagrams {
    let bound = pod.bind_datagram(SocketAddrV4::new(ip, port)).unwrap();
    Datagrams::new(Arc::new(bound))
}

/// Nobody may talk to the pod any more.
fn shut_in(network: &Network, pod: &PodNet) {
    let policy = PodPolicy {
        ingress: Isolation::Only(Vec::new()),
        ..PodPolicy::default()
    };
    network.update(|table| table.policies.update([(pod.address(), Some(policy))]));
    network.judge_again(&[pod.address()].into());
}

#[tokio::test]
async fn who_is_held_back_is_woken_when_there_is_room_and_not_before() {
    const CLIENTS: usize = 100;
    let network = network();
    let server = network.join("server").unwrap();
    let listener = listen(&server, 1);
    let polls = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, polls) = (network.join("client").unwrap(), polls.clone());
        let to = at(&server, 80);
        clients.spawn(async move {
            let mut connecting = pin!(client.connect(to));
            poll_fn(|cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                connecting.as_mut().poll(cx)
            })
            .await
        });
    }
    // One is in, all others have looked once, and nobody looks again.
    while polls.load(Ordering::Relaxed) < CLIENTS {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 * CLIENTS {
        tokio::task::yield_now().await;
    }
    assert_eq!(polls.load(Ordering::Relaxed), CLIENTS);
    // Some give up meanwhile: their turn goes to the next.
    let gone = CLIENTS / 4;
    for _ in 0..gone {
        listener.accept().await;
    }
    clients.abort_all();
    let mut met = 0;
    while let Some(ended) = clients.join_next().await {
        met += usize::from(ended.is_ok_and(|met| met.is_ok()));
    }
    assert!(met >= gone, "{met}");
    let client = network.join("client").unwrap();
    let accepted = async { while listener.accept().await.remote().ip() != client.address() {} };
    let ((), last) = tokio::join!(accepted, client.connect(at(&server, 80)));
    assert_eq!(last.map(drop), Ok(()));
    assert!(polls.load(Ordering::Relaxed) < 3 * CLIENTS);
}

#[tokio::test]
async fn rules_that_came_while_it_was_held_back_count() {
    let network = network();
    let (server, client) = (network.join("s").unwrap(), network.join("c").unwrap());
    let listener = listen(&server, 1);
    let first = client.connect(at(&server, 80)).await.unwrap();
    let mut second = pin!(client.connect(at(&server, 80)));
    let pending = poll_fn(|cx| std::task::Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
    assert!(pending, "there is room for one");
    shut_in(&network, &server);
    first.reader.read(1).await.expect_err("reset");
    listener.accept().await;
    assert_eq!(second.await.map(drop), Err(SocketError::Refused));
    assert!(listener.try_accept().is_none());
    // And who comes now is told at once, room or not.
    let refused = client.connect(at(&server, 80)).await;
    assert_eq!(refused.map(drop), Err(SocketError::Refused));
}

#[tokio::test]
async fn loopback_does_not_leave_the_pod() {
    let network = network();
    network.update(|table| table.outside = true);
    let (server, client) = (network.join("s").unwrap(), network.join("c").unwrap());
    let _listener = listen(&server, 8);
    let heard = datagrams(&server, Ipv4Addr::UNSPECIFIED, 53);
    let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let own = datagrams(&client, Ipv4Addr::LOCALHOST, 0);
    for to in [
        at(&server, 80),
        SocketAddrV4::new([192, 0, 2, 1].into(), 80),
    ] {
        let bound = Arc::new(client.bind_stream(local).unwrap());
        let mut connecting = client.connect_from(bound, to);
        let tried = poll_fn(|cx| connecting.poll(cx)).await;
        assert_eq!(tried.map(drop), Err(SocketError::Unreachable), "{to}");
        let sent = own.send(Bytes::from_static(b"as you"), to);
        assert_eq!(sent, Err(SocketError::Unreachable), "{to}");
    }
    own.send(Bytes::new(), at(&server, 53)).unwrap_err();
    assert_eq!(heard.try_receive(), None);
}

#[tokio::test]
async fn datagrams_that_go_on_end_when_the_rules_change() {
    let network = network();
    let (server, client) = (network.join("s").unwrap(), network.join("c").unwrap());
    let heard = datagrams(&server, Ipv4Addr::UNSPECIFIED, 53);
    let said = datagrams(&client, Ipv4Addr::UNSPECIFIED, 0);
    let ask = || {
        said.send(Bytes::from_static(b"?"), at(&server, 53))
            .unwrap()
    };
    ask();
    let asked = heard.try_receive().expect("allowed");
    heard.send(asked.bytes, asked.from).unwrap();
    assert!(said.try_receive().is_some());
    // Answers to what the client began pass its own rules, questions that are denied now do not the server's.
    shut_in(&network, &client);
    ask();
    let asked = heard.try_receive().expect("still allowed");
    heard.send(asked.bytes, asked.from).unwrap();
    assert!(said.try_receive().is_some());
    shut_in(&network, &server);
    ask();
    assert_eq!(heard.try_receive(), None);
}
