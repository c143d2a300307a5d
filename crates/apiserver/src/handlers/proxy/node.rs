//! `nodes/NAME/proxy`: the two pages that the node's agent serves, its metrics and what is used on it.

use std::future::poll_fn;

use api::Status;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tonic::client::GrpcService;
use tonic::transport::Channel;

use crate::body::Response;
use crate::dispatch::Call;
use crate::handlers::agents::{self, Purpose, agent_address};
use crate::request::Verb;

/// What may follow `proxy/` in the path, and what the agent is asked for then.
const PAGES: [&str; 2] = ["metrics", "metrics/resource"];

/// Whether this is a path that is passed on.
pub(in crate::handlers) fn serves(call: &Call) -> bool {
    call.resource.group.is_empty()
        && call.resource.plural == "nodes"
        && call.verb == Verb::Get
        && PAGES.contains(&rest(call))
}

fn rest(call: &Call) -> &str {
    call.path.rest.as_deref().unwrap_or_default()
}

/// Answers `GET …/nodes/NAME/proxy/PAGE` with what the node's agent answers.
pub(in crate::handlers) async fn page(call: &Call) -> Result<Response, Status> {
    let address = agent_address(&call.server, call.name()).await?;
    let unreachable = |why: String| {
        Status::service_unavailable(format!(
            "error trying to reach the agent of node {} at {address}: {why}",
            call.name()
        ))
    };
    let at = (call.name(), address);
    let line = agents::line(&call.server, at, Purpose::Containers);
    let line = line.map_err(|e| unreachable(e.to_string()))?;
    let held = line.hold(call.name())?;
    let answer = get(line.channel, &format!("/{}", rest(call)))
        .await
        .map_err(|e| unreachable(reason(&e)))?;
    let (head, body) = answer.into_parts();
    let body = body
        .map_err(|status| client::Error::transport("metrics", status))
        .map_frame(move |frame| {
            let _held = &held;
            frame
        });
    let mut response = http::Response::new(body.boxed_unsync());
    *response.status_mut() = match head.status {
        // That this server may not is the cluster's fault, not the caller's.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StatusCode::BAD_GATEWAY,
        status => status,
    };
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    Ok(response)
}

/// A plain GET over the connection that otherwise carries gRPC.
async fn get(
    mut channel: Channel,
    path: &str,
) -> Result<http::Response<tonic::body::Body>, tonic::transport::Error> {
    let mut request = Request::new(tonic::body::Body::empty());
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    poll_fn(|cx| GrpcService::<tonic::body::Body>::poll_ready(&mut channel, cx)).await?;
    GrpcService::call(&mut channel, request).await
}

/// The innermost cause: tonic's own error says only that there is one.
fn reason(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}
