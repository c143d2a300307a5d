//! A pod's port space: which local addresses are taken, and by what.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Weak};

use crate::datagram::Inbox;
use crate::node::Pod;
use crate::stream::Backlog;
use crate::{Protocol, SocketError};

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
    datagrams: Space,
}

impl Ports {
    fn space(&mut self, protocol: Protocol) -> &mut Space {
        match protocol {
            Protocol::Tcp => &mut self.streams,
            Protocol::Udp => &mut self.datagrams,
        }
    }

    /// Who accepts streams at this address.
    pub(crate) fn backlog(&mut self, address: SocketAddrV4) -> Option<Arc<Backlog>> {
        match self.streams.taker(address)? {
            Taker::Streams(backlog) => backlog.upgrade(),
            _ => None,
        }
    }

    /// Who receives datagrams at this address.
    pub(crate) fn inbox(&mut self, address: SocketAddrV4) -> Option<Arc<Inbox>> {
        match self.datagrams.taker(address)? {
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
    address: SocketAddrV4,
}

impl Bound {
    pub(crate) fn new(
        pod: &Arc<Pod>,
        protocol: Protocol,
        address: SocketAddrV4,
    ) -> Result<Self, SocketError> {
        let ip = *address.ip();
        if !(ip.is_unspecified() || ip.is_loopback() || ip == pod.address) {
            return Err(SocketError::NotBindable);
        }
        let address = pod.ports.lock().space(protocol).take(address)?;
        Ok(Self {
            pod: pod.clone(),
            protocol,
            address,
        })
    }

    /// The address, with the port that was given out where none was asked for.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    pub(crate) fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// The address that traffic from here to there comes from.
    pub(crate) fn source_for(&self, remote: Ipv4Addr) -> SocketAddrV4 {
        let ip = match (self.address.ip().is_unspecified(), remote.is_loopback()) {
            (false, _) => *self.address.ip(),
            (true, true) => Ipv4Addr::LOCALHOST,
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
        let at_port = ports.space(self.protocol).taken.entry(self.address.port());
        at_port.or_default().insert(*self.address.ip(), taker);
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let mut ports = self.pod.ports.lock();
        ports.space(self.protocol).release(self.address);
    }
}
