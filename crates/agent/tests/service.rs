//! The node's port: logs and what is used for servers, metrics for those who may, nothing for anybody else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent::{Clock, Config, Service};
use client::node::node_client::NodeClient;
use client::node::{
    BreakOffRequest, ExecRequest, ExecResponse, ExecStart, ExecStdinEnd, ExecTarget, LogStream,
    LogsRequest, PortForwardRequest, PortForwardTarget, StatsRequest, StatsResponse, exec_request,
    exec_response,
};
use client::simulated::Simulated;
use client::tls::Identity;
use client::{Client, Patch};
use k8s_openapi::api::core::v1::{Node, Pod};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// A cluster's authority, for tests.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "carob-ca");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn identity(&self, organization: &str, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::from([127, 0, 0, 1]))];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.pem.clone(),
        }
    }
}

async fn until(done: impl AsyncFn() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .unwrap();
}

async fn read(
    address: SocketAddr,
    identity: &Identity,
    request: LogsRequest,
) -> Result<String, tonic::Status> {
    let channel = client::node::channel(address, identity).unwrap();
    let mut stream = NodeClient::new(channel).logs(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(chunk) = stream.message().await? {
        all.extend_from_slice(&chunk.data);
    }
    Ok(String::from_utf8(all).unwrap())
}

async fn forward(
    address: SocketAddr,
    identity: &Identity,
    target: PortForwardTarget,
) -> Result<(), tonic::Status> {
    let channel = client::node::channel(address, identity).unwrap();
    let first = PortForwardRequest {
        target: Some(target),
        ..PortForwardRequest::default()
    };
    let requests = futures::stream::iter([first]);
    NodeClient::new(channel).port_forward(requests).await?;
    Ok(())
}

/// A command that runs, or is over: what is asked of it, and what it says.
struct Exec {
    requests: mpsc::Sender<ExecRequest>,
    responses: tonic::Streaming<ExecResponse>,
}

impl Exec {
    async fn begin(
        address: SocketAddr,
        identity: &Identity,
        target: ExecTarget,
    ) -> Result<Self, Code> {
        let channel = client::node::channel(address, identity).unwrap();
        let (requests, mut queue) = mpsc::channel(1);
        let queue = futures::stream::poll_fn(move |cx| queue.poll_recv(cx));
        let first = exec_request::What::Target(target);
        let begun = async {
            requests.send(asked(first)).await.unwrap();
            NodeClient::new(channel).exec(queue).await
        };
        let responses = begun.await.map_err(|status| status.code())?.into_inner();
        let start = exec_request::What::Start(ExecStart {});
        requests.send(asked(start)).await.unwrap();
        Ok(Self {
            requests,
            responses,
        })
    }

    /// What it prints to its standard output until its end, and its exit code or why it has none.
    async fn ended(&mut self) -> (String, Result<i32, Code>) {
        let mut out = Vec::new();
        let exit = loop {
            match self
                .responses
                .message()
                .await
                .map(|r| r.and_then(|r| r.what))
            {
                Ok(Some(exec_response::What::Stdout(bytes))) => out.extend_from_slice(&bytes),
                Ok(Some(exec_response::What::Exit(code))) => break Ok(code),
                Ok(other) => panic!("{other:?}"),
                Err(status) => break Err(status.code()),
            }
        };
        (String::from_utf8(out).unwrap(), exit)
    }
}

fn asked(what: exec_request::What) -> ExecRequest {
    ExecRequest { what: Some(what) }
}

/// A command in a container, with all streams.
fn command(container: &str, words: &[&str]) -> ExecTarget {
    ExecTarget {
        namespace: "default".into(),
        pod: "p".into(),
        container: container.into(),
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..ExecTarget::default()
    }
}

/// Commands in the container `steady`, which runs, and in others.
async fn commands(address: SocketAddr, server: &Identity) {
    let begin = async |container: &str, words: &[&str]| {
        Exec::begin(address, server, command(container, words)).await
    };
    let mut copy = begin("steady", &["x", "read", "exit 3"]).await.unwrap();
    let bytes = exec_request::What::Stdin("hi".into());
    copy.requests.send(asked(bytes)).await.unwrap();
    let end = exec_request::What::StdinEnd(ExecStdinEnd {});
    copy.requests.send(asked(end)).await.unwrap();
    assert_eq!(copy.ended().await, ("hi".to_owned(), Ok(3)));
    for (container, words, code) in [
        ("none", &["x"][..], Code::NotFound),
        ("main", &["x"], Code::FailedPrecondition),
        ("never", &["x"], Code::FailedPrecondition),
        ("steady", &[], Code::InvalidArgument),
    ] {
        let refused = begin(container, words).await.map(drop).unwrap_err();
        assert_eq!(refused, code, "{container} {words:?}");
    }
    // As many as may run at once in a pod.
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(begin("steady", &["x", "forever"]).await.unwrap());
    }
    let refused = begin("steady", &["x"]).await.map(drop).unwrap_err();
    assert_eq!(refused, Code::ResourceExhausted);
    // Who goes makes room.
    let Exec {
        requests,
        mut responses,
    } = all.remove(0);
    drop(requests);
    let ended = responses.message().await;
    assert_eq!(ended.unwrap_err().code(), Code::Cancelled);
    let target = ExecTarget {
        call: 9,
        ..command("steady", &["x", "forever"])
    };
    let mut last = Exec::begin(address, server, target).await.unwrap();
    let channel = client::node::channel(address, server).unwrap();
    let mut client = NodeClient::new(channel);
    let broken_off = client.break_off(BreakOffRequest { call: 9 }).await;
    broken_off.unwrap();
    assert_eq!(last.ended().await.1, Err(Code::Cancelled));
}

async fn stats(address: SocketAddr, identity: &Identity) -> Result<StatsResponse, tonic::Status> {
    let channel = client::node::channel(address, identity).unwrap();
    let answer = NodeClient::new(channel).stats(StatsRequest {}).await?;
    Ok(answer.into_inner())
}

fn request(container: &str) -> LogsRequest {
    LogsRequest {
        namespace: "default".into(),
        pod: "p".into(),
        container: container.into(),
        ..LogsRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_for_servers() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hello.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let cluster = Simulated::new();
    let client: Client = cluster.client("test");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config {
        data_dir: dir.path().join("agent"),
        node_name: "n1".to_owned(),
        address: address.ip(),
        transport: Arc::new(cluster.clone()),
        service: Some(Service {
            listener,
            identity: authority.identity("system:nodes", "system:node:n1"),
        }),
        runtime: Arc::new(runtime::Scripted::new()),
        labels: Default::default(),
        taints: Vec::new(),
        allow_host_path: false,
        allow_file_images: true,
        ingress: api::ingress::Ports::default(),
        shutdown_grace: Duration::from_secs(1),
        clock: Clock::Wall,
        disk: Arc::new(agent::read_disk),
    };
    let shutdown = CancellationToken::new();
    let agent = tokio::spawn(agent::run(config, shutdown.clone()));
    until(async || client.of::<Node>().find("", "n1").await.unwrap().is_some()).await;
    let range = json!({"spec": {"podCIDR": "10.128.0.0/18"}});
    client
        .of::<Node>()
        .patch("", "n1", &Patch::Merge(range), None)
        .await
        .unwrap();

    let image = format!("file://{}", dir.path().join("hello.wasm").display());
    let pod = json!({
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": "n1", "restartPolicy": "Never", "containers": [
            {"name": "main", "image": image, "args": ["print one", "sleep 500ms", "eprint two", "sleep 100ms", "print three"]},
            {"name": "never", "image": "Not An Image"},
            {"name": "steady", "image": image, "args": ["allocate 65536", "forever"]},
        ]},
    });
    client
        .of::<Pod>()
        .create(&serde_json::from_value(pod).unwrap())
        .await
        .unwrap();

    let server = authority.identity("system:carob:servers", "system:carob:server:s");
    until(async || {
        read(address, &server, request("main"))
            .await
            .is_ok_and(|log| log == "one\n")
    })
    .await;
    let follow = LogsRequest {
        follow: true,
        ..request("main")
    };
    let attached = LogsRequest {
        attach: true,
        ..follow.clone()
    };
    // It ends while it is attached to.
    let (attached, followed) = tokio::join!(
        read(address, &server, attached),
        read(address, &server, follow)
    );
    assert_eq!(attached.unwrap(), "two\nthree\n");
    assert_eq!(followed.unwrap(), "one\ntwo\nthree\n");
    let attach = |container| LogsRequest {
        follow: true,
        attach: true,
        ..request(container)
    };
    for container in ["main", "never"] {
        let refused = read(address, &server, attach(container)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(
            refused.message(),
            format!("container \"{container}\" in pod \"p\" is not running")
        );
    }
    let tail = LogsRequest {
        tail_lines: Some(1),
        ..request("main")
    };
    assert_eq!(read(address, &server, tail).await.unwrap(), "three\n");
    let errors = LogsRequest {
        stream: LogStream::Stderr.into(),
        ..request("main")
    };
    assert_eq!(read(address, &server, errors).await.unwrap(), "two\n");

    // Of what runs: `main` has ended, `never` never began.
    until(async || {
        let stats = stats(address, &server).await.unwrap();
        let containers = stats.pods.iter().flat_map(|pod| &pod.containers);
        let used: Vec<_> = containers
            .map(|c| (c.name.as_str(), c.memory_bytes))
            .collect();
        used == [("steady", 65_536)]
    })
    .await;
    let used = stats(address, &server).await.unwrap();
    let (pod, node) = (&used.pods[0], used.node.unwrap());
    assert_eq!((&*pod.namespace, &*pod.name), ("default", "p"));
    assert!(!pod.uid.is_empty());
    let steady = &pod.containers[0];
    assert_eq!(steady.restarts, 0);
    assert!(steady.started_at > 0 && steady.started_at < used.time);
    let window = steady.cpu_rate.unwrap().window_nanos;
    assert_eq!(
        i64::try_from(window),
        Ok(used.time - steady.started_at),
        "{used:?}"
    );
    assert!(node.cpu_nanos > 0 && node.memory_bytes > 0, "{node:?}");

    let code = async |identity: &Identity, request| {
        read(address, identity, request).await.unwrap_err().code()
    };
    assert_eq!(
        code(
            &server,
            LogsRequest {
                previous: true,
                ..request("main")
            }
        )
        .await,
        Code::FailedPrecondition
    );
    assert_eq!(
        code(&server, request("never")).await,
        Code::FailedPrecondition
    );
    assert_eq!(code(&server, request("none")).await, Code::NotFound);
    assert_eq!(
        code(
            &server,
            LogsRequest {
                uid: "other".into(),
                ..request("main")
            }
        )
        .await,
        Code::NotFound
    );
    let bad_time = LogsRequest {
        since_time: Some("yesterday".into()),
        ..request("main")
    };
    assert_eq!(code(&server, bad_time).await, Code::InvalidArgument);
    let refused = async |identity: &Identity, pod: &str, port| {
        let target = PortForwardTarget {
            namespace: "default".into(),
            pod: pod.into(),
            port,
            ..PortForwardTarget::default()
        };
        forward(address, identity, target).await.unwrap_err().code()
    };
    // Scripted guests listen nowhere.
    assert_eq!(refused(&server, "p", 80).await, Code::Unavailable);
    assert_eq!(refused(&server, "p", 0).await, Code::InvalidArgument);
    assert_eq!(refused(&server, "p", 1 << 16).await, Code::InvalidArgument);
    assert_eq!(refused(&server, "none", 80).await, Code::NotFound);
    let node = authority.identity("system:nodes", "system:node:n2");
    assert_eq!(refused(&node, "p", 80).await, Code::PermissionDenied);
    assert_eq!(code(&node, request("main")).await, Code::PermissionDenied);
    commands(address, &server).await;
    let refused = Exec::begin(address, &node, command("steady", &["x"])).await;
    assert_eq!(refused.map(drop).unwrap_err(), Code::PermissionDenied);
    let break_off = async |identity: &Identity| {
        let channel = client::node::channel(address, identity).unwrap();
        let mut client = NodeClient::new(channel);
        let asked = client.break_off(BreakOffRequest { call: 7 }).await;
        asked.map(drop).map_err(|status| status.code())
    };
    // There is no such call (any more).
    assert_eq!(break_off(&server).await, Ok(()));
    assert_eq!(break_off(&node).await, Err(Code::PermissionDenied));
    let unasked = stats(address, &node).await.unwrap_err();
    assert_eq!(unasked.code(), Code::PermissionDenied);
    let stranger = Authority::new().identity("system:carob:servers", "system:carob:server:s");
    let stranger = Identity {
        ca_pem: server.ca_pem.clone(),
        ..stranger
    };
    // Turned away by TLS, before anything is asked.
    let refused = read(address, &stranger, request("main")).await;
    assert!(refused.is_err(), "{refused:?}");

    shutdown.cancel();
    agent.await.unwrap().unwrap();
}
