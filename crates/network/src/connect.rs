//! A connection on its way: whom it tries, and by which road.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::link::Open;
use crate::node::Pod;
use crate::policy::Policies;
use crate::ports::Bound;
use crate::services::Backends;
use crate::stream::{Arrival, Place, Stream};
use crate::table::{Meaning, Road};
use crate::{Protocol, SocketError, outside};

type Attempt =
    std::pin::Pin<Box<dyn Future<Output = Result<Stream, SocketError>> + Send + 'static>>;

/// A pod of this node that is connected to, the rules to be passed, and where.
type Nearby = (Arc<Pod>, Policies, SocketAddrV4);

/// A connection that is being made.
pub struct Connecting {
    bound: Arc<Bound>,
    /// What the client asked for, which is what it sees as the other end.
    asked: SocketAddr,
    /// Whom it goes to, and whom it tries after that one; those with IPv6 addresses are outside.
    to: VecDeque<SocketAddr>,
    service: Option<Arc<Backends>>,
    /// The way to the first of them, where that is not on this node.
    away: Option<Attempt>,
    /// Where it is held back at the first of them.
    place: Place,
    failed: SocketError,
}

impl std::fmt::Debug for Connecting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connecting")
            .field("bound", &self.bound)
            .field("asked", &self.asked)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl Connecting {
    pub(crate) fn new(bound: Arc<Bound>, asked: SocketAddr) -> Self {
        let mut service = None;
        let (to, failed) = match bound.family().inner(asked) {
            Some(SocketAddr::V4(to)) => {
                let (to, by) = targets(bound.pod(), to);
                service = by;
                (
                    to.into_iter().map(SocketAddr::V4).collect(),
                    SocketError::Refused,
                )
            }
            Some(outside) => ([outside].into(), SocketError::Unreachable),
            None => (VecDeque::new(), SocketError::Unreachable),
        };
        Self {
            bound,
            asked,
            to,
            service,
            away: None,
            place: None,
            failed,
        }
    }

    /// Ready once the connection is made, or cannot be. Pending while the listener's backlog is
    /// full. After it was ready once it must not be called again.
    ///
    /// # Errors
    /// [`SocketError::Refused`] where nobody listens, [`SocketError::Unreachable`] where no pod is.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, SocketError>> {
        while let Some(to) = self.to.front().copied() {
            let tried = match &mut self.away {
                Some(away) => away.as_mut().poll(cx),
                None => match self.set_out(to) {
                    Ok(Some((server, policies, to))) => self.meet(&server, policies, to, cx),
                    Ok(None) => continue,
                    Err(error) => Poll::Ready(Err(error)),
                },
            };
            match tried {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(stream)) => {
                    if let (Some(service), SocketAddr::V4(to)) = (&self.service, to) {
                        service.met(self.bound.pod().address, to, Instant::now());
                    }
                    return Poll::Ready(Ok(stream));
                }
                Poll::Ready(Err(error)) => {
                    self.failed = error;
                    self.away = None;
                    self.place = None;
                    self.to.pop_front();
                }
            }
        }
        Poll::Ready(Err(self.failed))
    }

    /// The pod of this node that has the address, and the rules to be passed; none where the way there is longer, and
    /// begun.
    fn set_out(&mut self, to: SocketAddr) -> Result<Option<Nearby>, SocketError> {
        match to {
            SocketAddr::V4(to) => self.set_out_to(to),
            SocketAddr::V6(_) => self.leave(to).map(|()| None),
        }
    }

    /// Begins the way to an IPv6 address outside.
    fn leave(&mut self, to: SocketAddr) -> Result<(), SocketError> {
        let client = self.bound.pod();
        let (open, policies) = {
            let table = client.table();
            (table.outside, table.policies.clone())
        };
        if !open || self.bound.is_loopback() || !outside::is_possible(to.ip()) {
            return Err(SocketError::Unreachable);
        }
        let (near, far) = self.bound.to_elsewhere(self.asked, to);
        self.is_let_out(&policies, to)?;
        let room = outside::room(client)?;
        self.away = Some(Box::pin(outside::connect(near, far, to, room)));
        Ok(())
    }

    /// Asked once the connection is known to whoever ends what new rules forbid, and before anybody else hears of it.
    fn is_let_out(&self, policies: &Policies, to: SocketAddr) -> Result<(), SocketError> {
        let from = self.bound.pod().address;
        let allowed = policies.egress(from, to, Protocol::Tcp).is_allowed();
        allowed.then_some(()).ok_or(SocketError::Refused)
    }

    fn set_out_to(&mut self, to: SocketAddrV4) -> Result<Option<Nearby>, SocketError> {
        let client = self.bound.pod();
        // A Service's loopback address is the node's, where a pod's own word for it is the pod's.
        let own = match self.service {
            Some(_) => *to.ip() == client.address,
            None => client.own(*to.ip()),
        };
        if !own && self.bound.is_loopback() {
            // To others its address would be one of their own.
            return Err(SocketError::Unreachable);
        }
        let (road, policies) = {
            let table = client.table();
            (table.road(*to.ip()), table.policies.clone())
        };
        if own || client.is_near(*to.ip()) {
            let server = client.at(*to.ip()).ok_or(SocketError::Unreachable)?;
            return Ok(Some((server, policies, to)));
        }
        let (near, far) = self.bound.to_elsewhere(self.asked, to.into());
        self.is_let_out(&policies, to.into())?;
        self.away = Some(match (road, client.links()) {
            (Road::Outside, _) if self.may_leave(*to.ip()) => {
                let room = outside::room(client)?;
                Box::pin(outside::connect(near, far, to.into(), room))
            }
            (Road::Link(peer), Some(links)) => {
                let (links, open) = (links.clone(), self.open(to));
                Box::pin(async move { links.open(&peer, open, far).await.map(|()| near) })
            }
            (Road::Outside | Road::Link(_) | Road::Nowhere, _) => {
                return Err(SocketError::Unreachable);
            }
        });
        Ok(None)
    }

    /// Whether an address that is no pod's can be one outside.
    fn may_leave(&self, to: Ipv4Addr) -> bool {
        match self.service {
            Some(_) => outside::is_possible_endpoint(to),
            None => outside::is_possible(to.into()),
        }
    }

    fn open(&self, to: SocketAddrV4) -> Open {
        Open {
            from: self.bound.source_away(),
            to,
            pod: self.bound.pod().uid.clone(),
        }
    }

    /// Meets a pod of this node.
    fn meet(
        &mut self,
        server: &Arc<Pod>,
        policies: Policies,
        to: SocketAddrV4,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, SocketError>> {
        let from = self.bound.source_for(*to.ip());
        let asked = match self.bound.family().inner(self.asked) {
            Some(SocketAddr::V4(asked)) => asked,
            _ => to,
        };
        // A name of the server's own for a wildcard: what the client asked for.
        let named = |at: SocketAddrV4| match at.ip().is_unspecified() {
            true => SocketAddrV4::new(*from.ip(), at.port()),
            false => at,
        };
        let mut arrival = Arrival {
            from,
            asked: named(asked),
            to: named(to),
            bound: Some(&self.bound),
            policies: Some(policies),
            place: self.place.take(),
        };
        let met = arrival.meet(server, cx);
        self.place = arrival.place;
        met
    }
}

/// What an address stands for: whom to try one after the other, and for which Service.
fn targets(client: &Pod, asked: SocketAddrV4) -> (Vec<SocketAddrV4>, Option<Arc<Backends>>) {
    let ip = *asked.ip();
    if ip.is_unspecified() || ip == client.address {
        return (vec![asked], None);
    }
    match client.table().meaning(asked, Protocol::Tcp) {
        Meaning::Itself => (vec![asked], None),
        Meaning::Pod(pod) => (vec![pod], None),
        Meaning::Nobody => (Vec::new(), None),
        Meaning::Service(backends, origin) => {
            let order = backends.choose(origin, client.address, Instant::now());
            (order, Some(Arc::clone(backends)))
        }
    }
}
