//! Connections and datagrams to the outside: what is no pod's.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use network::pipe::Broken;
use network::policy::{Block, Isolation, Peers, PodPolicy, Ports, Rule};
use network::{Datagrams, Network, PodNet, SocketError, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// An address of this machine that is not loopback, which would be the pod's own.
fn own_address() -> Ipv4Addr {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    probe.connect("192.0.2.1:9").unwrap();
    let IpAddr::V4(own) = probe.local_addr().unwrap().ip() else {
        panic!("an IPv4 address");
    };
    own
}

/// The same of IPv6, where it has one: as the kernel lists them, with prefix, scope and flags behind.
fn own_address6() -> Option<Ipv6Addr> {
    let all = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let global = all.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        (words.nth(2)? == "00").then_some(address)
    });
    global.map(Ipv6Addr::from)
}

fn network() -> Network {
    Network::new("10.128.0.0/24".parse().unwrap())
}

async fn said(stream: &Stream) -> Option<Bytes> {
    stream.reader.read(1 << 16).await.expect("not reset")
}

/// What is to come while somebody still waits for it.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(20), what).await;
    waited.expect("in time")
}

/// A server outside.
async fn server() -> UdpSocket {
    UdpSocket::bind((own_address(), 0)).await.unwrap()
}

async fn heard(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 100];
    let (length, from) = server.recv_from(&mut buffer).await.unwrap();
    (buffer[..length].to_vec(), from)
}

fn socket(pod: &PodNet) -> Datagrams {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    Datagrams::new(Arc::new(pod.bind_datagram(any).unwrap()))
}

/// What lets the pod out to these addresses alone.
fn only_to(pod: &PodNet, cidr: &str, except: &[&str]) -> (Ipv4Addr, Option<PodPolicy>) {
    let rule = Rule {
        peers: Peers::Only {
            groups: BTreeSet::new(),
            blocks: vec![Block::new(cidr, except.iter().copied()).unwrap()],
        },
        ports: Ports::All,
    };
    let policy = PodPolicy {
        egress: Isolation::Only(vec![Arc::new(rule)]),
        ..PodPolicy::default()
    };
    (pod.address(), Some(policy))
}

fn judge(network: &Network, policy: (Ipv4Addr, Option<PodPolicy>)) {
    network.update(|table| table.policies.update([policy]));
}

const ONE: Bytes = Bytes::from_static(b"one");
const OTHER: Bytes = Bytes::from_static(b"other");

#[tokio::test]
async fn streams_end_as_they_do_there() {
    let own = own_address();
    let outside = TcpListener::bind((own, 0)).await.unwrap();
    let at = SocketAddrV4::new(own, outside.local_addr().unwrap().port());
    let network = network();
    let client = network.join("uid").unwrap();
    let refused = client.connect(at).await.err();
    assert_eq!(refused, Some(SocketError::Unreachable));
    network.update(|table| table.outside = true);
    let near = client.connect(at).await.unwrap();
    let (mut far, _) = outside.accept().await.unwrap();
    near.writer.write(Bytes::from_static(b"ping")).unwrap();
    let mut heard = [0; 4];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
    // Each direction ends by itself.
    near.writer.close();
    assert_eq!(far.read(&mut heard).await.unwrap(), 0);
    far.write_all(b"pong").await.unwrap();
    assert_eq!(said(&near).await.as_deref(), Some(&b"pong"[..]));
    drop(far);
    assert_eq!(said(&near).await, None);
    // A reset is one at the other end, too.
    let near = client.connect(at).await.unwrap();
    let (mut far, _) = outside.accept().await.unwrap();
    near.reset();
    let broken = far.read(&mut heard).await.map_err(|e| e.kind());
    assert_eq!(broken, Err(std::io::ErrorKind::ConnectionReset));
    let near = client.connect(at).await.unwrap();
    let (far, _) = outside.accept().await.unwrap();
    far.set_zero_linger().unwrap();
    drop(far);
    near.reader.read(9).await.expect_err("a reset");
    drop(outside);
    let refused = client.connect(at).await.err();
    assert_eq!(refused, Some(SocketError::Refused));
}

#[tokio::test]
async fn what_the_pod_has_left_ends_though_nothing_comes_from_there() {
    let own = own_address();
    let outside = TcpListener::bind((own, 0)).await.unwrap();
    let at = SocketAddrV4::new(own, outside.local_addr().unwrap().port());
    let network = network();
    network.update(|table| table.outside = true);
    let client = network.join("uid").unwrap();
    let near = client.connect(at).await.unwrap();
    let (mut far, _) = outside.accept().await.unwrap();
    near.writer.write(Bytes::from_static(b"bye")).unwrap();
    drop(near);
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"bye");
    // It says nothing and closes nothing, and the node's socket is gone all the same: the system says so.
    while far.write_all(b"anybody?").await.is_ok() {
        tokio::task::yield_now().await;
    }
}

/// That it still writes does not keep what is gone.
#[tokio::test]
async fn a_pod_that_reads_no_more_hears_of_a_reset() {
    let own = own_address();
    let outside = TcpListener::bind((own, 0)).await.unwrap();
    let at = SocketAddrV4::new(own, outside.local_addr().unwrap().port());
    let network = network();
    network.update(|table| table.outside = true);
    let client = network.join("uid").unwrap();
    for has_ended in [false, true] {
        let near = client.connect(at).await.unwrap();
        let (mut far, _) = outside.accept().await.unwrap();
        near.reader.close();
        // More than anybody would hold of it: it goes nowhere, and is taken all the same.
        let much = vec![7; 16 << 20];
        soon(far.write_all(&much)).await.unwrap();
        if has_ended {
            far.shutdown().await.unwrap();
        }
        near.writer.write(ONE).unwrap();
        let mut heard = [0; 3];
        soon(far.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard[..], &ONE[..], "it may write on");
        far.set_zero_linger().unwrap();
        drop(far);
        let broken = soon(poll_fn(|cx| near.writer.poll_broken(cx))).await;
        assert_eq!(broken, Broken::Reset);
    }
}

#[tokio::test]
async fn datagrams_are_answered_by_whom_they_were_sent_to() {
    let (network, server, stranger) = (network(), server().await, server().await);
    let to = server.local_addr().unwrap();
    let socket = socket(&network.join("uid").unwrap());
    assert_eq!(socket.send(ONE, to), Err(SocketError::Unreachable));
    network.update(|table| table.outside = true);
    assert_eq!(socket.send(ONE, to), Ok(()));
    let (bytes, node) = heard(&server).await;
    assert_eq!((&bytes[..], node.ip()), (&ONE[..], own_address().into()));
    // They come from there in this order.
    stranger.send_to(b"strange", node).await.unwrap();
    server.send_to(b"answer", node).await.unwrap();
    let answer = socket.receive().await;
    assert_eq!((&answer.bytes[..], answer.from), (&b"answer"[..], to));
    // Whoever is sent to may answer: the same socket is everybody's.
    let other = stranger.local_addr().unwrap();
    assert_eq!(socket.send(OTHER, other), Ok(()));
    assert_eq!(heard(&stranger).await, (OTHER.to_vec(), node));
    stranger.send_to(b"answer", node).await.unwrap();
    assert_eq!(socket.receive().await.from, other);
    let many = SocketAddr::from(([224, 0, 0, 251], 5353));
    assert_eq!(socket.send(ONE, many), Err(SocketError::Unreachable));
    // A socket of the pod's loopback has no way out of it.
    let pod = network.join("other").unwrap();
    let loopback = pod.bind_datagram(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    let loopback = Datagrams::new(Arc::new(loopback.unwrap()));
    assert_eq!(loopback.send(ONE, to), Err(SocketError::Unreachable));
}

#[tokio::test]
async fn the_largest_datagrams_go_both_ways() {
    let (network, server) = (network(), server().await);
    network.update(|table| table.outside = true);
    let socket = socket(&network.join("uid").unwrap());
    let large = Bytes::from(vec![7; network::LARGEST]);
    let to = server.local_addr().unwrap();
    socket.send(large.clone(), to).unwrap();
    let mut buffer = vec![0; network::LARGEST + 1];
    let (length, node) = server.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], &large[..]);
    server.send_to(&buffer[..length], node).await.unwrap();
    assert_eq!(socket.receive().await.bytes, large);
}

#[tokio::test]
async fn rules_are_asked_about_each_datagram_and_its_answer() {
    let (network, server) = (network(), server().await);
    network.update(|table| table.outside = true);
    let pod = network.join("uid").unwrap();
    let (socket, to) = (socket(&pod), server.local_addr().unwrap());
    let own = format!("{}/32", own_address());
    judge(&network, only_to(&pod, "0.0.0.0/0", &[&own]));
    assert_eq!(socket.send(ONE, to), Ok(()), "lost");
    judge(&network, only_to(&pod, &own, &[]));
    assert_eq!(socket.send(OTHER, to), Ok(()));
    let (bytes, node) = heard(&server).await;
    assert_eq!(bytes, OTHER, "the first was not let out");
    server.send_to(b"answer", node).await.unwrap();
    assert_eq!(&socket.receive().await.bytes[..], b"answer");
    // The rules change while they talk: what comes then is not let in, and nothing goes out.
    judge(&network, only_to(&pod, "203.0.113.0/24", &[]));
    assert_eq!(socket.send(ONE, to), Ok(()), "lost");
    let witness = socket_beside(&network, &server).await;
    server.send_to(b"late", node).await.unwrap();
    witness.1.send(OTHER, to).unwrap();
    assert_eq!(heard(&server).await, (OTHER.to_vec(), witness.0));
    server.send_to(b"later", witness.0).await.unwrap();
    assert_eq!(&witness.1.receive().await.bytes[..], b"later");
    judge(&network, (pod.address(), None));
    socket.send(ONE, to).unwrap();
    assert_eq!(heard(&server).await, (ONE.to_vec(), node));
    server.send_to(b"again", node).await.unwrap();
    assert_eq!(&socket.receive().await.bytes[..], b"again");
}

/// Another pod's socket, which the server has heard from there.
async fn socket_beside(network: &Network, server: &UdpSocket) -> (SocketAddr, Datagrams) {
    let socket = socket(&network.join("beside").unwrap());
    socket.send(ONE, server.local_addr().unwrap()).unwrap();
    (heard(server).await.1, socket)
}

#[tokio::test]
async fn one_pod_has_so_many_sockets_of_the_node_and_no_more() {
    let network = Network::with_sockets("10.128.0.0/24".parse().unwrap(), 8_192);
    let server = server().await;
    network.update(|table| table.outside = true);
    let (pod, to) = (network.join("uid").unwrap(), server.local_addr().unwrap());
    let mut sockets: Vec<_> = (0..257).map(|_| socket(&pod)).collect();
    let sent: Vec<_> = sockets.iter().map(|s| s.send(ONE, to)).collect();
    assert!(sent[..256].iter().all(Result::is_ok));
    assert_eq!(sent[256], Err(SocketError::PortsExhausted));
    let other = socket(&network.join("other").unwrap());
    assert_eq!(other.send(ONE, to), Ok(()), "another pod's are its own");
    sockets.swap_remove(0);
    assert_eq!(sockets[0].send(ONE, to), Ok(()), "one was given back");
}

#[tokio::test]
async fn a_pod_has_its_part_of_the_nodes_sockets_whatever_others_have() {
    // A part of one, and as many again that are spare, of which a pod may have an eighth.
    let network = Network::with_sockets("10.128.0.0/29".parse().unwrap(), 16);
    network.update(|table| table.outside = true);
    let (server, listener) = (server().await, TcpListener::bind((own_address(), 0)).await);
    let (to, listener) = (server.local_addr().unwrap(), listener.unwrap());
    let at = listener.local_addr().unwrap();
    let greedy = network.join("greedy").unwrap();
    let near = greedy.connect(at).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    let sockets = [socket(&greedy), socket(&greedy)];
    // Streams and sockets for datagrams count together.
    let exhausted = Err(SocketError::PortsExhausted);
    assert_eq!(sockets[0].send(ONE, to), Ok(()));
    assert_eq!(sockets[1].send(ONE, to), exhausted);
    assert_eq!(greedy.connect(at).await.map(drop), exhausted);
    assert_eq!(sockets[0].send(ONE, to), Ok(()), "what it has goes on");
    let mut others = Vec::new();
    for uid in ["a", "b", "c", "d", "e"] {
        let pod = network.join(uid).unwrap();
        let own = socket(&pod);
        assert_eq!(own.send(ONE, to), Ok(()), "{uid} has its part");
        assert_eq!(
            pod.connect(at).await.map(drop),
            exhausted,
            "{uid} has no more"
        );
        others.push((pod, own));
    }
    // What has ended is there again.
    drop(near);
    assert_eq!(soon(far.read(&mut [0])).await.unwrap_or(0), 0);
    let again = async {
        while sockets[1].send(ONE, to) == exhausted {
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
    assert_eq!(greedy.connect(at).await.map(drop), exhausted);
}

/// What lets the pod out to nobody.
fn nobody(pod: &PodNet) -> (Ipv4Addr, Option<PodPolicy>) {
    let policy = PodPolicy {
        egress: Isolation::Only(Vec::new()),
        ..PodPolicy::default()
    };
    (pod.address(), Some(policy))
}

#[tokio::test]
async fn ipv6_streams_go_out_where_rules_allow() {
    let network = network();
    let pod = network.join("uid").unwrap();
    network.update(|table| table.outside = true);
    let Some(own) = own_address6() else {
        let documentation = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9));
        let unreachable = pod.connect(documentation).await.err();
        assert_eq!(unreachable, Some(SocketError::Unreachable));
        return;
    };
    let server = TcpListener::bind((own, 0)).await.unwrap();
    let at = server.local_addr().unwrap();
    let near = pod.connect(at).await.unwrap();
    assert_eq!(
        (near.remote(), near.local().ip()),
        (at, Ipv6Addr::UNSPECIFIED.into())
    );
    let (mut far, _) = server.accept().await.unwrap();
    near.writer.write(ONE).unwrap();
    let mut heard = [0; 3];
    far.read_exact(&mut heard).await.unwrap();
    far.write_all(&heard).await.unwrap();
    assert_eq!(said(&near).await, Some(ONE));
    // Rules are asked before anybody hears of a connection, and again when they change.
    let refused = Some(SocketError::Refused);
    let block = format!("{own}/128");
    for policy in [
        nobody(&pod),
        only_to(&pod, "0.0.0.0/0", &[]),
        only_to(&pod, "::/0", &[&block]),
    ] {
        judge(&network, policy);
        assert_eq!(pod.connect(at).await.err(), refused);
    }
    network.judge_again(&BTreeSet::from([pod.address()]));
    near.reader.read(9).await.expect_err("a reset");
    judge(&network, only_to(&pod, &block, &[]));
    let near = pod.connect(at).await.unwrap();
    network.judge_again(&BTreeSet::from([pod.address()]));
    assert!(near.writer.room().is_ok(), "it may stay");
    drop(server);
    judge(&network, (pod.address(), None));
    assert_eq!(pod.connect(at).await.err(), refused, "nobody is there");
}

#[tokio::test]
async fn ipv6_datagrams_go_out_where_rules_allow() {
    let network = network();
    network.update(|table| table.outside = true);
    let pod = network.join("uid").unwrap();
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let socket = Datagrams::new(Arc::new(pod.bind_datagram(any).unwrap()));
    let Some(own) = own_address6() else {
        let documentation = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9));
        assert_eq!(
            socket.send(ONE, documentation),
            Err(SocketError::Unreachable)
        );
        return;
    };
    let server = UdpSocket::bind((own, 0)).await.unwrap();
    let to = server.local_addr().unwrap();
    judge(&network, nobody(&pod));
    assert_eq!(socket.send(ONE, to), Ok(()), "lost");
    judge(&network, only_to(&pod, "::/0", &[]));
    assert_eq!(socket.send(OTHER, to), Ok(()));
    let (bytes, node) = heard(&server).await;
    assert_eq!(bytes, OTHER);
    server.send_to(b"answer", node).await.unwrap();
    let answer = socket.receive().await;
    assert_eq!((&answer.bytes[..], answer.from), (&b"answer"[..], to));
}
