//! The node's port: logs and what is used for servers, metrics for those who may, nothing for anybody else.

mod exec;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent::{Clock, Config, Service};
use client::node::node_client::NodeClient;
use client::node::{
    BreakOffRequest, LogStream, LogsRequest, PortForwardRequest, PortForwardTarget, StatsRequest,
    StatsResponse,
};
use client::simulated::Simulated;
use client::tls::Identity;
use client::{Client, Patch};
use k8s_openapi::api::core::v1::{Node, Pod};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use exec::{Exec, command, commands, terminals};

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
        pod_manifest_path: None,
        allow_host_path: false,
        shared_dirs: Vec::new(),
        allow_file_images: true,
        ingress: api::ingress::Ports::default(),
        shutdown_grace: Duration::from_secs(1),
        clock: Clock::Wall,
        disk: Arc::new(agent::read_disk),
        memory: Arc::new(agent::read_memory),
        shared_memory: None,
        eviction_hard: agent::EvictionHard::default(),
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
            {"name": "steady", "image": image, "command": ["x"], "args": ["allocate 65536", "forever"]},
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
    let windows = [steady.cpu_rate, node.cpu_rate].map(|rate| rate.unwrap().window_nanos);
    assert!(0 < windows[0] && windows[0] <= windows[1], "{used:?}");
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
    terminals(address, &server, &client, &image).await;
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
