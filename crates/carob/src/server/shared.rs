//! The address that outlives any node: 127.0.0.1 and the API port, listened on by every local
//! server that can answer.

use std::net::SocketAddr;
use std::sync::Arc;

use apiserver::ApiServer;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use super::becomes;

const BACKLOG: u32 = 1024;

/// Listens on `address` while the server is ready, until `ending`.
///
/// The kernel spreads connections over all processes that listen with `SO_REUSEPORT`; one that
/// cannot answer must not be among them.
pub(super) async fn serve(
    server: ApiServer,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    ending: CancellationToken,
) {
    let mut ready = server.ready();
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            gone = becomes(&mut ready, true) => if gone { return },
        }
        let pause = ending.child_token();
        match listen(address) {
            Ok(listener) => {
                let serving = server.serve(listener, Arc::clone(&tls), pause.clone());
                tokio::pin!(serving);
                tokio::select! {
                    () = &mut serving => {}
                    _ = becomes(&mut ready, false) => {
                        pause.cancel();
                        serving.await;
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, %address, "cannot listen on the shared address");
                tokio::select! {
                    () = ending.cancelled() => return,
                    _ = ready.changed() => {}
                }
            }
        }
        if ending.is_cancelled() {
            return;
        }
    }
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
