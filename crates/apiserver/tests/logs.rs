//! `pods/log` against an agent that speaks the node protocol.

mod server;

use std::pin::Pin;

use apiserver::ca::Profile;
use client::node::node_server::{Node, NodeServer};
use client::node::{LogsChunk, LogsRequest};
use client::tls::Identity;
use futures::{Stream, StreamExt, stream};
use serde_json::json;
use server::Server;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// Answers with what it was asked.
struct Agent;

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
        let lines = [
            "one\n".to_owned(),
            format!("{:?} {:?}\n", asked.tail_lines, asked.stream()),
        ];
        let chunks = stream::iter(lines).map(|line| Ok(LogsChunk { data: line.into() }));
        Ok(Response::new(Box::pin(chunks)))
    }
}

async fn agent(server: &Server) -> u16 {
    let issued = server
        .ca
        .issue(&Profile::Node {
            name: "n1".to_owned(),
            addresses: vec![],
        })
        .unwrap();
    let identity = Identity {
        cert_pem: issued.certificate,
        key_pem: issued.key,
        ca_pem: server.ca.certificate().to_owned(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let serving = tonic::transport::Server::builder()
        .tls_config(identity.tonic_server())
        .unwrap()
        .add_service(NodeServer::new(Agent))
        .serve_with_incoming(incoming);
    tokio::spawn(serving);
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_comes_from_the_pods_node() {
    let server = Server::start().await;
    let port = agent(&server).await;
    let node = json!({
        "metadata": {"name": "n1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        },
    });
    server.post("/api/v1/nodes", node).await.expect(201);
    let pods = "/api/v1/namespaces/default/pods";
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
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    server
        .post(&format!("{pods}/p/binding"), binding)
        .await
        .expect(201);
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
