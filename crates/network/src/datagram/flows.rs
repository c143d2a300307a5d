//! What a socket remembers of its datagrams: which backend those to a Service go to and whose name its answers bear,
//! and who may answer whatever the rules say.

use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::time::Instant;

use crate::lately::Lately;
use crate::policy::Direction;

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

/// With whom a socket has exchanged datagrams that the rules let pass, and in which direction the first of them went: as
/// long as the rules allow that one, answers pass, too.
#[derive(Debug, Default)]
pub(super) struct Acquaintances(Lately<SocketAddrV4, Direction, MOST>);

impl Acquaintances {
    /// Whether a datagram to or from somebody may pass: the rules, as they are now, allow it, or what it answers.
    pub(super) fn may_pass(
        &mut self,
        other: SocketAddrV4,
        direction: Direction,
        now: Instant,
        allows: impl Fn(Direction) -> bool,
    ) -> bool {
        let begun = self.0.get(&other, now, IDLE).copied();
        let by = begun.into_iter().chain([direction]).find(|by| allows(*by));
        if let Some(by) = by {
            self.0.keep(other, by, now, IDLE);
        }
        by.is_some()
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
        let mut comes = |from, seconds, out| {
            let allows = |direction| out && direction == Direction::Egress;
            known.may_pass(from, Direction::Ingress, after(seconds), allows)
        };
        assert!(!comes(at(1), 0, true), "it answers nothing");
        let out = |direction| direction == Direction::Egress;
        assert!(known.may_pass(at(1), Direction::Egress, start, out));
        let mut comes = |from, seconds, out| {
            let allows = |direction| out && direction == Direction::Egress;
            known.may_pass(from, Direction::Ingress, after(seconds), allows)
        };
        assert!(comes(at(1), 29, true));
        assert!(comes(at(1), 58, true), "each answer counts");
        assert!(!comes(at(1), 59, false), "the rules have changed");
        assert!(comes(at(1), 60, true));
        assert!(!comes(at(1), 90, true), "too late");
        assert!(!comes(at(2), 90, true));
    }
}
