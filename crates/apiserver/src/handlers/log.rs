//! `pods/log`: a container's log, streamed from its node's agent.

use api::Status;
use api::status::{FieldError, FieldPath};
use client::node::{LogStream, LogsRequest};
use futures::StreamExt;
use http::StatusCode;

use super::container::PodContainer;
use crate::body::{Response, answer, stream, text};
use crate::dispatch::Call;
use crate::request::Query;

const TEXT: &str = "text/plain";

/// Answers `GET …/pods/NAME/log`.
pub(crate) async fn log(call: &Call) -> Result<Response, Status> {
    let pod = PodContainer::read(call).await?;
    let request = LogsRequest {
        namespace: pod.namespace.clone(),
        pod: call.name().to_owned(),
        uid: pod.uid.clone(),
        container: pod.container.clone(),
        ..options(&call.query)?
    };
    let Some(mut agent) = pod.agent(call).await? else {
        // Nothing has run yet, so nothing was written.
        return Ok(text(StatusCode::OK, ""));
    };
    let shutdown = call.connection.shutdown.clone();
    let ended = shutdown.clone();
    // Who follows a log must not take the end of the way to it for the log's.
    let cut_off = futures::stream::once(async move { ended.is_cancelled() })
        .filter(|ended| std::future::ready(*ended))
        .map(|_| {
            let why = std::io::Error::other("this server takes no requests at the moment");
            Err(client::Error::transport("log", why))
        });
    let chunks = agent.logs(request).await?;
    let lines = chunks
        .map(|chunk| {
            chunk
                .map(|chunk| chunk.data)
                .map_err(|status| client::Error::transport("log", status))
        })
        .take_until(shutdown.cancelled_owned())
        .chain(cut_off);
    Ok(answer(StatusCode::OK, TEXT, stream(lines)))
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
