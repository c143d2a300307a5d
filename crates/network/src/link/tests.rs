//! Links over real TLS, between two ends in this process.

pub(crate) mod setup;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use self::setup::{Certificates, certificates, far_end, in_memory, over_tcp, serve_tls};
use super::*;
use crate::pipe::Broken;
use crate::stream::BUFFER;

const MIB: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(30);

async fn read_all(stream: &Stream) -> Result<usize, Broken> {
    let mut total = 0;
    while let Some(bytes) = stream.reader.read(MIB).await? {
        total += bytes.len();
    }
    Ok(total)
}

/// Awaits that a stream is reset, for both of its directions.
async fn is_reset(stream: &Stream) {
    let read = timeout(SOON, read_all(stream)).await.unwrap();
    assert_eq!(read, Err(Broken::Reset));
    assert_eq!(stream.writer.room(), Err(Broken::Reset));
}

#[tokio::test]
async fn bytes_go_round() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    let (near, far) = setup.pair(&listener).await;
    for size in [1, 100, 5000, 200_000] {
        near.writer.send(Bytes::from(vec![1; size])).await.unwrap();
        let mut left = size;
        while left > 0 {
            let bytes = far.reader.read(left).await.unwrap().unwrap();
            left -= bytes.len();
            far.writer.send(bytes).await.unwrap();
        }
        while left < size {
            left += near.reader.read(size).await.unwrap().unwrap().len();
        }
    }
    let asked = setup.node.asked.lock().clone();
    assert_eq!(asked, [("client".to_owned(), setup.to(80))]);
}

/// Bytes that tell their place, in chunks of many sizes.
async fn write_pattern(writer: &crate::pipe::Writer, total: usize) {
    let (mut at, mut size) = (0, 1);
    while at < total {
        let count = size.min(total - at);
        let chunk: Vec<u8> = (at..at + count).map(|at| (at * 31 / 7) as u8).collect();
        writer.send(chunk.into()).await.unwrap();
        (at, size) = (at + count, size * 3 % 100_003);
    }
    writer.close();
}

async fn read_pattern(reader: &crate::pipe::Reader) -> usize {
    let mut at = 0;
    while let Some(bytes) = reader.read(MIB).await.unwrap() {
        for byte in bytes {
            assert_eq!(byte, (at * 31 / 7) as u8, "at {at}");
            at += 1;
        }
    }
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_goes_both_ways_at_once() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    let (near, far) = setup.pair(&listener).await;
    let total = 64 * MIB;
    let (_, _, there, back) = tokio::join!(
        write_pattern(&near.writer, total),
        write_pattern(&far.writer, total),
        read_pattern(&far.reader),
        read_pattern(&near.reader),
    );
    assert_eq!((there, back), (total, total));
}

/// Writes until nothing more fits for a while, and returns how much that was.
async fn fill(stream: &Stream) -> usize {
    let mut written = 0;
    let chunk = Bytes::from(vec![0; 16 << 10]);
    while timeout(
        Duration::from_millis(500),
        stream.writer.send(chunk.clone()),
    )
    .await
    .is_ok()
    {
        written += chunk.len();
    }
    written
}

#[tokio::test]
async fn a_slow_reader_holds_back_its_writer_alone() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    let (near, far) = setup.pair(&listener).await;
    let (other, other_far) = setup.pair(&listener).await;
    let written = fill(&near).await;
    // Two pipes, the window, and what HTTP/2 has not sent.
    let most = 2 * BUFFER + life::STREAM_WINDOW as usize + life::UNSENT + MIB;
    assert!((MIB / 2..most).contains(&written), "{written} bytes wait");
    // The other stream is not concerned.
    other.writer.send(Bytes::from_static(b"x")).await.unwrap();
    let read = timeout(SOON, other_far.reader.read(1)).await.unwrap();
    assert_eq!(read.unwrap().unwrap(), "x");
    near.writer.close();
    let read = timeout(SOON, read_all(&far)).await.unwrap().unwrap();
    assert!(read >= written);
}

/// Whoever does not read must not keep the link for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_readers_hold_back_nobody_else() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    let mut slow = Vec::new();
    for _ in 0..400 {
        slow.push(setup.pair(&listener).await);
    }
    let chunk = Bytes::from(vec![0; 16 << 10]);
    let mut waits = 0;
    while waits < 3 {
        waits += 1;
        for (near, _) in &slow {
            while near.writer.room().unwrap() > 0 {
                near.writer.write(chunk.clone()).unwrap();
                waits = 0;
            }
        }
        let (near, far) = setup.pair(&listener).await;
        let write = async {
            near.writer.send(Bytes::from(vec![0; MIB])).await.unwrap();
            near.writer.close();
        };
        let both = async { tokio::join!(write, read_all(&far)) };
        let ((), read) = timeout(SOON, both).await.unwrap();
        assert_eq!(read, Ok(MIB));
    }
}

#[tokio::test]
async fn single_bytes_are_bounded_too() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    let (near, far) = setup.pair(&listener).await;
    let sent = 300_000;
    let write = async {
        for _ in 0..sent {
            near.writer.send(Bytes::from_static(b"x")).await.unwrap();
        }
        near.writer.close();
    };
    write.await;
    assert_eq!(timeout(SOON, read_all(&far)).await.unwrap(), Ok(sent));
}

#[tokio::test]
async fn each_half_ends_by_itself() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    let (near, far) = setup.pair(&listener).await;
    near.writer.send(Bytes::from_static(b"ask")).await.unwrap();
    near.writer.close();
    assert_eq!(timeout(SOON, read_all(&far)).await.unwrap(), Ok(3));
    far.writer
        .send(Bytes::from_static(b"answer"))
        .await
        .unwrap();
    far.writer.close();
    assert_eq!(timeout(SOON, read_all(&near)).await.unwrap(), Ok(6));
}

#[tokio::test]
async fn a_reset_comes_across() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    let (near, far) = setup.pair(&listener).await;
    near.reset();
    is_reset(&far).await;
    let (near, far) = setup.pair(&listener).await;
    far.reset();
    is_reset(&near).await;
    // Also where the one end waits for room.
    for server_resets in [false, true] {
        let (near, far) = setup.pair(&listener).await;
        match server_resets {
            false => {
                fill(&near).await;
                near.reset();
                is_reset(&far).await;
            }
            true => {
                fill(&near).await;
                far.reset();
                is_reset(&near).await;
            }
        }
    }
}

#[tokio::test]
async fn what_was_written_before_an_end_arrives() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    for client_leaves in [true, false] {
        let (near, far) = setup.pair(&listener).await;
        let (leaves, stays) = match client_leaves {
            true => (near, far),
            false => (far, near),
        };
        let all = Bytes::from(vec![3; 600 << 10]);
        leaves.writer.send(all.clone()).await.unwrap();
        drop(leaves);
        assert_eq!(
            timeout(SOON, read_all(&stays)).await.unwrap(),
            Ok(all.len())
        );
        // Whoever stays learns that nobody reads.
        let writes = async {
            loop {
                if let Err(broken) = stays.writer.send(Bytes::from_static(b"x")).await {
                    return broken;
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(timeout(SOON, writes).await.unwrap(), Broken::Closed);
    }
}

#[tokio::test]
async fn who_stops_reading_after_its_own_end_is_noticed() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    let (near, far) = setup.pair(&listener).await;
    near.writer.close();
    assert_eq!(timeout(SOON, read_all(&far)).await.unwrap(), Ok(0));
    far.writer.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(near.reader.read(1).await.unwrap().unwrap(), "x");
    near.reader.close();
    let broken = timeout(SOON, far.writer.send(Bytes::from(vec![0; 9 * MIB])));
    assert_eq!(broken.await.unwrap(), Err(Broken::Closed));
}

#[tokio::test]
async fn who_is_not_there_is_told_apart() {
    let setup = over_tcp().await;
    assert_eq!(setup.open(81).await.unwrap_err(), SocketError::Refused);
    let mut elsewhere = setup.to(80);
    elsewhere.to = "10.128.0.200:80".parse().unwrap();
    let far = far_end(&setup).await;
    let opened = setup.links.open(&setup.peer, elsewhere, far).await;
    assert_eq!(opened, Err(SocketError::Unreachable));
    let stranger = Peer {
        name: "other".to_owned(),
        ..setup.peer.clone()
    };
    let far = far_end(&setup).await;
    let opened = setup.links.open(&stranger, setup.to(80), far).await;
    assert_eq!(opened, Err(SocketError::Unreachable));
}

#[tokio::test]
async fn a_killed_peer_resets_everything_and_is_dialed_again() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    let mut pairs = Vec::new();
    for _ in 0..20 {
        pairs.push(setup.pair(&listener).await);
    }
    let serving = setup.served.lock().remove(1);
    serving.abort();
    for (near, far) in &pairs {
        is_reset(near).await;
        is_reset(far).await;
    }
    let (near, far) = setup.pair(&listener).await;
    near.writer.close();
    assert_eq!(read_all(&far).await, Ok(0));
    assert_eq!(*setup.dialed.borrow(), 2);
    // And where nobody serves any more.
    setup.kill();
    is_reset(&near).await;
    let begun = Instant::now();
    assert_eq!(setup.open(80).await.unwrap_err(), SocketError::Unreachable);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_dead_after_seconds() {
    let (block, blocked) = watch::channel(false);
    let setup = in_memory(blocked);
    let listener = setup.listener(80);
    let (near, far) = setup.pair(&listener).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    near.writer.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(far.reader.read(1).await.unwrap().unwrap(), "x");
    block.send_replace(true);
    let begun = Instant::now();
    is_reset(&near).await;
    is_reset(&far).await;
    assert!(
        begun.elapsed() <= Duration::from_millis(7500),
        "{:?}",
        begun.elapsed()
    );
    let begun = Instant::now();
    assert_eq!(setup.open(80).await.unwrap_err(), SocketError::Unreachable);
    assert!(begun.elapsed() <= Duration::from_millis(2100));
    block.send_replace(false);
    setup.pair(&listener).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_ends() {
    let (_block, blocked) = watch::channel(false);
    let setup = in_memory(blocked);
    let listener = setup.listener(80);
    let pair = setup.pair(&listener).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(!setup.served.lock()[1].is_finished(), "a stream is open");
    drop(pair);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(!setup.served.lock()[1].is_finished(), "too early");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(setup.served.lock()[1].is_finished(), "it was idle");
    setup.pair(&listener).await;
    assert_eq!(*setup.dialed.borrow(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_answers_is_unreachable() {
    let (_block, blocked) = watch::channel(false);
    let setup = in_memory(blocked);
    let begun = Instant::now();
    assert_eq!(setup.open(7).await.unwrap_err(), SocketError::Unreachable);
    assert!(begun.elapsed() <= Duration::from_secs(11));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_one_after_the_other() {
    let setup = over_tcp().await;
    let listener = setup.listener(80);
    for round in 0..10_000 {
        let (near, far) = setup.pair(&listener).await;
        match round % 3 {
            0 => near.reset(),
            1 => far.reset(),
            _ => {}
        }
    }
    assert_eq!(*setup.dialed.borrow(), 1);
    let to = setup.to(80).to;
    for _ in 0..1000 {
        let given_up = timeout(Duration::ZERO, setup.open(7)).await;
        assert!(given_up.is_err());
    }
    assert_eq!(listener.address(), to.into());
    setup.pair(&listener).await;
    assert_eq!(*setup.dialed.borrow(), 1, "the link holds");
}

#[tokio::test]
async fn datagrams_arrive() {
    let mut setup = over_tcp().await;
    let packet = |size: usize| Packet {
        from: "10.128.1.1:5000".parse().unwrap(),
        to: "10.128.0.1:53".parse().unwrap(),
        bytes: Bytes::from(vec![9; size]),
    };
    for size in [0, 1, 1400, crate::LARGEST] {
        setup
            .links
            .send_datagram(&setup.peer, packet(size))
            .unwrap();
        let received = timeout(SOON, setup.packets.recv()).await.unwrap();
        assert_eq!(received, Some(packet(size)));
    }
    let sent = setup
        .links
        .send_datagram(&setup.peer, packet(crate::LARGEST + 1));
    assert_eq!(sent, Err(SocketError::TooLarge));
    // Nothing is read while this task does not wait: what is beyond the bound is lost.
    for _ in 0..100 {
        setup
            .links
            .send_datagram(&setup.peer, packet(60_000))
            .unwrap();
    }
    let mut received = 0;
    while let Ok(Some(_)) = timeout(Duration::from_secs(1), setup.packets.recv()).await {
        received += 1;
    }
    assert!((10..20).contains(&received), "{received} arrived");
    assert_eq!(*setup.dialed.borrow(), 1);
}

#[tokio::test]
async fn malformed_requests_are_answered() {
    let Certificates { client, server } = certificates();
    let setup = over_tcp().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = setup.node.clone();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve_tls(stream, server, node).await;
    });
    let tls = TlsConnector::from(Arc::new(client));
    let wire = TcpStream::connect(address).await.unwrap();
    let name = ServerName::from(address.ip());
    let stream = tls.connect(name, wire).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let connect = || {
        Request::builder()
            .method(Method::CONNECT)
            .uri("10.128.0.1:80")
    };
    let long = "x".repeat(6_000);
    let cases = [
        (
            Request::get("https://link/x").body(()),
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (
            Request::post("https://link/x").body(()),
            StatusCode::NOT_FOUND,
        ),
        (connect().body(()), StatusCode::BAD_REQUEST),
        (
            connect().header("carob-pod", "a").body(()),
            StatusCode::BAD_REQUEST,
        ),
        (
            connect().header("carob-pod", &long).body(()),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ),
        (
            connect()
                .header("carob-pod", &long[..3000])
                .header("carob-from", "10.0.0.1:1")
                .body(()),
            StatusCode::BAD_REQUEST,
        ),
    ];
    for (request, status) in cases {
        let mut requests = requests.clone().ready().await.unwrap();
        let request = request.unwrap();
        let (response, _send) = requests.send_request(request, false).unwrap();
        let response = timeout(SOON, response).await.unwrap().unwrap();
        assert_eq!(response.status(), status);
    }
    // Frames of nonsense end the stream for datagrams, and nothing else.
    let mut requests = requests.clone().ready().await.unwrap();
    let request = Request::post("https://link/datagrams").body(()).unwrap();
    let (response, mut send) = requests.send_request(request, false).unwrap();
    response.await.unwrap();
    send.send_data(Bytes::from(vec![0xff; 1000]), false)
        .unwrap();
    let reset = std::future::poll_fn(|cx| send.poll_reset(cx));
    timeout(SOON, reset).await.unwrap().unwrap();
    assert!(setup.node.asked.lock().is_empty());
    assert!(!serving.is_finished());
}
