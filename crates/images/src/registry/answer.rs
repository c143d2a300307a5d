//! Answers, and errors in OCI's form.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::response::Builder;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use serde_json::json;

use super::Body;
use crate::Error;

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Starts an answer with what every answer carries.
pub(super) fn answer(status: StatusCode) -> Builder {
    Response::builder()
        .status(status)
        .header(API_VERSION, "registry/2.0")
}

pub(super) fn empty(builder: Builder) -> Result<Response<Body>, Fault> {
    finish(
        builder.header(CONTENT_LENGTH, 0),
        Empty::new().map_err(|never| match never {}).boxed_unsync(),
    )
}

pub(super) fn full(builder: Builder, content: impl Into<Bytes>) -> Result<Response<Body>, Fault> {
    let content = content.into();
    let builder = builder.header(CONTENT_LENGTH, content.len());
    finish(
        builder,
        Full::new(content)
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

/// An answer to HEAD: the headers of one that has `length` bytes.
pub(super) fn head(builder: Builder, length: u64) -> Result<Response<Body>, Fault> {
    finish(
        builder.header(CONTENT_LENGTH, length),
        Empty::new().map_err(|never| match never {}).boxed_unsync(),
    )
}

pub(super) fn finish(builder: Builder, body: Body) -> Result<Response<Body>, Fault> {
    // Everything that goes into headers has been checked to be a name, a tag or a digest.
    builder.body(body).map_err(|error| {
        Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN",
            error.to_string(),
        )
    })
}

/// A request that cannot be met: OCI's error code, and what it is about.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Fault {
        Fault {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(super) fn blob_unknown(digest: impl std::fmt::Display) -> Fault {
        Fault::new(
            StatusCode::NOT_FOUND,
            "BLOB_UNKNOWN",
            format!("no blob {digest}"),
        )
    }

    pub(super) fn manifest_unknown(name: &str, reference: &str) -> Fault {
        Fault::new(
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
            format!("no manifest {reference} in {name}"),
        )
    }

    pub(super) fn session_unknown(session: &str) -> Fault {
        Fault::new(
            StatusCode::NOT_FOUND,
            "BLOB_UPLOAD_UNKNOWN",
            format!("no upload session {session}"),
        )
    }

    pub(super) fn answer(self, is_head: bool) -> Response<Body> {
        let document =
            json!({"errors": [{"code": self.code, "message": self.message}]}).to_string();
        let mut builder = answer(self.status).header(CONTENT_TYPE, "application/json");
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            builder = builder.header(ALLOW, "GET, HEAD, POST, PATCH, PUT, DELETE");
        }
        let built = match is_head {
            true => head(builder, document.len() as u64),
            false => full(builder, document),
        };
        built.unwrap_or_else(|_| {
            let mut plain =
                Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
            *plain.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            plain
        })
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let (status, code) = match &error {
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Error::Denied(_) => (StatusCode::FORBIDDEN, "DENIED"),
            Error::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Error::Mismatch { .. } | Error::Digest { .. } => {
                (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
            }
            Error::Size { .. } => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Error::Reference { .. } => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Error::Malformed { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Error::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            Error::NotWasm(_)
            | Error::NotTree(_)
            | Error::Archive(_)
            | Error::Bundle(_)
            | Error::Manifest { .. } => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
        };
        Fault::new(status, code, error.to_string())
    }
}
