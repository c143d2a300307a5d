//! The way from the node to what a probe asks.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use network::{Network, SocketError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::room::Rooms;

/// A connection: of the virtual network, or of the operating system.
pub(in crate::driver) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Connects for the probes and hooks of one pod.
pub(in crate::driver) struct Dialer<'a> {
    pub(in crate::driver) network: &'a Network,
    /// The pod's.
    pub(in crate::driver) address: Ipv4Addr,
    /// Where names are looked up, and the probes themselves find room.
    pub(in crate::driver) rooms: Rooms<'a>,
}

impl Dialer<'_> {
    /// Connects to a port of the pod, or of the host that the probe names: of this node's pods by the virtual network,
    /// of others as the node's own processes do.
    ///
    /// # Errors
    /// What Go's dialler would say, since that is what users know from the kubelet's events.
    pub(in crate::driver) async fn dial(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Box<dyn Io>, String> {
        let (at, made) = match self.near(host, port) {
            Some(to) => (to.to_string(), self.inside(to, deadline).await),
            None => (
                authority(host, port),
                self.outside(host, port, deadline).await,
            ),
        };
        made.map_err(|why| format!("dial tcp {at}: {why}"))
    }

    /// Waits until somebody listens there, if it is a pod of this node.
    pub(super) async fn listening(&self, host: &str, port: u16) {
        if let Some(to) = self.near(host, port) {
            // Where there is no such pod there is nobody to be waited for.
            let _ = self.network.listening(to).await;
        }
    }

    /// The pod of this node that a host is, if it is one.
    fn near(&self, host: &str, port: u16) -> Option<SocketAddrV4> {
        let ip = match host {
            "" => self.address,
            host => host
                .parse()
                .ok()
                .filter(|ip| self.network.cidr().contains(*ip))?,
        };
        Some(SocketAddrV4::new(ip, port))
    }

    async fn inside(
        &self,
        to: SocketAddrV4,
        deadline: Instant,
    ) -> Result<Box<dyn Io>, &'static str> {
        match timeout_at(deadline, self.network.reach(to)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream.into_io())),
            Ok(Err(SocketError::Refused)) => Err("connect: connection refused"),
            Err(_) | Ok(Err(SocketError::TimedOut)) => Err("i/o timeout"),
            Ok(Err(_)) => Err("connect: no route to host"),
        }
    }

    async fn outside(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Box<dyn Io>, &'static str> {
        let connect = async {
            let addresses = self.rooms.look_up(host, port).await?;
            TcpStream::connect(addresses.as_slice()).await
        };
        said(timeout_at(deadline, connect).await)
    }
}

fn said(made: Result<io::Result<TcpStream>, Elapsed>) -> Result<Box<dyn Io>, &'static str> {
    match made {
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
