//! `pods/exec` against an agent that speaks the node protocol, by WebSockets and by SPDY.

#[path = "../agent/mod.rs"]
mod agent;
mod kubectl;
#[path = "../server/mod.rs"]
mod server;
mod spdy;

use std::time::Duration;

use agent::exec::{PIECE, PIECES};
use agent::{Agent, PODS};
use bytes::Bytes;
use client::channels::{self, Channels};
use client::kubeconfig::Context;
use client::node::MOST_HELD;
use futures::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use serde_json::{Value, json};
use server::Server;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing more is printed before nothing will be.
const STUCK: Duration = Duration::from_secs(1);
const V4: &str = "v4.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";
const BOTH: &str = "stdout=true&stderr=true";

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

/// A pod `p` with a container `c`, and who may run commands in it.
struct World {
    server: Server,
    agent: Agent,
    context: Context,
    _stop: CancellationToken,
}

impl World {
    async fn start() -> Self {
        let server = Server::start().await;
        let agent = agent::pod(&server).await;
        let (context, stop) = server.context().await;
        Self {
            server,
            agent,
            context,
            _stop: stop,
        }
    }

    async fn open(&self, query: &str, protocol: &'static str) -> Result<Channels, client::Error> {
        let path = format!("{PODS}/p/exec?{query}");
        Box::pin(Channels::open_as(&self.context, &path, protocol)).await
    }

    /// Waits until so many commands and inputs were broken off.
    async fn broken_off(&self, count: usize) {
        let mut broken_off = self.agent.broken_off.subscribe();
        soon(broken_off.wait_for(|seen| *seen == count))
            .await
            .unwrap();
    }
}

async fn next(open: &mut Channels) -> Option<(u8, Bytes)> {
    soon(open.next()).await.unwrap()
}

/// The `Status` by which it ends, and that nothing follows.
async fn status(open: &mut Channels) -> Value {
    let (channel, status) = next(open).await.unwrap();
    assert_eq!(channel, channels::STATUS, "{status:?}");
    assert_eq!(next(open).await, None);
    serde_json::from_slice(&status).unwrap()
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_its_streams() {
    let world = World::start().await;
    let query = format!("command=cat&stdin=true&{BOTH}&container=c");
    let mut open = world.open(&query, V5).await.unwrap();
    let long = "x".repeat(100_000);
    for text in ["typed", "", "more", &long] {
        open.send(channels::STDIN, text.as_bytes()).await.unwrap();
        let mut echoed = Vec::new();
        while echoed.len() < text.len() {
            let (channel, bytes) = next(&mut open).await.unwrap();
            assert_eq!(channel, channels::STDOUT);
            echoed.extend(bytes);
        }
        assert_eq!(echoed, text.as_bytes());
    }
    // Those of nobody.
    for channel in [channels::STDOUT, channels::STATUS, channels::SIZE, 9] {
        open.send(channel, b"x").await.unwrap();
    }
    open.finish(channels::STDIN).await.unwrap();
    open.send(channels::STDIN, b"after the end").await.unwrap();
    assert_eq!(status(&mut open).await, success());
    let ran = world.agent.ran.lock().pop().unwrap();
    assert_eq!((ran.pod.as_str(), ran.container.as_str()), ("p", "c"));
    assert_eq!(ran.namespace, "default");
    assert!(!ran.uid.is_empty());
    assert_eq!(ran.command, ["cat"]);
    assert_eq!(
        [ran.stdin, ran.stdout, ran.stderr, ran.tty],
        [true, true, true, false]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_taken_as_its_bytes() {
    let world = World::start().await;
    let stream = world.server.connect(&world.context.server).await;
    let url = format!("wss://x{PODS}/p/exec?command=cat&stdin=true&stdout=true");
    let mut request = url.into_client_request().unwrap();
    let protocol = HeaderValue::from_static(V5);
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    let opened = Box::pin(tokio_tungstenite::client_async(request, stream)).await;
    let (mut socket, _) = opened.unwrap();
    socket.send(Message::text("\0typed ü")).await.unwrap();
    // That of no channel.
    socket.send(Message::text("")).await.unwrap();
    let echoed = soon(socket.next()).await.unwrap().unwrap();
    assert_eq!(echoed, Message::binary("\u{1}typed ü"));
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let status = soon(socket.next()).await.unwrap().unwrap();
    let status = status.into_data();
    assert_eq!(status[0], channels::STATUS);
    let status: Value = serde_json::from_slice(&status[1..]).unwrap();
    assert_eq!(status, success());
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_as_they_were_written() {
    let world = World::start().await;
    let query = format!("command=echo&command=a%20%26b&command=&command=-c&{BOTH}");
    let mut open = world.open(&query, V4).await.unwrap();
    let printed = next(&mut open).await;
    assert_eq!(printed, Some((channels::STDOUT, "a &b  -c\n".into())));
    assert_eq!(status(&mut open).await, success());
    assert_eq!(
        world.agent.ran.lock()[0].command,
        ["echo", "a &b", "", "-c"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_told() {
    let world = World::start().await;
    for protocol in [V5, V4] {
        let query = format!("command=fail&command=7&{BOTH}");
        let mut open = world.open(&query, protocol).await.unwrap();
        let printed = next(&mut open).await;
        assert_eq!(printed, Some((channels::STDERR, "failed\n".into())));
        assert_eq!(
            status(&mut open).await,
            json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": "command terminated with non-zero exit code: exit status 7",
                "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
            })
        );
    }
    let query = format!("command=crash&{BOTH}");
    let mut open = world.open(&query, V5).await.unwrap();
    let status = status(&mut open).await;
    assert_eq!(status["reason"], "InternalError");
    assert_eq!(
        status["message"],
        "Internal error occurred: error executing command in container: the guest's engine is gone"
    );
    // All of them had ended: nobody broke them off.
    assert_eq!(*world.agent.broken_off.borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_sizes() {
    let world = World::start().await;
    // Its errors are shown where its output is.
    let query = format!("command=sizes&stdin=true&tty=true&{BOTH}");
    let mut open = world.open(&query, V5).await.unwrap();
    let pieces = [
        "{\"Width\":80,",
        "\"Height\":24}\n",
        "{\"Width\":0}",
        "{\"Height\":1,\"Width\":2}",
    ];
    for piece in pieces {
        open.send(channels::SIZE, piece.as_bytes()).await.unwrap();
    }
    for line in ["80x24\n", "2x1\n"] {
        let printed = next(&mut open).await;
        assert_eq!(printed, Some((channels::STDOUT, line.into())));
    }
    // Something else ends only the sizes.
    open.send(channels::SIZE, b"wide").await.unwrap();
    open.send(channels::SIZE, pieces[3].as_bytes())
        .await
        .unwrap();
    open.finish(channels::STDIN).await.unwrap();
    assert_eq!(status(&mut open).await, success());
    let ran = world.agent.ran.lock().pop().unwrap();
    assert_eq!([ran.stdout, ran.stderr, ran.tty], [true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_said() {
    let world = World::start().await;
    let unplaced = json!({"metadata": {"name": "unplaced"}, "spec": {"containers": [
        {"name": "c", "image": "i"}]}});
    world.server.post(PODS, unplaced).await.expect(201);
    for (path, protocol, code, why) in [
        (
            "p/exec?stdout=true",
            V5,
            400,
            "you must specify at least one command for the container",
        ),
        (
            "p/exec?command=a",
            V5,
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        (
            "p/exec?command=a&stdin=true&container=x",
            V5,
            400,
            "container x is not valid for pod p",
        ),
        (
            "none/exec?command=a&stdin=true",
            V5,
            404,
            "pods \"none\" not found",
        ),
        (
            "unplaced/exec?command=a&stdin=true",
            V5,
            400,
            "pod unplaced does not have a host assigned",
        ),
        (
            "p/exec?command=a&stdin=true",
            "v9.channel.k8s.io",
            400,
            "unable to upgrade: none of the protocols v5.channel.k8s.io, v4.channel.k8s.io was offered",
        ),
        (
            "p/exec?command=one-more&stdin=true",
            V5,
            429,
            "8 commands run in the pod, which is the most at once",
        ),
    ] {
        let path = format!("{PODS}/{path}");
        let refused = Channels::open_as(&world.context, &path, protocol).await;
        let error = refused.unwrap_err();
        assert_eq!(error.code(), Some(code), "{path}: {error}");
        assert_eq!(error.to_string(), why, "{path}");
    }
    let path = format!("{PODS}/p/exec?command=a&stdin=true");
    let plain = world.server.post(&path, json!({})).await.expect(400);
    let message = plain["message"].as_str().unwrap();
    assert!(message.starts_with("unable to upgrade"), "{message}");
    *world.agent.ended.lock() = true;
    let error = world.open("command=a&stdin=true", V5).await.unwrap_err();
    assert_eq!(error.code(), Some(400));
    assert_eq!(
        error.to_string(),
        "container \"c\" in pod \"p\" is not running"
    );
    assert!(world.agent.ran.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_s_streams_are_bounded() {
    let world = World::start().await;
    let path = format!("{PODS}/p/attach?stdin=true&stderr=true");
    let mut attached = Vec::new();
    // Each has two.
    for _ in 0..MOST_HELD / 2 {
        let mut open = Channels::open(&world.context, &path).await.unwrap();
        // The agent has both calls once it answers.
        open.send(channels::STDIN, b"x").await.unwrap();
        assert_eq!(next(&mut open).await, Some((channels::STDERR, "x".into())));
        attached.push(open);
    }
    let refused = world.open("command=cat&stdin=true", V5).await.unwrap_err();
    assert_eq!(refused.code(), Some(429));
    let why = refused.to_string();
    assert!(why.contains("which is the most at once"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_gone_ends_its_command() {
    let world = World::start().await;
    for (count, protocol) in [V5, V4].into_iter().enumerate() {
        let query = "command=cat&stdin=true&stdout=true";
        let mut open = world.open(query, protocol).await.unwrap();
        open.send(channels::STDIN, b"typed").await.unwrap();
        assert_eq!(
            next(&mut open).await,
            Some((channels::STDOUT, "typed".into()))
        );
        drop(open);
        world.broken_off(count + 1).await;
    }
    // One that has nothing to say, too.
    drop(world.open("command=deaf&stdout=true", V5).await.unwrap());
    world.broken_off(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_prints_waits_for_who_reads() {
    let world = World::start().await;
    let mut open = world.open("command=flood&stdout=true", V5).await.unwrap();
    let mut flooded = world.agent.flooded.subscribe();
    while let Ok(changed) = tokio::time::timeout(STUCK, flooded.changed()).await {
        changed.unwrap();
    }
    let printed = *flooded.borrow_and_update();
    // What the sockets of both connections have room for, and the windows between.
    assert!(printed * PIECE < 64 << 20, "{printed}");
    let more = async {
        while !flooded.has_changed().unwrap() {
            let (channel, _) = open.next().await.unwrap().unwrap();
            assert_eq!(channel, channels::STDOUT);
        }
    };
    soon(more).await;
    drop(open);
    world.broken_off(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_printed_is_read_however_late() {
    let world = World::start().await;
    let query = "command=spill&stdin=true&stdout=true";
    let mut open = world.open(query, V5).await.unwrap();
    let mut exits = world.agent.exits.subscribe();
    soon(exits.wait_for(|count| *count == 1)).await.unwrap();
    // Nobody takes it any more. Were the connection closed by now, what is not read yet would be lost by it.
    for _ in 0..3 {
        open.send(channels::STDIN, b"late").await.unwrap();
    }
    let mut read = 0;
    while read < PIECES * PIECE {
        let (channel, bytes) = next(&mut open).await.unwrap();
        assert_eq!(channel, channels::STDOUT);
        read += bytes.len();
    }
    assert_eq!(read, PIECES * PIECE);
    assert_eq!(status(&mut open).await, success());
}
