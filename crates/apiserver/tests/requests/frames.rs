//! WebSocket frames to an attach and an exec: what breaks the protocol ends the connection with the code that says so, costs
//! little, and leaves the server as it was.

use std::sync::Arc;
use std::time::Duration;

use apiserver::ca::Profile;
use bytes::Bytes;
use client::tls::Identity;
use http::Request;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::agent::{self, PODS};
use crate::harness::{Random, prove};
use crate::memory;
use crate::mutate::damage;
use crate::world::{Who, World};

/// How long the server may take to end a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a connection may hold: a message of the largest size, those that wait for the agent, those on their way
/// back, and the buffers of both ends.
const MOST_BYTES: usize = 64 << 20;
/// The largest message that the server takes.
const LARGEST: usize = 1 << 20;

/// What is opened: both have the same streams.
const PATHS: [&str; 2] = [
    "attach?stdin=true&stdout=true&stderr=true",
    "exec?command=cat&stdin=true&stdout=true&stderr=true",
];

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
/// The bit of a message's last frame.
const LAST: u8 = 0x80;

/// A frame's head for so many bytes, as RFC 6455 has it, and the bytes. They are masked with noughts.
fn frame(first: u8, masked: bool, announced: usize, data: &[u8]) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut out = vec![first];
    match announced {
        0..126 => out.push(mask | announced as u8),
        126..0x1_0000 => {
            out.push(mask | 126);
            out.extend((announced as u16).to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend((announced as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend([0; 4]);
    }
    [out, data.to_vec()].concat()
}

fn whole(first: u8, data: &[u8]) -> Vec<u8> {
    frame(first, true, data.len(), data)
}

pub(crate) fn normal_close() -> Vec<u8> {
    whole(LAST | CLOSE, &1000_u16.to_be_bytes())
}

/// A server with a pod to attach to, and its administrator.
pub(crate) struct Attached {
    world: World,
    identity: Identity,
}

impl Attached {
    pub(crate) fn new() -> Self {
        let world = World::start();
        world.block_on(agent::pod(&world.server));
        let issued = world.server.ca.issue(&Profile::Admin).unwrap();
        let identity = Identity {
            cert_pem: issued.certificate,
            key_pem: issued.key,
            ca_pem: world.server.ca.certificate().to_owned(),
        };
        Self { world, identity }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut config = self.identity.client_config().unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let address = self.world.url.strip_prefix("https://").unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let tls = TlsConnector::from(Arc::new(config));
        tls.connect(name, tcp).await.unwrap()
    }

    async fn open(&self, path: &str) -> TlsStream<TcpStream> {
        let mut stream = self.connect().await;
        let head = format!(
            "GET {PODS}/p/{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 101"),
            "{}",
            answer.escape_ascii()
        );
        stream
    }

    /// Sends bytes on a WebSocket and reads until the server ends the connection: all that it sent.
    fn talk(&self, path: &str, sent: &[u8]) -> Result<Vec<u8>, String> {
        self.exchange(self.open(path), sent, None)
    }

    /// The same on a connection that has said nothing yet. It ends when the server begins to answer, or has not done so
    /// for so long after all was sent.
    pub(crate) fn said(&self, sent: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
        self.exchange(self.connect(), sent, Some(patience))
    }

    fn exchange(
        &self,
        open: impl Future<Output = TlsStream<TcpStream>>,
        sent: &[u8],
        end: Option<Duration>,
    ) -> Result<Vec<u8>, String> {
        let talking = async {
            let (mut from, mut to) = tokio::io::split(open.await);
            let (mut got, answered) = (Vec::new(), Notify::new());
            let writing = async {
                // A server that ends the connection takes no more.
                let _ = to.write_all(sent).await;
                let _ = to.flush().await;
                if let Some(patience) = end {
                    let _ = tokio::time::timeout(patience, answered.notified()).await;
                    let _ = to.shutdown().await;
                }
            };
            let reading = async {
                while from.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
                    answered.notify_one();
                }
            };
            let both = async { tokio::join!(writing, reading) };
            let ended = tokio::time::timeout(PATIENCE, both).await;
            ended
                .map(|_| got)
                .map_err(|_| "the connection is still open".to_owned())
        };
        let (got, bytes) = memory::most(|| self.world.block_on(talking));
        if bytes > MOST_BYTES {
            return Err(format!("{} bytes made {bytes} of memory", sent.len()));
        }
        let request = Request::get("/api/v1/namespaces/default");
        let answer = self
            .world
            .ask(Who::Anonymous, request.body(Bytes::new()).unwrap())?;
        match answer.code {
            403 => got,
            code => Err(format!("{code} afterwards")),
        }
    }
}

/// The frames of what a server sent: the operation and the data of each.
fn frames(mut bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, String> {
    let mut out = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match (second, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (0..126, rest) => (usize::from(*second), rest),
            _ => return Err(format!("a frame of {second}")),
        };
        let data = rest.get(..length).ok_or("half a frame")?;
        out.push((first & 0xf, data.to_vec()));
        bytes = &rest[length..];
    }
    Ok(out)
}

#[test]
fn what_breaks_the_protocol_is_told_and_ends() {
    let attached = Attached::new();
    let stdin = |data: &str| whole(LAST | BINARY, format!("\0{data}").as_bytes());
    let half = vec![b'x'; LARGEST / 2 + 1];
    let (close, size, protocol, bad_text) = (1000_u16, 1009, 1002, 1007);
    for (what, sent, code) in [
        (
            "typed, and closed",
            [stdin("typed"), normal_close()].concat(),
            close,
        ),
        (
            "unknown channels",
            [
                whole(LAST | BINARY, b"\x07x"),
                whole(LAST | BINARY, b"\xff\xff"),
                whole(LAST | BINARY, b"\xff"),
                whole(LAST | BINARY, b""),
                normal_close(),
            ]
            .concat(),
            close,
        ),
        (
            "sizes of terminals",
            [whole(LAST | BINARY, b"\x04{\"Width\":"), normal_close()].concat(),
            close,
        ),
        (
            "text",
            [whole(LAST | TEXT, b"\0typed"), normal_close()].concat(),
            close,
        ),
        (
            "pieces, with a ping between",
            [
                whole(BINARY, b"\0a"),
                whole(LAST | PING, b"p"),
                whole(0, b""),
                whole(LAST, b"b"),
                normal_close(),
            ]
            .concat(),
            close,
        ),
        (
            "input after its end",
            [
                whole(LAST | BINARY, b"\xff\0"),
                stdin("more"),
                normal_close(),
            ]
            .concat(),
            close,
        ),
        (
            "a frame too large",
            frame(LAST | BINARY, true, LARGEST + 1, b""),
            size,
        ),
        (
            "a frame as large as numbers go",
            frame(LAST | BINARY, true, i64::MAX as usize, b""),
            size,
        ),
        (
            "pieces that are too large together",
            [whole(BINARY, &half), whole(0, &half)].concat(),
            size,
        ),
        (
            "not masked",
            frame(LAST | BINARY, false, 2, b"\0x"),
            protocol,
        ),
        (
            "an operation that is none",
            whole(LAST | 0x3, b""),
            protocol,
        ),
        (
            "a control operation that is none",
            whole(LAST | 0xb, b""),
            protocol,
        ),
        (
            "bits that mean nothing",
            whole(LAST | 0x40 | BINARY, b"\0x"),
            protocol,
        ),
        ("a ping in pieces", whole(PING, b"x"), protocol),
        (
            "a ping too large",
            whole(LAST | PING, &[b'x'; 126]),
            protocol,
        ),
        ("a piece of nothing", whole(LAST, b"x"), protocol),
        (
            "a message inside of another",
            [whole(BINARY, b"\0a"), whole(LAST | BINARY, b"\0b")].concat(),
            protocol,
        ),
        (
            "text that is none",
            whole(LAST | TEXT, b"\xff\xfe"),
            bad_text,
        ),
        (
            "another protocol",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            protocol,
        ),
    ] {
        for path in PATHS {
            let got = attached.talk(path, &sent);
            let got = got.and_then(|bytes| frames(&bytes));
            let got = got.unwrap_or_else(|why| panic!("{path}: {what}: {why}"));
            let last = got.last();
            let (operation, data) = last.unwrap_or_else(|| panic!("{path}: {what}: nothing"));
            assert_eq!(*operation, CLOSE, "{path}: {what}: {got:?}");
            assert_eq!(
                data.get(..2),
                Some(&code.to_be_bytes()[..]),
                "{path}: {what}: {data:?}"
            );
        }
    }
}

#[test]
fn a_connection_that_breaks_harms_nobody() {
    let attached = Attached::new();
    let message = [whole(LAST | BINARY, b"\0typed"), whole(BINARY, b"\0begun")].concat();
    for path in PATHS {
        for length in 0..message.len() {
            attached.world.block_on(async {
                let mut stream = attached.open(path).await;
                stream.write_all(&message[..length]).await.unwrap();
                stream.flush().await.unwrap();
            });
        }
        let sent = [message.clone(), normal_close()].concat();
        let got = attached.talk(path, &sent).unwrap();
        assert_eq!(frames(&got).unwrap().last().unwrap().0, CLOSE, "{path}");
    }
}

#[test]
fn any_frames_end_well() {
    let attached = Attached::new();
    let make = |random: &mut Random| {
        let mut sent = Vec::new();
        for _ in 0..random.below(6) {
            let data: Vec<u8> = (0..random.below(200))
                .map(|_| random.bits() as u8)
                .collect();
            let data = [
                vec![*[0, 0, 1, 4, 255].get(random.below(5)).unwrap_or(&0)],
                data,
            ]
            .concat();
            let first = if random.percent(70) {
                LAST | BINARY
            } else {
                random.bits() as u8
            };
            let announced = match random.below(10) {
                0 => random.bits() as usize >> random.below(64),
                _ => data.len(),
            };
            sent.extend(frame(first, random.percent(95), announced, &data));
        }
        match random.percent(50) {
            true => damage(sent, random),
            false => sent,
        }
    };
    prove("any_frames_end_well", make, |sent| {
        // A frame that is not there whole yet would be waited for: what follows fills it, or breaks the protocol.
        let filler = vec![0xff; 2 * LARGEST];
        let path = PATHS[sent.len() % PATHS.len()];
        attached
            .talk(path, &[sent.clone(), normal_close(), filler].concat())
            .map(drop)
    });
}
