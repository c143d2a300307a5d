//! A probe by gRPC's health protocol, `grpc.health.v1.Health`.

use std::time::Duration;

use ::http::Uri;
use ::http::uri::PathAndQuery;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::dial::{Dialer, Io};
use super::{Outcome, USER_AGENT};

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 10 << 10;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks the pod for the health of a service, or of the whole server where that has no name. `within` is how long that may
/// take, as users know it, and its end.
pub(super) async fn check(
    dialer: &Dialer<'_>,
    service: &str,
    port: u16,
    (within, deadline): (Duration, Instant),
) -> Outcome {
    let at = format!("{}:{port}", dialer.address);
    let secs = within.as_secs();
    let io = match dialer.dial("", port, deadline).await {
        Ok(io) => io,
        Err(why) => {
            return Outcome::Failure(format!(
                "error: failed to connect service {at:?} within {secs}s: {why}"
            ));
        }
    };
    match timeout_at(deadline, call(io, &at, service)).await {
        Ok(Ok(1)) => Outcome::Success,
        Ok(Ok(status)) => Outcome::Failure(format!(
            "service unhealthy (responded with {:?})",
            word(status)
        )),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Err(_) => Outcome::Failure(format!(
            "timeout: health rpc did not complete within {secs}s"
        )),
        Ok(Err(status)) => Outcome::Failure(format!(
            "error: health rpc probe failed: rpc error: code = {:?} desc = {}",
            status.code(),
            status.message()
        )),
    }
}

fn word(status: i32) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        1 => "SERVING".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

async fn call(io: Box<dyn Io>, at: &str, service: &str) -> Result<i32, Status> {
    let unavailable = |error: hyper::Error| Status::unavailable(error.to_string());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .map_err(unavailable)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let requests = tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let origin = Uri::builder()
        .scheme("http")
        .authority(at)
        .path_and_query("/")
        .build();
    // An address is always an authority.
    let mut client = Grpc::with_origin(requests, origin.unwrap_or_default())
        .max_decoding_message_size(LONGEST_ANSWER);
    let mut request = Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    let agent = MetadataValue::from_static(USER_AGENT);
    request.metadata_mut().insert("user-agent", agent);
    let method = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer = client.unary(request, method, codec).await?;
    Ok(answer.into_inner().status)
}
