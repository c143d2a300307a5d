//! Connections that leave HTTP for another protocol.

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
