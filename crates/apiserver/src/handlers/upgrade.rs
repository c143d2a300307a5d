//! Connections that leave HTTP for another protocol.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::dispatch::Call;

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
