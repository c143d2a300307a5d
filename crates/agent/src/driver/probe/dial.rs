//! The way from the node to what a probe asks.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use futures::FutureExt as _;
use network::{Network, SocketError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// A connection: of the virtual network, or of the operating system.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Connects for the probes of one pod.
pub(super) struct Dialer<'a> {
    pub(super) network: &'a Network,
    /// The pod's.
    pub(super) address: Ipv4Addr,
    /// The pod may still be starting: somebody to listen is waited for.
    pub(super) awaits: bool,
}

impl Dialer<'_> {
    /// Connects to a port of the pod, or of the host that the probe names: of this node's pods by the virtual network,
    /// of others as the node's own processes do.
    ///
    /// # Errors
    /// What Go's dialler would say, since that is what users know from the kubelet's events.
    pub(super) async fn dial(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Box<dyn Io>, String> {
        let near = match host {
            "" => Some(self.address),
            host => host
                .parse()
                .ok()
                .filter(|ip| self.network.cidr().contains(*ip)),
        };
        let (at, made) = match near {
            Some(ip) => {
                let to = SocketAddrV4::new(ip, port);
                (to.to_string(), self.near(to, deadline).await)
            }
            None => (authority(host, port), outside(host, port, deadline).await),
        };
        made.map_err(|why| format!("dial tcp {at}: {why}"))
    }

    async fn near(&self, to: SocketAddrV4, deadline: Instant) -> Result<Box<dyn Io>, &'static str> {
        let connect = async {
            match self.awaits {
                true => self.network.reach_once_listening(to).await,
                false => self.network.reach(to).await,
            }
        };
        let made = match timeout_at(deadline, connect).await {
            Ok(made) => made,
            // Why nobody could be met: because nobody listens, or because those who do accept nothing.
            Err(_) => match self.network.reach(to).now_or_never() {
                Some(Err(SocketError::Refused)) => Err(SocketError::Refused),
                _ => Err(SocketError::TimedOut),
            },
        };
        match made {
            Ok(stream) => Ok(Box::new(stream.into_io())),
            Err(SocketError::Refused) => Err("connect: connection refused"),
            Err(SocketError::TimedOut) => Err("i/o timeout"),
            Err(_) => Err("connect: no route to host"),
        }
    }
}

async fn outside(host: &str, port: u16, deadline: Instant) -> Result<Box<dyn Io>, &'static str> {
    match timeout_at(deadline, TcpStream::connect((host, port))).await {
        Ok(Ok(socket)) => Ok(Box::new(socket)),
        Err(_) => Err("i/o timeout"),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused",
            io::ErrorKind::ConnectionReset => "connect: connection reset by peer",
            io::ErrorKind::HostUnreachable => "connect: no route to host",
            io::ErrorKind::NetworkUnreachable => "connect: network is unreachable",
            io::ErrorKind::TimedOut => "connect: connection timed out",
            // All that names can fail by is of no kind.
            _ => "no such host",
        }),
    }
}

/// `HOST:PORT`, as URLs have it.
pub(super) fn authority(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}
