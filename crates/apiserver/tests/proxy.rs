//! `nodes/NAME/proxy/metrics`, against an agent's port that serves a page over HTTP/2.

mod server;

use std::convert::Infallible;
use std::sync::Arc;

use apiserver::tls;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use server::{Server, call};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Says who asks and for what.
async fn agent(server: &Server) -> u16 {
    let keys = server.node_identity();
    let acceptor = TlsAcceptor::from(tls::server_config(&keys).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            let chain = stream.get_ref().1.peer_certificates().unwrap();
            let who = Arc::new(client::tls::Subject::of(&chain[0]).unwrap().common_name);
            let page = service_fn(move |request: Request<Incoming>| {
                let text = format!("{who} {} {}\n", request.method(), request.uri().path());
                let answer = Response::builder()
                    .header("content-type", "text/plain; version=0.0.4")
                    .body(Full::new(Bytes::from(text)))
                    .unwrap();
                async move { Ok::<_, Infallible>(answer) }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), page);
            tokio::spawn(serving);
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_metrics_come_from_its_agent() {
    let server = Server::start().await;
    let port = agent(&server).await;
    for (name, port) in [("n1", port), ("gone", 1)] {
        let node = json!({
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            },
        });
        server.post("/api/v1/nodes", node).await.expect(201);
    }
    let page = server.get("/api/v1/nodes/n1/proxy/metrics").await;
    assert_eq!(page.code, 200, "{:?}", page.body);
    assert_eq!(page.headers["content-type"], "text/plain; version=0.0.4");
    assert_eq!(&page.body[..], b"system:carob:server:s1 GET /metrics\n");
    let used = server.get("/api/v1/nodes/n1/proxy/metrics/resource").await;
    assert_eq!(
        &used.body[..],
        b"system:carob:server:s1 GET /metrics/resource\n"
    );
    let gone = server.get("/api/v1/nodes/gone/proxy/metrics").await;
    let why = gone.expect(503);
    assert!(
        why["message"]
            .as_str()
            .unwrap()
            .starts_with("error trying to reach the agent of node gone"),
        "{why}"
    );
    for (path, code) in [
        ("/api/v1/nodes/none/proxy/metrics", 404),
        ("/api/v1/nodes/n1/proxy/metrics/cadvisor", 501),
        ("/api/v1/nodes/n1/proxy/pods", 501),
        ("/api/v1/nodes/n1/proxy", 501),
    ] {
        assert_eq!(server.get(path).await.code, code, "{path}");
    }
    let node = server.server.transport("system:node:n1", ["system:nodes"]);
    let path = "/api/v1/nodes/n1/proxy/metrics";
    call(&node, "GET", path, "", Value::Null).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn openapi_is_protobuf_for_those_who_ask() {
    let server = Server::start().await;
    let get = |accept: &'static str| {
        let request = Request::get("/openapi/v2").header("accept", accept);
        server.send(request.body(Bytes::new()).unwrap())
    };
    let json = get("application/json").await;
    let binary = get(api::openapi::V2_PROTOBUF).await;
    assert_eq!(json.headers["content-type"], "application/json");
    assert_eq!(
        binary.headers["content-type"],
        api::openapi::V2_PROTOBUF_CONTENT
    );
    assert_eq!(json.json()["swagger"], "2.0");
    // Field 1 of the document, a text: its version.
    assert!(binary.body.starts_with(b"\x0a\x032.0"));
    assert_ne!(json.headers["etag"], binary.headers["etag"]);
    assert_eq!(get("application/xml").await.code, 406);
}
