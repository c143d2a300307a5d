//! The streams of a SPDY connection, frame by frame.

use std::collections::BTreeMap;

use apiserver::spdy::Headers;
use apiserver::spdy::frame::{Decoder, Encoder, Frame};
use bytes::{Bytes, BytesMut};
use client::channels::Channels;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::{PODS, World, soon, success};

const V3: &str = "v3.channel.k8s.io";
const V4: &str = super::V4;

/// A client's end.
struct Spdy {
    stream: TlsStream<TcpStream>,
    encoder: Encoder,
    decoder: Decoder,
    read: BytesMut,
}

impl Spdy {
    /// Asks for it; the answer's head.
    async fn ask(world: &World, path: &str, version: Option<&str>) -> (Self, String) {
        let mut stream = world.server.connect(&world.context.server).await;
        let version = version.map(|v| format!("X-Stream-Protocol-Version: {v}\r\n"));
        let head = format!(
            "POST {PODS}/p/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\
             Upgrade: SPDY/3.1\r\n{}\r\n",
            version.unwrap_or_default()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(soon(stream.read_u8()).await.unwrap());
        }
        let client = Self {
            stream,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            read: BytesMut::new(),
        };
        (client, String::from_utf8(answer).unwrap().to_lowercase())
    }

    /// A connection with these streams, numbered from 1 by twos.
    async fn open(world: &World, path: &str, version: Option<&str>, streams: &[&str]) -> Self {
        let (mut client, answer) = Self::ask(world, path, version).await;
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        let taken = version.map(|v| format!("x-stream-protocol-version: {v}\r\n"));
        assert!(answer.contains(&taken.unwrap_or_default()), "{answer}");
        for (n, purpose) in streams.iter().enumerate() {
            client.syn(n as u32 * 2 + 1, purpose).await;
        }
        client
    }

    async fn syn(&mut self, stream: u32, purpose: &str) {
        let frame = Frame::SynStream {
            stream,
            fin: false,
            unidirectional: false,
            headers: Headers::from_iter([("streamtype", purpose)]),
        };
        self.send(frame).await;
    }

    async fn data(&mut self, stream: u32, bytes: &'static str, fin: bool) {
        let bytes = Bytes::from(bytes);
        self.send(Frame::Data { stream, fin, bytes }).await;
    }

    async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        self.encoder.encode(frame, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
        // A task that has had its turn may have left some in the encryption's buffer.
        self.stream.flush().await.unwrap();
    }

    /// The next frame; none at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.read).unwrap() {
                return Some(frame);
            }
            let read = soon(self.stream.read_buf(&mut self.read)).await;
            if !read.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }

    /// What comes on the streams until so many have ended, all of which are taken.
    async fn until_ended(&mut self, count: usize) -> BTreeMap<u32, String> {
        let (mut said, mut ended, mut taken) = (BTreeMap::new(), 0, 0);
        while ended < count {
            match self.next().await.expect("more") {
                Frame::SynReply { .. } => taken += 1,
                Frame::Data { stream, fin, bytes } => {
                    let text: &mut String = said.entry(stream).or_default();
                    text.push_str(std::str::from_utf8(&bytes).unwrap());
                    ended += usize::from(fin);
                }
                Frame::WindowUpdate { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(taken, count);
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_tells_of_the_end_in_its_way() {
    let world = World::start().await;
    let (v2, v1) = ("v2.channel.k8s.io", "channel.k8s.io");
    let words = "command terminated with non-zero exit code: exit status 7";
    for version in [Some(V4), Some(V3), Some(v2), Some(v1), None] {
        let path = "exec?command=fail&command=7&stdout=true&stderr=true";
        let streams = ["error", "stdout", "stderr"];
        let mut client = Spdy::open(&world, path, version, &streams).await;
        let said = client.until_ended(3).await;
        assert_eq!((said[&3].as_str(), said[&5].as_str()), ("", "failed\n"));
        match version {
            Some(V4) => {
                let status: Value = serde_json::from_str(&said[&1]).unwrap();
                assert_eq!(status["reason"], "NonZeroExitCode");
                let causes = json!([{"reason": "ExitCode", "message": "7"}]);
                assert_eq!(status["details"]["causes"], causes);
            }
            _ => assert_eq!(said[&1], words, "{version:?}"),
        }
        let path = "exec?command=echo&command=a&stdout=true";
        let mut client = Spdy::open(&world, path, version, &["error", "stdout"]).await;
        let said = client.until_ended(2).await;
        assert_eq!(said[&3], "a\n");
        match version {
            Some(V4) => assert_eq!(serde_json::from_str::<Value>(&said[&1]).unwrap(), success()),
            _ => assert_eq!(said[&1], "", "{version:?}"),
        }
    }
    assert_eq!(*world.agent.broken_off.borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_ends_with_its_stream_and_the_connection_with_the_client() {
    let world = World::start().await;
    let path = "exec?command=cat&stdin=true&stdout=true";
    let streams = ["error", "stdin", "stdout"];
    let mut client = Spdy::open(&world, path, Some(V4), &streams).await;
    client.data(3, "typed", false).await;
    client.data(3, " and more", true).await;
    let said = client.until_ended(3).await;
    assert_eq!(said[&5], "typed and more");
    let status: Value = serde_json::from_str(&said[&1]).unwrap();
    assert_eq!(status, success());
    // Until the client ends it.
    client.stream.shutdown().await.unwrap();
    while client.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_has_the_same_streams() {
    let world = World::start().await;
    let path = "attach?stdin=true&stdout=true&stderr=true";
    let streams = ["error", "stdin", "stdout", "stderr"];
    let mut client = Spdy::open(&world, path, Some(V4), &streams).await;
    client.data(3, "typed", true).await;
    let said = client.until_ended(4).await;
    assert_eq!(said[&5], "one\nNone Stdout\n");
    assert_eq!(said[&7], "typed");
    let status: Value = serde_json::from_str(&said[&1]).unwrap();
    assert_eq!(status, success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_have_a_stream() {
    let world = World::start().await;
    let path = "exec?command=sizes&stdin=true&stdout=true&tty=true";
    for version in [V4, V3] {
        let streams = ["error", "stdin", "stdout", "resize"];
        let mut client = Spdy::open(&world, path, Some(version), &streams).await;
        client.data(7, "{\"Width\":80,\"Hei", false).await;
        client.data(7, "ght\":24}\n", false).await;
        let printed = loop {
            match client.next().await.expect("more") {
                Frame::SynReply { .. } => {}
                Frame::Data { stream, bytes, .. } => break (stream, bytes),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(printed, (5, "80x24\n".into()));
        client.data(3, "", true).await;
        let mut ended = false;
        while !ended {
            let frame = client.next().await.expect("more");
            ended = matches!(
                frame,
                Frame::Data {
                    stream: 5,
                    fin: true,
                    ..
                }
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_before_all_streams_are_open() {
    let world = World::start().await;
    let path = "exec?command=cat&stdin=true&stdout=true";
    drop(Spdy::open(&world, path, Some(V4), &["error", "stdin"]).await);
    world.broken_off(1).await;
    assert_eq!(world.agent.ran.lock().len(), 1);
    assert_eq!(*world.agent.started.borrow(), 0);
    let mut client = Spdy::open(&world, path, Some(V4), &["error", "stdin"]).await;
    client.data(3, "early", true).await;
    client.syn(5, "stdout").await;
    assert_eq!(client.until_ended(3).await[&5], "early");
    assert_eq!(*world.agent.started.borrow(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_asked_for_are_refused() {
    let world = World::start().await;
    let path = "exec?command=cat&stdin=true";
    let streams = ["error", "stdout", "error", "x", "stdin"];
    let mut client = Spdy::open(&world, path, Some(V4), &streams).await;
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    while taken.len() + refused.len() < streams.len() {
        match client.next().await.expect("more") {
            Frame::SynReply { stream, .. } => taken.push(stream),
            Frame::RstStream { stream, status } => refused.push((stream, status)),
            other => panic!("{other:?}"),
        }
    }
    let refusal = apiserver::spdy::status::REFUSED_STREAM;
    refused.sort_unstable();
    assert_eq!(taken, [1, 9]);
    assert_eq!(refused, [(3, refusal), (5, refusal), (7, refusal)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_off_ends_its_command() {
    let world = World::start().await;
    let path = "exec?command=cat&stdin=true&stdout=true";
    let streams = ["error", "stdin", "stdout"];
    // By its input alone, by all streams at once, and before it has opened them.
    let mut first = Spdy::open(&world, path, Some(V4), &streams).await;
    let cancel = apiserver::spdy::status::CANCEL;
    first
        .send(Frame::RstStream {
            stream: 3,
            status: cancel,
        })
        .await;
    world.broken_off(1).await;
    drop(Spdy::open(&world, path, Some(V4), &streams).await);
    world.broken_off(2).await;
    drop(Spdy::open(&world, path, Some(V4), &streams[..2]).await);
    world.broken_off(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_stream_that_is_reset_ends_its_command() {
    let world = World::start().await;
    let path = "exec?command=deaf&stdin=true&stdout=true&stderr=true";
    let streams = ["error", "stdin", "stdout", "stderr"];
    let status = apiserver::spdy::status::CANCEL;
    for (count, stream) in [1, 3, 5, 7].into_iter().enumerate() {
        let mut client = Spdy::open(&world, path, Some(V4), &streams).await;
        let mut taken = 0;
        while taken < streams.len() {
            let frame = client.next().await.expect("more");
            assert!(matches!(frame, Frame::SynReply { .. }), "{frame:?}");
            taken += 1;
        }
        // Though its input has ended before.
        client.data(3, "", true).await;
        client.send(Frame::RstStream { stream, status }).await;
        world.broken_off(count + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_where_nobody_listens_holds_up_nothing() {
    let world = World::start().await;
    let path = "exec?command=cat&stdin=true&stdout=true&stderr=true";
    let (mut client, _) = Spdy::ask(&world, path, Some(V4)).await;
    for (stream, purpose) in [(1, "error"), (3, "stdout"), (5, "stderr"), (7, "stdin")] {
        client.syn(stream, purpose).await;
        // Of the input, all is read.
        for _ in 0..100 {
            client.data(stream, "x", false).await;
        }
    }
    client.data(7, "", true).await;
    let said = client.until_ended(4).await;
    assert_eq!(said[&3], "x".repeat(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_upgraded_is_said() {
    let world = World::start().await;
    let path = "exec?command=cat&stdin=true";
    let (_, answer) = Spdy::ask(&world, path, Some("v5.channel.k8s.io, x")).await;
    assert!(answer.starts_with("http/1.1 403"), "{answer}");
    *world.agent.ended.lock() = true;
    let (_, answer) = Spdy::ask(&world, path, Some(V4)).await;
    assert!(answer.starts_with("http/1.1 400"), "{answer}");
    assert!(world.agent.ran.lock().is_empty());
    // The same by a WebSocket, in whose place it would be tried.
    let path = format!("{PODS}/p/{path}");
    let refused = Channels::open(&world.context, &path).await.unwrap_err();
    assert_eq!(refused.code(), Some(400));
}
