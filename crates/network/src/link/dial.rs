//! The dialing end of links.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::Connection;
use h2::{Reason, RecvStream, SendStream};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;

use super::datagrams::Outgoing;
use super::life::{self, InUse, Usage};
use super::slot::{Link, Next, Slot};
use super::{ALPN, LinkError, Open, Packet, Peer, pump, request};
use crate::{LARGEST, SocketError, Stream};

/// How long a stream waits for a link.
const LINK_WITHIN: Duration = Duration::from_secs(2);
/// How long one attempt to dial may take.
const DIAL_WITHIN: Duration = Duration::from_secs(2);
/// How long a stream may take to be made: the serving end gives up before.
const OPEN_WITHIN: Duration = Duration::from_secs(14);

/// Says from the certificates that a peer has shown, verified already against the configured roots
/// and the peer's address, whether it is that node.
pub type Judge = dyn Fn(&Peer, &[CertificateDer<'_>]) -> bool + Send + Sync;

/// A connection's bytes, before TLS.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(super) type Wired = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

/// Makes connections to addresses: TCP's, but in tests.
pub(super) type Dialer = dyn Fn(SocketAddr) -> Wired + Send + Sync;

struct Shared {
    tls: TlsConnector,
    judge: Box<Judge>,
    dialer: Box<Dialer>,
    peers: Mutex<BTreeMap<Peer, Arc<ToPeer>>>,
}

/// What is kept of a peer.
#[derive(Default)]
struct ToPeer {
    slot: Slot,
    outgoing: Outgoing,
}

/// The links that this node dials, one to each peer. Clones are handles to the same links. A link
/// ends a minute after its last use and is dialed again when it is needed.
#[derive(Clone)]
pub struct Links(Arc<Shared>);

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

impl Links {
    /// Dials with the node's own certificate and the cluster's roots in `config`, to which the
    /// links' protocol is added. `judge` knows what certificates mean.
    pub fn new(config: &rustls::ClientConfig, judge: Box<Judge>) -> Self {
        Self::over(config, judge, Box::new(|address| Box::pin(tcp(address))))
    }

    pub(super) fn over(
        config: &rustls::ClientConfig,
        judge: Box<Judge>,
        dialer: Box<Dialer>,
    ) -> Self {
        let mut config = config.clone();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Self(Arc::new(Shared {
            tls: TlsConnector::from(Arc::new(config)),
            judge,
            dialer,
            peers: Mutex::default(),
        }))
    }

    /// Opens a stream to a pod of the peer. `far` is the far end of the pair whose near end the
    /// client pod has; once this is done bytes flow between it and the pod, in a task of its own.
    ///
    /// # Errors
    /// [`SocketError::Refused`] where the peer refuses it, [`SocketError::Unreachable`] where there
    /// is no link within two seconds, it breaks, or no pod is there.
    pub async fn open(&self, peer: &Peer, open: Open, far: Stream) -> Result<(), SocketError> {
        let (send, receive, in_use) = timeout(OPEN_WITHIN, self.ask(peer, &open))
            .await
            .unwrap_or(Err(SocketError::Unreachable))?;
        tokio::spawn(async move {
            pump::pump(far, send, receive).await;
            drop(in_use);
        });
        Ok(())
    }

    /// Sends a datagram, without waiting: where the link is slow, or cannot be had, it is lost.
    ///
    /// # Errors
    /// [`SocketError::TooLarge`] beyond [`LARGEST`] bytes.
    pub fn send_datagram(&self, peer: &Peer, packet: Packet) -> Result<(), SocketError> {
        if packet.bytes.len() > LARGEST {
            return Err(SocketError::TooLarge);
        }
        let to = self.to(peer);
        if to.outgoing.push(packet) {
            tokio::spawn(self.clone().send_datagrams(peer.clone(), to));
        }
        Ok(())
    }

    /// Asks for a stream: twice where the link turns out to be none.
    async fn ask(
        &self,
        peer: &Peer,
        open: &Open,
    ) -> Result<(SendStream<Bytes>, RecvStream, InUse), SocketError> {
        let to = self.to(peer);
        for _ in 0..2 {
            let asked = request::stream(open)?;
            let link = self.link(peer, &to).await?;
            let in_use = link.usage.begin().ok_or(SocketError::Unreachable)?;
            match exchange(link.clone(), asked).await {
                Ok((send, response)) => {
                    request::read_answer(&response)?;
                    return Ok((send, response.into_body(), in_use));
                }
                Err(error) if is_the_streams(&error) => return Err(SocketError::Unreachable),
                Err(error) => {
                    debug!(peer = peer.name, %error, "link lost with a request");
                    to.slot.retire(&link.usage, Instant::now());
                }
            }
        }
        Err(SocketError::Unreachable)
    }

    /// Sends the datagrams that wait for a peer, until none has come for a while. What waits when
    /// no stream can be had is lost.
    async fn send_datagrams(self, peer: Peer, to: Arc<ToPeer>) {
        let mut stream: Option<(SendStream<Bytes>, Arc<Usage>)> = None;
        while to.outgoing.any().await {
            if stream.is_none() {
                stream = self.post(&peer, &to).await.ok();
            }
            let Some((send, usage)) = &mut stream else {
                to.outgoing.drop_all();
                continue;
            };
            usage.touch();
            if to.outgoing.send(send).await.is_none() {
                stream = None;
            }
        }
        if let Some((mut send, _)) = stream {
            // A stream that is broken by now has nothing to end.
            let _ = send.send_data(Bytes::new(), true);
        }
    }

    /// Begins the request for datagrams.
    async fn post(
        &self,
        peer: &Peer,
        to: &Arc<ToPeer>,
    ) -> Result<(SendStream<Bytes>, Arc<Usage>), SocketError> {
        let link = self.link(peer, to).await?;
        let asked = request::datagrams()?;
        let ready = link.requests.clone().ready().await;
        match ready.and_then(|mut requests| requests.send_request(asked, false)) {
            Ok((_answer, send)) => Ok((send, link.usage)),
            Err(_) => {
                to.slot.retire(&link.usage, Instant::now());
                Err(SocketError::Unreachable)
            }
        }
    }

    fn to(&self, peer: &Peer) -> Arc<ToPeer> {
        let mut peers = self.0.peers.lock();
        if let Some(to) = peers.get(peer) {
            return to.clone();
        }
        // Nodes come and go: those without a link are forgotten when a new one comes.
        peers.retain(|_, to| Arc::strong_count(to) > 1 || !to.slot.is_empty());
        peers.entry(peer.clone()).or_default().clone()
    }

    /// The link to the peer, dialed where there is none.
    async fn link(&self, peer: &Peer, to: &Arc<ToPeer>) -> Result<Link, SocketError> {
        let had = async {
            loop {
                let mut dialed = match to.slot.next(Instant::now()) {
                    Next::Use(link) => return link,
                    Next::Await(dialed) => dialed,
                    Next::Dial(at, done, dialed) => {
                        let dial = dial(self.0.clone(), peer.clone(), to.clone(), at, done);
                        tokio::spawn(dial);
                        dialed
                    }
                };
                // Nothing is ever sent: it ends with the attempt.
                let _ = dialed.changed().await;
            }
        };
        let had = timeout(LINK_WITHIN, had).await;
        had.map_err(|_| SocketError::Unreachable)
    }
}

/// Whether an error concerns one stream, and not its link.
fn is_the_streams(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() != Some(Reason::REFUSED_STREAM)
}

async fn exchange(
    link: Link,
    asked: http::Request<()>,
) -> Result<(SendStream<Bytes>, http::Response<RecvStream>), h2::Error> {
    let mut requests = link.requests.ready().await?;
    let (response, send) = requests.send_request(asked, false)?;
    // The request's handle does not outlive this: a link without handles and streams ends.
    drop(requests);
    Ok((send, response.await?))
}

/// Makes a link, and sees it to its end.
async fn dial(
    shared: Arc<Shared>,
    peer: Peer,
    to: Arc<ToPeer>,
    at: Instant,
    done: watch::Sender<()>,
) {
    sleep_until(at).await;
    let made = timeout(DIAL_WITHIN, shared.handshake(&peer)).await;
    drop(shared);
    let (requests, connection) = match made.unwrap_or(Err(LinkError::Slow)) {
        Ok(made) => made,
        Err(error) => {
            debug!(
                peer = peer.name,
                error = &error as &dyn std::error::Error,
                "no link"
            );
            return to.slot.failed(Instant::now());
        }
    };
    let usage = Arc::<Usage>::default();
    let link = Link {
        requests,
        usage: usage.clone(),
    };
    to.slot.is_up(link, Instant::now());
    drop(done);
    let retire = || to.slot.retire(&usage, Instant::now());
    drive(connection, &usage, retire).await;
    retire();
    debug!(peer = peer.name, "link ended");
}

/// Moves the link's bytes until it ends, which resets what is open on it.
async fn drive(
    mut connection: Connection<TlsStream<Box<dyn Wire>>>,
    usage: &Usage,
    retire: impl Fn(),
) {
    let Some(mut pings) = connection.ping_pong() else {
        return;
    };
    let silent = async {
        // Without a handle to it, an idle link ends by itself; one that was used just then goes on.
        while life::silent_or_idle(&mut pings, usage).await {
            retire();
        }
    };
    let silent = pin!(silent);
    tokio::select! {
        _ = &mut connection => {}
        () = silent => {}
    }
}

impl Shared {
    async fn handshake(
        &self,
        peer: &Peer,
    ) -> Result<
        (
            h2::client::SendRequest<Bytes>,
            Connection<TlsStream<Box<dyn Wire>>>,
        ),
        LinkError,
    > {
        let wire = (self.dialer)(peer.address);
        let wire = wire.await.map_err(LinkError::Connect)?;
        let name = ServerName::from(peer.address.ip());
        let stream = self.tls.connect(name, wire).await;
        let stream = stream.map_err(LinkError::Connect)?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            return Err(LinkError::NoLinks(peer.address));
        }
        let shown = session.peer_certificates().unwrap_or_default();
        if !(self.judge)(peer, shown) {
            return Err(LinkError::Stranger(peer.address));
        }
        Ok(life::client().handshake(stream).await?)
    }
}

async fn tcp(address: SocketAddr) -> io::Result<Box<dyn Wire>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}
