//! Probes by gRPC's health protocol.

use ::http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use super::*;

/// A health server that says this of the service `shop`, and of the others that it does not know them.
async fn health(stream: Stream, of_shop: u8) {
    let serve = move |request: hyper::Request<hyper::body::Incoming>| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(request.headers()["user-agent"], USER_AGENT);
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        let known = asked.ends_with(b"shop");
        let (code, message) = match (known, of_shop) {
            (false, _) => ("5", "unknown service"),
            (true, 0xff) => ("12", "unknown method"),
            (true, _) => ("0", ""),
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        trailers.insert("grpc-message", HeaderValue::from_static(message));
        let data = bytes::Bytes::from(vec![0, 0, 0, 0, 2, 8, of_shop]);
        let data = (code == "0").then(|| Frame::data(data));
        let frames = data.into_iter().chain([Frame::trailers(trailers)]);
        let frames = frames.map(Ok::<_, std::convert::Infallible>);
        let body = StreamBody::new(futures::stream::iter(frames));
        let answer = hyper::Response::builder().header("content-type", "application/grpc");
        Ok::<_, std::convert::Infallible>(answer.body(body).unwrap())
    };
    let io = hyper_util::rt::TokioIo::new(stream.into_io());
    let executor = hyper_util::rt::TokioExecutor::new();
    let _ = hyper::server::conn::http2::Builder::new(executor)
        .serve_connection(io, hyper::service::service_fn(serve))
        .await;
}

#[tokio::test(start_paused = true)]
async fn grpc_health_is_asked_for() {
    for (answer, due) in [
        (1, Outcome::Success),
        (
            2,
            failure("service unhealthy (responded with \"NOT_SERVING\")"),
        ),
        (
            0xff,
            failure(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown method",
            ),
        ),
    ] {
        let (network, pod) = pod();
        let _server = server(&pod, 90, move |stream| health(stream, answer));
        let probe = json!({"grpc": {"port": 90, "service": "shop"}});
        assert_eq!(outcome(&network, &pod, false, probe).await, due);
    }
    let (network, pod) = pod();
    let _server = server(&pod, 90, |stream| health(stream, 1));
    let found = outcome(&network, &pod, false, json!({"grpc": {"port": 90}})).await;
    assert_eq!(
        found,
        failure(
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"
        )
    );
    let nobody = outcome(&network, &pod, false, json!({"grpc": {"port": 91}})).await;
    assert_eq!(
        nobody,
        failure(
            "error: failed to connect service \"10.128.0.1:91\" within 1s: dial tcp 10.128.0.1:91: connect: connection refused"
        )
    );
    // Who takes the connection and says nothing, and who speaks something else.
    let _silent = server(&pod, 92, |stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    });
    let silent = outcome(&network, &pod, false, json!({"grpc": {"port": 92}})).await;
    assert_eq!(
        silent,
        failure("timeout: health rpc did not complete within 1s")
    );
    let _plain = server(&pod, 80, |stream| answer(stream.into_io()));
    let plain = outcome(&network, &pod, false, json!({"grpc": {"port": 80}})).await;
    assert!(matches!(plain, Outcome::Failure(_)), "{plain:?}");
}
