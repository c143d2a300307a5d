//! `pods/proxy` and `services/proxy`: requests that go through this server and an agent to a pod.

mod agent;
mod server;

use std::convert::Infallible;
use std::net::SocketAddr;

use agent::{Agent, PODS};
use bytes::Bytes;
use client::channels::Channels;
use client::node::PortForwardFrom;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use server::{Answer, Server};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::server as handshake;

/// Says what it was asked, and does as the path says.
async fn page(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers: serde_json::Map<String, Value> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    let said = json!({
        "method": head.method.as_str(), "uri": head.uri.to_string(),
        "headers": headers, "body": String::from_utf8_lossy(&body),
    });
    let mut answer = Response::new(Full::new(said.to_string().into()));
    let set = answer.headers_mut();
    set.insert("content-type", "application/json".parse().unwrap());
    set.insert("access-control-allow-origin", "*".parse().unwrap());
    set.insert("x-mine", "1".parse().unwrap());
    set.insert("connection", "x-hop".parse().unwrap());
    set.insert("x-hop", "1".parse().unwrap());
    match head.uri.path() {
        "/redirect" => {
            set.insert("location", "/to?x=1".parse().unwrap());
            *answer.status_mut() = StatusCode::FOUND;
        }
        "/teapot" => *answer.status_mut() = StatusCode::IM_A_TEAPOT,
        _ => {}
    }
    Ok(answer)
}

async fn pages() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(page));
            tokio::spawn(serving);
        }
    });
    address
}

async fn pod(server: &Server) -> Agent {
    let agent = agent::pod(server).await;
    let pages = pages().await;
    agent.ports.lock().insert(80, pages);
    agent
}

async fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Bytes::from_static(if method == "GET" || method == "HEAD" {
        b""
    } else {
        b"sent"
    });
    server.send(request.body(body).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_the_pod_as_they_are() {
    let server = Server::start().await;
    let agent = pod(&server).await;
    for (method, rest, uri) in [
        ("GET", "/", "/"),
        (
            "GET",
            "/a%2Fb//c/?x=%20&timeout=1ms",
            "/a%2Fb//c/?x=%20&timeout=1ms",
        ),
        ("POST", "", "/"),
        ("PUT", "/put", "/put"),
        ("PATCH", "/patch", "/patch"),
        ("DELETE", "/delete?pretty=1", "/delete?pretty=1"),
    ] {
        let path = format!("{PODS}/p/proxy{rest}");
        let answer = ask(&server, method, &path, &[("accept", "image/png")]).await;
        assert_eq!(answer.headers["x-mine"], "1");
        for gone in ["access-control-allow-origin", "x-hop"] {
            assert!(!answer.headers.contains_key(gone), "{gone}");
        }
        let said = answer.expect(200);
        let body = if method == "GET" { "" } else { "sent" };
        assert_eq!(
            (&said["method"], &said["uri"], &said["body"]),
            (&json!(method), &json!(uri), &json!(body))
        );
        let forwarded = path.split('?').next().unwrap();
        assert_eq!(said["headers"]["x-forwarded-uri"], forwarded);
        assert_eq!(said["headers"]["accept"], "image/png");
    }
    let from = agent.forwarded.lock()[0].from();
    assert_eq!(from, PortForwardFrom::Node);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_stays_with_this_server() {
    let server = Server::start().await;
    let _agent = pod(&server).await;
    let given = [
        ("authorization", "Bearer x"),
        ("x-remote-user", "root"),
        ("x-remote-extra-scopes", "all"),
        ("cookie", "kept=1"),
        ("connection", "x-named"),
        ("x-named", "1"),
        ("keep-alive", "5"),
        ("host", "api:6443"),
    ];
    let path = format!("{PODS}/p/proxy/x");
    let said = ask(&server, "GET", &path, &given).await.expect(200);
    let headers = &said["headers"];
    for (name, want) in [
        ("cookie", "kept=1"),
        ("host", "api:6443"),
        ("x-forwarded-host", "api:6443"),
        ("x-forwarded-proto", "https"),
    ] {
        assert_eq!(headers[name], want, "{name}");
    }
    for gone in [
        "authorization",
        "x-remote-user",
        "x-remote-extra-scopes",
        "x-named",
        "keep-alive",
    ] {
        assert!(headers[gone].is_null(), "{gone}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_back_as_they_are() {
    let server = Server::start().await;
    let _agent = pod(&server).await;
    let proxy = format!("{PODS}/p/proxy");
    let moved = ask(&server, "GET", &format!("{proxy}?x=1"), &[]).await;
    assert_eq!(moved.code, 301);
    assert_eq!(moved.headers["location"], format!("{proxy}/?x=1"));
    let redirected = ask(&server, "GET", &format!("{proxy}/redirect"), &[]).await;
    assert_eq!(redirected.code, 302);
    assert_eq!(redirected.headers["location"], format!("{proxy}/to?x=1"));
    let teapot = ask(&server, "GET", &format!("{proxy}/teapot"), &[]).await;
    assert_eq!(teapot.code, 418);
    for (name, code, why) in [
        (
            "p:81",
            503,
            "error trying to reach service: connection refused",
        ),
        ("none", 404, "pods \"none\" not found"),
        ("ftp:p:21", 400, "invalid pod request"),
        ("p:nothing", 400, "no such port"),
    ] {
        let refused = server
            .get(&format!("{PODS}/{name}/proxy/"))
            .await
            .expect(code);
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(why), "{name}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_a_ready_pod() {
    let server = Server::start().await;
    let agent = pod(&server).await;
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [
        {"name": "http", "port": 8080}, {"name": "other", "port": 9090}]}});
    server.post(services, service).await.expect(201);
    let web = format!("{services}/web:8080/proxy/x");
    let none = server.get(&web).await.expect(503);
    assert_eq!(
        none["message"],
        "no endpoints available for service \"web:8080\""
    );
    let endpoint = |pod: &str, ready: bool| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}});
    let slice = json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80}],
        "endpoints": [endpoint("gone", false), endpoint("p", true)],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    server.post(slices, slice).await.expect(201);
    for name in ["web:8080", "web:http", "http:web:http"] {
        let path = format!("{services}/{name}/proxy/x");
        let said = server.get(&path).await.expect(200);
        assert_eq!(said["uri"], "/x", "{name}");
        assert_eq!(said["headers"]["x-forwarded-uri"], path);
    }
    for (name, code, why) in [
        ("web", 503, "no endpoints available"),
        ("web:other", 503, "no endpoints available"),
        (
            "web:81",
            503,
            "no service port 81 found for service \"web\"",
        ),
        ("none:80", 404, "not found"),
        ("a:b:c:d", 400, "invalid service request"),
    ] {
        let path = format!("{services}/{name}/proxy/");
        let refused = server.get(&path).await.expect(code);
        assert!(
            refused["message"].as_str().unwrap().contains(why),
            "{name}: {refused}"
        );
    }
    assert!(
        agent
            .forwarded
            .lock()
            .iter()
            .all(|target| target.port == 80)
    );
}

/// A WebSocket that sends back what it gets, where the client speaks `echo`.
#[expect(
    clippy::result_large_err,
    reason = "the library says what the handshake's answer is"
)]
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = |_: &handshake::Request, mut answer: handshake::Response| {
        let headers: &mut HeaderMap = answer.headers_mut();
        headers.insert("sec-websocket-protocol", "echo".parse().unwrap());
        Ok(answer)
    };
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, taken)
            .await
            .unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let _ = socket.send(message).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_goes_through() {
    let server = Server::start().await;
    let agent = pod(&server).await;
    let echo = echo().await;
    agent.ports.lock().insert(81, echo);
    let (context, _stop) = server.context().await;
    let path = format!("{PODS}/p:81/proxy/socket");
    let mut open = Channels::open_as(&context, &path, "echo").await.unwrap();
    for text in ["one", "two"] {
        open.send(9, text.as_bytes()).await.unwrap();
        assert_eq!(open.next().await.unwrap(), Some((9, text.into())));
    }
    // One that is no WebSocket answers as it does.
    let path = format!("{PODS}/p/proxy/teapot");
    let refused = Channels::open_as(&context, &path, "echo")
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(418));
}
