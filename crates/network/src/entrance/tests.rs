mod outside;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{Claimant, Entrance, Ports};
use crate::entrance::Unreached;
use crate::host_ports::{HostPort, PodPorts};
use crate::nodes::Node;
use crate::policy::{Isolation, PodPolicy};
use crate::services::{Endpoint, Name, Place, PortRef, Service, ServicePort, Slice};
use crate::{Datagrams, Listener, Network, PodNet, Protocol, SocketError, Table};

/// The node's address: none that a client of these tests has.
const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

pub(super) fn name(name: &str) -> Name {
    Name {
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

/// A port that nobody has, at any address and by neither protocol: below those that the system gives out, and none twice.
pub(super) fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes of these tests take others.
    let first = 10_000 + (std::process::id() % 200) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        let at = (Ipv4Addr::UNSPECIFIED, port);
        let held = (
            std::net::TcpListener::bind(at),
            std::net::UdpSocket::bind(at),
        );
        if let (Ok(_), Ok(_)) = held {
            return port;
        }
    }
}

/// What is to come while somebody still waits for it.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(20), what).await;
    waited.expect("in time")
}

pub(super) struct World {
    pub(super) network: Network,
    pub(super) entrance: Entrance,
    pub(super) server: PodNet,
    pub(super) at: SocketAddrV4,
}

/// A node, a pod on it, and a Service whose node port leads there, by both protocols.
pub(super) async fn world() -> World {
    world_in(Network::new("10.128.0.0/24".parse().expect("a range"))).await
}

pub(super) async fn world_in(network: Network) -> World {
    let gateway = network.join("gateway").expect("an address");
    let server = network.join("server").expect("an address");
    let at = SocketAddrV4::new(NODE, free());
    let port = |name: &str, protocol| ServicePort {
        name: name.to_owned(),
        protocol,
        port: 80,
        node_port: Some(at.port()),
    };
    let slice = Slice {
        ports: vec![
            ("t".to_owned(), Protocol::Tcp, 8080),
            ("u".to_owned(), Protocol::Udp, 8080),
        ],
        endpoints: vec![Endpoint {
            address: Some(server.address()),
            ready: true,
            serving: true,
            ..Endpoint::default()
        }],
    };
    network.update(|table| {
        *table = Table::new(Place {
            node: "n".to_owned(),
            zone: None,
        });
        let service = Service {
            cluster: vec![Ipv4Addr::new(10, 96, 0, 20)],
            ports: vec![port("t", Protocol::Tcp), port("u", Protocol::Udp)],
            ..Service::default()
        };
        table.services.set_service(&name("web"), Some(service));
        table.services.set_slice(&name("web"), "s", Some(slice));
        let node = Node {
            name: "n".to_owned(),
            pods: Some(network.cidr()),
            link: None,
            addresses: vec![NODE],
        };
        table.nodes.set("n", Some(node));
    });
    let entrance = Entrance::new(network.clone(), gateway);
    World {
        network,
        entrance,
        server,
        at,
    }
}

pub(super) fn listen(pod: &PodNet) -> Listener {
    let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080);
    Listener::new(Arc::new(pod.bind_stream(at).expect("a port")), 8)
}

/// A pod's wish for a port of the node, behind which is its own 8080.
pub(super) fn asks(port: u16, pod: &PodNet) -> PodPorts {
    PodPorts {
        node: "n".to_owned(),
        since: 0,
        address: pod.address(),
        ports: vec![HostPort {
            protocol: Protocol::Tcp,
            address: None,
            port,
            to: 8080,
        }],
    }
}

#[tokio::test]
async fn a_nodes_port_leads_to_the_pods_behind_it() {
    let world = world().await;
    let wanted = world.entrance.wanted().ports;
    let service = Claimant::Service(name("web"));
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_eq!(wanted.get(&(protocol, world.at)), Some(&service));
    }
    let mut ports = Ports::new(world.entrance.clone());
    assert!(ports.set(wanted.keys().copied()).await.is_empty());
    let listener = listen(&world.server);
    let mut client = soon(TcpStream::connect(world.at))
        .await
        .expect("a connection");
    let stream = soon(listener.accept()).await;
    // To a pod, loopback is its own: who comes from there has the node's place in the network.
    assert_eq!(stream.remote().ip(), world.entrance.gateway.address());
    client.write_all(b"hi").await.expect("sent");
    assert_eq!(
        soon(stream.reader.read(9)).await,
        Ok(Some(Bytes::from_static(b"hi")))
    );
    stream
        .writer
        .write(Bytes::from_static(b"ho"))
        .expect("sent");
    stream.writer.close();
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer))
        .await
        .expect("an answer");
    assert_eq!(answer, "ho");
    // Nobody listens any more: that is what the client sees, as a connection that ends.
    drop(listener);
    let mut refused = soon(TcpStream::connect(world.at))
        .await
        .expect("accepted by the system");
    let ended = soon(refused.read_u8()).await.expect_err("reset");
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    // And once the port is not wanted it is free.
    ports.set([]).await;
    TcpListener::bind(world.at).await.expect("free");
}

#[tokio::test]
async fn datagrams_and_their_answers() {
    let world = world().await;
    let mut ports = Ports::new(world.entrance.clone());
    assert!(ports.set([(Protocol::Udp, world.at)]).await.is_empty());
    let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080);
    let server = Datagrams::new(Arc::new(world.server.bind_datagram(at).expect("a port")));
    let mut from = Vec::new();
    for client in 0..2_u8 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        for turn in 0..2 {
            socket
                .send_to(&[client, turn], world.at)
                .await
                .expect("sent");
            let asked = soon(server.receive()).await;
            assert_eq!(&asked.bytes[..], [client, turn]);
            from.push(asked.from);
            server
                .send(Bytes::from(vec![client, turn, 9]), asked.from)
                .expect("sent");
            let mut answer = [0; 9];
            let (length, who) = soon(socket.recv_from(&mut answer))
                .await
                .expect("an answer");
            assert_eq!(
                (&answer[..length], who),
                (&[client, turn, 9][..], world.at.into())
            );
        }
    }
    assert!(
        from[0] == from[1] && from[2] == from[3] && from[0] != from[2],
        "{from:?}"
    );
    // Others in the network may send there, and are nobody to the client.
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    client.send_to(b"ask", world.at).await.expect("sent");
    let asked = soon(server.receive()).await;
    let stranger = world.network.join("stranger").expect("an address");
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080);
    let stranger = Datagrams::new(Arc::new(stranger.bind_datagram(any).expect("a port")));
    for (socket, answer) in [(&stranger, "forged"), (&server, "true")] {
        let answer = Bytes::from_static(answer.as_bytes());
        socket.send(answer, asked.from).expect("sent");
    }
    let mut answer = [0; 9];
    let (length, _) = soon(client.recv_from(&mut answer))
        .await
        .expect("an answer");
    assert_eq!(&answer[..length], b"true");
}

#[tokio::test]
async fn what_cannot_be_served_is_said() {
    let world = world().await;
    let taken = TcpListener::bind(world.at).await.expect("a port");
    let mut ports = Ports::new(world.entrance.clone());
    let wanted = || world.entrance.wanted().ports.into_keys();
    let failed = ports.set(wanted()).await;
    let kinds: Vec<_> = failed
        .iter()
        .map(|(at, error)| (*at, error.kind()))
        .collect();
    assert_eq!(
        kinds,
        [((Protocol::Tcp, world.at), std::io::ErrorKind::AddrInUse)]
    );
    drop(taken);
    assert!(
        ports.set(wanted()).await.is_empty(),
        "once it is free it is served"
    );
}

#[tokio::test]
async fn rules_are_about_clients_outside_and_not_about_the_node() {
    let world = world().await;
    let policy = PodPolicy {
        uid: "server".to_owned(),
        ingress: Isolation::Only(Vec::new()),
        ..PodPolicy::default()
    };
    let policies = world.network.table().policies.clone();
    policies.update([(world.server.address(), Some(policy))]);
    let listener = listen(&world.server);
    for (client, passes) in [
        (Ipv4Addr::LOCALHOST, true),
        (NODE, true),
        (Ipv4Addr::new(192, 0, 2, 1), false),
    ] {
        let client = SocketAddrV4::new(client, 5000);
        let found = world.entrance.connect(client, world.at).await;
        match passes {
            true => drop((found.expect("let in"), soon(listener.accept()).await)),
            false => assert_eq!(found.map(drop), Err(SocketError::Refused)),
        }
    }
}

#[tokio::test]
async fn a_pods_own_ports_at_its_node() {
    let world = world().await;
    let at = SocketAddrV4::new(NODE, free());
    let to = SocketAddrV4::new(world.server.address(), 8080);
    let set = |asks: Option<PodPorts>| {
        let pod = name("server");
        world
            .network
            .update(|table| table.host_ports.set(&pod, asks));
    };
    set(Some(asks(at.port(), &world.server)));
    let wanted = world.entrance.wanted().ports;
    assert_eq!(
        wanted.get(&(Protocol::Tcp, at)),
        Some(&Claimant::Pod(name("server")))
    );
    let listener = listen(&world.server);
    let client = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 5000);
    let stream = world
        .entrance
        .connect(client, at)
        .await
        .expect("a connection");
    let accepted = soon(listener.accept()).await;
    assert_eq!(
        (stream.remote(), accepted.remote()),
        (to.into(), client.into())
    );
    // Other pods find it by the node's address, too, which is what they see then.
    let pod = world.network.join("client").expect("an address");
    let stream = pod.connect(at).await.expect("a connection");
    assert_eq!(stream.remote(), at.into());
    set(None);
    assert!(
        !world
            .entrance
            .wanted()
            .ports
            .contains_key(&(Protocol::Tcp, at))
    );
    let gone = world.entrance.connect(client, at).await;
    assert_eq!(gone.map(drop), Err(SocketError::Refused));
}

#[tokio::test]
async fn services_are_reached_by_name() {
    let world = world().await;
    let client = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 5000);
    let connect = |service: &str, port: PortRef| {
        let (entrance, service) = (world.entrance.clone(), name(service));
        async move { entrance.connect_to_service(client, &service, &port).await }
    };
    let by_name = |port: &str| PortRef::Name(port.to_owned());
    let nobody = connect("web", PortRef::Number(80)).await;
    assert_eq!(
        nobody.map(drop),
        Err(Unreached::Failed(SocketError::Refused))
    );
    let listener = listen(&world.server);
    for port in [PortRef::Number(80), by_name("t")] {
        let stream = connect("web", port).await.expect("a connection");
        assert_eq!(soon(listener.accept()).await.remote(), client.into());
        assert_eq!(stream.remote().ip(), world.server.address());
    }
    for (service, port) in [
        ("web", PortRef::Number(81)),
        // That is a port for datagrams.
        ("web", by_name("u")),
        ("other", PortRef::Number(80)),
    ] {
        let found = connect(service, port).await;
        assert_eq!(found.map(drop), Err(Unreached::NoEndpoints));
    }
    // A policy for traffic from outside is not about who asks for the Service itself.
    let local = Service {
        cluster: vec![Ipv4Addr::new(10, 96, 0, 21)],
        ports: vec![ServicePort {
            name: "t".to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        external_local: true,
        ..Service::default()
    };
    let elsewhere = Slice {
        ports: vec![("t".to_owned(), Protocol::Tcp, 8080)],
        endpoints: vec![Endpoint {
            address: Some(world.server.address()),
            ready: true,
            serving: true,
            node: Some("other".to_owned()),
            ..Endpoint::default()
        }],
    };
    world.network.update(|table| {
        table.services.set_service(&name("local"), Some(local));
        table
            .services
            .set_slice(&name("local"), "s", Some(elsewhere));
    });
    connect("local", by_name("t")).await.expect("a connection");
    soon(listener.accept()).await;
    let web = name("web");
    world.network.update(|table| {
        table.services.set_slice(&web, "s", None);
    });
    let found = connect("web", by_name("t")).await;
    assert_eq!(
        found.map(drop),
        Err(Unreached::NoEndpoints),
        "nobody is ready"
    );
    world
        .network
        .update(|table| table.services.set_service(&web, None));
    let found = connect("web", by_name("t")).await;
    assert_eq!(found.map(drop), Err(Unreached::NoEndpoints));
}
