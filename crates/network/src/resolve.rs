//! Names that a pod asks for by its own interface, without a message.

use std::net::{IpAddr, SocketAddrV4, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::names::search::{Decision, Search};
use crate::{PodNet, Protocol, dns};

/// How long the host's resolver may take: resolv.conf(5)'s own time for two tries.
const WITHIN: Duration = Duration::from_secs(10);
/// Questions to the host's resolver at once, of one pod: each holds a thread.
pub(crate) const MOST_ASKED: usize = 4;

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nobody knows the name, or it has no address.
    #[error("the name has no address")]
    Unknown,
    /// Nobody could be asked: the pod's rules forbid it, or no resolver answers.
    #[error("the name cannot be looked up")]
    Unanswered,
}

impl PodNet {
    /// The addresses of a name, at least one: those of the cluster's names are IPv4, others' are in the order in which
    /// the host would try them. Whoever may not send datagrams to the cluster's DNS server learns
    /// nothing this way either.
    ///
    /// # Errors
    /// When there is none, or that cannot be told.
    pub async fn resolve(&self, search: &Search, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(addresses) = search.own(name) {
            return Ok(addresses);
        }
        let steps = {
            let table = self.pod().table();
            let server = table.dns.map(|ip| SocketAddrV4::new(ip, dns::PORT));
            let may = |server| {
                let policies = &table.policies;
                policies
                    .egress(self.address(), server, Protocol::Udp)
                    .is_allowed()
            };
            if search.asks_cluster() && !server.is_none_or(may) {
                return Err(ResolveError::Unanswered);
            }
            search.decide(&table.names, name, self.pod().turn())
        };
        let mut failed = ResolveError::Unknown;
        for step in steps {
            match step {
                Decision::Found(addresses) => return Ok(addresses),
                Decision::NotFound => {}
                Decision::Outside(name) => match outside(&self.pod().asked, name).await {
                    Ok(addresses) => return Ok(addresses),
                    Err(ResolveError::Unknown) => {}
                    Err(error) => failed = error,
                },
            }
        }
        Err(failed)
    }
}

/// Asks the host's resolver, which knows what its files and its name servers know.
async fn outside(asked: &Arc<Semaphore>, name: String) -> Result<Vec<IpAddr>, ResolveError> {
    let unanswered = ResolveError::Unanswered;
    let found = async {
        let permit = asked
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| unanswered)?;
        let found = tokio::task::spawn_blocking(move || {
            let found = (name, 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            // Held by the thread itself, which goes on when nobody waits any more.
            drop(permit);
            found
        });
        found.await.map_err(|_| unanswered)
    };
    let found = timeout(WITHIN, found).await.map_err(|_| unanswered)??;
    // The system tells "no such name" and "try again" apart by words alone.
    let found = found.map_err(|_| ResolveError::Unknown)?;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        return Err(ResolveError::Unknown);
    }
    Ok(addresses)
}
