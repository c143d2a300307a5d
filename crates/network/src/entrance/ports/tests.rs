use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::super::tests::{asks, free, listen as serve, name, soon, world, world_in};
use super::*;
use crate::{Network, SocketError};

#[tokio::test]
async fn one_port_does_not_take_the_room_of_all() {
    let world = world().await;
    let other = SocketAddrV4::new(*world.at.ip(), free());
    let pod = asks(other.port(), &world.server);
    world
        .network
        .update(|table| table.host_ports.set(&name("server"), Some(pod)));
    let listener = serve(&world.server);
    let mut ports = Ports::with_room(world.entrance.clone(), 3, 2, 0);
    let wanted = [world.at, other].map(|at| (Protocol::Tcp, at));
    assert!(ports.set(wanted).await.is_empty());
    let connect = async |at: SocketAddrV4| {
        let connected = soon(TcpStream::connect(at)).await;
        connected.expect("a connection")
    };
    let first = connect(world.at).await;
    let inside = soon(listener.accept()).await;
    let _second = connect(world.at).await;
    let _kept = soon(listener.accept()).await;
    // Its port is full, and it waits; another port is not, until there is no room at all.
    let third = connect(world.at).await;
    let fourth = connect(other).await;
    let arrived = soon(listener.accept()).await;
    assert_eq!(
        arrived.remote().port(),
        fourth.local_addr().expect("its address").port()
    );
    let mut fifth = connect(other).await;
    let ended = soon(fifth.read_u8()).await.expect_err("no room");
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    // Who goes makes room for who waits.
    drop((first, inside));
    let arrived = soon(listener.accept()).await;
    assert_eq!(
        arrived.remote().port(),
        third.local_addr().expect("its address").port()
    );
}

#[tokio::test]
async fn a_port_that_nobody_uses_takes_no_room() {
    let world = world().await;
    let other = SocketAddrV4::new(*world.at.ip(), free());
    let pod = asks(other.port(), &world.server);
    world
        .network
        .update(|table| table.host_ports.set(&name("server"), Some(pod)));
    let listener = serve(&world.server);
    let mut ports = Ports::with_room(world.entrance.clone(), 1, 1, 0);
    // Whichever is first to listen.
    let wanted = [world.at, other].map(|at| (Protocol::Tcp, at));
    assert!(ports.set(wanted).await.is_empty());
    for at in [world.at, other, world.at] {
        let client = soon(TcpStream::connect(at)).await.expect("a connection");
        let arrived = soon(listener.accept()).await;
        assert_eq!(
            arrived.remote().port(),
            client.local_addr().expect("its address").port()
        );
        drop((client, arrived));
        // Until it has gone nobody else may come.
        let all = soon(ports.room.acquire()).await.expect("room");
        drop(all);
    }
}

#[tokio::test]
async fn clients_have_a_share_of_the_nodes_sockets() {
    // One is everybody's part. Of what is spare three are left, of which clients may have half of what nobody has.
    let network = Network::with_sockets("10.128.0.0/24".parse().expect("a range"), 512);
    let _held = network.sockets().hold(253).expect("they are spare");
    let world = world_in(network).await;
    world.network.update(|table| table.outside = true);
    let listener = serve(&world.server);
    let mut ports = Ports::new(world.entrance.clone());
    let wanted = [(Protocol::Tcp, world.at)];
    assert!(ports.set(wanted).await.is_empty());
    let first = soon(TcpStream::connect(world.at)).await.expect("room");
    let inside = soon(listener.accept()).await;
    let _second = soon(TcpStream::connect(world.at)).await.expect("room");
    let _kept = soon(listener.accept()).await;
    let mut third = soon(TcpStream::connect(world.at)).await.expect("accepted");
    let ended = soon(third.read_u8()).await.expect_err("no room");
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    // Pods have their parts, for which nobody is reached here.
    let pod = world.network.join("client").expect("an address");
    let room = crate::outside::room(pod.pod()).expect("its part");
    let beyond = crate::outside::room(pod.pod());
    assert_eq!(beyond.map(drop), Err(SocketError::PortsExhausted));
    drop((room, first, inside));
    let again = async {
        while world.entrance.place().is_none() {
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
    let _third = soon(TcpStream::connect(world.at)).await.expect("room");
    soon(listener.accept()).await;
}
