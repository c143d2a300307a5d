//! What carries a request to an API server.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::UnsyncBoxBody};

use crate::Error;

/// A response's body: it may go on for as long as a watch does.
pub type Body = UnsyncBoxBody<Bytes, Error>;

/// A boxed future that may be sent between threads.
pub use futures::future::BoxFuture;

/// Carries requests to an API server and brings back its answers.
///
/// A request's URI is in origin form (`/api/v1/pods?limit=5`): which server it goes to is the
/// transport's own affair. An answer of any status is `Ok`; `Err` means that there was no answer.
/// The future resolves when the answer's head is there; its body streams. Dropping the future or
/// the body gives the request up. `crate::conformance` holds what every implementation must obey.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request.
    ///
    /// # Errors
    /// [`Error::Transport`] when no answer came. A request that is not idempotent has then been
    /// tried by one server at most, and may or may not have been carried out.
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Body>, Error>>;
}

/// A body that is there at once.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body of no bytes.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Reads a body to its end.
///
/// # Errors
/// The body's own, or [`Error::TooLarge`] when it has more than `limit` bytes.
pub async fn collect(body: Body, limit: usize) -> Result<Bytes, Error> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(match error.downcast::<Error>() {
            Ok(own) => *own,
            Err(_) => Error::TooLarge { limit },
        }),
    }
}
