//! Connections that the rules have let pass, to be judged again when the rules change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use crate::Protocol;
use crate::node::Pod;
use crate::pipe::Breaker;
use crate::policy::Policies;

/// One pod's connections.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    next: u64,
    open: BTreeMap<u64, Passed>,
}

#[derive(Debug)]
struct Passed {
    from: Ipv4Addr,
    to: SocketAddr,
    breakers: [Breaker; 2],
}

/// A connection's entry, for as long as its end at the pod lives.
#[derive(Debug)]
pub(crate) struct Pass {
    pod: Weak<Pod>,
    number: u64,
}

impl Pass {
    /// Enters a connection of a pod; both of its directions end by the breakers.
    pub(crate) fn enter(
        pod: &Arc<Pod>,
        from: Ipv4Addr,
        to: SocketAddr,
        breakers: [Breaker; 2],
    ) -> Self {
        let mut passing = pod.passing.lock();
        let number = passing.next;
        passing.next += 1;
        let passed = Passed { from, to, breakers };
        passing.open.insert(number, passed);
        Self {
            pod: Arc::downgrade(pod),
            number,
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(pod) = self.pod.upgrade() {
            pod.passing.lock().open.remove(&self.number);
        }
    }
}

impl Passing {
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What would not pass any more of what has the pod and one of these addresses at its ends.
    pub(crate) fn denied(
        &self,
        pod: Ipv4Addr,
        addresses: &BTreeSet<Ipv4Addr>,
        policies: &Policies,
    ) -> Vec<Breaker> {
        let concerned = |passed: &&Passed| {
            let to = match passed.to.ip() {
                IpAddr::V4(to) => addresses.contains(&to),
                IpAddr::V6(_) => false,
            };
            to || addresses.contains(&pod) || addresses.contains(&passed.from)
        };
        let denied = |passed: &&Passed| {
            let verdict = match (passed.from == pod, passed.to) {
                (false, SocketAddr::V4(to)) => policies.ingress(passed.from, to, Protocol::Tcp),
                _ => policies.egress(passed.from, passed.to, Protocol::Tcp),
            };
            !verdict.is_allowed()
        };
        let found = self.open.values().filter(concerned).filter(denied);
        found.flat_map(|passed| passed.breakers.clone()).collect()
    }
}
