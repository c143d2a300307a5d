//! Answers in the form that was agreed upon.

use api::Status;
use api::codec::Format;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use crate::body::{self, Response, answer};
use crate::identity::Identity;
use crate::negotiate::Media;

/// How much of one warning is sent, and of all together: Kubernetes' own bounds.
const WARNING_LENGTH: usize = 256;
const WARNINGS_LENGTH: usize = 4096;

/// An error as its `Status` object, in JSON.
pub(crate) fn status(status: &Status) -> Response {
    error(status, Media::Json)
}

/// An error as its `Status` object in the media type agreed upon.
pub(crate) fn error(status: &Status, media: Media) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = || {
        answer(
            code,
            Media::Json.content_type(),
            client::full(status.to_bytes()),
        )
    };
    let mut response = match media {
        Media::Json => json(),
        media => value(code, media, &status.to_value()).unwrap_or_else(|_| json()),
    };
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, retry.into());
    }
    response
}

/// 504 for a request whose time is over: as text, and without a kind, as Kubernetes' own guard of requests answers.
pub(crate) fn overdue() -> Response {
    let status = Status::timeout("request did not complete within the allotted timeout", 0);
    let mut value = status.to_value();
    for known in ["kind", "apiVersion"] {
        value.as_object_mut().map(|map| map.remove(known));
    }
    body::text(StatusCode::GATEWAY_TIMEOUT, value.to_string())
}

/// 413.
pub(crate) fn too_large(limit: usize) -> Status {
    Status::request_entity_too_large(format!("limit is {limit}"))
}

/// A JSON document in the media type agreed upon.
pub(crate) fn document(code: StatusCode, media: Media, json: Bytes) -> Result<Response, Status> {
    if media == Media::Json {
        return Ok(answer(code, media.content_type(), client::full(json)));
    }
    let read: Value = serde_json::from_slice(&json)
        .map_err(|e| Status::internal(format!("re-reading the answer: {e}")))?;
    value(code, media, &read)
}

/// A value in the media type agreed upon.
pub(crate) fn value(code: StatusCode, media: Media, value: &Value) -> Result<Response, Status> {
    let format = match media {
        Media::Json => Format::Json,
        Media::Yaml => Format::Yaml,
        Media::Protobuf => Format::Protobuf,
    };
    let bytes = api::codec::encode(value, format)?;
    Ok(answer(code, media.content_type(), client::full(bytes)))
}

/// Adds `Warning: 299 - "text"` headers, one a warning, as many as clients take in one head.
pub(crate) fn warn(mut response: Response, warnings: &[String]) -> Response {
    let mut left = WARNINGS_LENGTH;
    for warning in warnings {
        let header = format!("299 - \"{}\"", quoted(warning));
        let Some(rest) = left.checked_sub(header.len()) else {
            break;
        };
        left = rest;
        if let Ok(value) = HeaderValue::from_bytes(header.as_bytes()) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
    response
}

/// A warning as it can stand in a quoted string of a header, cut if it is long.
fn quoted(warning: &str) -> String {
    let mut end = warning.len().min(WARNING_LENGTH);
    while !warning.is_char_boundary(end) {
        end -= 1;
    }
    warning[..end]
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// 403 for a path that is no resource's.
pub(crate) fn forbidden_path(identity: &Identity, method: &http::Method, path: &str) -> Status {
    Status {
        message: format!(
            "forbidden: User {:?} cannot {} path {path:?}",
            identity.user,
            crate::authz::path_verb(method)
        ),
        details: Some(Box::default()),
        ..Status::forbidden(
            api::status::Subject {
                group: "",
                name: "",
            },
            "",
            "",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_fit_into_a_head() {
        let warned = |warnings: &[String]| {
            let response = warn(answer(StatusCode::OK, "", client::full("")), warnings);
            let values = response.headers().get_all(http::header::WARNING);
            values.iter().cloned().collect::<Vec<_>>()
        };
        let odd = warned(&["say \"no\"\r\nX: y".to_owned(), "ü".to_owned()]);
        assert_eq!(odd[0], r#"299 - "say \"no\"X: y""#);
        assert_eq!(odd[1].as_bytes(), "299 - \"ü\"".as_bytes());
        let long = warned(&vec!["ü".repeat(1000); 100]);
        assert!(long.iter().all(|w| w.len() <= 256 + 8));
        assert!(long.iter().map(HeaderValue::len).sum::<usize>() <= WARNINGS_LENGTH);
    }
}
