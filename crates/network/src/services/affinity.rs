//! Which backend a client has met, for Services whose clients stay with one.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::lately::Lately;

/// How many clients of one port are remembered.
const CLIENTS: usize = 65_536;

/// The clients of one port of a Service.
#[derive(Debug, Default)]
pub(super) struct Affinity(Mutex<Clients>);

#[derive(Debug, Default)]
struct Clients {
    stay: Duration,
    met: Lately<Ipv4Addr, SocketAddrV4, CLIENTS>,
}

impl Affinity {
    /// How long after its last connection a client is remembered.
    pub(super) fn set_stay(&self, stay: Duration) {
        self.0.lock().stay = stay;
    }

    /// Whom a client has met lately.
    pub(super) fn kept(&self, client: Ipv4Addr, now: Instant) -> Option<SocketAddrV4> {
        let clients = self.0.lock();
        clients.met.get(&client, now, clients.stay).copied()
    }

    /// Remembers whom a client has met.
    pub(super) fn keep(&self, client: Ipv4Addr, backend: SocketAddrV4, now: Instant) {
        let mut clients = self.0.lock();
        let stay = clients.stay;
        clients.met.keep(client, backend, now, stay);
    }
}
