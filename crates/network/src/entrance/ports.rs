//! The node's ports that are listened at.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::datagrams::{Clients, MOST_CLIENTS, pass};
use super::{At, Entrance};
use crate::Protocol;

/// Connections by all of the node's ports at a time, however many file descriptors the node has for them. Further ones are
/// reset.
const MOST_CONNECTIONS: usize = 8_192;
/// Connections by one port at a time, so that who fills it has not filled all. Further ones wait to be accepted.
const MOST_AT_A_PORT: usize = 2_048;
/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1_024;
/// How long nothing is accepted once the process has run out of file descriptors.
pub const BREATH: Duration = Duration::from_millis(100);

/// What listens. Dropping it ends that; connections that were made go on until they end by themselves, or with their pod.
pub struct Ports {
    entrance: Entrance,
    room: Arc<Semaphore>,
    at_a_port: usize,
    clients: Clients,
    served: BTreeMap<At, AbortOnDropHandle<()>>,
}

impl Ports {
    /// Nothing yet.
    pub fn new(entrance: Entrance) -> Self {
        Self::with_room(entrance, MOST_CONNECTIONS, MOST_AT_A_PORT, MOST_CLIENTS)
    }

    /// Nothing yet, and room for so many connections by all ports and by each, and so many clients of datagrams.
    pub(super) fn with_room(
        entrance: Entrance,
        all: usize,
        at_a_port: usize,
        clients: usize,
    ) -> Self {
        Self {
            entrance,
            room: Arc::new(Semaphore::new(all)),
            at_a_port,
            clients: Clients::new(clients),
            served: BTreeMap::new(),
        }
    }

    /// Listens at exactly the wanted ports; says at which it cannot, and why.
    pub async fn set(&mut self, wanted: impl IntoIterator<Item = At>) -> BTreeMap<At, io::Error> {
        let mut before = std::mem::take(&mut self.served);
        let mut missing = Vec::new();
        for at in wanted {
            match before.remove(&at) {
                Some(served) => drop(self.served.insert(at, served)),
                None => missing.push(at),
            }
        }
        for served in before.into_values() {
            served.abort();
            // A port is free only once that is gone, and it may be in the way of what is wanted.
            let _ = served.await;
        }
        let mut failed = BTreeMap::new();
        for at in missing {
            match self.serve(at) {
                Ok(task) => drop(self.served.insert(at, AbortOnDropHandle::new(task))),
                Err(error) => drop(failed.insert(at, error)),
            }
        }
        failed
    }

    fn serve(&self, (protocol, at): At) -> io::Result<tokio::task::JoinHandle<()>> {
        let entrance = self.entrance.clone();
        Ok(match protocol {
            Protocol::Tcp => {
                let door = Door {
                    at,
                    entrance,
                    room: self.room.clone(),
                    own: Arc::new(Semaphore::new(self.at_a_port)),
                };
                tokio::spawn(door.accept(listen(at)?))
            }
            Protocol::Udp => {
                let socket = std::net::UdpSocket::bind(at)?;
                socket.set_nonblocking(true)?;
                let socket = Arc::new(UdpSocket::from_std(socket)?);
                tokio::spawn(pass(socket, at, entrance, self.clients.clone()))
            }
        })
    }
}

/// Listens where clients come in.
///
/// # Errors
/// Those of the system: the port is taken, or not for this process.
pub fn listen(at: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections of an agent that was here before may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(at.into())?;
    socket.listen(BACKLOG)
}

/// A port for streams.
struct Door {
    at: SocketAddrV4,
    entrance: Entrance,
    /// The room of all ports.
    room: Arc<Semaphore>,
    /// Its own.
    own: Arc<Semaphore>,
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        // The room of all is taken only for who is there: a port that nobody uses holds none of it.
        while let Ok(own) = self.own.clone().acquire_owned().await {
            let Ok((socket, _)) = listener.accept().await else {
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let room = self.room.clone().try_acquire_owned().ok();
            let Some(room) = room.zip(self.entrance.place()) else {
                let _ = socket.set_zero_linger();
                continue;
            };
            let (entrance, at) = (self.entrance.clone(), self.at);
            tokio::spawn(async move {
                entrance.pass(socket, at).await;
                // Who waits for the port's own finds room among all, too.
                drop(room);
                drop(own);
            });
        }
    }
}

#[cfg(test)]
mod tests;
