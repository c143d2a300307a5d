//! Whom clients outside reach there again.

use super::super::Way;
use super::*;
use crate::outside::MOST_STREAMS;

/// A client outside.
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 5000);

/// A server of this machine, and the world in which the Service's only endpoint has its port at an address.
async fn beyond(address: Ipv4Addr) -> (World, TcpListener) {
    let world = world().await;
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = server.local_addr().expect("its address").port();
    let slice = Slice {
        ports: vec![("t".to_owned(), Protocol::Tcp, port)],
        endpoints: vec![Endpoint {
            address: Some(address),
            ready: true,
            serving: true,
            ..Endpoint::default()
        }],
    };
    world.network.update(|table| {
        table.outside = true;
        table.services.set_slice(&name("web"), "s", Some(slice));
    });
    (world, server)
}

#[tokio::test]
async fn clients_do_not_share_a_pods_streams() {
    let (world, server) = beyond(Ipv4Addr::LOCALHOST).await;
    let streams = world.entrance.gateway.pod().outside_streams.clone();
    let _all = streams
        .try_acquire_many_owned(MOST_STREAMS as u32)
        .expect("all of them");
    let found = world.entrance.connect(CLIENT, world.at).await;
    let _stream = found.expect("a connection");
    soon(server.accept()).await.expect("a connection");
}

/// To the system the unspecified address is its loopback.
#[tokio::test]
async fn an_endpoint_that_is_nobodys_address_is_nobody() {
    let (world, _server) = beyond(Ipv4Addr::UNSPECIFIED).await;
    let found = world.entrance.connect(CLIENT, world.at).await;
    assert_eq!(found.map(drop), Err(SocketError::Unreachable));
    let pod = world.network.join("client").expect("an address");
    let service = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 20), 80);
    let found = pod.connect(service).await;
    assert_eq!(found.map(drop), Err(SocketError::Unreachable));
}

#[tokio::test]
async fn a_pods_port_leads_to_no_place_outside() {
    let (world, server) = beyond(Ipv4Addr::LOCALHOST).await;
    let port = server.local_addr().expect("its address").port();
    let way = Way::Pod(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let found = world.entrance.set_out(CLIENT, Some(world.at), way).await;
    assert_eq!(found.map(drop), Err(SocketError::Unreachable));
}
