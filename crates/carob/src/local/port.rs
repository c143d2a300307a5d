//! Whether the port of the shared address is this cluster's to use.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::layout::{Cluster, NodeDir};
use super::process;
use super::reach::{connect, shared_url};

/// How long the kernel may take to close the sockets of a process that was killed.
const CLOSING: Duration = Duration::from_secs(1);

/// Refuses a port that somebody else has.
///
/// With none of this cluster's servers alive the port must be free, and binding it without
/// `SO_REUSEPORT` proves it. With one alive whoever answers there must hold a certificate of this
/// cluster, or two clusters would share the port and every second request go astray.
///
/// A server that was killed a moment ago may still be letting go of its lock and its sockets, so
/// what looks taken is looked at again for a moment.
pub(super) async fn check_port(cluster: &Cluster, nodes: &[NodeDir]) -> Result<()> {
    let deadline = tokio::time::Instant::now() + CLOSING;
    while is_taken(cluster, nodes).await? {
        if tokio::time::Instant::now() > deadline {
            bail!(
                "port {} on 127.0.0.1 is taken by another program: stop it, or choose another with --api-port",
                cluster.api_port
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn is_taken(cluster: &Cluster, nodes: &[NodeDir]) -> Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.api_port));
    if nodes.iter().any(|n| process::holder(&n.server()).is_some()) {
        let answers = tokio::net::TcpStream::connect(address).await.is_ok();
        return Ok(answers && !is_ours(cluster, nodes).await);
    }
    // The standard library sets SO_REUSEADDR and not SO_REUSEPORT.
    match TcpListener::bind(address) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(true),
        Err(error) => Err(error)
            .with_context(|| format!("cannot listen on {address}: choose another --api-port")),
    }
}

/// Whether what answers on the shared address holds a certificate of this cluster. What it
/// answers does not matter: without one there would be no answer at all.
async fn is_ours(cluster: &Cluster, nodes: &[NodeDir]) -> bool {
    let Ok(client) = connect(nodes, [shared_url(cluster)]) else {
        return false;
    };
    let Ok(request) = http::Request::get("/readyz").body(bytes::Bytes::new()) else {
        return false;
    };
    match client
        .with_timeout(Duration::from_secs(2))
        .raw(request)
        .await
    {
        Ok(_) => true,
        Err(error) => error.code().is_some(),
    }
}
