//! How much probes take of their node at a time.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::blocking::blocking;

/// How many probes are made at the same time, on a node and of a pod. Further ones wait, and their timeouts count from then
/// on; those that only wait for somebody to listen are not among them.
const PROBES: (usize, usize) = (4096, 8);
/// How many names are looked up at the same time: each holds a thread of those that volumes and logs need, too, until the
/// system has given up.
const LOOKUPS: (usize, usize) = (32, 2);

/// The room of a node, or of one of its pods.
pub(in crate::driver) struct Room {
    probes: Semaphore,
    lookups: Arc<Semaphore>,
}

impl Room {
    /// For the probes of a node.
    pub(in crate::driver) fn of_node() -> Self {
        Self::new(PROBES.0, LOOKUPS.0)
    }

    /// For the probes of one pod, so that its slow ones leave room for others'.
    pub(in crate::driver) fn of_pod() -> Self {
        Self::new(PROBES.1, LOOKUPS.1)
    }

    pub(super) fn new(probes: usize, lookups: usize) -> Self {
        Self {
            probes: Semaphore::new(probes),
            lookups: Arc::new(Semaphore::new(lookups)),
        }
    }
}

/// What a pod's probes have to find room in.
#[derive(Clone, Copy)]
pub(in crate::driver) struct Rooms<'a> {
    pub(in crate::driver) pod: &'a Room,
    pub(in crate::driver) node: &'a Room,
}

impl<'a> Rooms<'a> {
    /// Waits for room, which is given back with the result.
    pub(super) async fn enter(self) -> [Option<SemaphorePermit<'a>>; 2] {
        // They are never closed. The pod's own comes first: where it has none left it waits without any of the node's.
        let pod = self.pod.probes.acquire().await.ok();
        [pod, self.node.probes.acquire().await.ok()]
    }

    /// The addresses of a host, by the system's resolver where it has a name.
    pub(super) async fn look_up(self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let held = (
            self.pod.lookups.clone().acquire_owned().await.ok(),
            self.node.lookups.clone().acquire_owned().await.ok(),
        );
        let host = host.to_owned();
        blocking(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            // Held by the thread itself, which goes on when nobody waits any more.
            drop(held);
            Ok(found?.collect())
        })
        .await
    }
}
