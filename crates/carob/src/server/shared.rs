//! The address that outlives any node: 127.0.0.1 and the API port, listened on by every local
//! server that can answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::ApiServer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::becomes;

const BACKLOG: u32 = 1024;

/// How long who is connected stays with a server that is not ready: longer than an election lasts, and not so
/// long that anybody waits for a server that is cut off.
const ELECTION: Duration = Duration::from_secs(5);

/// Listens on `address` while the server is ready, until `ending`.
///
/// The kernel spreads connections over all processes that listen with `SO_REUSEPORT`; one that
/// cannot answer must not be among them. Who is connected already keeps watches and logs over an election.
pub(super) async fn serve(
    server: ApiServer,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    ending: CancellationToken,
) {
    let mut ready = server.ready();
    let mut serving = JoinSet::new();
    let mut closing = ending.child_token();
    loop {
        let back = tokio::select! {
            () = ending.cancelled() => break,
            gone = becomes(&mut ready, true) => match gone {
                true => break,
                false => true,
            },
            () = tokio::time::sleep(ELECTION), if !closing.is_cancelled() => false,
        };
        if !back {
            closing.cancel();
            continue;
        }
        if closing.is_cancelled() {
            closing = ending.child_token();
        }
        while serving.try_join_next().is_some() {}
        let leaving = ending.child_token();
        match listen(address) {
            Ok(listener) => {
                let tls = Arc::clone(&tls);
                serving.spawn(server.serve(listener, tls, leaving.clone(), closing.clone()));
                tokio::select! {
                    () = ending.cancelled() => {}
                    _ = becomes(&mut ready, false) => {}
                }
                leaving.cancel();
            }
            Err(error) => {
                tracing::error!(%error, %address, "cannot listen on the shared address");
                tokio::select! {
                    () = ending.cancelled() => {}
                    _ = ready.changed() => {}
                }
            }
        }
    }
    closing.cancel();
    while serving.join_next().await.is_some() {}
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
