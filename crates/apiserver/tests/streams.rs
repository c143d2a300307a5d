//! `pods/log` and `pods/attach` against an agent that speaks the node protocol.

mod agent;
mod server;

use agent::{Agent, PODS, bind, node};
use client::channels::{self, Channels};
use client::kubeconfig::Context;
use serde_json::{Value, json};
use server::Server;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_comes_from_the_pods_node() {
    let server = Server::start().await;
    node(&server).await;
    let pods = PODS;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "image": "i"}]}});
    server.post(pods, pod).await.expect(201);
    let log = format!("{pods}/p/log");
    let early = server.get(&log).await;
    assert_eq!(
        (early.code, early.body.len()),
        (200, 0),
        "not bound yet: nothing was written"
    );
    bind(&server).await;
    let answer = server.get(&format!("{log}?tailLines=3")).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.headers["content-type"], "text/plain");
    assert_eq!(&answer.body[..], b"one\nSome(3) All\n");
    let errors = server.get(&format!("{log}?stream=Stderr")).await;
    assert_eq!(&errors.body[..], b"one\nNone Stderr\n");
    let both = server
        .get(&format!("{log}?stream=Stderr&tailLines=3"))
        .await
        .expect(422);
    assert_eq!(both["details"]["kind"], "PodLogOptions");
    let previous = server.get(&format!("{log}?previous=true")).await;
    assert_eq!(previous.code, 400);
    assert!(
        previous.json()["message"]
            .as_str()
            .unwrap()
            .contains("not found")
    );
    let other = server.get(&format!("{log}?container=x")).await.expect(400);
    assert_eq!(other["message"], "container x is not valid for pod p");
    assert_eq!(server.get(&format!("{pods}/none/log")).await.code, 404);
}

/// A pod `p` with a container `c` on the node, and who may attach to it.
async fn attachable(server: &Server) -> (Context, CancellationToken, Agent) {
    let agent = agent::pod(server).await;
    let (context, stop) = server.context().await;
    (context, stop, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_through_one_web_socket() {
    let server = Server::start().await;
    let (context, _stop, _) = attachable(&server).await;
    let path = format!("{PODS}/p/attach?stdin=true&stdout=true&stderr=true");
    let mut open = Channels::open(&context, &path).await.unwrap();
    let mut out = Vec::new();
    while out.len() < 2 {
        let (channel, data) = open.next().await.unwrap().unwrap();
        assert_eq!(channel, channels::STDOUT);
        out.push(data);
    }
    assert_eq!(out, ["one\n", "None Stdout\n"]);
    for text in ["typed", "more"] {
        open.send(channels::STDIN, text.as_bytes()).await.unwrap();
        let echoed = open.next().await.unwrap().unwrap();
        assert_eq!(echoed, (channels::STDERR, text.into()));
    }
    open.finish(channels::STDIN).await.unwrap();
    let (channel, status) = open.next().await.unwrap().unwrap();
    assert_eq!(channel, channels::STATUS);
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["status"], "Success");
    assert_eq!(open.next().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_s_terminal_is_shown_and_typed_at() {
    let server = Server::start().await;
    let agent = node(&server).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "image": "i", "stdin": true, "tty": true}]}});
    server.post(PODS, pod).await.expect(201);
    bind(&server).await;
    let (context, _stop) = server.context().await;
    // Who attaches may have a terminal of his own, or none.
    for tty in [true, false] {
        let path = format!("{PODS}/p/attach?stdin=true&stdout=true&stderr=true&tty={tty}");
        let mut open = Channels::open(&context, &path).await.unwrap();
        open.send(channels::STDIN, b"typed").await.unwrap();
        let shown = open.next().await.unwrap();
        assert_eq!(shown, Some((channels::STDOUT, "typed".into())));
        if tty {
            let size = br#"{"Width":80,"Height":24}"#;
            open.send(channels::SIZE, size).await.unwrap();
            let shown = open.next().await.unwrap();
            assert_eq!(shown, Some((channels::STDOUT, "80x24".into())));
        }
        open.send(channels::STDIN, b"end").await.unwrap();
        let (channel, status) = open.next().await.unwrap().unwrap();
        assert_eq!(channel, channels::STATUS);
        let status: Value = serde_json::from_slice(&status).unwrap();
        assert_eq!(status["status"], "Success");
        let asked = agent.ran.lock().pop().unwrap();
        assert!(asked.attach && asked.command.is_empty());
        assert_eq!(
            (&*asked.container, asked.stdin, asked.stdout, asked.tty),
            ("c", true, true, tty)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_attached_to_is_said() {
    let server = Server::start().await;
    let (context, _stop, _) = attachable(&server).await;
    // Nobody reads the errors: the agent of this test takes no input then.
    let path = format!("{PODS}/p/attach?stdin=true");
    let mut open = Channels::open(&context, &path).await.unwrap();
    let (channel, status) = open.next().await.unwrap().unwrap();
    assert_eq!(channel, channels::STATUS);
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["message"], "takes no standard input");
    for (path, code, why) in [
        ("p/attach", 400, "you must specify at least 1"),
        ("p/attach?stdin=true&tty=true", 400, "tty"),
        (
            "p/attach?stdin=true&container=x",
            400,
            "container x is not valid",
        ),
        ("none/attach?stdin=true", 404, "not found"),
    ] {
        let refused = Channels::open(&context, &format!("{PODS}/{path}")).await;
        let error = refused.unwrap_err();
        assert_eq!(error.code(), Some(code), "{path}: {error}");
        assert!(error.to_string().contains(why), "{path}: {error}");
    }
    let plain = server.get(&format!("{PODS}/p/attach?stdin=true")).await;
    assert!(
        plain.expect(400)["message"]
            .as_str()
            .unwrap()
            .contains("Upgrade: websocket, or SPDY/3.1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_run_is_refused_before_anything_is_upgraded() {
    let server = Server::start().await;
    let (context, _stop, agent) = attachable(&server).await;
    let refused = async |query: &str| {
        let path = format!("{PODS}/p/attach?{query}");
        let websocket = Channels::open(&context, &path).await.unwrap_err();
        // kubectl tries SPDY next, and says what becomes of that.
        let spdy = server.post(&path, json!({})).await.expect(400);
        let why = "container \"c\" in pod \"p\" is not running";
        assert_eq!(websocket.code(), Some(400), "{query}");
        assert_eq!(websocket.to_string(), why, "{query}");
        assert_eq!(
            (&spdy["message"], &spdy["reason"]),
            (&json!(why), &json!("BadRequest"))
        );
    };
    let queries = [
        "stdin=true",
        "stderr=true",
        "stdin=true&stdout=true&stderr=true",
    ];
    // As only the agent knows.
    *agent.ended.lock() = true;
    for query in queries {
        refused(query).await;
    }
    // As the pod's status says, whatever the agent would.
    *agent.ended.lock() = false;
    for phase in ["Succeeded", "Failed"] {
        let status = json!({"status": {"phase": phase}});
        let merge = "application/merge-patch+json";
        let path = format!("{PODS}/p/status");
        server.call("PATCH", &path, merge, status).await.expect(200);
        for query in queries {
            refused(query).await;
        }
    }
}
