//! Datagrams that come in by a port of the node, and their answers.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Entrance;
use crate::services::Origin;
use crate::table::Published;
use crate::{Datagrams, LARGEST, Protocol};

/// How long a client and its backend may say nothing before they are forgotten, as Linux' connection tracking has it for
/// those who have answered each other.
const IDLE: Duration = Duration::from_secs(120);
/// Clients of one port that are remembered at a time; others' datagrams are lost meanwhile.
const MOST_CLIENTS: usize = 4_096;

/// One client of the port.
struct Client {
    /// What it is in the pods' network.
    socket: Datagrams,
    sent: Mutex<Sent>,
}

struct Sent {
    to: SocketAddrV4,
    at: Instant,
}

/// Passes datagrams between clients outside and whatever the port stands for.
pub(super) async fn pass(socket: Arc<UdpSocket>, at: SocketAddrV4, entrance: Entrance) {
    let mut clients = HashMap::<SocketAddrV4, Arc<Client>>::new();
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            Some(quiet) = answering.join_next() => {
                if let Ok(quiet) = quiet {
                    clients.remove(&quiet);
                }
            }
            received = socket.recv_from(&mut buffer) => {
                // An error here is about what was sent before: somebody's port is closed.
                let Ok((length, SocketAddr::V4(from))) = received else { continue };
                let known = clients.get(&from).cloned();
                let Some(to) = backend(&entrance, at, from, known.as_deref()) else { continue };
                let client = match known {
                    Some(client) => client,
                    None if clients.len() >= MOST_CLIENTS => continue,
                    None => {
                        let Some(client) = enter(&entrance, to) else { continue };
                        clients.insert(from, client.clone());
                        answering.spawn(answer(client.clone(), socket.clone(), from));
                        client
                    }
                };
                *client.sent.lock() = Sent { to, at: Instant::now() };
                // A datagram that goes nowhere is lost, as any may be.
                let _ = client.socket.send(Bytes::copy_from_slice(&buffer[..length]), to);
            }
        }
    }
}

/// Whom a client's datagram goes to: whom it went to before, as long as that is one of the port's backends.
fn backend(
    entrance: &Entrance,
    at: SocketAddrV4,
    from: SocketAddrV4,
    client: Option<&Client>,
) -> Option<SocketAddrV4> {
    let table = entrance.network.table();
    let service = match table.published(Protocol::Udp, at)? {
        Published::Pod(to) => return Some(to),
        Published::Service(service) => service,
    };
    let before = client.map(|client| client.sent.lock().to);
    if let Some(kept) = before.filter(|to| service.has(Origin::Outside, *to)) {
        return Some(kept);
    }
    let now = Instant::now();
    let chosen = *service.choose(Origin::Outside, *from.ip(), now).first()?;
    service.met(*from.ip(), chosen, now);
    Some(chosen)
}

fn enter(entrance: &Entrance, to: SocketAddrV4) -> Option<Arc<Client>> {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let bound = entrance.gateway.bind_datagram(any).ok()?;
    let sent = Sent {
        to,
        at: Instant::now(),
    };
    Some(Arc::new(Client {
        socket: Datagrams::new(Arc::new(bound)),
        sent: Mutex::new(sent),
    }))
}

/// Sends what comes back, until neither end has said anything for a while.
async fn answer(client: Arc<Client>, socket: Arc<UdpSocket>, to: SocketAddrV4) -> SocketAddrV4 {
    let mut heard = Instant::now();
    loop {
        let quiet = heard.max(client.sent.lock().at) + IDLE;
        match tokio::time::timeout_at(quiet, client.socket.receive()).await {
            // Anybody in the network may send there.
            Ok(datagram) if datagram.from != client.sent.lock().to.into() => {}
            Ok(datagram) => {
                heard = Instant::now();
                // As above.
                let _ = socket.send_to(&datagram.bytes, to).await;
            }
            Err(_) if heard.max(client.sent.lock().at) + IDLE <= Instant::now() => return to,
            Err(_) => {}
        }
    }
}
