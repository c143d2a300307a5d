//! `pods/portforward` against an agent that speaks the node protocol, by kubectl and by WebSockets with channels.

#[path = "../agent/mod.rs"]
mod agent;
mod ends;
mod gone;
#[path = "../server/mod.rs"]
mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use agent::{Agent, PODS};
use apiserver::ca::Profile;
use client::channels::Channels;
use client::kubeconfig::Context;
use client::node::{MOST_HELD, PortForwardFrom};
use serde_json::json;
use server::Server;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

/// A pod `p` that runs, whose port 80 sends everything back and ends with its client.
async fn pod(server: &Server) -> Agent {
    let agent = agent::pod(server).await;
    let status = json!({"status": {"phase": "Running"}});
    let merge = "application/merge-patch+json";
    let path = format!("{PODS}/p/status");
    server.call("PATCH", &path, merge, status).await.expect(200);
    let echo = listen(async |mut stream| {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let echo = echo.await;
    agent.ports.lock().insert(80, echo);
    agent
}

/// A server behind a port of the pod.
async fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A `kubectl port-forward` that runs. Left out, loudly, where no kubectl is installed.
struct Forward {
    _child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
    ports: Vec<u16>,
}

impl Forward {
    async fn start(
        server: &Server,
        dir: &std::path::Path,
        web_sockets: bool,
        ports: &[&str],
    ) -> Option<(Self, CancellationToken)> {
        let found = Command::new("kubectl")
            .args(["version", "--client"])
            .output();
        if !found.await.is_ok_and(|o| o.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "CI needs a kubectl");
            eprintln!("LEFT OUT: kubectl is not installed");
            return None;
        }
        let (url, stop) = server.listen().await;
        let issued = server.ca.issue(&Profile::Admin).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority-data": base64(server.ca.certificate())}}],
            "users": [{"name": "u", "user": {
                "client-certificate-data": base64(&issued.certificate), "client-key-data": base64(&issued.key)}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        let file = dir.join("config");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(file)
            .args(["port-forward", "--address", "127.0.0.1", "pod/p"])
            .args(ports)
            .env("HOME", dir)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", web_sockets.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut local = Vec::new();
        for _ in ports {
            let line = soon(out.next_line()).await.unwrap();
            let Some(line) = line else {
                panic!("{:?}", soon(err.next_line()).await);
            };
            // Forwarding from 127.0.0.1:41234 -> 80
            let port = line.split([':', ' ']).nth(3).unwrap();
            local.push(port.parse().unwrap_or_else(|e| panic!("{line}: {e}")));
        }
        let forward = Self {
            _child: child,
            out,
            err,
            ports: local,
        };
        Some((forward, stop))
    }

    async fn connect(&self, n: usize) -> TcpStream {
        let address = (Ipv4Addr::LOCALHOST, self.ports[n]);
        TcpStream::connect(address).await.unwrap()
    }
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}

async fn echoed(stream: &mut TcpStream, bytes: &[u8]) {
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; bytes.len()];
    let (sent, read) =
        soon(async { tokio::join!(to.write_all(bytes), from.read_exact(&mut back)) }).await;
    sent.unwrap();
    read.unwrap();
    assert!(back == bytes, "{} bytes came back otherwise", bytes.len());
}

async fn kubectl_forwards(web_sockets: bool) {
    let server = Server::start().await;
    let agent = pod(&server).await;
    let greeter = listen(async |mut stream| {
        let _ = stream.write_all(b"bye").await;
    });
    let greeter = greeter.await;
    agent.ports.lock().insert(81, greeter);
    let dir = tempfile::tempdir().unwrap();
    let started = Forward::start(&server, dir.path(), web_sockets, &[":80", ":81", ":82"]).await;
    let Some((mut forward, _stop)) = started else {
        return;
    };
    // One after the other, and many at once.
    let mut first = forward.connect(0).await;
    echoed(&mut first, b"hello").await;
    let mut others = Vec::new();
    for n in 0..8u8 {
        let mut stream = forward.connect(0).await;
        others.push(tokio::spawn(async move {
            echoed(&mut stream, &vec![n; 1 << 20]).await;
            stream
        }));
    }
    for other in others {
        // The pod ends when its client does.
        let mut stream = other.await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0);
    }
    echoed(&mut first, b"still there").await;
    // The pod ends first.
    let mut greeted = String::new();
    let mut stream = forward.connect(1).await;
    soon(stream.read_to_string(&mut greeted)).await.unwrap();
    assert_eq!(greeted, "bye");
    let seen = agent.forwarded.lock().clone();
    assert_eq!(seen.len(), 10);
    assert!(seen.iter().all(|t| t.pod == "p" && !t.uid.is_empty()));
    assert!(seen.iter().all(|t| t.from() == PortForwardFrom::Loopback));
    // Nobody listens: kubectl says so, and ends, as it does with Kubernetes.
    let mut refused = forward.connect(2).await;
    assert_eq!(soon(refused.read(&mut [0])).await.unwrap_or(0), 0);
    let mut said = String::new();
    while let Some(line) = soon(forward.err.next_line()).await.unwrap() {
        said += &line;
    }
    assert!(
        said.contains("error forwarding port 82 to pod p, uid "),
        "{said}"
    );
    assert!(said.contains("connection refused"), "{said}");
    while soon(forward.out.next_line()).await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_forwards_through_a_web_socket() {
    kubectl_forwards(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_forwards_over_spdy_alone() {
    kubectl_forwards(false).await;
}

/// What comes on a channel until there are so many bytes, and then no more.
async fn channel(open: &mut Channels, number: u8, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        let (channel, data) = soon(open.next()).await.unwrap().expect("more");
        assert_eq!(channel, number, "{data:?}");
        all.extend_from_slice(&data);
    }
    all
}

const V4: &str = "v4.channel.k8s.io";

async fn channels(context: &Context, ports: &str) -> Result<Channels, client::Error> {
    let path = format!("{PODS}/p/portforward?{ports}");
    Channels::open_as(context, &path, V4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_of_a_web_socket_are_ports() {
    let server = Server::start().await;
    let _agent = pod(&server).await;
    let (context, _stop) = server.context().await;
    let mut open = channels(&context, "ports=80,82").await.unwrap();
    // Each begins with its port; in which order the two ports do is nobody's concern.
    let mut begun = Vec::new();
    let mut refused = None;
    while begun.len() < 4 || refused.is_none() {
        let (channel, data) = soon(open.next()).await.unwrap().unwrap();
        match begun.iter().any(|(begun, _)| *begun == channel) {
            false => begun.push((channel, data.to_vec())),
            true => refused = Some((channel, data)),
        }
    }
    begun.sort();
    let number = |channel, port: u16| (channel, port.to_le_bytes().to_vec());
    assert_eq!(
        begun,
        [number(0, 80), number(1, 80), number(2, 82), number(3, 82)]
    );
    let (channel_number, why) = refused.unwrap();
    assert_eq!(channel_number, 3);
    assert!(why.ends_with(b"connection refused"), "{why:?}");
    open.send(0, b"echo").await.unwrap();
    assert_eq!(channel(&mut open, 0, 4).await, b"echo");
    // Nobody reads these.
    for other in [1, 2, 3, 4, 255] {
        open.send(other, b"x").await.unwrap();
    }
    let long = vec![7; 1 << 18];
    open.send(0, &long).await.unwrap();
    assert!(channel(&mut open, 0, long.len()).await == long);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_connections_are_bounded_and_nothing_else_waits_for_them() {
    const EACH: usize = 120;
    let server = Server::start().await;
    let agent = pod(&server).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    agent.ports.lock().insert(83, address);
    let (context, _stop) = server.context().await;
    let query = ["ports=83"; EACH].join("&");
    let (mut open, mut pods) = (Vec::new(), Vec::new());
    assert_eq!(MOST_HELD % EACH, 0);
    for _ in 0..MOST_HELD / EACH {
        open.push(channels(&context, &query).await.unwrap());
        for _ in 0..EACH {
            pods.push(soon(listener.accept()).await.unwrap());
        }
    }
    let mut full = channels(&context, "ports=83").await.unwrap();
    let number = 83u16.to_le_bytes();
    assert_eq!(channel(&mut full, 0, 2).await, number);
    assert_eq!(channel(&mut full, 1, 2).await, number);
    let (which, why) = soon(full.next()).await.unwrap().unwrap();
    let why = String::from_utf8_lossy(&why);
    assert_eq!(which, 1, "{why}");
    assert!(why.contains("which is the most at once"), "{why}");
    // Its log comes another way.
    let log = soon(server.get(&format!("{PODS}/p/log"))).await;
    assert_eq!(log.code, 200);
    let callers = agent.callers.lock().clone();
    assert!(callers.values().all(Option::is_some));
    assert_ne!(callers["logs"], callers["forward"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_forwarded_is_said() {
    let server = Server::start().await;
    let _agent = pod(&server).await;
    let unplaced = json!({"metadata": {"name": "unplaced"}, "spec": {"containers": [
        {"name": "c", "image": "i"}]}});
    server.post(PODS, unplaced).await.expect(201);
    let (context, _stop) = server.context().await;
    for (path, protocol, code, why) in [
        ("p/portforward", V4, 400, "\"ports\" is required"),
        ("p/portforward?ports=0", V4, 400, "between 1 and 65535"),
        (
            "p/portforward?ports=80",
            "v9.channel.k8s.io",
            400,
            "none of the protocols",
        ),
        ("none/portforward?ports=80", V4, 404, "not found"),
        (
            "unplaced/portforward?ports=80",
            V4,
            400,
            "does not have a host assigned",
        ),
    ] {
        let path = format!("{PODS}/{path}");
        let error = Channels::open_as(&context, &path, protocol)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(code), "{path}: {error}");
        assert!(error.to_string().contains(why), "{path}: {error}");
    }
    let plain = server
        .post(&format!("{PODS}/p/portforward"), json!({}))
        .await;
    let plain = plain.expect(400);
    assert!(
        plain["message"].as_str().unwrap().contains("upgrade"),
        "{plain}"
    );
}
