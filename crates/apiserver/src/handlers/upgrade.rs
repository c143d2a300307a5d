//! Connections that leave HTTP for another protocol.

use api::Status;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::spdy::SPDY;
use crate::dispatch::Call;

/// In what a client would like to have several streams over its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    WebSocket,
    Spdy,
}

impl Way {
    /// Reads which one is asked for.
    ///
    /// # Errors
    /// 400 where none is.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Status> {
        match asked_for(headers).and_then(|v| v.to_str().ok()) {
            Some(asked) if asked.eq_ignore_ascii_case("websocket") => Ok(Self::WebSocket),
            Some(asked) if asked.eq_ignore_ascii_case(SPDY) => Ok(Self::Spdy),
            _ => Err(Status::bad_request(
                "unable to upgrade: missing upgrade headers in request: Upgrade: websocket, or SPDY/3.1",
            )),
        }
    }
}

/// Once the client has the answer that changes the protocol, serves the connection until it is done, or the server
/// stops, or the user is revoked, or the client is gone, whatever the connection waits for.
pub(super) fn serve<F: Future<Output = ()> + Send>(
    call: &Call,
    upgrade: OnUpgrade,
    serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
) {
    let shutdown = call.connection.shutdown.clone();
    // Whoever accepted the connection has nothing more to do with it: it is for this task to hear of its end.
    let revoked = call.server.until_revoked(&call.connection);
    let broken = call.connection.line.broken();
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return debug!(%error, "a client that asked for an upgrade went away"),
        };
        tokio::select! {
            () = serve(upgraded) => {}
            () = shutdown.cancelled() => {}
            () = broken => debug!("the client of an upgraded connection is gone"),
            () = revoked => debug!("the user of an upgraded connection is revoked"),
        }
    });
}

/// The protocol that is asked for in the place of HTTP, or was taken: one that `Connection` does not name is of no account
/// (RFC 9110, 7.8).
pub(super) fn asked_for(headers: &HeaderMap) -> Option<&HeaderValue> {
    let wanted = named_by_connection(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| wanted)
}

/// The fields that `Connection` says are of this connection alone.
pub(super) fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).into_iter();
    let names = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    names.map(str::trim)
}
