//! The node protocol over TLS, as servers and agents speak it.

mod authority;

use std::{net::SocketAddr, pin::Pin};

use authority::Authority;
use bytes::Bytes;
use client::{
    node::{
        self, BreakOffRequest, BreakOffResponse, ExecRequest, ExecResponse, LogsChunk, LogsRequest,
        PortForwardRequest, PortForwardResponse, StatsRequest, StatsResponse, StdinRequest,
        StdinResponse, node_client::NodeClient, node_server,
    },
    tls::Identity,
};
use futures::{Stream, StreamExt, stream};

use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status, Streaming};

struct Agent;

#[tonic::async_trait]
impl node_server::Node for Agent {
    type LogsStream = Pin<Box<dyn Stream<Item = Result<LogsChunk, Status>> + Send>>;

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        node::admit_server(&request)?;
        let request = request.into_inner();
        let lines = (0..request.tail_lines.unwrap_or(3)).map(move |line| {
            let data = Bytes::from(format!("{} {line}\n", request.container));
            Ok(LogsChunk { data })
        });
        Ok(Response::new(Box::pin(stream::iter(lines))))
    }

    async fn stdin(
        &self,
        _: Request<Streaming<StdinRequest>>,
    ) -> Result<Response<StdinResponse>, Status> {
        Err(Status::unimplemented("no program reads here"))
    }

    type PortForwardStream =
        Pin<Box<dyn Stream<Item = Result<PortForwardResponse, Status>> + Send>>;

    async fn port_forward(
        &self,
        _: Request<Streaming<PortForwardRequest>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        Err(Status::unimplemented("no program listens here"))
    }

    type ExecStream = Pin<Box<dyn Stream<Item = Result<ExecResponse, Status>> + Send>>;

    async fn exec(
        &self,
        _: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        Err(Status::unimplemented("nothing runs here"))
    }

    async fn break_off(
        &self,
        _: Request<BreakOffRequest>,
    ) -> Result<Response<BreakOffResponse>, Status> {
        Err(Status::unimplemented("no call lasts here"))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        Err(Status::unimplemented("nothing runs here"))
    }
}

async fn serve(identity: &Identity) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder()
        .tls_config(identity.tonic_server())
        .unwrap()
        .add_service(node_server::NodeServer::new(Agent))
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    address
}

async fn logs(address: SocketAddr, identity: &Identity) -> Result<Vec<u8>, Status> {
    let channel = node::channel(address, identity).unwrap();
    let request = LogsRequest {
        container: "main".to_owned(),
        tail_lines: Some(2),
        ..LogsRequest::default()
    };
    let mut chunks = NodeClient::new(channel).logs(request).await?.into_inner();
    let mut log = Vec::new();
    while let Some(chunk) = chunks.next().await {
        log.extend_from_slice(&chunk?.data);
    }
    Ok(log)
}

#[tokio::test]
async fn only_servers_of_the_cluster_are_answered() {
    let ca = Authority::new();
    let address = serve(&ca.identity("system:node:n1")).await;
    let server = ca.identity_of("system:carob:server:n1", node::SERVERS);
    assert_eq!(logs(address, &server).await.unwrap(), b"main 0\nmain 1\n");
    let other_node = ca.identity("system:node:n2");
    let refused = logs(address, &other_node).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let stranger = Authority::new().identity_of("system:carob:server:x", node::SERVERS);
    assert!(logs(address, &stranger).await.is_err());
}
