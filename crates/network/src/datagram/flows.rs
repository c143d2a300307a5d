//! What a socket remembers of its datagrams: which backend those to a Service go to and whose name its answers bear,
//! and who may answer whatever the rules say.

use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::time::Instant;

use crate::lately::Lately;

/// How long after its last datagram a flow is remembered, as Linux' connection tracking has it for UDP.
const IDLE: Duration = Duration::from_secs(30);
/// How many flows one socket remembers.
const MOST: usize = 4096;

/// The Services that a socket has sent to.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// From a Service's address to the backend that was chosen.
    to: Lately<SocketAddrV4, SocketAddrV4, MOST>,
    /// Back from the backend.
    from: Lately<SocketAddrV4, SocketAddrV4, MOST>,
}

impl Flows {
    /// The backend that datagrams to a Service went to lately.
    pub(super) fn kept(&self, service: SocketAddrV4, now: Instant) -> Option<SocketAddrV4> {
        self.to.get(&service, now, IDLE).copied()
    }

    /// Remembers to which backend a datagram to a Service goes.
    pub(super) fn sent(&mut self, service: SocketAddrV4, backend: SocketAddrV4, now: Instant) {
        self.to.keep(service, backend, now, IDLE);
        self.from.keep(backend, service, now, IDLE);
    }

    /// The name that a datagram from there bears for this socket.
    pub(super) fn named(&self, from: SocketAddrV4, now: Instant) -> SocketAddrV4 {
        self.from.get(&from, now, IDLE).copied().unwrap_or(from)
    }
}

/// With whom a socket has exchanged datagrams that the rules let pass: answers pass, too.
#[derive(Debug, Default)]
pub(super) struct Acquaintances(Lately<SocketAddrV4, (), MOST>);

impl Acquaintances {
    /// Whether a datagram to or from somebody may pass: the rules allow it, or it belongs to what they have allowed.
    pub(super) fn may_pass(&mut self, other: SocketAddrV4, allowed: bool, now: Instant) -> bool {
        let may = allowed || self.0.get(&other, now, IDLE).is_some();
        if may {
            self.0.keep(other, (), now, IDLE);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 53)
    }

    #[test]
    fn a_flow_stays_with_its_backend_and_bears_the_services_name() {
        let mut flows = Flows::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let service = at(9);
        assert_eq!(flows.kept(service, start), None);
        flows.sent(service, at(1), start);
        assert_eq!(flows.named(at(1), start), service);
        assert_eq!(flows.kept(service, after(29)), Some(at(1)));
        flows.sent(service, at(1), after(29));
        assert_eq!(flows.kept(service, after(58)), Some(at(1)));
        assert_eq!(flows.kept(service, after(59)), None);
        assert_eq!(flows.named(at(1), after(59)), at(1));
        flows.sent(service, at(2), after(60));
        assert_eq!(flows.named(at(2), after(60)), service);
    }

    #[test]
    fn answers_pass_for_a_while() {
        let mut known = Acquaintances::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!known.may_pass(at(1), false, start));
        assert!(known.may_pass(at(1), true, start));
        assert!(known.may_pass(at(1), false, after(29)));
        assert!(
            known.may_pass(at(1), false, after(58)),
            "each answer counts"
        );
        assert!(!known.may_pass(at(1), false, after(88)));
        assert!(!known.may_pass(at(2), false, after(88)));
    }
}
