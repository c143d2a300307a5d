//! `pods/log`: a container's log, streamed from its node's agent.

use api::Status;
use api::status::{FieldError, FieldPath};
use client::node::node_client::NodeClient;
use client::node::{LogStream, LogsRequest};
use futures::StreamExt;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::agents::agent_address;
use crate::body::{Response, answer, stream, text};
use crate::dispatch::{Call, record_uid};
use crate::request::Query;

const TEXT: &str = "text/plain";

/// Answers `GET …/pods/NAME/log`.
pub(crate) async fn log(call: &Call) -> Result<Response, Status> {
    let pod = call
        .server
        .read(call.key().as_bytes())
        .await?
        .ok_or_else(|| call.not_found())?;
    record_uid(pod.uid());
    let uid = pod.uid().to_owned();
    let pod: Pod = pod.view().map_err(|e| Status::internal(e.to_string()))?;
    let spec = pod.spec.unwrap_or_default();
    let container = container(call.name(), &spec, call.query.text("container"))?;
    let mut request = options(&call.query)?;
    request.namespace = call.namespace().unwrap_or_default().to_owned();
    request.pod = call.name().to_owned();
    request.uid = uid;
    request.container = container;
    let Some(node) = spec.node_name.filter(|n| !n.is_empty()) else {
        // Nothing has run yet, so nothing was written.
        return Ok(text(StatusCode::OK, ""));
    };
    let address = agent_address(&call.server, &node).await?;
    let failed = |why: String| {
        Status::internal(format!(
            "the log of pod {} from node {node} at {address}: {why}",
            call.name()
        ))
    };
    let inner = &call.server.inner;
    let channel = inner
        .agents
        .channel(address, &inner.config.identity)
        .map_err(|e| failed(e.to_string()))?;
    let chunks = NodeClient::new(channel)
        .logs(request)
        .await
        .map_err(|status| match status.code() {
            tonic::Code::NotFound
            | tonic::Code::FailedPrecondition
            | tonic::Code::InvalidArgument => Status::bad_request(status.message()),
            _ => failed(status.message().to_owned()),
        })?
        .into_inner();
    let lines = chunks
        .map(|chunk| {
            chunk
                .map(|chunk| chunk.data)
                .map_err(|status| client::Error::transport("log", status))
        })
        .take_until(call.connection.shutdown.clone().cancelled_owned());
    Ok(answer(StatusCode::OK, TEXT, stream(lines)))
}

/// The container that is meant, with Kubernetes' errors where it is not clear.
fn container(pod: &str, spec: &PodSpec, wanted: Option<&str>) -> Result<String, Status> {
    let names: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    let init: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|c| c.name.as_str())
        .collect();
    match wanted {
        Some(wanted) if names.contains(&wanted) || init.contains(&wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(Status::bad_request(format!(
            "container {wanted} is not valid for pod {pod}"
        ))),
        None => match names.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] => Err(Status::bad_request(format!(
                "a container name must be specified for pod {pod}"
            ))),
            many => {
                let init = if init.is_empty() {
                    String::new()
                } else {
                    format!(" or one of the init containers: [{}]", init.join(" "))
                };
                Err(Status::bad_request(format!(
                    "a container name must be specified for pod {pod}, choose one of: [{}]{init}",
                    many.join(" ")
                )))
            }
        },
    }
}

/// The options of the query, checked as Kubernetes checks `PodLogOptions`.
fn options(query: &Query) -> Result<LogsRequest, Status> {
    let number = |name: &str, least: i64| match query.integer(name).map_err(Status::bad_request)? {
        Some(n) if n < least => Err(invalid(FieldError::invalid(
            &FieldPath::new(name),
            n,
            &format!("must be greater than or equal to {least}"),
        ))),
        n => Ok(n),
    };
    let stream = match query.text("stream") {
        None | Some("All") => LogStream::All,
        Some("Stdout") => LogStream::Stdout,
        Some("Stderr") => LogStream::Stderr,
        Some(other) => {
            return Err(invalid(FieldError::not_supported(
                &FieldPath::new("stream"),
                other,
                &["All", "Stderr", "Stdout"],
            )));
        }
    };
    let request = LogsRequest {
        follow: query.flag("follow"),
        tail_lines: number("tailLines", 0)?,
        since_seconds: number("sinceSeconds", 1)?,
        since_time: query.text("sinceTime").map(str::to_owned),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        limit_bytes: number("limitBytes", 1)?,
        stream: stream.into(),
        ..LogsRequest::default()
    };
    if request.tail_lines.is_some() && stream != LogStream::All {
        // The node finds the last lines of a log without looking whose they are, here as there.
        return Err(invalid(FieldError::forbidden(
            &FieldPath::new("[]"),
            "`tailLines` and specific `stream` are mutually exclusive for now",
        )));
    }
    if let Some(time) = &request.since_time {
        time.parse::<jiff::Timestamp>()
            .map_err(|e| Status::bad_request(format!("sinceTime: {e}")))?;
        if request.since_seconds.is_some() {
            return Err(invalid(FieldError::forbidden(
                &FieldPath::new("<nil>"),
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            )));
        }
    }
    Ok(request)
}

fn invalid(error: FieldError) -> Status {
    Status::invalid_kind("", "PodLogOptions", "", vec![error])
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Container;

    fn spec(containers: &[&str], init: &[&str]) -> PodSpec {
        let make = |names: &[&str]| {
            names
                .iter()
                .map(|n| Container {
                    name: (*n).to_owned(),
                    ..Container::default()
                })
                .collect()
        };
        PodSpec {
            containers: make(containers),
            init_containers: Some(make(init)),
            ..PodSpec::default()
        }
    }

    #[test]
    fn containers() {
        let one = spec(&["a"], &["i"]);
        assert_eq!(container("p", &one, None).unwrap(), "a");
        assert_eq!(container("p", &one, Some("i")).unwrap(), "i");
        assert_eq!(
            container("p", &one, Some("x")).unwrap_err().message,
            "container x is not valid for pod p"
        );
        assert_eq!(
            container("p", &spec(&["a", "b"], &[]), None)
                .unwrap_err()
                .message,
            "a container name must be specified for pod p, choose one of: [a b]"
        );
        assert_eq!(
            container("p", &spec(&["a", "b"], &["i"]), None)
                .unwrap_err()
                .message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }

    #[test]
    fn log_options() {
        let read = |q: &str| options(&Query::parse(Some(q)));
        let request = read("follow=true&tailLines=0&sinceSeconds=5&previous=true").unwrap();
        assert!(request.follow && request.previous && request.tail_lines == Some(0));
        for bad in [
            "tailLines=-1",
            "sinceSeconds=0",
            "limitBytes=0",
            "tailLines=x",
            "sinceTime=yesterday",
            "sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1",
            "stream=stderr",
            "stream=Stderr&tailLines=1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read("").unwrap().stream(), LogStream::All);
        assert_eq!(read("stream=Stderr").unwrap().stream(), LogStream::Stderr);
        let both = read("stream=All&tailLines=1").unwrap();
        assert_eq!(both.stream(), LogStream::All);
    }
}
