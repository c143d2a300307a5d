//! The node's ports that are listened at.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::{At, Entrance, datagrams};
use crate::Protocol;

/// Connections by the node's ports at a time: each holds a file descriptor. Further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 8_192;
/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1_024;
/// How long nothing is accepted once the process has run out of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// What listens. Dropping it ends that; connections that were made go on until they end by themselves, or with their pod.
pub struct Ports {
    entrance: Entrance,
    room: Arc<Semaphore>,
    served: BTreeMap<At, AbortOnDropHandle<()>>,
}

impl Ports {
    /// Nothing yet.
    pub fn new(entrance: Entrance) -> Self {
        Self {
            entrance,
            room: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
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
            Protocol::Tcp => tokio::spawn(accept(listen(at)?, at, entrance, self.room.clone())),
            Protocol::Udp => {
                let socket = std::net::UdpSocket::bind(at)?;
                socket.set_nonblocking(true)?;
                let socket = Arc::new(UdpSocket::from_std(socket)?);
                tokio::spawn(datagrams::pass(socket, at, entrance))
            }
        })
    }
}

fn listen(at: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections of an agent that was here before may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(at.into())?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, at: SocketAddrV4, entrance: Entrance, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let entrance = entrance.clone();
        tokio::spawn(async move {
            entrance.pass(socket, at).await;
            drop(permit);
        });
    }
}
