//! An HTTP client and servers of the test's own on the virtual network.

use std::net::SocketAddrV4;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use network::{PodNet, StreamIo};

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

pub(crate) fn request(path: &str, body: Body) -> Request<Body> {
    let method = match path {
        "/echo" => "POST",
        _ => "GET",
    };
    let request = Request::builder().method(method).uri(path);
    request.header("host", "web").body(body).unwrap()
}

/// A connection for any number of requests, one by one. It is closed when it is dropped.
pub(crate) struct Client {
    sender: http1::SendRequest<Body>,
    driving: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

impl Client {
    pub(crate) async fn connect(pod: &PodNet, at: SocketAddrV4) -> Self {
        let io = pod.connect(at).await.unwrap().into_io();
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        let driving = tokio::spawn(async move {
            // The request it belongs to fails as well.
            let _ = connection.await;
        });
        Self { sender, driving }
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn try_send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> (u16, Bytes) {
        whole(self.send(request(path, empty())).await)
            .await
            .unwrap()
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn closed(mut self) {
        (&mut self.driving).await.unwrap();
    }
}

pub(crate) async fn whole(response: Response<Incoming>) -> Result<(u16, Bytes), hyper::Error> {
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// A connection of HTTP/2 that both know to be one.
pub(crate) async fn http2(pod: &PodNet, at: SocketAddrV4) -> http2::SendRequest<Body> {
    let io = TokioIo::new(pod.connect(at).await.unwrap().into_io());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Connects, and says these bytes.
pub(crate) async fn raw(pod: &PodNet, at: SocketAddrV4, bytes: &'static [u8]) -> StreamIo {
    let stream = pod.connect(at).await.unwrap();
    stream.writer.send(Bytes::from_static(bytes)).await.unwrap();
    stream.into_io()
}
