//! A pod's port space: which local addresses are taken, and by what.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Weak};

use crate::datagram::Inbox;
use crate::node::Pod;
use crate::stream::Backlog;
use crate::{Family, Protocol, SocketError};

/// The ports given out for port 0, Linux's own range.
pub(crate) const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// What incoming traffic for an address is handed to.
#[derive(Clone, Debug)]
enum Taker {
    /// Nothing: the address is only held.
    Nobody,
    Streams(Weak<Backlog>),
    Datagrams(Weak<Inbox>),
}

#[derive(Debug, Default)]
struct Space {
    /// By port, then by the local address it was taken on; unspecified means every address.
    taken: BTreeMap<u16, BTreeMap<Ipv4Addr, Taker>>,
    next: u16,
}

impl Space {
    fn take(&mut self, address: SocketAddrV4) -> Result<SocketAddrV4, SocketError> {
        let address = match address.port() {
            0 => SocketAddrV4::new(*address.ip(), self.free_port()?),
            _ => address,
        };
        let at_port = self.taken.entry(address.port()).or_default();
        let clash = at_port.keys().any(|other| {
            other.is_unspecified() || address.ip().is_unspecified() || other == address.ip()
        });
        if clash {
            return Err(SocketError::AddressInUse);
        }
        at_port.insert(*address.ip(), Taker::Nobody);
        Ok(address)
    }

    fn free_port(&mut self) -> Result<u16, SocketError> {
        let (first, count) = (*EPHEMERAL.start(), EPHEMERAL.len() as u16);
        for _ in 0..count {
            let port = first + self.next;
            self.next = (self.next + 1) % count;
            if !self.taken.contains_key(&port) {
                return Ok(port);
            }
        }
        Err(SocketError::PortsExhausted)
    }

    fn release(&mut self, address: SocketAddrV4) {
        if let Some(at_port) = self.taken.get_mut(&address.port()) {
            at_port.remove(address.ip());
            if at_port.is_empty() {
                self.taken.remove(&address.port());
            }
        }
    }

    fn taker(&self, address: SocketAddrV4) -> Option<Taker> {
        let at_port = self.taken.get(&address.port())?;
        let exact = at_port.get(address.ip());
        exact
            .or_else(|| at_port.get(&Ipv4Addr::UNSPECIFIED))
            .cloned()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ports {
    streams: Space,
    streams6: Space,
    datagrams: Space,
    datagrams6: Space,
}

impl Ports {
    fn space(&mut self, protocol: Protocol, family: Family) -> &mut Space {
        match (protocol, family) {
            (Protocol::Tcp, Family::V4) => &mut self.streams,
            (Protocol::Tcp, Family::V6) => &mut self.streams6,
            (Protocol::Udp, Family::V4) => &mut self.datagrams,
            (Protocol::Udp, Family::V6) => &mut self.datagrams6,
        }
    }

    /// Who accepts streams of this family at this address.
    pub(crate) fn backlog(
        &mut self,
        family: Family,
        address: SocketAddrV4,
    ) -> Option<Arc<Backlog>> {
        match self.space(Protocol::Tcp, family).taker(address)? {
            Taker::Streams(backlog) => backlog.upgrade(),
            _ => None,
        }
    }

    /// Who receives datagrams of this family at this address.
    pub(crate) fn inbox(&mut self, family: Family, address: SocketAddrV4) -> Option<Arc<Inbox>> {
        match self.space(Protocol::Udp, family).taker(address)? {
            Taker::Datagrams(inbox) => inbox.upgrade(),
            _ => None,
        }
    }
}

/// A local address that its holder alone has; free again when it is dropped.
#[derive(Debug)]
pub struct Bound {
    pod: Arc<Pod>,
    protocol: Protocol,
    family: Family,
    address: SocketAddrV4,
}

impl Bound {
    pub(crate) fn new(
        pod: &Arc<Pod>,
        protocol: Protocol,
        address: impl Into<SocketAddr>,
    ) -> Result<Self, SocketError> {
        let address = address.into();
        let family = Family::of(&address);
        let Some(SocketAddr::V4(address)) = family.inner(address) else {
            return Err(SocketError::NotBindable);
        };
        let ip = *address.ip();
        if !(ip.is_unspecified() || ip.is_loopback() || ip == pod.address) {
            return Err(SocketError::NotBindable);
        }
        let address = pod.ports.lock().space(protocol, family).take(address)?;
        Ok(Self {
            pod: pod.clone(),
            protocol,
            family,
            address,
        })
    }

    /// The address, with the port that was given out where none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.family.outer(self.address)
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// Whether it is an address of the pod's loopback, from which nothing comes to others.
    pub(crate) fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    pub(crate) fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// The address that traffic from here to there comes from.
    pub(crate) fn source_for(&self, remote: Ipv4Addr) -> SocketAddrV4 {
        let ip = match (self.address.ip().is_unspecified(), remote.is_loopback()) {
            (false, _) => *self.address.ip(),
            (true, true) => Ipv4Addr::LOCALHOST,
            // The pod has no other IPv6 address.
            (true, false) if self.family == Family::V6 => Ipv4Addr::LOCALHOST,
            (true, false) => self.pod.address,
        };
        SocketAddrV4::new(ip, self.address.port())
    }

    /// The address that traffic which leaves the pod comes from, also to what has a loopback address outside of it.
    pub(crate) fn source_away(&self) -> SocketAddrV4 {
        match self.address.ip().is_unspecified() {
            true => SocketAddrV4::new(self.pod.address, self.address.port()),
            false => self.address,
        }
    }

    pub(crate) fn accept_streams(&self, backlog: &Arc<Backlog>) {
        self.hand_to(Taker::Streams(Arc::downgrade(backlog)));
        self.pod.listened.notify_waiters();
    }

    pub(crate) fn receive_datagrams(&self, inbox: &Arc<Inbox>) {
        self.hand_to(Taker::Datagrams(Arc::downgrade(inbox)));
    }

    fn hand_to(&self, taker: Taker) {
        let mut ports = self.pod.ports.lock();
        let space = ports.space(self.protocol, self.family);
        let at_port = space.taken.entry(self.address.port());
        at_port.or_default().insert(*self.address.ip(), taker);
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let mut ports = self.pod.ports.lock();
        ports
            .space(self.protocol, self.family)
            .release(self.address);
    }
}
