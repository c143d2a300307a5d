//! Streams: what TCP is on a real network.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::budget::Budget;
use crate::connect::Connecting;
use crate::node::{Pod, PodNet};
use crate::passing::Pass;
use crate::pipe::{Reader, Writer, pipe_within};
use crate::policy::Policies;
use crate::ports::Bound;
use crate::wakers::Wakers;
use crate::{Family, Protocol, SocketError};

/// Bytes that wait in one direction of a stream before its writer waits.
pub const BUFFER: usize = 256 << 10;

/// The most connections that a listener may ask to hold for it, and that wait at all listeners of a
/// pod together (but one at each may always wait).
pub const MOST_WAITING: usize = 1024;

/// What one waiting connection costs beyond the bytes in it.
const OVERHEAD: usize = 1024;

/// Connections that wait to be accepted.
#[derive(Debug)]
pub(crate) struct Backlog {
    waiting: Mutex<Waiting>,
    /// Who is held back, one woken for each connection that is accepted: all at once would hardly all find room, and queue
    /// again.
    held_back: Arc<Notify>,
    /// The listening pod.
    pod: Arc<Pod>,
}

impl Backlog {
    /// Whether a further connection has to wait to be made. Never while none waits here: whoever is
    /// held back is woken when one of those that wait here is accepted.
    fn is_full(&self, waiting: &Waiting) -> bool {
        let spent = self.pod.waiting.is_spent() || self.pod.budget.is_spent();
        waiting.streams.len() >= waiting.most || (spent && !waiting.streams.is_empty())
    }

    fn push(&self, waiting: &mut Waiting, stream: Stream) {
        self.pod.waiting.hold(1);
        self.pod.budget.hold(OVERHEAD);
        waiting.streams.push_back(stream);
    }

    fn release(&self, connections: usize) {
        self.pod.waiting.release(connections);
        self.pod.budget.release(connections * OVERHEAD);
    }
}

#[derive(Debug, Default)]
struct Waiting {
    streams: VecDeque<Stream>,
    most: usize,
    acceptors: Wakers,
    closed: bool,
}

/// A bound address at which streams are accepted. Dropping it resets what was not yet accepted.
#[derive(Debug)]
pub struct Listener {
    bound: Arc<Bound>,
    backlog: Arc<Backlog>,
}

impl Listener {
    /// Starts to listen; `most` connections (at least 1, at most [`MOST_WAITING`]) wait to be
    /// accepted before further ones wait to be made.
    pub fn new(bound: Arc<Bound>, most: usize) -> Self {
        let backlog = Arc::new(Backlog {
            waiting: Mutex::new(Waiting {
                most: most.clamp(1, MOST_WAITING),
                ..Waiting::default()
            }),
            held_back: Arc::default(),
            pod: bound.pod().clone(),
        });
        bound.accept_streams(&backlog);
        Self { bound, backlog }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.bound.address()
    }

    /// The next connection, if one waits.
    pub fn try_accept(&self) -> Option<Stream> {
        let mut waiting = self.backlog.waiting.lock();
        let stream = waiting.streams.pop_front();
        if stream.is_some() {
            self.backlog.release(1);
            self.backlog.held_back.notify_one();
        }
        stream
    }

    /// Ready once a connection waits.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.backlog.waiting.lock();
        if waiting.streams.is_empty() {
            waiting.acceptors.register(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> Stream {
        loop {
            std::future::poll_fn(|cx| self.poll_ready(cx)).await;
            if let Some(stream) = self.try_accept() {
                return stream;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let streams = {
            let mut waiting = self.backlog.waiting.lock();
            waiting.closed = true;
            self.backlog.held_back.notify_waiters();
            std::mem::take(&mut waiting.streams)
        };
        self.backlog.release(streams.len());
        streams.iter().for_each(Stream::reset);
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Stream {
    local: SocketAddr,
    remote: SocketAddr,
    /// What the other end writes.
    pub reader: Reader,
    /// What the other end reads. Closing it ends this direction alone.
    pub writer: Writer,
    /// The local port, which stays taken while the connection lives. The accepting end shares its
    /// listener's, and holds none.
    port: StreamPort,
}

/// What keeps a connection's local port taken, apart from its two directions.
#[derive(Debug)]
pub struct StreamPort {
    bound: Option<Arc<Bound>>,
    pass: Option<Pass>,
}

impl Stream {
    /// The two directions, and what keeps the local port: for a holder that ends them one by one.
    pub fn into_parts(self) -> (Reader, Writer, StreamPort) {
        (self.reader, self.writer, self.port)
    }

    /// This end's address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The other end's address.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Ends both directions at once; the other end sees a reset, and waiting bytes are lost.
    pub fn reset(&self) {
        self.reader.reset();
        self.writer.reset();
    }
}

/// A connection that arrives at a pod of this node.
pub(crate) struct Arrival<'a> {
    /// The client's end.
    pub(crate) from: SocketAddrV4,
    /// What the client asked for, which is what it sees as the other end.
    pub(crate) asked: SocketAddrV4,
    /// The server's end.
    pub(crate) to: SocketAddrV4,
    /// Where the client is of this node, too: what its port is taken by.
    pub(crate) bound: Option<&'a Arc<Bound>>,
    /// The rules that it must pass, and that end it when they change; none for what a node's own connections are.
    pub(crate) policies: Option<Policies>,
    /// Where it is held back until there is room.
    pub(crate) place: Place,
}

/// A place in the queue of those who are held back at a backlog.
pub(crate) type Place = Option<Pin<Box<OwnedNotified>>>;

impl Arrival<'_> {
    /// Hands the connection to whoever listens. Pending while the listener's backlog is full.
    ///
    /// # Errors
    /// [`SocketError::Refused`] where nobody listens, or the rules say no.
    pub(crate) fn meet(
        &mut self,
        server: &Arc<Pod>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, SocketError>> {
        loop {
            if let Some(place) = &mut self.place {
                ready!(place.as_mut().poll(cx));
                self.place = None;
            }
            let Some(backlog) = server.ports.lock().backlog(self.family(), self.to) else {
                return Poll::Ready(Err(SocketError::Refused));
            };
            let mut waiting = backlog.waiting.lock();
            if waiting.closed {
                return Poll::Ready(Err(SocketError::Refused));
            }
            if !backlog.is_full(&waiting) {
                return Poll::Ready(self.enter(server, &backlog, &mut waiting));
            }
            // Who is shut out is told at once.
            if !self.is_allowed(server) {
                return Poll::Ready(Err(SocketError::Refused));
            }
            // Taken while the backlog cannot change: what is accepted later is told to it.
            self.place = Some(Box::pin(backlog.held_back.clone().notified_owned()));
        }
    }

    fn enter(
        &self,
        server: &Arc<Pod>,
        backlog: &Backlog,
        waiting: &mut Waiting,
    ) -> Result<Stream, SocketError> {
        let (near, far) = self.ends(server);
        // By now it is known to whoever ends what new rules forbid: no change of them is missed.
        if !self.is_allowed(server) {
            return Err(SocketError::Refused);
        }
        backlog.push(waiting, far);
        waiting.acceptors.wake();
        Ok(near)
    }

    /// The rules that apply: none between a pod and itself.
    fn rules(&self, server: &Arc<Pod>) -> Option<&Policies> {
        let client = self.bound.map(|bound| bound.pod());
        let own = client.is_some_and(|client| Arc::ptr_eq(client, server));
        self.policies.as_ref().filter(|_| !own)
    }

    fn is_allowed(&self, server: &Arc<Pod>) -> bool {
        let Some(policies) = self.rules(server) else {
            return true;
        };
        let (from, tcp) = (*self.from.ip(), Protocol::Tcp);
        // What another node's pods may send that node has asked.
        let leaves = self.bound.is_none() || policies.egress(from, self.to, tcp).is_allowed();
        leaves && policies.ingress(from, self.to, tcp).is_allowed()
    }

    /// The sockets' family: whoever comes from elsewhere has IPv4's.
    fn family(&self) -> Family {
        self.bound.map_or(Family::V4, |bound| bound.family())
    }

    fn ends(&self, server: &Arc<Pod>) -> (Stream, Stream) {
        let [from, asked, to] =
            [self.from, self.asked, self.to].map(|address| self.family().outer(address));
        let client = self.bound.map(|bound| bound.pod());
        let sent = client.unwrap_or(server).budget.clone();
        let (mut near, mut far) = ends((from, asked), (to, from), (sent, server.budget.clone()));
        near.port.bound = self.bound.cloned();
        if self.rules(server).is_some() {
            let between = (*self.from.ip(), self.to.into());
            near.port.pass = client.map(|client| near.enter(client, between));
            far.port.pass = Some(near.enter(server, between));
        }
        (near, far)
    }
}

impl Stream {
    /// Enters a stream between these two at a pod's connections.
    fn enter(&self, pod: &Arc<Pod>, (from, to): (Ipv4Addr, SocketAddr)) -> Pass {
        let breakers = [self.writer.breaker(), self.reader.breaker()];
        Pass::enter(pod, from, to, breakers)
    }
}

impl Bound {
    /// The two ends of a stream of this pod whose far one somebody carries to where no pod of this node is.
    pub(crate) fn to_elsewhere(
        self: &Arc<Self>,
        asked: SocketAddr,
        to: SocketAddr,
    ) -> (Stream, Stream) {
        let pod = self.pod();
        let local = match to {
            SocketAddr::V4(_) => self.source_away().into(),
            // The pod has no address that somebody there could know.
            SocketAddr::V6(_) => self.address(),
        };
        let own = &pod.budget;
        let (mut near, far) = ends((local, asked), (to, local), (own.clone(), own.clone()));
        near.port.bound = Some(self.clone());
        near.port.pass = Some(near.enter(pod, (pod.address, to)));
        (near, far)
    }
}

/// The two ends of a stream by which somebody outside meets a pod of another node, each with its own address and the
/// other's. What waits in it counts against a pod of this node.
pub(crate) fn between(
    pod: &Pod,
    near: (SocketAddrV4, SocketAddrV4),
    far: (SocketAddrV4, SocketAddrV4),
) -> (Stream, Stream) {
    let known = |(local, remote): (SocketAddrV4, SocketAddrV4)| (local.into(), remote.into());
    let (near, far) = (known(near), known(far));
    ends(near, far, (pod.budget.clone(), pod.budget.clone()))
}

/// Two ends with their own and the other's addresses, and the budgets that what each writes counts against.
fn ends(
    near: (SocketAddr, SocketAddr),
    far: (SocketAddr, SocketAddr),
    budgets: (Budget, Budget),
) -> (Stream, Stream) {
    let (to_far, from_near) = pipe_within(BUFFER, budgets.0);
    let (to_near, from_far) = pipe_within(BUFFER, budgets.1);
    let end = |(local, remote), reader, writer| Stream {
        local,
        remote,
        reader,
        writer,
        port: StreamPort {
            bound: None,
            pass: None,
        },
    };
    let near = end(near, from_far, to_far);
    (near, end(far, from_near, to_near))
}

impl PodNet {
    /// Takes a local address for a stream socket; port 0 asks for any.
    ///
    /// # Errors
    /// When the address is not this pod's or its port is taken.
    pub fn bind_stream(&self, address: impl Into<SocketAddr>) -> Result<Bound, SocketError> {
        Bound::new(self.pod(), Protocol::Tcp, address)
    }

    /// Begins a connection from a bound address to one of its family.
    pub fn connect_from(&self, bound: Arc<Bound>, remote: impl Into<SocketAddr>) -> Connecting {
        Connecting::new(bound, remote.into())
    }

    /// Makes a connection from any port.
    ///
    /// # Errors
    /// When nobody listens there, no pod is there, or no port is free.
    pub async fn connect(&self, remote: impl Into<SocketAddr>) -> Result<Stream, SocketError> {
        let remote = remote.into();
        let any = Family::of(&remote).any();
        let mut connecting = self.connect_from(Arc::new(self.bind_stream(any)?), remote);
        std::future::poll_fn(|cx| connecting.poll(cx)).await
    }
}
