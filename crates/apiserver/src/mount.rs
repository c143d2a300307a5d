//! Handlers that others put under a prefix of the server's paths, such as the image registry at `/v2`.

use std::sync::Arc;

use api::Status;
use futures::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;

use crate::authz;
use crate::body::Response;
use crate::identity::Identity;
use crate::{ApiServer, respond};

/// What serves a mount: called with who asks and the request as it comes off the wire (its body is
/// not limited here).
pub type MountHandler =
    Arc<dyn Fn(Identity, Request<Incoming>) -> BoxFuture<'static, Response> + Send + Sync>;

/// A prefix and what serves it. Administrators and servers may use any method, nodes GET and HEAD, others what
/// their roles say of the path; what lies below `/v2/_peer` is for servers only.
#[derive(Clone)]
pub struct Mount {
    /// The path that it serves, and all below it: `/v2`.
    pub prefix: String,
    /// What serves it.
    pub handler: MountHandler,
}

/// Below this the image registry exchanges blobs with the other servers, unverified by any manifest:
/// it is for servers alone (`images::registry::PEER_PREFIX` lies in it).
const PEERS: &str = "/v2/_peer";

/// Whether a path is one by which servers speak to each other.
pub(crate) fn is_for_peers(path: &str) -> bool {
    path.strip_prefix(PEERS)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl ApiServer {
    pub(crate) fn mount(&self, path: &str) -> Option<&Mount> {
        self.inner.config.mounts.iter().find(|mount| {
            path.strip_prefix(mount.prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    pub(crate) async fn serve_mount(
        &self,
        mount: &Mount,
        identity: &Identity,
        request: Request<Incoming>,
    ) -> Response {
        match self.may_use(identity, &request).await {
            Ok(identity) => (mount.handler)(identity, request).await,
            Err(status) => respond::status(&status),
        }
    }

    /// Who asks, if they may.
    async fn may_use(
        &self,
        identity: &Identity,
        request: &Request<Incoming>,
    ) -> Result<Identity, Status> {
        let (method, path) = (request.method(), request.uri().path());
        let identity = self.identify(identity, request.headers()).await?;
        match authz::allowed_mount(&identity, method, path) {
            Some(true) => {}
            Some(false) => return Err(respond::forbidden_path(&identity, method, path)),
            None => self.authorize_path(&identity, method, path).await?,
        }
        Ok(identity)
    }
}
