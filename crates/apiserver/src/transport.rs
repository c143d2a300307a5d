//! Callers in this process: the scheduler, the controllers, the server itself.

use std::sync::Arc;

use bytes::Bytes;
use client::{Body, BoxFuture, Transport};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::ApiServer;
use crate::connection::Connection;
use crate::identity::Identity;
use crate::payload::Payload;
use crate::socket::Line;

struct InProcess {
    server: ApiServer,
    identity: Identity,
}

impl ApiServer {
    /// A transport that hands requests to this server without TLS or HTTP, as this user.
    pub fn transport(
        &self,
        user: impl Into<String>,
        groups: impl IntoIterator<Item = impl Into<String>>,
    ) -> Arc<dyn Transport> {
        Arc::new(InProcess {
            server: self.clone(),
            identity: Identity::new(user, groups),
        })
    }
}

impl Transport for InProcess {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Body>, client::Error>> {
        let connection = Connection {
            identity: self.identity.clone(),
            user: None,
            peer: None,
            local: true,
            line: Line::default(),
            shutdown: CancellationToken::new(),
        };
        let request = request.map(Payload::Whole);
        async move { Ok(self.server.handle(connection, request).await) }.boxed()
    }
}
