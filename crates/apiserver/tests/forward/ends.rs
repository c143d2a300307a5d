//! The protocol in which channels end before their WebSocket does.

use std::net::SocketAddr;

use client::channels::{CLOSE, Channels, PORT_FORWARD, Received, Receiver, Sender};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{PODS, listen, pod, soon};
use crate::agent::Agent;
use crate::server::Server;

const DATA: u8 = 0;
const ERROR: u8 = 1;

struct World {
    server: Server,
    agent: Agent,
}

impl World {
    async fn with(port: u32, at: SocketAddr) -> Self {
        let server = Server::start().await;
        let agent = pod(&server).await;
        agent.ports.lock().insert(port, at);
        Self { server, agent }
    }

    async fn open(&self, port: u16) -> (Channels, CancellationToken) {
        let (context, stop) = self.server.context().await;
        let path = format!("{PODS}/p/portforward?ports={port}");
        let opened = Channels::open_as(&context, &path, PORT_FORWARD).await;
        (opened.unwrap(), stop)
    }

    async fn connect(&self, port: u16) -> (Sender, Receiver, CancellationToken) {
        let (opened, stop) = self.open(port).await;
        let (to, from) = opened.split();
        (to, from, stop)
    }
}

/// What came on the two channels of a port behind its number, and which of them ended, in this order.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    data: String,
    error: String,
    ended: Vec<u8>,
}

impl Came {
    fn new(data: &str, error: &str, ended: &[u8]) -> Self {
        Self {
            data: data.to_owned(),
            error: error.to_owned(),
            ended: ended.to_owned(),
        }
    }
}

/// Reads until a channel has ended, or the WebSocket has.
async fn until(from: &mut Receiver, end: Option<u8>, port: u16) -> Came {
    let mut texts = [Vec::new(), Vec::new()];
    let mut ended = Vec::new();
    while let Some(received) = soon(from.next()).await.unwrap() {
        match received {
            Received::Data(channel, data) => texts[usize::from(channel)].extend(data),
            Received::End(channel) => {
                ended.push(channel);
                if end == Some(channel) {
                    break;
                }
            }
        }
    }
    let [data, error] = texts.map(|text| {
        let rest = text.strip_prefix(&port.to_le_bytes()[..]);
        String::from_utf8(rest.expect("the port's number").to_vec()).unwrap()
    });
    Came { data, error, ended }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_ended_is_answered_still() {
    let counter = listen(async |mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        let counted = format!("{} bytes", all.len());
        let _ = stream.write_all(counted.as_bytes()).await;
    });
    let world = World::with(84, counter.await).await;
    let (mut to, mut from, _stop) = world.connect(84).await;
    to.send(DATA, &[7; 100_000]).await.unwrap();
    to.finish(DATA).await.unwrap();
    let came = until(&mut from, None, 84).await;
    assert_eq!(came, Came::new("100000 bytes", "", &[DATA, ERROR]));
    assert_eq!(*world.agent.broken_off.borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_has_ended_is_told_the_rest() {
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let listener = listen(move |mut stream| {
        let heard = heard.clone();
        async move {
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            heard.send(rest).unwrap();
        }
    });
    let world = World::with(85, listener.await).await;
    let (mut to, mut from, _stop) = world.connect(85).await;
    let came = until(&mut from, Some(DATA), 85).await;
    assert_eq!(came, Came::new("bye", "", &[DATA]));
    to.send(DATA, b"and more").await.unwrap();
    to.finish(DATA).await.unwrap();
    assert_eq!(soon(hearing.recv()).await.unwrap(), "and more");
    assert_eq!(soon(from.next()).await.unwrap(), Some(Received::End(ERROR)));
    assert_eq!(soon(from.next()).await.unwrap(), None);
    assert_eq!(*world.agent.broken_off.borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_without_a_word_has_broken_off() {
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let listener = listen(move |mut stream| {
        let heard = heard.clone();
        async move {
            let mut first = [0; 1];
            if stream.read_exact(&mut first).await.is_err() {
                return;
            }
            heard.send(first[0]).unwrap();
            if first == *b"r" {
                stream.set_zero_linger().unwrap();
                return;
            }
            while matches!(stream.read(&mut first).await, Ok(1)) {}
            heard.send(0).unwrap();
        }
    });
    let world = World::with(86, listener.await).await;
    // Here the client does.
    let (mut to, from, _stop) = world.connect(86).await;
    to.send(DATA, b"x").await.unwrap();
    assert_eq!(soon(hearing.recv()).await, Some(b'x'));
    drop((to, from));
    assert_eq!(soon(hearing.recv()).await, Some(0));
    assert_eq!(*world.agent.broken_off.borrow(), 1);
    // Here the pod does.
    let (mut to, mut from, _stop) = world.connect(86).await;
    to.send(DATA, b"r").await.unwrap();
    let came = until(&mut from, None, 86).await;
    assert_eq!(came, Came::new("", "connection reset by peer", &[ERROR]));
    // Here nobody listens.
    let (_to, mut from, _stop) = world.connect(87).await;
    let came = until(&mut from, None, 87).await;
    assert!(came.error.ends_with("connection refused"), "{came:?}");
    assert_eq!((&*came.data, &*came.ended), ("", &[ERROR][..]));
    // An end of no channel.
    let (mut open, _stop) = world.open(86).await;
    open.send(CLOSE, &[]).await.unwrap();
    while soon(open.next()).await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_said_all_and_goes_is_missed() {
    let (missed, mut missing) = mpsc::unbounded_channel();
    let endless = listen(move |mut stream| {
        let missed = missed.clone();
        async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(b"y").await.unwrap();
            stream.ready(Interest::ERROR).await.unwrap();
            missed.send(all).unwrap();
        }
    });
    let world = World::with(88, endless.await).await;
    let (mut to, mut from, _stop) = world.connect(88).await;
    to.send(DATA, b"x").await.unwrap();
    to.finish(DATA).await.unwrap();
    let answer = |received: &Received| matches!(received, Received::Data(DATA, y) if y == "y");
    while !soon(from.next()).await.unwrap().is_some_and(|r| answer(&r)) {}
    drop((to, from));
    assert_eq!(soon(missing.recv()).await.unwrap(), b"x");
    let mut broken_off = world.agent.broken_off.subscribe();
    soon(broken_off.wait_for(|count| *count == 1))
        .await
        .unwrap();
}
