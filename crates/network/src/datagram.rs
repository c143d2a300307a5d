//! Datagrams: what UDP is on a real network.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::SocketError;
use crate::budget::Budget;
use crate::node::PodNet;
use crate::ports::{Bound, Transport};
use crate::wakers::Wakers;

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
    pub from: SocketAddrV4,
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
    budget: Budget,
}

impl Inbox {
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
}

impl Datagrams {
    /// Begins to receive at this address.
    pub fn new(bound: Arc<Bound>) -> Self {
        let inbox = Arc::new(Inbox {
            arrived: Mutex::default(),
            budget: bound.pod().budget.clone(),
        });
        bound.receive_datagrams(&inbox);
        Self { bound, inbox }
    }

    /// This socket's address.
    pub fn local(&self) -> SocketAddrV4 {
        self.bound.address()
    }

    /// Sends a datagram. That it was sent does not mean that anybody receives it.
    ///
    /// # Errors
    /// [`SocketError::TooLarge`] beyond [`LARGEST`] bytes, [`SocketError::Unreachable`] where no
    /// pod is.
    pub fn send(&self, bytes: Bytes, to: SocketAddrV4) -> Result<(), SocketError> {
        if bytes.len() > LARGEST {
            return Err(SocketError::TooLarge);
        }
        let pod = self.bound.pod();
        let receiver = pod.at(*to.ip()).ok_or(SocketError::Unreachable)?;
        let from = self.bound.source_for(*to.ip());
        let inbox = receiver.ports.lock().inbox(to);
        if let Some(inbox) = inbox {
            inbox.deliver(Datagram { bytes, from });
        }
        Ok(())
    }

    /// The next datagram, if one has arrived.
    pub fn try_receive(&self) -> Option<Datagram> {
        let mut arrived = self.inbox.arrived.lock();
        let datagram = arrived.datagrams.pop_front()?;
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

impl PodNet {
    /// Takes a local address for a datagram socket; port 0 asks for any.
    ///
    /// # Errors
    /// When the address is not this pod's or its port is taken.
    pub fn bind_datagram(&self, address: SocketAddrV4) -> Result<Bound, SocketError> {
        Bound::new(self.pod(), Transport::Datagram, address)
    }
}
