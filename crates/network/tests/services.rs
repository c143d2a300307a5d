//! Connections through Services, between pods of one node.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use network::nodes::Node;
use network::services::{Endpoint, Name, Place, Service, ServicePort, Slice};
use network::{Datagrams, Listener, Network, PodNet, Protocol, SocketError, Stream, Table};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 10), 80);
const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn name() -> Name {
    Name {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
    }
}

fn service() -> Service {
    Service {
        cluster: vec![*SERVICE.ip()],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30_080),
        }],
        ..Service::default()
    }
}

fn slice(pods: &[&PodNet]) -> Slice {
    let endpoint = |pod: &&PodNet| Endpoint {
        address: Some(pod.address()),
        ready: true,
        serving: true,
        ..Endpoint::default()
    };
    Slice {
        ports: vec![(String::new(), Protocol::Tcp, 8080)],
        endpoints: pods.iter().map(endpoint).collect(),
    }
}

fn network() -> Network {
    let network = Network::new("10.128.0.0/24".parse().unwrap());
    network.update(|table| {
        *table = Table::new(Place {
            node: "n".to_owned(),
            zone: None,
        });
        table.services.set_service(&name(), Some(service()));
        let node = Node {
            name: "n".to_owned(),
            pods: Some(network.cidr()),
            link: None,
            addresses: vec![NODE],
        };
        table.nodes.set("n", Some(node));
    });
    network
}

fn listen(pod: &PodNet) -> Listener {
    let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080);
    Listener::new(Arc::new(pod.bind_stream(at).unwrap()), 8)
}

async fn said(stream: &Stream) -> Option<Bytes> {
    stream.reader.read(1 << 16).await.expect("not reset")
}

#[tokio::test]
async fn a_service_leads_to_those_who_take_connections() {
    let network = network();
    let [client, one, other] = [(); 3].map(|()| network.join("uid").unwrap());
    let refused = client.connect(SERVICE).await.err();
    assert_eq!(refused, Some(SocketError::Refused), "nobody is behind it");
    network.update(|table| {
        let pods = Some(slice(&[&one, &other]));
        table.services.set_slice(&name(), "web-1", pods);
    });
    let refused = client.connect(SERVICE).await.err();
    assert_eq!(refused, Some(SocketError::Refused), "nobody listens");
    // Who refuses is passed over.
    let listener = listen(&other);
    for _ in 0..4 {
        let near = client.connect(SERVICE).await.unwrap();
        assert_eq!(near.remote(), SERVICE.into(), "what was asked for");
        let far = listener.accept().await;
        assert_eq!(far.local(), SocketAddrV4::new(other.address(), 8080).into());
        assert_eq!(far.remote(), near.local(), "nobody's address is another's");
        assert_eq!(near.local().ip(), client.address());
        near.writer.write(Bytes::from_static(b"hello")).unwrap();
        assert_eq!(said(&far).await.as_deref(), Some(&b"hello"[..]));
    }
    // Of two each gets one.
    let first = listen(&one);
    for _ in 0..2 {
        client.connect(SERVICE).await.unwrap();
    }
    assert!(first.try_accept().is_some() && listener.try_accept().is_some());
    // It may be itself.
    network.update(|table| {
        let pods = Some(slice(&[&one]));
        table.services.set_slice(&name(), "web-1", pods);
    });
    let own = one.connect(SERVICE).await.unwrap();
    let far = first.accept().await;
    assert_eq!((own.local(), own.remote()), (far.remote(), SERVICE.into()));
}

#[tokio::test]
async fn a_nodes_published_port_comes_before_loopback() {
    let network = network();
    let [client, server] = [(); 2].map(|()| network.join("uid").unwrap());
    let listener = listen(&server);
    network.update(|table| {
        let pods = Some(slice(&[&server]));
        table.services.set_slice(&name(), "web-1", pods);
    });
    let published = SocketAddrV4::new(NODE, 30_080);
    let near = client.connect(published).await.unwrap();
    assert_eq!(near.remote(), published.into());
    assert_eq!(listener.accept().await.remote(), near.local());
    // Other ports of it, and its own loopback, are the pod's.
    for own in [
        SocketAddrV4::new(NODE, 8080),
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, 30_080),
    ] {
        let refused = client.connect(own).await.err();
        assert_eq!(refused, Some(SocketError::Refused), "{own}");
    }
}

#[tokio::test]
async fn datagrams_to_a_service_are_answered_by_its_name() {
    let network = Network::new("10.128.0.0/24".parse().unwrap());
    let [client, one, other] = [(); 3].map(|()| network.join("uid").unwrap());
    let dns = Service {
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Udp,
            port: 80,
            node_port: None,
        }],
        ..service()
    };
    network.update(|table| {
        table.services.set_service(&name(), Some(dns));
        let mut slice = slice(&[&one, &other]);
        slice.ports[0].1 = Protocol::Udp;
        table.services.set_slice(&name(), "web-1", Some(slice));
    });
    let socket = |pod: &PodNet, port| {
        let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        Datagrams::new(Arc::new(pod.bind_datagram(at).unwrap()))
    };
    let (servers, asking) = (
        [socket(&one, 8080), socket(&other, 8080)],
        socket(&client, 0),
    );
    let mut met = [0, 0];
    for _ in 0..6 {
        asking.send(Bytes::from_static(b"who"), SERVICE).unwrap();
        for (server, met) in servers.iter().zip(&mut met) {
            let Some(asked) = server.try_receive() else {
                continue;
            };
            *met += 1;
            assert_eq!(asked.from.ip(), client.address());
            server.send(asked.bytes, asked.from).unwrap();
        }
        assert_eq!(asking.receive().await.from, SERVICE.into());
    }
    assert!(
        met == [6, 0] || met == [0, 6],
        "one socket, one backend: {met:?}"
    );
    let second = socket(&client, 0);
    second.send(Bytes::from_static(b"who"), SERVICE).unwrap();
    let other = servers.iter().position(|s| s.try_receive().is_some());
    assert_eq!(other, met.iter().position(|n| *n == 0), "another's turn");
}
