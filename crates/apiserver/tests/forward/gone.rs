//! Clients that go while the pod takes nothing of what they send, so that the server reads nothing of them either.

use std::time::Duration;

use apiserver::spdy::Headers;
use apiserver::spdy::frame::{Encoder, Frame};
use bytes::{Bytes, BytesMut};
use client::channels::Channels;
use client::kubeconfig::Context;
use client::node::MOST_HELD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::Encoder as _;

use super::{PODS, channels, listen, pod, soon};
use crate::server::Server;

/// How long nothing is taken of what is sent before it will not be.
const STUCK: Duration = Duration::from_secs(1);
/// A port that is never read, and one that changes the protocol and is not read then.
const SILENT: u32 = 88;
const SWITCHING: u32 = 89;
/// One whose connections are kept.
const OTHER: u32 = 90;
const PIECE: usize = 16 << 10;

/// Sends a beginning, then the same again and again until nothing is taken any more: twice, since a busy machine may take
/// a while.
async fn fill(stream: &mut TlsStream<TcpStream>, begin: &[u8], again: &[u8]) {
    stream.write_all(begin).await.unwrap();
    let filling = async {
        let (mut at, mut stuck) = (0, 0);
        while stuck < 2 {
            match tokio::time::timeout(STUCK, stream.write(&again[at..])).await {
                Ok(written) => (at, stuck) = ((at + written.unwrap()) % again.len(), 0),
                Err(_) => stuck += 1,
            }
        }
    };
    soon(filling).await;
}

fn web_socket(path: &str) -> (Vec<u8>, Vec<u8>) {
    let head = format!(
        "GET {PODS}/p/{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    );
    // A whole binary message, masked with noughts, of channel 0.
    let mut frame = vec![0x82, 0x80 | 126];
    frame.extend((PIECE as u16).to_be_bytes());
    frame.extend([0; 4 + PIECE]);
    (head.into_bytes(), frame)
}

/// Of the two streams that are opened the second, for this purpose, is written to.
fn spdy(path: &str, protocol: &str, purpose: &str) -> (Vec<u8>, Vec<u8>) {
    let head = format!(
        "GET {PODS}/p/{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n\r\n"
    );
    let port = SILENT.to_string();
    let open = |stream, purpose| Frame::SynStream {
        stream,
        fin: false,
        unidirectional: false,
        headers: Headers::from_iter([
            ("port", &*port),
            ("requestid", "0"),
            ("streamtype", purpose),
        ]),
    };
    let data = Frame::Data {
        stream: 3,
        fin: false,
        bytes: Bytes::from(vec![7; PIECE]),
    };
    let (mut encoder, mut begin, mut again) = Default::default();
    written(&mut encoder, &mut begin, open(1, "error"));
    written(&mut encoder, &mut begin, open(3, purpose));
    written(&mut encoder, &mut again, data);
    ([head.as_bytes(), &begin].concat(), again.to_vec())
}

fn written(encoder: &mut Encoder, bytes: &mut BytesMut, frame: Frame) {
    encoder.encode(frame, bytes).unwrap();
}

fn upload() -> (Vec<u8>, Vec<u8>) {
    let head = format!(
        "POST {PODS}/p:{SILENT}/proxy/ HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        1_u64 << 40
    );
    (head.into_bytes(), vec![7; PIECE])
}

fn switched() -> (Vec<u8>, Vec<u8>) {
    let head = format!(
        "GET {PODS}/p:{SWITCHING}/proxy/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    );
    (head.into_bytes(), vec![7; PIECE])
}

/// A further connection into the pod, and what the pod took; none where there is no place for it.
async fn one_more(context: &Context, pod: &TcpListener) -> Option<(Channels, TcpStream)> {
    let query = format!("ports={OTHER}");
    // Long to open, and so large: it is in other futures here.
    let mut open = Box::pin(channels(context, &query)).await.unwrap();
    let refused = async {
        // What is said of an error is longer than the number of its port.
        while let Some((channel, said)) = open.next().await.unwrap() {
            if channel == 1 && said.len() > 2 {
                return;
            }
        }
    };
    let accepted = tokio::select! {
        accepted = pod.accept() => Some(accepted.unwrap().0),
        () = refused => None,
    };
    Some((open, accepted?))
}

/// A pod that takes nothing until the connection is broken, of which it tells then.
async fn taking_nothing(stream: TcpStream, missed: mpsc::UnboundedSender<()>) {
    stream.ready(Interest::ERROR).await.unwrap();
    missed.send(()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_no_container_takes_is_broken_off() {
    let server = Server::start().await;
    let agent = pod(&server).await;
    *agent.deaf.lock() = true;
    let (url, _stop) = server.listen().await;
    let (attach, exec) = ("attach?stdin=true", "exec?command=deaf&stdin=true");
    let ways = [
        web_socket(attach),
        web_socket(exec),
        spdy(exec, "v4.channel.k8s.io", "stdin"),
    ];
    for (before, (begin, again)) in ways.into_iter().enumerate() {
        let mut stream = server.connect(&url).await;
        fill(&mut stream, &begin, &again).await;
        assert_eq!(*agent.broken_off.borrow(), before);
        stream.get_ref().0.set_zero_linger().unwrap();
        drop(stream);
        let mut broken_off = agent.broken_off.subscribe();
        soon(broken_off.wait_for(|count| *count == before + 1))
            .await
            .unwrap();
    }
}

/// Each has one of the places that a node has for connections into its pods, until it is missed: by the pod, too.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_unread_are_missed() {
    let server = Server::start().await;
    let agent = pod(&server).await;
    let (missed, mut missing) = mpsc::unbounded_channel();
    let too = missed.clone();
    let silent = listen(move |stream| taking_nothing(stream, too.clone()));
    let switching = listen(move |mut stream| {
        let missed = missed.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer =
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            taking_nothing(stream, missed).await;
        }
    });
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ports = [
        (SILENT, silent.await),
        (SWITCHING, switching.await),
        (OTHER, other.local_addr().unwrap()),
    ];
    agent.ports.lock().extend(ports);
    let (url, _stop) = server.listen().await;
    let (context, _stop_too) = server.context().await;
    let mut unread = Vec::new();
    let port = format!("portforward?ports={SILENT}");
    let forward = spdy("portforward", "portforward.k8s.io", "data");
    for (begin, again) in [web_socket(&port), forward, upload(), switched()] {
        let mut stream = server.connect(&url).await;
        fill(&mut stream, &begin, &again).await;
        unread.push(stream);
    }
    // All other places are taken by whoever is there.
    let rest = MOST_HELD - unread.len();
    let each = rest / unread.len();
    assert_eq!(each * unread.len(), rest);
    let query = [format!("ports={OTHER}").as_str()].repeat(each).join("&");
    let (mut held, mut open_too) = (Vec::new(), Vec::new());
    for _ in 0..unread.len() {
        let open = channels(&context, &query).await.unwrap();
        for _ in 0..each {
            held.push(soon(other.accept()).await.unwrap());
        }
        open_too.push(open);
    }
    assert!(soon(one_more(&context, &other)).await.is_none());
    assert!(missing.is_empty());
    let count = unread.len();
    for stream in unread {
        stream.get_ref().0.set_zero_linger().unwrap();
    }
    for _ in 0..count {
        soon(missing.recv()).await.unwrap();
    }
    let mut more = Vec::new();
    while more.len() < count {
        more.extend(soon(one_more(&context, &other)).await);
    }
    assert!(soon(one_more(&context, &other)).await.is_none());
}
