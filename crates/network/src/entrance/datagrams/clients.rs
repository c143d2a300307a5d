//! Who is known at the node's ports for datagrams, and for how long.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::Datagrams;

/// How long an established client and its backend may say nothing before they are forgotten, as Linux' connection tracking
/// has it.
pub(super) const IDLE: Duration = Duration::from_secs(120);
/// The same for who may be nobody.
pub(super) const IDLE_AT_FIRST: Duration = Duration::from_secs(30);
/// How long after its first word a client that is answered, or its backend, has to go on for it to be established, as
/// there.
pub(super) const GOES_ON: Duration = Duration::from_secs(2);

/// A client: the port that it came to, and its own address.
pub(super) type Key = (SocketAddrV4, SocketAddrV4);

struct Client {
    /// What it is in the pods' network.
    socket: Arc<Datagrams>,
    /// Whom it talks to.
    to: SocketAddrV4,
    /// When either last said something.
    at: Instant,
    /// How many words of all clients there had been by then.
    word: u64,
    /// When it said its first word.
    first: Instant,
    is_answered: bool,
    is_established: bool,
    _answering: AbortOnDropHandle<()>,
}

impl Client {
    /// Where it stands among those who may be forgotten for others: the first goes first.
    fn place(&self) -> (bool, u64) {
        (self.is_established, self.word)
    }

    /// When it is forgotten, if nobody says anything any more.
    fn until(&self) -> Instant {
        let idle = match self.is_established {
            true => IDLE,
            false => IDLE_AT_FIRST,
        };
        self.at + idle
    }
}

/// The clients of all ports of a node. Clones are handles to the same.
///
/// Each holds one of the gateway's ports, of which there are fewer than the clients that anybody can pretend to be; and
/// servers of datagrams answer whoever asks. So only where it goes on after an answer does a client count as established. Where there are as
/// many as may be, the one that has been silent for longest is forgotten for who comes next: of those who are not
/// established, else of all.
#[derive(Clone)]
pub(in crate::entrance) struct Clients(Arc<Mutex<Known>>);

struct Known {
    most: usize,
    all: BTreeMap<Key, Client>,
    /// All by their places.
    places: BTreeMap<(bool, u64), Key>,
    words: u64,
}

impl Known {
    fn forget(&mut self, key: &Key) {
        if let Some(client) = self.all.remove(key) {
            self.places.remove(&client.place());
        }
    }

    /// The client that has this socket, unless another has come in its place.
    fn its(&self, key: &Key, socket: &Arc<Datagrams>) -> Option<&Client> {
        let client = self.all.get(key);
        client.filter(|client| Arc::ptr_eq(&client.socket, socket))
    }

    /// Either a client or its backend has said something, which has `changed` it.
    fn talk(&mut self, key: Key, changed: impl FnOnce(&mut Client)) {
        if let Some(client) = self.all.get_mut(&key) {
            self.places.remove(&client.place());
            self.words += 1;
            (client.at, client.word) = (Instant::now(), self.words);
            changed(client);
            client.is_established |= client.is_answered && client.at >= client.first + GOES_ON;
            self.places.insert(client.place(), key);
        }
    }
}

impl Clients {
    /// None yet, and room for so many.
    pub(in crate::entrance) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Known {
            most,
            all: BTreeMap::new(),
            places: BTreeMap::new(),
            words: 0,
        })))
    }

    /// Whom a client talks to, if it is known.
    pub(super) fn backend(&self, key: Key) -> Option<SocketAddrV4> {
        self.0.lock().all.get(&key).map(|client| client.to)
    }

    /// A client says something to somebody. What it is in the network, if it is known.
    pub(super) fn said(&self, key: Key, to: SocketAddrV4) -> Option<Arc<Datagrams>> {
        let mut known = self.0.lock();
        known.talk(key, |client| client.to = to);
        let client = known.all.get(&key)?;
        Some(client.socket.clone())
    }

    /// Takes up a new client that says something to somebody, and whose answers go out by this socket of its port.
    pub(super) fn insert(
        &self,
        key: Key,
        to: SocketAddrV4,
        socket: Datagrams,
        out: &Arc<UdpSocket>,
    ) -> Arc<Datagrams> {
        let socket = Arc::new(socket);
        let mut known = self.0.lock();
        while known.all.len() >= known.most
            && let Some((_, quiet)) = known.places.pop_first()
        {
            known.forget(&quiet);
        }
        // It looks for its client once that is there: not before the lock is free.
        let answering = answer(self.clone(), key, socket.clone(), out.clone());
        known.words += 1;
        let now = Instant::now();
        let client = Client {
            socket: socket.clone(),
            to,
            at: now,
            word: known.words,
            first: now,
            is_answered: false,
            is_established: false,
            _answering: AbortOnDropHandle::new(tokio::spawn(answering)),
        };
        known.places.insert(client.place(), key);
        known.all.insert(key, client);
        socket
    }

    /// Somebody says something to a client. False: nobody that it talks to.
    pub(super) fn heard(&self, key: Key, socket: &Arc<Datagrams>, from: SocketAddr) -> bool {
        let mut known = self.0.lock();
        let client = known.its(&key, socket);
        if client.map(|client| client.to.into()) != Some(from) {
            return false;
        }
        known.talk(key, |client| client.is_answered = true);
        true
    }

    /// Until when a client is known if nobody says anything any more. None: it is not, or not any longer.
    fn until(&self, key: Key, socket: &Arc<Datagrams>) -> Option<Instant> {
        let mut known = self.0.lock();
        let until = known.its(&key, socket)?.until();
        if until <= Instant::now() {
            known.forget(&key);
            return None;
        }
        Some(until)
    }

    /// Forgets the clients of a port.
    pub(super) fn forget(&self, port: SocketAddrV4) {
        let mut known = self.0.lock();
        let first = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let all = known.all.range((port, first)..).map(|(key, _)| *key);
        let gone: Vec<_> = all.take_while(|(of, _)| *of == port).collect();
        gone.iter().for_each(|key| known.forget(key));
    }
}

/// Sends what comes back, until the client is forgotten.
pub(super) async fn answer(
    clients: Clients,
    key: Key,
    socket: Arc<Datagrams>,
    out: Arc<UdpSocket>,
) {
    while let Some(until) = clients.until(key, &socket) {
        if let Ok(datagram) = timeout_at(until, socket.receive()).await
            // Anybody in the network may send there.
            && clients.heard(key, &socket, datagram.from)
        {
            // A datagram that goes nowhere is lost, as any may be.
            let _ = out.send_to(&datagram.bytes, key.1).await;
        }
    }
}
