//! Connections at their end, of clients that have no sockets: no time is waited for.

use std::net::{Ipv4Addr, SocketAddrV4};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::super::quiet::Activity;
use super::super::tests::Nobody;
use super::*;

/// The answer to whatever is asked for, as there are no rules.
const ANSWER: &str = "no Ingress has a rule for this host and path\n";

struct Served {
    client: DuplexStream,
    activity: Arc<Activity>,
    serving: JoinHandle<()>,
}

/// A client whose socket takes so much.
async fn come(bytes: usize) -> Served {
    let (client, io) = duplex(bytes);
    let connection = Connection {
        proxy: Arc::new(Proxy::new(Arc::new(Nobody), Limits::default())),
        client: Client {
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1),
            port: 80,
            tls: false,
        },
        place: Room::new(1).enter().await,
    };
    Served {
        client,
        activity: connection.place.activity().clone(),
        serving: tokio::spawn(connection.speak(io)),
    }
}

/// A client whose answer is there but for what its socket does not take, when its connection is ended.
async fn come_and_ask() -> Served {
    let mut served = come(16).await;
    let asked = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    served.client.write_all(asked).await.expect("sent");
    let mut begun = [0; 9];
    served.client.read_exact(&mut begun).await.expect("a head");
    assert_eq!(&begun, b"HTTP/1.1 ");
    served.activity.displace();
    served
}

#[tokio::test(start_paused = true)]
async fn the_last_of_an_answer_has_its_time() {
    let limits = Limits::default();
    let late = limits.unread / 2;
    assert!(late > limits.head, "longer than for anything else");
    let mut served = come_and_ask().await;
    sleep(late).await;
    let mut rest = String::new();
    let read = served.client.read_to_string(&mut rest).await;
    read.expect("no error");
    assert!(rest.starts_with("404 ") && rest.ends_with(ANSWER), "{rest}");
    // But not all the time.
    let served = come_and_ask().await;
    let start = Instant::now();
    served.serving.await.expect("no panic");
    assert_eq!(start.elapsed(), limits.unread);
    drop(served.client);
}

// Types of HTTP/2's frames.
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// What the next frame of that type carries.
async fn frame(client: &mut DuplexStream, of: u8) -> Vec<u8> {
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).await.expect("a frame");
        let [a, b, c, found, ..] = head;
        let mut carried = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        client.read_exact(&mut carried).await.expect("the whole");
        if found == of {
            return carried;
        }
    }
}

/// A client that speaks HTTP/2 when its connection is ended, and has asked for nothing until then.
async fn come_ahead() -> Served {
    let mut served = come(64 << 10).await;
    let client = &mut served.client;
    // With settings, of which there are none.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    client.write_all(hello).await.expect("sent");
    // The server's, and that it has got these.
    frame(client, SETTINGS).await;
    frame(client, SETTINGS).await;
    served.activity.displace();
    let ends = frame(client, GOAWAY).await;
    assert_eq!(ends[..4], [0x7f, 0xff, 0xff, 0xff], "after any request");
    served
}

#[tokio::test(start_paused = true)]
async fn a_first_request_that_crosses_the_end_is_answered() {
    let mut served = come_ahead().await;
    sleep(CROSSING / 2).await;
    // A head that is a whole request: GET, http, /, and x by its name's place in the table.
    let asked = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01x";
    served.client.write_all(asked).await.expect("sent");
    let answer = frame(&mut served.client, DATA).await;
    assert_eq!(answer, ANSWER.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_nothing_is_soon_gone() {
    let start = Instant::now();
    let silent = come(16).await;
    silent.activity.displace();
    silent.serving.await.expect("no panic");
    assert_eq!(start.elapsed(), Duration::ZERO, "it said nothing at all");
    let mut polite = come_ahead().await;
    let ping = frame(&mut polite.client, PING).await;
    let pong = [b"\0\0\x08\x06\x01\0\0\0\0", &ping[..]].concat();
    polite.client.write_all(&pong).await.expect("sent");
    polite.serving.await.expect("no panic");
    assert_eq!(start.elapsed(), Duration::ZERO, "it has heard");
    let deaf = come_ahead().await;
    deaf.serving.await.expect("no panic");
    assert_eq!(start.elapsed(), CROSSING);
    drop((silent.client, deaf.client));
}
