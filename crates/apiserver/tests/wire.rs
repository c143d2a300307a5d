//! What only shows on the wire: HTTP/2, heads, documents for people.

mod server;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use server::Server;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A client that speaks HTTP/2, which the one of this project never does.
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(server: &Server, url: &str) -> Client {
        let address = url.strip_prefix("https://").expect("https");
        let mut config = server.identity.client_config().expect("config");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.expect("connected");
        let name = "127.0.0.1".try_into().expect("a name");
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .expect("TLS");
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        Client(sender)
    }

    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).expect("a request");
        let (head, body) = self.0.send_request(request).await.expect(path).into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        (head.status, head.headers, body)
    }
}

type Answer = (StatusCode, HeaderMap, Bytes);

#[tokio::test(flavor = "multi_thread")]
async fn heads_documents_and_what_may_be_kept() {
    let server = Server::start().await;
    let (url, _stop) = server.listen().await;
    let mut client = Client::connect(&server, &url).await;

    let maps = "/api/v1/namespaces/kube-system/configmaps";
    let (code, headers, body) = client.ask("GET", maps, &[]).await;
    assert_eq!(
        (code.as_u16(), &headers["cache-control"]),
        (200, &"no-cache, private".parse().expect("a value"))
    );
    let (code, headers, empty) = client.ask("HEAD", maps, &[]).await;
    assert_eq!((code.as_u16(), empty.len()), (200, 0));
    assert_eq!(headers["content-length"], body.len().to_string());

    let value = |body: &Bytes| serde_json::from_slice::<Value>(body).expect("JSON");
    let asked = format!("{maps}?pretty=true");
    let refused = format!("{maps}?pretty=false");
    let curl = [("user-agent", "curl/8.0")];
    for (path, headers, lines) in [
        (asked.as_str(), &[][..], true),
        (maps, &curl, true),
        (&refused, &curl, false),
        (maps, &[("user-agent", "kubectl/v1.32.0")], false),
    ] {
        let (_, _, found) = client.ask("GET", path, headers).await;
        let indented = found.windows(3).any(|w| w == b"\n  ");
        assert_eq!(indented, lines, "{path} {headers:?}");
        assert_eq!(value(&found), value(&body));
    }

    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let accept = ("accept", aggregated);
    let (code, headers, body) = client.ask("GET", "/apis", &[accept]).await;
    assert_eq!(
        (code.as_u16(), &value(&body)["kind"]),
        (200, &json!("APIGroupDiscoveryList"))
    );
    let tag = headers["etag"].to_str().expect("a tag").to_owned();
    let known = [accept, ("if-none-match", tag.as_str())];
    let (code, _, body) = client.ask("GET", "/apis", &known).await;
    assert_eq!((code.as_u16(), body.len()), (304, 0));
}
