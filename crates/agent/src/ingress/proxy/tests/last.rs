//! The last of an answer, of which the pod and the proxy are done before the client is, while another client waits for the
//! connection's place.

use hyper_util::rt::TokioExecutor;
use tokio::net::TcpSocket;

use super::world::NARROW;
use super::*;

fn for_one() -> Limits {
    Limits {
        connections: 1,
        ..Limits::default()
    }
}

#[tokio::test]
async fn an_answer_that_no_socket_takes_arrives_whole() {
    // More than sockets without room take, and no more than is taken in beyond that.
    const ANSWER: usize = 48 << 10;
    let world = World::new(for_one()).await;
    world.pod(handler(|_| async { Response::new(full("ho")) }));
    let (go_on, left) = world.pod_in_steps(ANSWER);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(NARROW).expect("a size");
    let mut slow = socket.connect(world.at.into()).await.expect("a connection");
    let asked = b"GET /garbage HTTP/1.1\r\nhost: x\r\n\r\n";
    slow.write_all(asked).await.expect("sent");
    soon(until(&mut slow, b"\r\n\r\n")).await;
    let next = TcpStream::connect(world.at).await.expect("a connection");
    go_on.send(()).expect("the pod waits");
    soon(left).await.expect("the proxy has it all");
    let read = async {
        let mut answer = Vec::new();
        slow.read_to_end(&mut answer).await.expect("no error");
        assert_eq!(answer.len(), ANSWER);
    };
    // The other's turn comes with its end.
    soon(async { tokio::join!(read, asked_on(next)) }).await;
}

#[tokio::test]
async fn an_answer_that_no_stream_takes_arrives_whole() {
    // One part of an answer, most of which waits for the client to let its stream go on.
    const ANSWER: usize = 4 << 10;
    const WINDOW: u32 = 1 << 10;
    let world = World::new(for_one()).await;
    world.pod(handler(|_| async { Response::new(full("ho")) }));
    let (go_on, left) = world.pod_in_steps(ANSWER);
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(WINDOW);
    let handshake = builder.handshake(TokioIo::new(world.shake().await));
    let (mut sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::builder().uri("https://x/garbage");
    let request = request.body(full("")).expect("a request");
    let answer = soon(sender.send_request(request)).await.expect("a head");
    let next = TcpStream::connect(world.at).await.expect("a connection");
    go_on.send(()).expect("the pod waits");
    soon(left).await.expect("the proxy has it all");
    let read = async { assert_eq!(text(answer).await.len(), ANSWER) };
    soon(async { tokio::join!(read, asked_on(next)) }).await;
    drop(sender);
}
