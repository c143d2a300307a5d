use super::super::tests::{World, world};
use super::*;

/// A socket of the pod's behind the port.
fn server(world: &World) -> Datagrams {
    let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080);
    Datagrams::new(Arc::new(world.server.bind_datagram(at).expect("a port")))
}

/// Sends a datagram to the port; the server says who it is from.
async fn ask(client: &UdpSocket, world: &World, server: &Datagrams, text: &[u8]) -> SocketAddr {
    client.send_to(text, world.at).await.expect("sent");
    let asked = server.receive().await;
    assert_eq!(&asked.bytes[..], text);
    asked.from
}

#[tokio::test]
async fn who_is_not_answered_keeps_nobody_out() {
    let world = world().await;
    let server = server(&world);
    let socket = Arc::new(UdpSocket::bind(world.at).await.expect("a port"));
    let passing = pass(socket, world.at, world.entrance.clone(), Clients::new(2));
    let _passing = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(passing));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        clients.push(client);
    }
    let answer = async |client: &UdpSocket, to: SocketAddr| {
        let bytes = Bytes::from_static(b"answer");
        server.send(bytes, to).expect("sent");
        let mut heard = [0; 9];
        let (length, _) = client.recv_from(&mut heard).await.expect("an answer");
        assert_eq!(&heard[..length], b"answer");
    };
    let first = ask(&clients[0], &world, &server, b"0").await;
    answer(&clients[0], first).await;
    // There is room for one more at a time, which nobody has for good who says nothing.
    let second = ask(&clients[1], &world, &server, b"1").await;
    ask(&clients[2], &world, &server, b"2").await;
    let again = ask(&clients[1], &world, &server, b"1").await;
    assert_ne!(again, second, "it was forgotten meanwhile");
    let known = ask(&clients[0], &world, &server, b"0").await;
    assert_eq!(known, first, "who was answered stays");
    // Where all were answered, who comes is lost.
    answer(&clients[1], again).await;
    clients[3].send_to(b"3", world.at).await.expect("sent");
    let next = ask(&clients[0], &world, &server, b"0").await;
    assert_eq!(next, first);
}

#[tokio::test(start_paused = true)]
async fn who_was_answered_is_remembered_for_longer() {
    let world = world().await;
    let server = server(&world);
    let to = SocketAddrV4::new(world.server.address(), 8080);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let outside = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let Ok(SocketAddr::V4(from)) = outside.local_addr() else {
        panic!("an IPv4 address");
    };
    for (answered, due) in [(false, UNANSWERED), (true, IDLE)] {
        let client = enter(&world.entrance, to).expect("a port");
        if answered {
            let bytes = Bytes::from_static(b"answer");
            let gateway = world.entrance.gateway.address();
            let at = SocketAddrV4::new(gateway, client.socket.local().port());
            server.send(bytes, at).expect("sent");
        }
        let begun = Instant::now();
        answer(&client, &socket, from).await;
        let lasted = begun.elapsed();
        assert!(
            due <= lasted && lasted < due + Duration::from_secs(1),
            "{lasted:?}"
        );
    }
}
