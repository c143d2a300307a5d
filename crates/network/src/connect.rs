//! A connection on its way: whom it tries, and by which road.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
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

/// A connection that is being made.
pub struct Connecting {
    bound: Arc<Bound>,
    /// What the client asked for, which is what it sees as the other end.
    asked: SocketAddrV4,
    /// Whom it goes to, and whom it tries after that one.
    to: VecDeque<SocketAddrV4>,
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
    pub(crate) fn new(bound: Arc<Bound>, asked: SocketAddrV4) -> Self {
        let client = bound.pod();
        let ip = *asked.ip();
        let (to, service) = match ip.is_unspecified() || ip == client.address {
            true => (vec![asked], None),
            false => match client.table().meaning(asked, Protocol::Tcp) {
                Meaning::Itself => (vec![asked], None),
                Meaning::Pod(pod) => (vec![pod], None),
                Meaning::Nobody => (Vec::new(), None),
                Meaning::Service(backends, origin) => {
                    let order = backends.choose(origin, client.address, Instant::now());
                    (order, Some(Arc::clone(backends)))
                }
            },
        };
        Self {
            bound,
            asked,
            to: to.into(),
            service,
            away: None,
            place: None,
            failed: SocketError::Refused,
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
                    Ok(Some((server, policies))) => self.meet(&server, policies, to, cx),
                    Ok(None) => continue,
                    Err(error) => Poll::Ready(Err(error)),
                },
            };
            match tried {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(stream)) => {
                    if let Some(service) = &self.service {
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
    fn set_out(&mut self, to: SocketAddrV4) -> Result<Option<(Arc<Pod>, Policies)>, SocketError> {
        let client = self.bound.pod();
        // A Service's loopback address is the node's, where a pod's own word for it is the pod's.
        let own = match self.service {
            Some(_) => *to.ip() == client.address,
            None => client.own(*to.ip()),
        };
        if !own && self.bound.address().ip().is_loopback() {
            // To others its address would be one of their own.
            return Err(SocketError::Unreachable);
        }
        let (road, policies) = {
            let table = client.table();
            (table.road(*to.ip()), table.policies.clone())
        };
        if own || client.is_near(*to.ip()) {
            let server = client.at(*to.ip()).ok_or(SocketError::Unreachable)?;
            return Ok(Some((server, policies)));
        }
        let (near, far) = self.bound.to_elsewhere(self.asked, to);
        // Asked once it is known to whoever ends what new rules forbid, and before anybody else hears of it.
        if !policies
            .egress(client.address, to, Protocol::Tcp)
            .is_allowed()
        {
            return Err(SocketError::Refused);
        }
        self.away = Some(match (road, client.links()) {
            (Road::Outside, _) => {
                let pod = client.clone();
                Box::pin(async move { outside::connect(&pod, near, far, to.into()).await })
            }
            (Road::Link(peer), Some(links)) => {
                let (links, open) = (links.clone(), self.open(&near, to));
                Box::pin(async move { links.open(&peer, open, far).await.map(|()| near) })
            }
            (Road::Link(_), None) | (Road::Nowhere, _) => return Err(SocketError::Unreachable),
        });
        Ok(None)
    }

    fn open(&self, near: &Stream, to: SocketAddrV4) -> Open {
        Open {
            from: near.local(),
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
        // A name of the server's own for a wildcard: what the client asked for.
        let named = |at: SocketAddrV4| match at.ip().is_unspecified() {
            true => SocketAddrV4::new(*from.ip(), at.port()),
            false => at,
        };
        let mut arrival = Arrival {
            from,
            asked: named(self.asked),
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
