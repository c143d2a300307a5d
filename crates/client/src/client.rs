//! Sends requests, and judges their answers.

use std::{sync::Arc, time::Duration};

use api::{resource::Resource, status::Status};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use k8s_openapi::api::core::v1::{Binding, ObjectReference};
use serde::{Serialize, de::DeserializeOwned};
use tracing::Instrument;

use crate::{Access, Body, Error, Kind, Transport, Untyped, access::Location, transport::collect};

/// The most that one answer may hold, other than a watch: a list of 100,000 large pods.
const MAX_ANSWER: usize = 512 << 20;
/// How much of an answer that is an error is read.
const MAX_ERROR: usize = 1 << 20;

/// A way into one cluster, under one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Arc<dyn Transport>,
    field_manager: String,
    user_agent: HeaderValue,
    timeout: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("field_manager", &self.shared.field_manager)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client whose writes are recorded as `field_manager`'s, which is also its `User-Agent`.
    ///
    /// An answer that has not begun within 30 s is given up as [`Error::Timeout`].
    pub fn new(transport: Arc<dyn Transport>, field_manager: impl Into<String>) -> Self {
        let field_manager = field_manager.into();
        let agent = format!("{field_manager}/{}", env!("CARGO_PKG_VERSION"));
        Client {
            shared: Arc::new(Shared {
                transport,
                user_agent: HeaderValue::from_str(&agent)
                    .unwrap_or(HeaderValue::from_static("carob")),
                field_manager,
                timeout: Duration::from_secs(30),
            }),
        }
    }

    /// The same way in, with another limit on the time until an answer begins.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Client {
            shared: Arc::new(Shared {
                transport: Arc::clone(&self.shared.transport),
                field_manager: self.shared.field_manager.clone(),
                user_agent: self.shared.user_agent.clone(),
                timeout,
            }),
        }
    }

    /// Whose writes these are.
    #[must_use]
    pub fn field_manager(&self) -> &str {
        &self.shared.field_manager
    }

    /// Access to a kind by its type: `client.of::<Pod>()`.
    #[must_use]
    pub fn of<T: Kind>(&self) -> Access<T> {
        Access::new(
            self.clone(),
            Location::new(T::GROUP, T::VERSION, T::URL_PATH_SEGMENT),
        )
    }

    /// Access to a kind by its description; objects are read and written whole.
    #[must_use]
    pub fn untyped(&self, resource: &Resource) -> Access<Untyped> {
        self.resource(resource)
    }

    /// Access to a kind by its description, in a form of the caller's choice
    /// ([`PartialObject`](crate::PartialObject) reads only metadata).
    #[must_use]
    pub fn resource<T: crate::Object>(&self, resource: &Resource) -> Access<T> {
        Access::new(
            self.clone(),
            Location::new(resource.group, resource.version, resource.plural),
        )
    }

    /// Binds a pod to a node.
    ///
    /// # Errors
    /// A conflict if the pod is bound already or is not the one with `uid`; else as any request.
    pub async fn bind(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        node: &str,
    ) -> Result<(), Error> {
        let mut binding = Binding {
            target: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(node.into()),
                ..ObjectReference::default()
            },
            ..Binding::default()
        };
        binding.metadata.namespace = Some(namespace.into());
        binding.metadata.name = Some(name.into());
        binding.metadata.uid = Some(uid.into());
        self.of::<k8s_openapi::api::core::v1::Pod>()
            .post::<_, serde_json::Value>(namespace, name, "binding", &binding)
            .await
            .map(drop)
    }

    /// Sends a request as it is (its URI in origin form), adding `User-Agent`, and `Accept` for
    /// JSON if it names none.
    ///
    /// # Errors
    /// [`Error::Status`] for any answer from 400 on; [`Error::Transport`]; [`Error::Timeout`]
    /// when no answer began in time. The answer's body is not read and not limited.
    pub async fn raw(&self, mut request: Request<Bytes>) -> Result<Response<Body>, Error> {
        let what = format!("{} {}", request.method(), request.uri().path());
        let headers = request.headers_mut();
        headers
            .entry(header::USER_AGENT)
            .or_insert_with(|| self.shared.user_agent.clone());
        headers
            .entry(header::ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        let span = tracing::debug_span!("request", %what);
        let sent = self.shared.transport.send(request).instrument(span);
        let response = tokio::time::timeout(self.shared.timeout, sent)
            .await
            .map_err(|_| self.timed_out(what.clone()))??;
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let reading = collect(response.into_body(), MAX_ERROR);
        let body = tokio::time::timeout(self.shared.timeout, reading)
            .await
            .map_err(|_| self.timed_out(what.clone()))?
            .unwrap_or_default();
        Err(Error::Status(Box::new(parse_status(code, &body, &what))))
    }

    pub(crate) async fn read<R: DeserializeOwned>(
        &self,
        request: Request<Bytes>,
    ) -> Result<R, Error> {
        let what = format!("{} {}", request.method(), request.uri().path());
        let body = self.read_bytes(request).await?;
        serde_json::from_slice(&body).map_err(|error| Error::decode(what, error))
    }

    pub(crate) async fn read_bytes(&self, request: Request<Bytes>) -> Result<Bytes, Error> {
        let what = format!("{} {}", request.method(), request.uri().path());
        let response = self.raw(request).await?;
        let reading = collect(response.into_body(), MAX_ANSWER);
        tokio::time::timeout(self.shared.timeout * 4, reading)
            .await
            .map_err(|_| self.timed_out(what))?
    }

    fn timed_out(&self, what: String) -> Error {
        Error::Timeout {
            what,
            seconds: self.shared.timeout.as_secs(),
        }
    }
}

/// A request with a JSON body.
pub(crate) fn json_request(
    method: Method,
    uri: &str,
    content_type: &'static str,
    body: &impl Serialize,
) -> Result<Request<Bytes>, Error> {
    let body = serde_json::to_vec(body).map_err(|error| Error::decode("encoding", error))?;
    let mut request = plain_request(method, uri)?;
    request
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    *request.body_mut() = body.into();
    Ok(request)
}

/// A request without a body.
pub(crate) fn plain_request(method: Method, uri: &str) -> Result<Request<Bytes>, Error> {
    Request::builder()
        .method(method)
        .uri(uri)
        .body(Bytes::new())
        .map_err(|error| Error::Invalid(format!("{uri}: {error}")))
}

/// The answer's own `Status`, or one made of what else it says.
pub(crate) fn parse_status(code: u16, body: &[u8], what: &str) -> Status {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(status) = Status::from_value(&value) {
        return Status { code, ..status };
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    let name = http::StatusCode::from_u16(code)
        .ok()
        .and_then(|code| code.canonical_reason())
        .unwrap_or_default();
    let message = match text.trim() {
        "" => format!("{what}: the server answered {code} {name}"),
        text => format!("{what}: the server answered {code} {name}: {text}"),
    };
    Status {
        code,
        reason: generic_reason(code),
        message,
        details: None,
    }
}

/// The reason that Kubernetes gives with a code when nothing more is known.
fn generic_reason(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        409 => "Conflict",
        410 => "Gone",
        415 => "UnsupportedMediaType",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    }
}
