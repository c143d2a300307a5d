//! The node's two ports for Ingresses, open while there are any.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use api::ingress::Ports;
use network::entrance::listen;
use rustls::ServerConfig;
use tokio_util::task::AbortOnDropHandle;

use super::proxy::Proxy;
use super::room::Room;
use super::serve::Door;

/// The ports that are tried in the clear and by TLS: the first that is free, and for this process, is served.
pub(super) type Tries = [Vec<u16>; 2];

/// The ports given, else those of HTTP, and for processes that may not have these the ones that stand for them
/// everywhere. None is tried for one that is given for the other, which would find it taken for good.
pub(super) fn tries(given: Ports) -> Tries {
    let tries = |own: Option<u16>, other: Option<u16>, usual: [u16; 2]| match own {
        Some(port) => vec![port],
        None => {
            let usual = usual.into_iter();
            usual.filter(|port| Some(*port) != other).collect()
        }
    };
    [
        tries(given.http, given.https, [80, 8080]),
        tries(given.https, given.http, [443, 8443]),
    ]
}

/// What is open.
pub(super) struct Doors {
    at: Ipv4Addr,
    tries: Tries,
    proxy: Arc<Proxy>,
    tls: Arc<ServerConfig>,
    room: Arc<Room>,
    open: [Option<Open>; 2],
}

struct Open {
    port: u16,
    serving: AbortOnDropHandle<()>,
}

impl Doors {
    /// Closed ones, at the node's address.
    pub(super) fn new(
        at: Ipv4Addr,
        tries: Tries,
        proxy: Arc<Proxy>,
        tls: Arc<ServerConfig>,
    ) -> Self {
        let room = Room::new(proxy.limits.connections);
        Self {
            at,
            tries,
            proxy,
            tls,
            room,
            open: [None, None],
        }
    }

    /// Opens what is not open, or closes all. Says what cannot be opened, and why.
    pub(super) async fn set(&mut self, wanted: bool) -> Vec<String> {
        if !wanted {
            for open in self.open.iter_mut().filter_map(Option::take) {
                open.serving.abort();
                // The port is free only once that is gone.
                let _ = open.serving.await;
            }
            return Vec::new();
        }
        let mut failed = Vec::new();
        for (at, tls) in [None, Some(self.tls.clone())].into_iter().enumerate() {
            if self.open[at].is_none() {
                match self.try_ports(&self.tries[at], tls) {
                    Ok(open) => self.open[at] = Some(open),
                    Err(why) => failed.push(why),
                }
            }
        }
        failed
    }

    /// At which ports clients come in.
    pub(super) fn ports(&self) -> Ports {
        let [http, https] = &self.open;
        let port = |open: &Option<Open>| open.as_ref().map(|open| open.port);
        Ports {
            http: port(http),
            https: port(https),
        }
    }

    fn try_ports(&self, ports: &[u16], tls: Option<Arc<ServerConfig>>) -> Result<Open, String> {
        let mut failed = Vec::new();
        for &port in ports {
            let at = SocketAddrV4::new(self.at, port);
            let listener = match listen(at) {
                Ok(listener) => listener,
                Err(error) => {
                    failed.push(format!("{at}: {error}"));
                    continue;
                }
            };
            let door = Door {
                listener,
                port,
                tls,
                room: self.room.clone(),
            };
            let serving = tokio::spawn(door.serve(self.proxy.clone()));
            return Ok(Open {
                port,
                serving: AbortOnDropHandle::new(serving),
            });
        }
        Err(failed.join("; "))
    }
}

#[cfg(test)]
mod tests;
