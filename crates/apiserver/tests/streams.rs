//! `pods/log` and `pods/attach` against an agent that speaks the node protocol.

mod server;

use std::pin::Pin;
use std::sync::Arc;

use apiserver::ca::Profile;
use client::channels::{self, Channels};
use client::kubeconfig::{Context, Credentials};
use client::node::node_server::{Node, NodeServer};
use client::node::{LogStream, LogsChunk, LogsRequest, StdinRequest, StdinResponse};
use futures::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use server::Server;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Answers with what it was asked; what comes as input goes out again as errors.
#[derive(Clone, Default)]
struct Agent {
    echo: Arc<Mutex<Option<Echo>>>,
    /// Whether the container has ended.
    ended: Arc<Mutex<bool>>,
}

type Echo = mpsc::Sender<Result<LogsChunk, Status>>;

#[tonic::async_trait]
impl Node for Agent {
    type LogsStream = Pin<Box<dyn Stream<Item = Result<LogsChunk, Status>> + Send>>;

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let asked = request.into_inner();
        if asked.previous {
            let why = "previous terminated container \"c\" in pod \"p\" not found";
            return Err(Status::failed_precondition(why));
        }
        assert_eq!(asked.attach, asked.follow);
        if asked.attach && *self.ended.lock() {
            let why = "container \"c\" in pod \"p\" is not running";
            return Err(Status::failed_precondition(why));
        }
        if asked.follow && asked.stream() == LogStream::Stderr {
            let (echo, mut chunks) = mpsc::channel(8);
            *self.echo.lock() = Some(echo);
            let chunks = stream::poll_fn(move |cx| chunks.poll_recv(cx));
            return Ok(Response::new(Box::pin(chunks)));
        }
        let lines = [
            "one\n".to_owned(),
            format!("{:?} {:?}\n", asked.tail_lines, asked.stream()),
        ];
        let chunks = stream::iter(lines).map(|line| Ok(LogsChunk { data: line.into() }));
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn stdin(
        &self,
        request: Request<Streaming<StdinRequest>>,
    ) -> Result<Response<StdinResponse>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap();
        let target = first.target.unwrap();
        assert_eq!((target.pod.as_str(), target.container.as_str()), ("p", "c"));
        let echo = self.echo.lock().take();
        let Some(echo) = echo else {
            return Err(Status::failed_precondition("takes no standard input"));
        };
        while let Some(request) = requests.message().await? {
            echo.send(Ok(LogsChunk { data: request.data }))
                .await
                .unwrap();
        }
        Ok(Response::new(StdinResponse {}))
    }
}

async fn agent(server: &Server, agent: Agent) -> u16 {
    let identity = server.node_identity();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let serving = tonic::transport::Server::builder()
        .tls_config(identity.tonic_server())
        .unwrap()
        .add_service(NodeServer::new(agent))
        .serve_with_incoming(incoming);
    tokio::spawn(serving);
    port
}

/// Makes a node whose agent answers.
async fn node(server: &Server) -> Agent {
    let own = Agent::default();
    let port = agent(server, own.clone()).await;
    let node = json!({
        "metadata": {"name": "n1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        },
    });
    server.post("/api/v1/nodes", node).await.expect(201);
    own
}

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Places the pod `p` on the node.
async fn bind(server: &Server) {
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let path = format!("{PODS}/p/binding");
    server.post(&path, binding).await.expect(201);
}

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
    for later in ["exec", "portforward"] {
        let answer = server
            .post(&format!("{pods}/p/{later}"), json!({}))
            .await
            .expect(501);
        assert!(answer["message"].as_str().unwrap().contains(later));
    }
}

/// A pod `p` with a container `c` on the node, and who may attach to it.
async fn attachable(server: &Server) -> (Context, CancellationToken, Agent) {
    let agent = node(server).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "image": "i", "stdin": true}]}});
    server.post(PODS, pod).await.expect(201);
    bind(server).await;
    let (url, stop) = server.listen().await;
    let admin = server.ca.issue(&Profile::Admin).unwrap();
    let context = Context {
        name: "t".to_owned(),
        server: url,
        ca_pem: server.ca.certificate().to_owned(),
        credentials: Credentials::Certificate {
            cert_pem: admin.certificate,
            key_pem: admin.key,
        },
        namespace: "default".to_owned(),
    };
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
            .contains("WebSocket")
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
