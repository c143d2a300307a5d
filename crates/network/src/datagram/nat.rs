//! Datagrams to the outside, and their answers: what NAT does elsewhere, by a socket of the node's own for each of a
//! pod's that says something there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{SendFlags, sendto};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::{Datagram, Inbox};
use crate::descriptors::Place;
use crate::lately::Lately;
use crate::node::Pod;
use crate::{LARGEST, Protocol, SocketError};

/// How many sockets of the node one pod has at a time, however many file descriptors the node has for them.
pub(crate) const MOST: usize = 256;
/// How long nothing may be said before the node's socket is closed, as Linux' connection tracking has it for those who
/// have answered each other.
const IDLE: Duration = Duration::from_secs(120);
/// How many of those that one socket has sent to are remembered.
const MOST_PEERS: usize = 4_096;
/// Datagrams that are taken in a row, before others have their turn.
const BATCH: usize = 64;

/// A socket's way to the outside. Nothing is open before it is used, nor when it was not used for long.
#[derive(Debug, Default)]
pub(super) struct Nat(Arc<Mutex<Option<Open>>>);

#[derive(Debug)]
struct Open {
    socket: Arc<Socket>,
    /// Who was sent to, and may answer.
    peers: Lately<SocketAddr, (), MOST_PEERS>,
    used: Instant,
    _receiving: AbortOnDropHandle<()>,
    _room: Room,
}

/// A socket of the node. Who receives may hold it for longer than the pod does.
#[derive(Debug)]
struct Socket {
    of_node: UdpSocket,
    /// Given back when that is closed.
    _place: Place,
}

impl Nat {
    /// Sends a datagram, which the rules have let pass, in the node's name.
    ///
    /// # Errors
    /// [`SocketError::Unreachable`] where the node has no way there, [`SocketError::PortsExhausted`] where the pod or the
    /// node has too many sockets.
    pub(super) fn send(
        &self,
        bytes: &[u8],
        to: SocketAddr,
        pod: &Arc<Pod>,
        inbox: &Arc<Inbox>,
    ) -> Result<(), SocketError> {
        let socket = {
            let mut open = self.0.lock();
            let held = match open.take() {
                Some(held) => held,
                None => self.open(to.ip(), pod, inbox)?,
            };
            let held = open.insert(held);
            held.used = Instant::now();
            held.peers.keep(to, (), held.used, IDLE);
            held.socket.clone()
        };
        // By the system itself: tokio would first have to hear that a new socket can be written to.
        match sendto(&socket.of_node, bytes, SendFlags::empty(), &to) {
            Err(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL) => {
                Err(SocketError::Unreachable)
            }
            // What the system does not take now is lost, as any datagram may be.
            _ => Ok(()),
        }
    }

    fn open(&self, to: IpAddr, pod: &Arc<Pod>, inbox: &Arc<Inbox>) -> Result<Open, SocketError> {
        let room = Room::take(pod).ok_or(SocketError::PortsExhausted)?;
        let place = pod.sockets.take().ok_or(SocketError::PortsExhausted)?;
        let of_node = socket(to).map_err(|_| match to {
            IpAddr::V4(_) => SocketError::PortsExhausted,
            // Most often a node without IPv6.
            IpAddr::V6(_) => SocketError::Unreachable,
        })?;
        let socket = Arc::new(Socket {
            of_node,
            _place: place,
        });
        let receiver = Receiver {
            open: Arc::downgrade(&self.0),
            inbox: Arc::downgrade(inbox),
            pod: Arc::downgrade(pod),
        };
        let receiving = tokio::spawn(receiver.receive(socket.clone()));
        Ok(Open {
            socket,
            peers: Lately::default(),
            used: Instant::now(),
            _receiving: AbortOnDropHandle::new(receiving),
            _room: room,
        })
    }
}

/// A socket of any port, by which such an address is reached.
fn socket(to: IpAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// One of the sockets that a pod may have.
#[derive(Debug)]
struct Room(Weak<Pod>);

impl Room {
    fn take(pod: &Arc<Pod>) -> Option<Self> {
        pod.outside.try_acquire().ok()?.forget();
        Some(Self(Arc::downgrade(pod)))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(pod) = self.0.upgrade() {
            pod.outside.add_permits(1);
        }
    }
}

/// Where answers go.
struct Receiver {
    open: Weak<Mutex<Option<Open>>>,
    inbox: Weak<Inbox>,
    pod: Weak<Pod>,
}

impl Receiver {
    /// Takes answers until nothing was said for long, or the pod's socket is gone.
    async fn receive(self, socket: Arc<Socket>) {
        let socket = &socket.of_node;
        let mut quiet = Instant::now() + IDLE;
        loop {
            // Strangers' datagrams do not keep it open.
            if quiet <= Instant::now() {
                match self.quiet() {
                    Some(later) => quiet = later,
                    None => return,
                }
            }
            match timeout_at(quiet, socket.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return self.close(),
                Err(_) => continue,
            }
            // Not kept while nothing comes: there may be many such sockets.
            let mut buffer = vec![0; LARGEST];
            for _ in 0..BATCH {
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, from)) => self.deliver(&buffer[..length], from),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // About what was sent before: somebody's port is closed.
                    Err(_) => {}
                }
            }
        }
    }

    /// Until when nothing may be said for the socket to be closed. None: so it was, and it is.
    fn quiet(&self) -> Option<Instant> {
        let open = self.open.upgrade()?;
        let mut open = open.lock();
        let quiet = open.as_ref()?.used + IDLE;
        if quiet <= Instant::now() {
            *open = None;
            return None;
        }
        Some(quiet)
    }

    fn close(&self) {
        if let Some(open) = self.open.upgrade() {
            *open.lock() = None;
        }
    }

    /// Hands over an answer: nothing else is let in, and no answer of whom the pod may not send to any more.
    fn deliver(&self, bytes: &[u8], from: SocketAddr) {
        let (Some(inbox), Some(pod)) = (self.inbox.upgrade(), self.pod.upgrade()) else {
            return;
        };
        if self.is_answer(from) && pod.may_send_outside(from) {
            let bytes = Bytes::copy_from_slice(bytes);
            inbox.deliver(Datagram { bytes, from });
        }
    }

    fn is_answer(&self, from: SocketAddr) -> bool {
        let Some(open) = self.open.upgrade() else {
            return false;
        };
        let mut open = open.lock();
        let Some(open) = &mut *open else {
            return false;
        };
        let now = Instant::now();
        let known = open.peers.get(&from, now, IDLE).is_some();
        if known {
            open.used = now;
            open.peers.keep(from, (), now, IDLE);
        }
        known
    }
}

impl Pod {
    /// Whether the pod's rules let datagrams out to there. They are asked about each one and its answers, so that they
    /// hold from the moment on at which they change.
    pub(super) fn may_send_outside(&self, to: SocketAddr) -> bool {
        let policies = self.table().policies.clone();
        policies
            .egress(self.address, to, Protocol::Udp)
            .is_allowed()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::*;
    use crate::{Datagrams, Network};

    /// Nothing is held for who says nothing.
    #[tokio::test(start_paused = true)]
    async fn a_socket_of_the_node_is_closed_when_nothing_is_said() {
        let network = Network::new("10.128.0.0/24".parse().unwrap());
        network.update(|table| table.outside = true);
        let pod = network.join("uid").unwrap();
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let socket = Datagrams::new(Arc::new(pod.bind_datagram(any).unwrap()));
        // Nobody is there.
        let to = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9);
        let held = || MOST - pod.pod().outside.available_permits();
        assert_eq!(held(), 0, "none before it is used");
        for _ in 0..3 {
            assert_eq!(socket.send(Bytes::new(), to), Ok(()));
            assert_eq!(held(), 1);
            tokio::time::sleep(IDLE.mul_f64(0.7)).await;
        }
        assert_eq!(held(), 1, "it was used meanwhile");
        tokio::time::sleep(IDLE).await;
        assert_eq!(held(), 0);
        assert_eq!(socket.send(Bytes::new(), to), Ok(()));
        assert_eq!(held(), 1, "opened again");
        drop(socket);
        assert_eq!(held(), 0);
    }
}
