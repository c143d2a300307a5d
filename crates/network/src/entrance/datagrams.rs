//! Datagrams that come in by a port of the node, and their answers.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::Entrance;
use crate::services::Origin;
use crate::table::Published;
use crate::{Datagrams, LARGEST, Protocol};

/// How long a client and its backend may say nothing before they are forgotten, as Linux' connection tracking has it for
/// those who have answered each other.
const IDLE: Duration = Duration::from_secs(120);
/// The same for who was not answered yet, and may be nobody.
const UNANSWERED: Duration = Duration::from_secs(30);
/// Clients of one port that are remembered at a time.
pub(super) const MOST_CLIENTS: usize = 4_096;

/// One client of the port.
struct Client {
    /// What it is in the pods' network.
    socket: Datagrams,
    talk: Mutex<Talk>,
}

struct Talk {
    /// Whom it talks to.
    to: SocketAddrV4,
    /// When either last said something.
    at: Instant,
    answered: bool,
}

impl Client {
    /// When it is forgotten, if nobody says anything any more.
    fn until(&self) -> Instant {
        let talk = self.talk.lock();
        let idle = if talk.answered { IDLE } else { UNANSWERED };
        talk.at + idle
    }

    /// The client has said something to somebody.
    fn said(&self, to: SocketAddrV4) {
        let mut talk = self.talk.lock();
        talk.to = to;
        talk.at = Instant::now();
    }

    /// Somebody has said something to the client. False: nobody that it talks to.
    fn heard(&self, from: SocketAddr) -> bool {
        let mut talk = self.talk.lock();
        if from != talk.to.into() {
            return false;
        }
        talk.at = Instant::now();
        talk.answered = true;
        true
    }
}

/// The clients of one port. Where there are as many as may be, the one that has waited for its first answer for longest is
/// forgotten for who comes next: anybody can pretend to be many clients, and few of those are answered.
pub(super) struct Clients {
    most: usize,
    all: HashMap<SocketAddrV4, Known>,
    /// Those that may not have been answered, in the order in which they came.
    waiting: BTreeMap<u64, SocketAddrV4>,
    next: u64,
    /// Each ends when its client is to be forgotten, and says which one that is.
    answering: JoinSet<(SocketAddrV4, u64)>,
}

struct Known {
    client: Arc<Client>,
    number: u64,
    answering: AbortHandle,
}

impl Clients {
    /// None yet, and room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            all: HashMap::new(),
            waiting: BTreeMap::new(),
            next: 0,
            answering: JoinSet::new(),
        }
    }

    fn get(&self, address: SocketAddrV4) -> Option<Arc<Client>> {
        self.all.get(&address).map(|known| known.client.clone())
    }

    /// Makes room for one more, if there is none and it can be had.
    fn has_room(&mut self) -> bool {
        while self.all.len() >= self.most {
            let Some((_, longest)) = self.waiting.pop_first() else {
                return false;
            };
            let known = self.all.get(&longest);
            if known.is_some_and(|known| !known.client.talk.lock().answered) {
                self.remove(longest);
            }
        }
        true
    }

    /// Takes up a new client, whose answers go out by this socket.
    fn insert(&mut self, address: SocketAddrV4, client: &Arc<Client>, socket: &Arc<UdpSocket>) {
        let (number, own, socket) = (self.next, client.clone(), socket.clone());
        self.next += 1;
        let answering = self.answering.spawn(async move {
            answer(&own, &socket, address).await;
            (address, number)
        });
        let known = Known {
            client: client.clone(),
            number,
            answering,
        };
        self.waiting.insert(number, address);
        self.all.insert(address, known);
    }

    /// Forgets a client that has gone quiet, unless another has its address by now.
    fn forget(&mut self, address: SocketAddrV4, number: u64) {
        let known = self.all.get(&address);
        if known.is_some_and(|known| known.number == number) {
            self.remove(address);
        }
    }

    fn remove(&mut self, address: SocketAddrV4) {
        if let Some(known) = self.all.remove(&address) {
            self.waiting.remove(&known.number);
            known.answering.abort();
        }
    }
}

/// Passes datagrams between clients outside and whatever the port stands for.
pub(super) async fn pass(
    socket: Arc<UdpSocket>,
    at: SocketAddrV4,
    entrance: Entrance,
    mut clients: Clients,
) {
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            Some(quiet) = clients.answering.join_next() => {
                if let Ok((address, number)) = quiet {
                    clients.forget(address, number);
                }
            }
            received = socket.recv_from(&mut buffer) => {
                // An error here is about what was sent before: somebody's port is closed.
                let Ok((length, SocketAddr::V4(from))) = received else { continue };
                let known = clients.get(from);
                let Some(to) = backend(&entrance, at, from, known.as_deref()) else { continue };
                let client = match known {
                    Some(client) => client,
                    None if !clients.has_room() => continue,
                    None => {
                        let Some(client) = enter(&entrance, to) else { continue };
                        clients.insert(from, &client, &socket);
                        client
                    }
                };
                client.said(to);
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
    let before = client.map(|client| client.talk.lock().to);
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
    let talk = Talk {
        to,
        at: Instant::now(),
        answered: false,
    };
    Some(Arc::new(Client {
        socket: Datagrams::new(Arc::new(bound)),
        talk: Mutex::new(talk),
    }))
}

/// Sends what comes back, until neither end has said anything for a while.
async fn answer(client: &Client, socket: &UdpSocket, to: SocketAddrV4) {
    loop {
        match tokio::time::timeout_at(client.until(), client.socket.receive()).await {
            Ok(datagram) => {
                // Anybody in the network may send there.
                if client.heard(datagram.from) {
                    // As above.
                    let _ = socket.send_to(&datagram.bytes, to).await;
                }
            }
            Err(_) if client.until() <= Instant::now() => return,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
