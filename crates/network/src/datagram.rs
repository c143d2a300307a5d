//! Datagrams: what UDP is on a real network.

mod flows;
pub(crate) mod nat;

use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::link::Packet;
use crate::node::{Pod, PodNet};
use crate::outside;
use crate::policy::{Direction, Policies};
use crate::ports::Bound;
use crate::table::{Meaning, Road};
use crate::wakers::Wakers;
use crate::{Family, Protocol, SocketError};
use flows::{Acquaintances, Flows};
use nat::Nat;

/// The largest datagram, as on IPv4.
pub const LARGEST: usize = 65_507;

/// Bytes that wait for one receiver; what comes beyond them is lost, as it is on a real network.
const CAPACITY: usize = 256 << 10;

/// What one waiting datagram costs beyond its bytes.
const OVERHEAD: usize = 256;

/// A datagram that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its bytes.
    pub bytes: Bytes,
    /// Who sent it.
    pub from: SocketAddr,
}

#[derive(Debug, Default)]
struct Arrived {
    datagrams: VecDeque<Datagram>,
    used: usize,
    readers: Wakers,
}

/// Where a socket's datagrams arrive. They count against the budget of the pod that receives them.
#[derive(Debug)]
pub(crate) struct Inbox {
    arrived: Mutex<Arrived>,
    /// Who is answered, and may answer, whatever the rules are.
    known: Mutex<Acquaintances>,
    budget: Budget,
}

impl Inbox {
    /// Whether a datagram of a pod's own socket at `at` may go to somebody or come from there.
    fn may_pass(
        &self,
        policies: &Policies,
        at: SocketAddrV4,
        other: SocketAddrV4,
        direction: Direction,
    ) -> bool {
        let allows = |direction| {
            let verdict = match direction {
                Direction::Egress => policies.egress(*at.ip(), other, Protocol::Udp),
                Direction::Ingress => policies.ingress(*other.ip(), at, Protocol::Udp),
            };
            verdict.is_allowed()
        };
        let mut known = self.known.lock();
        known.may_pass(other, direction, Instant::now(), allows)
    }

    fn deliver(&self, datagram: Datagram) {
        let mut arrived = self.arrived.lock();
        let size = datagram.bytes.len() + OVERHEAD;
        if arrived.used + size <= CAPACITY && !self.budget.is_spent() {
            arrived.used += size;
            self.budget.hold(size);
            arrived.datagrams.push_back(datagram);
            arrived.readers.wake();
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.budget.release(self.arrived.get_mut().used);
    }
}

/// A bound address that datagrams are sent from and arrive at.
#[derive(Debug)]
pub struct Datagrams {
    bound: Arc<Bound>,
    inbox: Arc<Inbox>,
    flows: Mutex<Flows>,
    nat: Nat,
}

impl Datagrams {
    /// Begins to receive at this address.
    pub fn new(bound: Arc<Bound>) -> Self {
        let inbox = Arc::new(Inbox {
            arrived: Mutex::default(),
            known: Mutex::default(),
            budget: bound.pod().budget.clone(),
        });
        bound.receive_datagrams(&inbox);
        Self {
            bound,
            inbox,
            flows: Mutex::default(),
            nat: Nat::default(),
        }
    }

    /// This socket's address.
    pub fn local(&self) -> SocketAddr {
        self.bound.address()
    }

    /// Sends a datagram. That it was sent does not mean that anybody receives it. It has to be called within tokio's
    /// runtime, where answers from outside are waited for.
    ///
    /// # Errors
    /// [`SocketError::TooLarge`] beyond [`LARGEST`] bytes, [`SocketError::Unreachable`] where no
    /// pod is and no way leads outside, [`SocketError::PortsExhausted`] where too many of the pod's sockets have sent there.
    pub fn send(&self, bytes: Bytes, to: impl Into<SocketAddr>) -> Result<(), SocketError> {
        if bytes.len() > LARGEST {
            return Err(SocketError::TooLarge);
        }
        let family = self.bound.family();
        let to = match family.inner(to.into()) {
            Some(SocketAddr::V4(to)) => to,
            Some(outside) => return self.leave(&bytes, outside),
            None => return Err(SocketError::Unreachable),
        };
        let to = self.target(to).ok_or(SocketError::Unreachable)?;
        let pod = self.bound.pod();
        let from = self.bound.source_for(*to.ip());
        let (road, policies) = {
            let table = pod.table();
            (table.road(*to.ip()), table.policies.clone())
        };
        let own = pod.own(*to.ip());
        if road == Road::Outside && !own && !pod.is_near(*to.ip()) {
            return self.leave(&bytes, to.into());
        }
        if !own {
            if from.ip().is_loopback() {
                // To others its address would be one of their own.
                return Err(SocketError::Unreachable);
            }
            let may = self.inbox.may_pass(&policies, from, to, Direction::Egress);
            if !may {
                // What is not let out is lost, as any datagram may be.
                return Ok(());
            }
        }
        if own || pod.is_near(*to.ip()) {
            let receiver = pod.at(*to.ip()).ok_or(SocketError::Unreachable)?;
            receiver.deliver(family, from, to, bytes, &policies);
            return Ok(());
        }
        match (road, pod.links()) {
            (Road::Link(peer), Some(links)) => {
                links.send_datagram(&peer, Packet { from, to, bytes })
            }
            _ => Err(SocketError::Unreachable),
        }
    }

    fn leave(&self, bytes: &[u8], to: SocketAddr) -> Result<(), SocketError> {
        let pod = self.bound.pod();
        let open = pod.table().outside && outside::is_possible(to.ip());
        if !open || self.bound.is_loopback() {
            return Err(SocketError::Unreachable);
        }
        match pod.may_send_outside(to) {
            true => self.nat.send(bytes, to, pod, &self.inbox),
            // As above.
            false => Ok(()),
        }
    }

    /// Where a datagram goes: to the backend that this socket has met at a Service, or to the address itself.
    fn target(&self, to: SocketAddrV4) -> Option<SocketAddrV4> {
        let client = self.bound.pod();
        if to.ip().is_unspecified() || *to.ip() == client.address {
            return Some(to);
        }
        let table = client.table();
        let (service, origin) = match table.meaning(to, Protocol::Udp) {
            Meaning::Itself => return Some(to),
            Meaning::Pod(pod) => {
                let now = Instant::now();
                self.flows.lock().sent(to, pod, now);
                return Some(pod);
            }
            Meaning::Nobody => return None,
            Meaning::Service(service, origin) => (service, origin),
        };
        let now = Instant::now();
        let mut flows = self.flows.lock();
        let kept = flows.kept(to, now);
        let kept = kept.filter(|backend| service.has(origin, *backend));
        let backend = match kept {
            Some(backend) => backend,
            None => *service.choose(origin, client.address, now).first()?,
        };
        flows.sent(to, backend, now);
        service.met(client.address, backend, now);
        Some(backend)
    }

    /// The next datagram, if one has arrived.
    pub fn try_receive(&self) -> Option<Datagram> {
        let mut arrived = self.inbox.arrived.lock();
        let mut datagram = arrived.datagrams.pop_front()?;
        if let SocketAddr::V4(from) = datagram.from {
            datagram.from = self.flows.lock().named(from, Instant::now()).into();
        }
        let size = datagram.bytes.len() + OVERHEAD;
        arrived.used -= size;
        self.inbox.budget.release(size);
        Some(datagram)
    }

    /// Ready once a datagram has arrived.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut arrived = self.inbox.arrived.lock();
        if arrived.datagrams.is_empty() {
            arrived.readers.register(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Waits for the next datagram.
    pub async fn receive(&self) -> Datagram {
        loop {
            std::future::poll_fn(|cx| self.poll_ready(cx)).await;
            if let Some(datagram) = self.try_receive() {
                return datagram;
            }
        }
    }
}

impl Pod {
    /// Hands a datagram to whoever receives at its address, if the pod's rules let it in.
    pub(crate) fn deliver(
        &self,
        family: Family,
        from: SocketAddrV4,
        to: SocketAddrV4,
        bytes: Bytes,
        policies: &Policies,
    ) {
        let Some(inbox) = self.ports.lock().inbox(family, to) else {
            return;
        };
        let at = SocketAddrV4::new(self.address, to.port());
        let own = self.own(*from.ip());
        if own || inbox.may_pass(policies, at, from, Direction::Ingress) {
            let from = family.outer(from);
            inbox.deliver(Datagram { bytes, from });
        }
    }
}

impl PodNet {
    /// Takes a local address for a datagram socket; port 0 asks for any.
    ///
    /// # Errors
    /// When the address is not this pod's or its port is taken.
    pub fn bind_datagram(&self, address: impl Into<SocketAddr>) -> Result<Bound, SocketError> {
        Bound::new(self.pod(), Protocol::Udp, address)
    }
}
