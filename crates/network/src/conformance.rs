//! What a node's network must do for its pods, as checks that can be run against any [`Network`].
//!
//! A check that fails panics with what was expected, as a test's assertion does.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;

use crate::pipe::Broken;
use crate::{Datagrams, LARGEST, Listener, MOST_WAITING, Network, PodNet, SocketError, Stream};

/// Runs every check between two pods of this network.
///
/// # Panics
/// When the network does not do what a check demands, or has no two free addresses.
pub async fn suite(network: &Network) {
    let pod = || {
        network
            .join("uid")
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let (one, other) = (pod(), pod());
    ports(&one, &other);
    streams(&one, &other).await;
    ends_of_streams(&one, &other).await;
    refusals(&one, &other).await;
    backlog(&one).await;
    backlogs_together(&one, &other).await;
    datagrams(&one, &other).await;
    ipv6_ports(&one);
    ipv6_streams(&one, &other).await;
    ipv6_datagrams(&one, &other).await;
}

fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}

fn listen(pod: &PodNet, address: impl Into<SocketAddr>, most: usize) -> Listener {
    let address = address.into();
    match pod.bind_stream(address) {
        Ok(bound) => Listener::new(Arc::new(bound), most),
        Err(error) => panic!("{address}: {error}"),
    }
}

async fn connected(
    from: &PodNet,
    listener: &Listener,
    to: impl Into<SocketAddr>,
) -> (Stream, Stream) {
    let to = to.into();
    let near = match from.connect(to).await {
        Ok(stream) => stream,
        Err(error) => panic!("{to}: {error}"),
    };
    (near, listener.accept().await)
}

/// A pod's ports are its own; wildcard and specific addresses exclude each other.
fn ports(one: &PodNet, other: &PodNet) {
    let everywhere = at(Ipv4Addr::UNSPECIFIED, 80);
    let bound = one.bind_stream(everywhere);
    for address in [
        everywhere,
        at(Ipv4Addr::LOCALHOST, 80),
        at(one.address(), 80),
    ] {
        let taken = one.bind_stream(address).err();
        assert_eq!(taken, Some(SocketError::AddressInUse), "{address}");
    }
    assert!(
        one.bind_datagram(everywhere).is_ok(),
        "a port space of its own"
    );
    assert!(other.bind_stream(everywhere).is_ok(), "another pod's port");
    drop(bound);
    let loopback = one.bind_stream(at(Ipv4Addr::LOCALHOST, 80));
    let outside = one.bind_stream(at(one.address(), 80));
    assert!(
        loopback.is_ok() && outside.is_ok(),
        "two addresses, one port"
    );
    let foreign = one.bind_stream(at(other.address(), 0)).err();
    assert_eq!(foreign, Some(SocketError::NotBindable));
    let ephemeral = one.bind_stream(at(Ipv4Addr::UNSPECIFIED, 0));
    assert!(ephemeral.is_ok_and(|bound| bound.address().port() >= 32_768));
}

async fn streams(one: &PodNet, other: &PodNet) {
    let listener = listen(one, at(Ipv4Addr::UNSPECIFIED, 8080), 8);
    for (from, ip) in [
        (one, Ipv4Addr::LOCALHOST),
        (one, one.address()),
        (other, one.address()),
    ] {
        let (near, far) = connected(from, &listener, at(ip, 8080)).await;
        let to = SocketAddr::V4(at(ip, 8080));
        assert_eq!((near.remote(), far.local()), (to, to));
        assert_eq!(near.local(), far.remote());
        let source = if ip.is_loopback() { ip } else { from.address() };
        assert_eq!(near.local().ip(), source);
        assert_eq!(near.writer.send(Bytes::from_static(b"ping")).await, Ok(()));
        assert_eq!(
            far.reader.read(99).await,
            Ok(Some(Bytes::from_static(b"ping")))
        );
        assert_eq!(far.writer.send(Bytes::from_static(b"pong")).await, Ok(()));
        assert_eq!(
            near.reader.read(99).await,
            Ok(Some(Bytes::from_static(b"pong")))
        );
    }
}

async fn ends_of_streams(one: &PodNet, other: &PodNet) {
    let listener = listen(one, at(one.address(), 8081), 8);
    let (near, far) = connected(other, &listener, listener.address()).await;
    near.writer.close();
    assert_eq!(far.reader.read(9).await, Ok(None), "half closed");
    assert_eq!(far.writer.send(Bytes::from_static(b"late")).await, Ok(()));
    assert_eq!(
        near.reader.read(9).await,
        Ok(Some(Bytes::from_static(b"late")))
    );
    drop(near);
    let broken = far.writer.send(Bytes::from_static(b"x")).await;
    assert_eq!(broken, Err(Broken::Closed), "nobody reads any more");

    let (near, far) = connected(other, &listener, listener.address()).await;
    far.reset();
    assert_eq!(near.reader.read(9).await, Err(Broken::Reset));
    assert_eq!(near.writer.room(), Err(Broken::Reset));

    let waiting = other.connect(listener.address()).await;
    drop(listener);
    match waiting {
        Ok(stream) => assert_eq!(stream.reader.read(9).await, Err(Broken::Reset)),
        Err(error) => panic!("{error}"),
    }
}

async fn refusals(one: &PodNet, other: &PodNet) {
    let refused = other.connect(at(one.address(), 9)).await.err();
    assert_eq!(refused, Some(SocketError::Refused), "nobody listens");
    let listener = listen(one, at(Ipv4Addr::LOCALHOST, 8082), 8);
    for (from, ip) in [(other, one.address()), (other, Ipv4Addr::LOCALHOST)] {
        let refused = from.connect(at(ip, 8082)).await.err();
        assert_eq!(
            refused,
            Some(SocketError::Refused),
            "loopback is the pod's alone"
        );
    }
    drop(listener);
    let unreachable = one.connect(at(Ipv4Addr::new(192, 0, 2, 1), 80)).await.err();
    assert_eq!(unreachable, Some(SocketError::Unreachable));
    let bound = one.bind_stream(at(one.address(), 8083));
    let refused = other.connect(at(one.address(), 8083)).await.err();
    assert_eq!(
        refused,
        Some(SocketError::Refused),
        "bound, but not listening"
    );
    drop(bound);
}

/// A full backlog holds connections back; accepting lets them through.
async fn backlog(pod: &PodNet) {
    let listener = listen(pod, at(Ipv4Addr::LOCALHOST, 8084), 1);
    let first = pod.connect(listener.address()).await;
    let mut second = std::pin::pin!(pod.connect(listener.address()));
    let early = poll_once(second.as_mut()).await;
    assert!(early.is_none(), "held back while one waits");
    let accepted = listener.accept().await;
    assert!(second.await.is_ok() && first.is_ok());
    drop(accepted);
}

/// What waits at all listeners of a pod is bounded, and every listener gets its turn nevertheless.
async fn backlogs_together(one: &PodNet, other: &PodNet) {
    let (first, second) = (
        listen(one, at(one.address(), 8085), MOST_WAITING),
        listen(one, at(one.address(), 8086), MOST_WAITING),
    );
    let mut held = Vec::new();
    for _ in 0..MOST_WAITING {
        held.push(other.connect(first.address()).await);
    }
    held.push(other.connect(second.address()).await);
    assert!(held.iter().all(Result::is_ok), "one waits everywhere");
    let mut late = std::pin::pin!(other.connect(second.address()));
    assert!(poll_once(late.as_mut()).await.is_none(), "the pod is full");
    drop(first);
    let accepted = second.accept().await;
    assert!(late.await.is_ok(), "room again");
    drop(accepted);
}

/// Polls a future once, without a runtime's help.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

async fn datagrams(one: &PodNet, other: &PodNet) {
    let open = |pod: &PodNet, port| match pod.bind_datagram(at(Ipv4Addr::UNSPECIFIED, port)) {
        Ok(bound) => Datagrams::new(Arc::new(bound)),
        Err(error) => panic!("{error}"),
    };
    let (here, there) = (open(one, 53), open(other, 0));
    let to = at(one.address(), 53);
    assert_eq!(there.send(Bytes::from_static(b"query"), to), Ok(()));
    let query = here.receive().await;
    assert_eq!(
        (&query.bytes[..], query.from.ip()),
        (&b"query"[..], other.address().into())
    );
    assert_eq!(here.send(Bytes::from_static(b"answer"), query.from), Ok(()));
    assert_eq!(there.receive().await.from, to.into());

    let large = Bytes::from(vec![0; LARGEST + 1]);
    assert_eq!(there.send(large, to), Err(SocketError::TooLarge));
    let nowhere = at(Ipv4Addr::new(192, 0, 2, 1), 53);
    let lost = there.send(Bytes::new(), nowhere);
    assert_eq!(lost, Err(SocketError::Unreachable));
    let unheard = there.send(Bytes::new(), at(one.address(), 54));
    assert_eq!(unheard, Ok(()), "nobody is there, and nobody says so");
    // What does not fit is lost, and what was there first is kept.
    for number in 0..100_000_u32 {
        let sent = there.send(Bytes::copy_from_slice(&number.to_le_bytes()), to);
        assert_eq!(sent, Ok(()));
    }
    let kept = std::iter::from_fn(|| here.try_receive()).collect::<Vec<_>>();
    assert_eq!(
        kept.first().map(|first| &first.bytes[..]),
        Some(&[0; 4][..])
    );
    assert!(kept.len() < 2_000, "{} datagrams waited", kept.len());
    // All sockets of a pod together hold no more than one pod may.
    let large = Bytes::from(vec![0; 60_000]);
    let sockets: Vec<_> = (0..500).map(|n| open(one, 10_000 + n)).collect();
    for socket in &sockets {
        let to = at(one.address(), socket.local().port());
        for _ in 0..4 {
            assert_eq!(there.send(large.clone(), to), Ok(()));
        }
    }
    let waiting = |sockets: &[Datagrams]| -> usize {
        let of = |socket: &Datagrams| std::iter::from_fn(|| socket.try_receive()).count();
        sockets.iter().map(of).sum()
    };
    let waited = waiting(&sockets);
    assert!((500..1_500).contains(&waited), "{waited} datagrams waited");
    assert_eq!(there.send(large, to), Ok(()));
    assert!(here.try_receive().is_some(), "room again");
}

fn at6(ip: Ipv6Addr, port: u16) -> SocketAddr {
    (ip, port).into()
}

/// IPv6 sockets have a port space of their own, with the pod's loopback and all addresses in it.
fn ipv6_ports(one: &PodNet) {
    let everywhere = at6(Ipv6Addr::UNSPECIFIED, 80);
    let (bound, other) = (
        one.bind_stream(everywhere),
        one.bind_stream(at(Ipv4Addr::UNSPECIFIED, 80)),
    );
    assert!(bound.is_ok() && other.is_ok(), "one port, two families");
    assert!(
        bound
            .as_ref()
            .is_ok_and(|bound| bound.address() == everywhere)
    );
    for ip in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST] {
        let taken = one.bind_stream(at6(ip, 80)).err();
        assert_eq!(taken, Some(SocketError::AddressInUse), "{ip}");
    }
    let foreign = [
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
        one.address().to_ipv6_mapped(),
    ];
    for ip in foreign {
        let foreign = one.bind_datagram(at6(ip, 0)).err();
        assert_eq!(foreign, Some(SocketError::NotBindable), "{ip}");
    }
    let ephemeral = one.bind_datagram(at6(Ipv6Addr::LOCALHOST, 0));
    let port = ephemeral.map(|bound| bound.address().port());
    assert!(port.is_ok_and(|port| port >= 32_768));
}

/// `::1` is the pod's own, as 127.0.0.1 is, and neither is the other.
async fn ipv6_streams(one: &PodNet, other: &PodNet) {
    let loopback = at6(Ipv6Addr::LOCALHOST, 8087);
    for ip in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST] {
        let listener = listen(one, at6(ip, 8087), 8);
        let (near, far) = connected(one, &listener, loopback).await;
        assert_eq!((near.remote(), far.local()), (loopback, loopback));
        assert_eq!(near.local(), far.remote());
        assert_eq!(near.local().ip(), Ipv6Addr::LOCALHOST);
        assert_eq!(near.writer.send(Bytes::from_static(b"ping")).await, Ok(()));
        let heard = far.reader.read(99).await;
        assert_eq!(heard, Ok(Some(Bytes::from_static(b"ping"))));
        for ip in [Ipv4Addr::LOCALHOST, one.address()] {
            let refused = one.connect(at(ip, 8087)).await.err();
            assert_eq!(refused, Some(SocketError::Refused), "no IPv4");
        }
        let refused = other.connect(loopback).await.err();
        assert_eq!(refused, Some(SocketError::Refused), "another pod's");
    }
    let listener = listen(one, at(Ipv4Addr::UNSPECIFIED, 8087), 8);
    let refused = one.connect(loopback).await.err();
    assert_eq!(refused, Some(SocketError::Refused), "no IPv6");
    let unreachable = [
        // Somebody outside, whom nobody may reach here.
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
        one.address().to_ipv6_mapped(),
    ];
    for ip in unreachable {
        let unreachable = one.connect(at6(ip, 8087)).await.err();
        assert_eq!(unreachable, Some(SocketError::Unreachable), "{ip}");
    }
    let Ok(bound) = one.bind_stream(at6(Ipv6Addr::UNSPECIFIED, 0)) else {
        panic!("a port");
    };
    let mut mixed = one.connect_from(Arc::new(bound), at(Ipv4Addr::LOCALHOST, 8087));
    let mixed = std::future::poll_fn(|cx| mixed.poll(cx)).await.err();
    assert_eq!(mixed, Some(SocketError::Unreachable), "of another family");
    drop(listener);
}

async fn ipv6_datagrams(one: &PodNet, other: &PodNet) {
    let open = |pod: &PodNet, ip, port| match pod.bind_datagram(at6(ip, port)) {
        Ok(bound) => Datagrams::new(Arc::new(bound)),
        Err(error) => panic!("{error}"),
    };
    let here = open(one, Ipv6Addr::UNSPECIFIED, 5353);
    let there = open(other, Ipv6Addr::UNSPECIFIED, 5353);
    let asking = open(one, Ipv6Addr::LOCALHOST, 0);
    let to = at6(Ipv6Addr::LOCALHOST, 5353);
    assert_eq!(asking.send(Bytes::from_static(b"query"), to), Ok(()));
    let query = here.receive().await;
    assert_eq!(
        (&query.bytes[..], query.from),
        (&b"query"[..], asking.local())
    );
    assert_eq!(here.send(Bytes::from_static(b"answer"), query.from), Ok(()));
    assert_eq!(asking.receive().await.from, to);
    assert_eq!(there.try_receive(), None, "another pod's loopback");
    let mapped = at6(one.address().to_ipv6_mapped(), 53);
    for unreachable in [mapped, at6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 53)] {
        let lost = here.send(Bytes::new(), unreachable);
        assert_eq!(lost, Err(SocketError::Unreachable), "{unreachable}");
    }
    let lost = here.send(Bytes::new(), at(one.address(), 53));
    assert_eq!(lost, Err(SocketError::Unreachable), "of another family");
}
