//! Answers in the form that was agreed upon.

use api::Status;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use crate::body::{Response, answer};
use crate::connection::BODY_LIMIT;
use crate::identity::Identity;
use crate::negotiate::Media;

/// An error as its `Status` object.
pub(crate) fn status(status: &Status) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(
        code,
        Media::Json.content_type(),
        client::full(status.to_bytes()),
    );
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, retry.into());
    }
    response
}

/// 413.
pub(crate) fn too_large() -> Response {
    status(&Status::request_entity_too_large(format!(
        "limit is {BODY_LIMIT}"
    )))
}

/// A JSON document in the media type agreed upon.
pub(crate) fn document(code: StatusCode, media: Media, json: Bytes) -> Result<Response, Status> {
    let bytes = match media {
        Media::Json => json,
        Media::Yaml => {
            let value: Value = serde_json::from_slice(&json)
                .map_err(|e| Status::internal(format!("re-reading the answer: {e}")))?;
            yaml(&value)?
        }
    };
    Ok(answer(code, media.content_type(), client::full(bytes)))
}

/// A value in the media type agreed upon.
pub(crate) fn value(code: StatusCode, media: Media, value: &Value) -> Result<Response, Status> {
    let bytes = match media {
        Media::Json => Bytes::from(value.to_string()),
        Media::Yaml => yaml(value)?,
    };
    Ok(answer(code, media.content_type(), client::full(bytes)))
}

fn yaml(value: &Value) -> Result<Bytes, Status> {
    serde_yaml::to_string(value)
        .map(Bytes::from)
        .map_err(|e| Status::internal(format!("writing YAML: {e}")))
}

/// Adds `Warning: 299 - "text"` headers, one a warning.
pub(crate) fn warn(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = quoted.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{clean}\"")) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
    response
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
