//! The cluster's registry: the OCI distribution API over [`Blobs`].
//!
//! One [`Registry`] runs in every server. Content is kept as files of this server and copied to the others;
//! which tag names which manifest is kept in the cluster's store. Both are seams, [`Peers`] and [`Tags`], so
//! that this crate knows neither the store nor how servers reach each other.
//!
//! **What is acknowledged is on a majority of the servers' disks**: a blob before its upload is answered with
//! 201, and again everything a manifest names before the manifest itself is taken. A blob that is asked for
//! and missing here is fetched from whoever has it, so that any server can answer for all;
//! [`Registry::fill`] does the same ahead of time for a server that was away.
//!
//! A manifest is recorded under its digest as well as its tag: `Tags` sees the digest's text as one more tag
//! of the repository (no real tag holds a colon).
//!
//! Endpoints, all of the distribution specification 1.1 (`<name>` may hold slashes):
//!
//! | | |
//! |---|---|
//! | `GET /v2/` | the API is here |
//! | `HEAD, GET, DELETE /v2/<name>/blobs/<digest>` | a blob, GET also in part (`Range`) |
//! | `POST /v2/<name>/blobs/uploads/[?digest=,?mount=]` | a whole blob at once, or an upload session |
//! | `GET, PATCH, PUT, DELETE /v2/<name>/blobs/uploads/<session>` | its chunks and its end |
//! | `HEAD, GET, PUT, DELETE /v2/<name>/manifests/<tag or digest>` | a manifest |
//! | `GET /v2/<name>/tags/list`, `GET /v2/_catalog` | names, in pages by `n` and `last` |
//! | `GET /v2/<name>/referrers/<digest>` | signatures and the like |
//! | `HEAD, GET, PUT, DELETE` [`PEER_PREFIX`]`<digest>` | for the other servers: this server's own copy |
//!
//! Who may do what is judged before a request comes here; in particular, only servers may use what begins
//! with [`PEER_PREFIX`].

mod answer;
mod blob;
mod manifest;
mod replicate;
mod route;
mod session;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use crate::{Blobs, Digest, Error, Reader};
use session::Sessions;

/// What may go wrong with a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of the registry's answers, and of requests it passes on.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The prefix of the endpoints by which servers exchange blobs; a digest follows.
///
/// `PUT` stores the body if it hashes to the digest (201 when it is durable), `GET` and `HEAD` give what this
/// server itself has, and 404 otherwise, `DELETE` removes it. None of them touches any other server.
pub const PEER_PREFIX: &str = "/v2/_peer/blobs/";

/// Which tag names which manifest, kept where all servers agree.
///
/// Errors are [`Error::Unavailable`], unless another fits better.
#[async_trait]
pub trait Tags: Send + Sync + 'static {
    /// The manifest that `tag` names in `repository`.
    async fn get(&self, repository: &str, tag: &str) -> Result<Option<Digest>, Error>;
    /// Makes `tag` name `digest`. Durable when this returns.
    async fn put(&self, repository: &str, tag: &str, digest: &Digest) -> Result<(), Error>;
    /// Removes `tag`; says whether it was there.
    async fn delete(&self, repository: &str, tag: &str) -> Result<bool, Error>;
    /// All of a repository's tags, in their order.
    async fn list(&self, repository: &str) -> Result<Vec<(String, Digest)>, Error>;
    /// All repositories that have a tag, in their order.
    async fn repositories(&self) -> Result<Vec<String>, Error>;
}

/// The other servers, as far as their blobs are concerned: who they are, and [`PEER_PREFIX`]'s requests to them.
///
/// Calls should give up on a server that does not answer within some seconds, with [`Error::Unavailable`].
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// The names of all servers of the cluster but this one, whether they are alive or not: a majority is
    /// counted from them.
    fn names(&self) -> Vec<String>;
    /// Whether `peer` itself has the blob (`HEAD`).
    async fn has(&self, peer: &str, digest: &Digest) -> Result<bool, Error>;
    /// Sends the blob of `size` bytes in the file `path` to `peer` (`PUT`). Durable there when this returns.
    async fn put(&self, peer: &str, digest: &Digest, size: u64, path: &Path) -> Result<(), Error>;
    /// Asks `peer` for the blob (`GET`): `None` if it lacks it. What comes is not trusted.
    async fn get(&self, peer: &str, digest: &Digest) -> Result<Option<Reader>, Error>;
    /// Removes the blob at `peer` (`DELETE`).
    async fn delete(&self, peer: &str, digest: &Digest) -> Result<(), Error>;
    /// Passes a request on to `peer`, whose session it belongs to: a client may open an upload on one server
    /// and reach another with its next connection.
    async fn forward(&self, peer: &str, request: Request<Body>) -> Result<Response<Body>, Error>;
}

/// The registry of one server. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    /// This server's name, by which the others know its sessions.
    name: String,
    blobs: Blobs,
    tags: Arc<dyn Tags>,
    peers: Arc<dyn Peers>,
    sessions: Sessions,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry of the server `name`, which is what the other servers' [`Peers::names`] call it.
    pub fn new(
        name: impl Into<String>,
        blobs: Blobs,
        tags: Arc<dyn Tags>,
        peers: Arc<dyn Peers>,
    ) -> Registry {
        Registry {
            inner: Arc::new(Inner {
                name: name.into(),
                blobs,
                tags,
                peers,
                sessions: Sessions::default(),
            }),
        }
    }

    /// This server's blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Answers a request whose path begins with `/v2/`. Errors become answers in OCI's form.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer: BoxFuture<'_, _> = Box::pin(self.inner.route(request));
        match answer.await {
            Ok(answer) => answer,
            Err(fault) => {
                tracing::debug!(%method, path, status = fault.status.as_u16(), reason = fault.message, "refused");
                fault.answer(method == http::Method::HEAD)
            }
        }
    }

    /// Fetches those of `digests` that this server lacks from the others; says how many came. One that nobody
    /// has is an error only after all others have been tried.
    pub async fn fill(&self, digests: &[Digest]) -> Result<usize, Error> {
        self.inner.fill(digests).await
    }

    /// All blobs that this cluster's manifests refer to, and the manifests themselves: what every server should
    /// have. Manifests that are missing here are fetched on the way; one that cannot be had keeps nobody from what
    /// the others refer to.
    pub async fn wanted(&self) -> Result<Vec<Digest>, Error> {
        let (wanted, _) = self.inner.wanted().await?;
        Ok(wanted.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
