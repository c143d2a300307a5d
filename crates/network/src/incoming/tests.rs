//! Pods of two nodes, over links, with the rules of both sides.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::Protocol;
use crate::link::tests::setup::{Certificates, certificates};
use crate::link::{Links, serve};
use crate::nodes::Node;
use crate::policy::{Group, Isolation, Peers, PodPolicy, Port, Ports, Rule};
use crate::{Datagrams, Listener, PodNet};

/// Two nodes that know each other: `a` has 10.128.0.0/24, `b` 10.128.1.0/24.
async fn nodes() -> [Network; 2] {
    let Certificates { client, server } = certificates();
    let mut ports = Vec::new();
    for _ in 0..2 {
        ports.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let nodes: Vec<Node> = ["a", "b"]
        .into_iter()
        .enumerate()
        .map(|(n, name)| Node {
            name: name.to_owned(),
            pods: Some(format!("10.128.{n}.0/24").parse().unwrap()),
            link: Some(ports[n].local_addr().unwrap()),
            addresses: vec![Ipv4Addr::new(192, 0, 2, n as u8)],
        })
        .collect();
    let networks = [0, 1].map(|n| {
        let network = Network::new(nodes[n].pods.unwrap());
        network.update(|table| {
            for node in &nodes {
                table.nodes.set(&node.name, Some(node.clone()));
            }
        });
        network.link(Links::new(&client, Box::new(|_, _| true)));
        network
    });
    for (n, port) in ports.into_iter().enumerate() {
        let (network, server) = (networks[n].clone(), server.clone());
        let peer = nodes[1 - n].name.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = port.accept().await {
                let (network, server, peer) = (network.clone(), server.clone(), peer.clone());
                tokio::spawn(async move {
                    let stream = server.accept(stream).await.unwrap();
                    let _ = serve(stream, peer, Arc::new(network)).await;
                });
            }
        });
    }
    networks
}

fn at(pod: &PodNet, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(pod.address(), port)
}

fn listen(pod: &PodNet) -> Listener {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80);
    Listener::new(Arc::new(pod.bind_stream(any).unwrap()), 8)
}

fn datagrams(pod: &PodNet, port: u16) -> Datagrams {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    Datagrams::new(Arc::new(pod.bind_datagram(any).unwrap()))
}

/// What lets in, or out, those of group 1 at port 80 alone.
fn only_friends() -> Isolation {
    Isolation::Only(vec![Arc::new(Rule {
        peers: Peers::Only {
            groups: BTreeSet::from([Group(1)]),
            blocks: Vec::new(),
        },
        ports: Ports::Only(vec![Port::Range(Protocol::Tcp, 80..=80)]),
    })])
}

fn policy(uid: &str, ingress: Isolation, egress: Isolation, groups: &[u64]) -> PodPolicy {
    PodPolicy {
        uid: uid.to_owned(),
        ingress,
        egress,
        groups: groups.iter().map(|g| Group(*g)).collect(),
        ..PodPolicy::default()
    }
}

fn says(network: &Network, pod: &PodNet, policy: PodPolicy) {
    network.policies().update([(pod.address(), Some(policy))]);
}

#[tokio::test]
async fn pods_of_two_nodes_talk_both_ways() {
    let [a, b] = nodes().await;
    let (one, other) = (a.join("one").unwrap(), b.join("other").unwrap());
    for (client, server) in [(&one, &other), (&other, &one)] {
        let listener = listen(server);
        let near = client.connect(at(server, 80)).await.unwrap();
        let far = listener.accept().await;
        assert_eq!((near.local(), near.remote()), (far.remote(), far.local()));
        near.writer.write(Bytes::from_static(b"ask")).unwrap();
        near.writer.close();
        let asked = far.reader.read(9).await.unwrap();
        assert_eq!(asked.as_deref(), Some(&b"ask"[..]));
        assert_eq!(far.reader.read(9).await, Ok(None));
        far.writer.write(Bytes::from_static(b"answer")).unwrap();
        drop(far);
        let answer = near.reader.read(9).await.unwrap();
        assert_eq!(answer.as_deref(), Some(&b"answer"[..]));
        assert_eq!(near.reader.read(9).await, Ok(None));
        drop(listener);
        let refused = client.connect(at(server, 80)).await.err();
        assert_eq!(refused, Some(SocketError::Refused));
    }
    let nobody = SocketAddrV4::new(Ipv4Addr::new(10, 128, 1, 250), 80);
    let unreachable = one.connect(nobody).await.err();
    assert_eq!(unreachable, Some(SocketError::Unreachable));
    // Datagrams and their answers.
    let (asking, answering) = (datagrams(&one, 0), datagrams(&other, 53));
    asking
        .send(Bytes::from_static(b"q"), at(&other, 53))
        .unwrap();
    let asked = answering.receive().await;
    assert_eq!(asked.from.ip(), one.address());
    answering
        .send(Bytes::from_static(b"a"), asked.from)
        .unwrap();
    let answer = asking.receive().await;
    assert_eq!(
        (&answer.bytes[..], answer.from),
        (&b"a"[..], at(&other, 53).into())
    );
}

#[tokio::test]
async fn each_side_judges_by_its_own_rules() {
    let [a, b] = nodes().await;
    let (client, server) = (a.join("client").unwrap(), b.join("server").unwrap());
    let listener = listen(&server);
    let open = || Isolation::None;
    let friend = |groups| policy("client", open(), open(), groups);
    // The server's node lets in friends alone.
    says(&b, &server, policy("server", only_friends(), open(), &[]));
    for (groups, may) in [(&[][..], false), (&[2], false), (&[1, 2], true)] {
        says(&b, &client, friend(groups));
        let tried = client.connect(at(&server, 80)).await;
        assert_eq!(tried.err(), (!may).then_some(SocketError::Refused));
        assert_eq!(
            listener.try_accept().is_some(),
            may,
            "a denied one is not seen"
        );
    }
    // The client's node lets out to friends alone.
    says(&b, &server, policy("server", open(), open(), &[]));
    says(&a, &client, policy("client", open(), only_friends(), &[]));
    let refused = client.connect(at(&server, 80)).await.err();
    assert_eq!(refused, Some(SocketError::Refused));
    assert!(listener.try_accept().is_none());
    says(&a, &server, policy("server", open(), open(), &[1]));
    client.connect(at(&server, 80)).await.unwrap();
    // Datagrams are lost instead, and answers pass whatever the rules are.
    let (asking, answering) = (datagrams(&client, 0), datagrams(&server, 53));
    asking
        .send(Bytes::from_static(b"q"), at(&server, 53))
        .unwrap();
    says(
        &a,
        &client,
        policy("client", Isolation::Only(Vec::new()), open(), &[]),
    );
    says(
        &b,
        &server,
        policy("server", open(), Isolation::Only(Vec::new()), &[]),
    );
    asking
        .send(Bytes::from_static(b"r"), at(&server, 53))
        .unwrap();
    let asked = answering.receive().await;
    assert_eq!(&asked.bytes[..], b"r", "the first was lost");
    answering
        .send(Bytes::from_static(b"a"), asked.from)
        .unwrap();
    assert_eq!(&asking.receive().await.bytes[..], b"a");
}

#[tokio::test]
async fn a_pod_is_waited_for_that_was_not_heard_of() {
    let [a, b] = nodes().await;
    let (client, server) = (a.join("client").unwrap(), b.join("server").unwrap());
    let _listener = listen(&server);
    let none = || Isolation::None;
    says(&b, &server, policy("server", only_friends(), none(), &[]));
    // The address was another's, who was a friend.
    says(&b, &client, policy("earlier", none(), none(), &[1]));
    let begun = Instant::now();
    let refused = client.connect(at(&server, 80)).await.err();
    assert_eq!(refused, Some(SocketError::Refused));
    assert!(begun.elapsed() >= HEARD_WITHIN);
    let (connected, ()) = tokio::join!(client.connect(at(&server, 80)), async {
        tokio::task::yield_now().await;
        says(&b, &client, policy("client", none(), none(), &[1]));
    });
    connected.unwrap();
}

#[tokio::test]
async fn nobody_speaks_for_pods_of_other_nodes() {
    let [a, b] = nodes().await;
    let (client, server) = (a.join("client").unwrap(), b.join("server").unwrap());
    let listener = listen(&server);
    let open = |from: SocketAddrV4| Open {
        from,
        to: at(&server, 80),
        pod: "client".to_owned(),
    };
    for (peer, from, may) in [
        ("a", at(&client, 9), true),
        ("b", at(&client, 9), false),
        ("a", at(&server, 9), false),
        ("c", at(&client, 9), false),
    ] {
        let made = b.connect(peer, open(from)).await;
        assert_eq!(made.is_ok(), may, "{peer} for {from}");
    }
    assert!(listener.try_accept().is_some() && listener.try_accept().is_none());
    let socket = datagrams(&server, 53);
    let packet = |from| Packet {
        from,
        to: at(&server, 53),
        bytes: Bytes::from_static(b"x"),
    };
    b.datagram("a", packet(at(&server, 9)));
    assert!(socket.try_receive().is_none());
    b.datagram("a", packet(at(&client, 9)));
    assert!(socket.try_receive().is_some());
}

#[tokio::test]
async fn what_may_not_pass_any_more_is_reset() {
    let [a, b] = nodes().await;
    let (client, near_by) = (a.join("client").unwrap(), a.join("near").unwrap());
    let server = b.join("server").unwrap();
    let (far_listener, near_listener) = (listen(&server), listen(&near_by));
    let none = || Isolation::None;
    let (far, near) = tokio::join!(
        client.connect(at(&server, 80)),
        client.connect(at(&near_by, 80))
    );
    let (far, near) = (far.unwrap(), near.unwrap());
    let (_far_end, near_end) = (far_listener.accept().await, near_listener.accept().await);
    // The server's side ends the one over the link, the client's the other.
    says(
        &b,
        &server,
        policy("server", Isolation::Only(Vec::new()), none(), &[]),
    );
    b.judge_again(&BTreeSet::from([client.address()]));
    far.reader.read(9).await.expect_err("reset");
    assert!(near.writer.room().is_ok());
    says(&a, &near_by, policy("near", none(), none(), &[2]));
    says(&a, &client, policy("client", none(), only_friends(), &[]));
    a.judge_again(&BTreeSet::from([Ipv4Addr::new(10, 128, 0, 200)]));
    assert!(near.writer.room().is_ok(), "others' rules");
    a.judge_again(&BTreeSet::from([client.address()]));
    near.reader.read(9).await.expect_err("reset");
    near_end.reader.read(9).await.expect_err("reset");
    // Nothing is kept of what has ended.
    drop((near, near_end, far));
    assert!(client.pod().passing.lock().is_empty());
}
