//! Datagrams that come in by a port of the node, and their answers.

mod clients;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::Entrance;
use crate::services::Origin;
use crate::table::Published;
use crate::{Datagrams, LARGEST, Protocol};

pub(super) use clients::Clients;

/// Clients of all of the node's ports that are remembered at a time. The gateway has more ports to give out, so that a free
/// one is found soon.
pub(super) const MOST_CLIENTS: usize = 16_384;

/// A port whose clients are forgotten when it is not served any more.
struct Port {
    at: SocketAddrV4,
    clients: Clients,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.clients.forget(self.at);
    }
}

/// Passes datagrams between clients outside and whatever the port stands for.
pub(super) async fn pass(
    socket: Arc<UdpSocket>,
    at: SocketAddrV4,
    entrance: Entrance,
    clients: Clients,
) {
    let port = Port { at, clients };
    let clients = &port.clients;
    let mut buffer = vec![0; LARGEST];
    loop {
        // An error here is about what was sent before: somebody's port is closed.
        let Ok((length, SocketAddr::V4(from))) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let key = (at, from);
        let Some(to) = backend(&entrance, at, from, clients.backend(key)) else {
            continue;
        };
        let client = match clients.said(key, to) {
            Some(client) => client,
            None => {
                // Nobody is forgotten for who cannot come in.
                let Some(client) = enter(&entrance) else {
                    continue;
                };
                clients.insert(key, to, client, &socket)
            }
        };
        // A datagram that goes nowhere is lost, as any may be.
        let _ = client.send(Bytes::copy_from_slice(&buffer[..length]), to);
    }
}

/// Whom a client's datagram goes to: whom it went to before, as long as that is one of the port's backends.
fn backend(
    entrance: &Entrance,
    at: SocketAddrV4,
    from: SocketAddrV4,
    before: Option<SocketAddrV4>,
) -> Option<SocketAddrV4> {
    let table = entrance.network.table();
    let service = match table.published(Protocol::Udp, at)? {
        Published::Pod(to) => return Some(to),
        Published::Service(service) => service,
    };
    if let Some(kept) = before.filter(|to| service.has(Origin::Outside, *to)) {
        return Some(kept);
    }
    let now = Instant::now();
    let chosen = *service.choose(Origin::Outside, *from.ip(), now).first()?;
    service.met(*from.ip(), chosen, now);
    Some(chosen)
}

/// A place for one more client in the pods' network.
fn enter(entrance: &Entrance) -> Option<Datagrams> {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let bound = entrance.gateway.bind_datagram(any).ok()?;
    Some(Datagrams::new(Arc::new(bound)))
}

#[cfg(test)]
mod tests;
