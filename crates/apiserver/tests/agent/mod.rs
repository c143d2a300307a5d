//! An agent that speaks the node protocol, and a pod that is bound to its node.

pub(crate) mod exec;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use client::node::exec_request::What;
use client::node::node_server::{Node, NodeServer};
use client::node::{
    BreakOffRequest, BreakOffResponse, CONNECTION_WINDOW, ExecRequest, ExecResponse, ExecTarget,
    LogStream, LogsChunk, LogsRequest, MOST_STREAMS, PortForwardRequest, PortForwardResponse,
    PortForwardTarget, STREAM_WINDOW, StatsRequest, StatsResponse, StdinRequest, StdinResponse,
};
use futures::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::server::Server;

/// Answers with what it was asked; what comes as input goes out again as errors.
#[derive(Clone, Default)]
pub(crate) struct Agent {
    echo: Arc<Mutex<Option<Echo>>>,
    /// Whether the container has ended.
    pub(crate) ended: Arc<Mutex<bool>>,
    /// Where the pod's ports lie on this machine.
    pub(crate) ports: Arc<Mutex<BTreeMap<u32, SocketAddr>>>,
    /// What was connected to.
    pub(crate) forwarded: Arc<Mutex<Vec<PortForwardTarget>>>,
    /// Whether the container takes no input, however much it is sent.
    pub(crate) deaf: Arc<Mutex<bool>>,
    /// How many connections and inputs their clients have broken off.
    pub(crate) broken_off: watch::Sender<usize>,
    /// What commands were to be run.
    pub(crate) ran: Arc<Mutex<Vec<ExecTarget>>>,
    /// How many of them were started.
    pub(crate) started: watch::Sender<usize>,
    /// How many of them have ended.
    pub(crate) exits: watch::Sender<usize>,
    /// How many pieces `flood` has printed.
    pub(crate) flooded: watch::Sender<usize>,
    /// Whose requests may be broken off.
    calls: Arc<Mutex<BTreeMap<u64, CancellationToken>>>,
    /// What is used; where nobody said that, it is never answered.
    pub(crate) stats: Arc<Mutex<Option<StatsResponse>>>,
    /// How often that was asked for.
    pub(crate) measured: Arc<AtomicUsize>,
    /// From which address of the server each kind of call last came.
    pub(crate) callers: Arc<Mutex<BTreeMap<&'static str, Option<SocketAddr>>>>,
}

type Echo = mpsc::Sender<Result<LogsChunk, Status>>;

#[tonic::async_trait]
impl Node for Agent {
    type LogsStream = Pin<Box<dyn Stream<Item = Result<LogsChunk, Status>> + Send>>;

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let caller = request.remote_addr();
        self.callers.lock().insert("logs", caller);
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
        if *self.deaf.lock() {
            self.entered(target.call).cancelled().await;
            self.broken_off.send_modify(|count| *count += 1);
            return Ok(Response::new(StdinResponse {}));
        }
        let echo = self.echo.lock().take();
        let Some(echo) = echo else {
            return Err(Status::failed_precondition("takes no standard input"));
        };
        while let Some(request) = requests.message().await? {
            // Who attached may be gone.
            if echo
                .send(Ok(LogsChunk { data: request.data }))
                .await
                .is_err()
            {
                break;
            }
        }
        Ok(Response::new(StdinResponse {}))
    }

    type PortForwardStream =
        Pin<Box<dyn Stream<Item = Result<PortForwardResponse, Status>> + Send>>;

    async fn port_forward(
        &self,
        request: Request<Streaming<PortForwardRequest>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        let caller = request.remote_addr();
        self.callers.lock().insert("forward", caller);
        let mut requests = request.into_inner();
        let target = requests.message().await?.unwrap().target.unwrap();
        let (number, call) = (target.call, self.entered(target.call));
        let address = self.ports.lock().get(&target.port).copied();
        self.forwarded.lock().push(target);
        let refused = || Status::unavailable("connection refused");
        let pod = TcpStream::connect(address.ok_or_else(refused)?).await?;
        let (reader, mut writer) = pod.into_split();
        let (responses, mut queue) = mpsc::channel(4);
        let own = self.clone();
        tokio::spawn(async move {
            let outward = async {
                if let Err(error) = outward(reader, &responses).await {
                    let aborted = Status::aborted(error.to_string());
                    let _ = responses.send(Err(aborted)).await;
                }
                Ok(())
            };
            let inward = async {
                match inward(requests, &mut writer).await {
                    true => Ok(()),
                    false => Err(()),
                }
            };
            let in_order = tokio::select! {
                biased;
                // What has broken off ends both directions.
                both = async { tokio::try_join!(outward, inward) } => both.is_ok(),
                () = call.cancelled() => false,
                () = responses.closed() => false,
            };
            own.calls.lock().remove(&number);
            if !in_order {
                let _ = writer.as_ref().set_zero_linger();
                own.broken_off.send_modify(|count| *count += 1);
            }
        });
        let responses = stream::poll_fn(move |cx| queue.poll_recv(cx));
        Ok(Response::new(Box::pin(responses)))
    }

    type ExecStream = Pin<Box<dyn Stream<Item = Result<ExecResponse, Status>> + Send>>;

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap();
        let Some(What::Target(target)) = first.what else {
            panic!("a target comes first");
        };
        if *self.ended.lock() {
            let why = "container \"c\" in pod \"p\" is not running";
            return Err(Status::failed_precondition(why));
        }
        if target.command == ["one-more"] {
            let why = "8 commands run in the pod, which is the most at once";
            return Err(Status::resource_exhausted(why));
        }
        let (responses, mut queue) = mpsc::channel(4);
        let command = exec::Command {
            agent: self.clone(),
            target,
            requests,
            responses,
        };
        tokio::spawn(command.run());
        let responses = stream::poll_fn(move |cx| queue.poll_recv(cx));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn break_off(
        &self,
        request: Request<BreakOffRequest>,
    ) -> Result<Response<BreakOffResponse>, Status> {
        if let Some(call) = self.calls.lock().get(&request.into_inner().call) {
            call.cancel();
        }
        Ok(Response::new(BreakOffResponse {}))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        self.measured.fetch_add(1, Ordering::Relaxed);
        let stats = self.stats.lock().clone();
        match stats {
            Some(stats) => Ok(Response::new(stats)),
            None => std::future::pending().await,
        }
    }
}

impl Agent {
    fn entered(&self, number: u64) -> CancellationToken {
        assert_ne!(number, 0);
        let call = CancellationToken::new();
        let other = self.calls.lock().insert(number, call.clone());
        assert!(other.is_none(), "two calls have one number");
        call
    }
}

async fn outward(
    mut pod: OwnedReadHalf,
    responses: &mpsc::Sender<Result<PortForwardResponse, Status>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = pod.read(&mut buffer).await?;
        let response = PortForwardResponse {
            data: buffer[..read].to_vec().into(),
            finish: read == 0,
        };
        if responses.send(Ok(response)).await.is_err() || read == 0 {
            return Ok(());
        }
    }
}

/// Whether the requests have ended in order, or the pod takes no more. What breaks off resets the connection, as far as a
/// system's sockets can.
async fn inward(mut requests: Streaming<PortForwardRequest>, pod: &mut OwnedWriteHalf) -> bool {
    while let Ok(Some(request)) = requests.message().await {
        if pod.write_all(&request.data).await.is_err() {
            return true;
        }
        if request.finish {
            let _ = pod.shutdown().await;
            return true;
        }
    }
    false
}

async fn agent(server: &Server, agent: Agent) -> u16 {
    let identity = server.node_identity();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let serving = tonic::transport::Server::builder()
        .tls_config(identity.tonic_server())
        .unwrap()
        // As an agent has them: with less, calls that go unread hold up all others of their connection.
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(NodeServer::new(agent))
        .serve_with_incoming(incoming);
    tokio::spawn(serving);
    port
}

/// Makes a node whose agent answers.
pub(crate) async fn node(server: &Server) -> Agent {
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

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// Places the pod `p` on the node.
pub(crate) async fn bind(server: &Server) {
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let path = format!("{PODS}/p/binding");
    server.post(&path, binding).await.expect(201);
}

/// A pod `p` with a container `c` on the node.
pub(crate) async fn pod(server: &Server) -> Agent {
    let agent = node(server).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "image": "i", "stdin": true}]}});
    server.post(PODS, pod).await.expect(201);
    bind(server).await;
    agent
}
