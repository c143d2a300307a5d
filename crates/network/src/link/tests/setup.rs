//! Two nodes in this process, over real TLS.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::link::dial::{Wire, Wired};
use crate::link::{ALPN, Accept, Links, Open, Packet, Peer, serve};
use crate::{Listener, Network, PodNet, SocketError, Stream};

/// The certificates of two nodes that trust each other.
pub(crate) struct Certificates {
    pub(crate) client: rustls::ClientConfig,
    pub(crate) server: TlsAcceptor,
}

pub(crate) fn certificates() -> Certificates {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let identity = || {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::from([127, 0, 0, 1]))];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    };
    let (chain, key) = identity();
    let client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain, key)
        .unwrap();
    let (chain, key) = identity();
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    server.alpn_protocols = vec![ALPN.to_vec()];
    Certificates {
        client,
        server: TlsAcceptor::from(Arc::new(server)),
    }
}

/// The serving node: it connects to its pod's listeners, and keeps the datagrams.
pub(super) struct Node {
    pod: PodNet,
    pub(super) asked: Mutex<Vec<(String, Open)>>,
    packets: mpsc::UnboundedSender<Packet>,
}

#[async_trait]
impl Accept for Node {
    async fn connect(&self, peer: &str, open: Open) -> Result<Stream, SocketError> {
        self.asked.lock().push((peer.to_owned(), open.clone()));
        match open.to.port() {
            // A pod that never answers.
            7 => std::future::pending().await,
            _ => self.pod.connect(open.to).await,
        }
    }

    fn datagram(&self, _peer: &str, packet: Packet) {
        self.packets.send(packet).unwrap();
    }
}

/// A serving node with one pod, and the client's end.
pub(super) struct Setup {
    pub(super) node: Arc<Node>,
    pub(super) packets: mpsc::UnboundedReceiver<Packet>,
    pub(super) links: Links,
    pub(super) peer: Peer,
    pub(super) client: PodNet,
    /// Everything that serves, to be aborted.
    pub(super) served: Arc<Mutex<Vec<JoinHandle<()>>>>,
    pub(super) dialed: watch::Receiver<usize>,
}

pub(super) async fn serve_tls(wire: impl Wire + 'static, tls: TlsAcceptor, node: Arc<Node>) {
    if let Ok(stream) = tls.accept(wire).await {
        let _ = serve(stream, "client".to_owned(), node).await;
    }
}

/// Serves on a port of the loopback.
pub(super) async fn over_tcp() -> Setup {
    let Certificates { client, server } = certificates();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (dialed, watch) = watch::channel(0);
    let links = Links::new(
        &client,
        Box::new(|peer, shown| peer.name == "server" && !shown.is_empty()),
    );
    let setup = setup(links, address, watch);
    let (node, served) = (setup.node.clone(), setup.served.clone());
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            dialed.send_modify(|count| *count += 1);
            let serving = tokio::spawn(serve_tls(stream, server.clone(), node.clone()));
            served.lock().push(serving);
        }
    });
    setup.served.lock().push(accepting);
    setup
}

/// Serves over pipes in memory, so that a paused clock never overtakes bytes. While `blocked`, what
/// is written to a connection goes nowhere, and connections are not answered.
pub(super) fn in_memory(blocked: watch::Receiver<bool>) -> Setup {
    let Certificates { client, server } = certificates();
    let (dialed, watch) = watch::channel(0);
    let (arrives, mut arriving) = mpsc::unbounded_channel::<DuplexStream>();
    let dialer = move |_| -> Wired {
        let (near, far) = tokio::io::duplex(256 << 10);
        arrives.send(far).unwrap();
        dialed.send_modify(|count| *count += 1);
        Box::pin(async move { Ok(Box::new(near) as Box<dyn Wire>) })
    };
    let links = Links::over(&client, Box::new(|_, _| true), Box::new(dialer));
    let setup = setup(links, "127.0.0.1:1".parse().unwrap(), watch);
    let (node, served) = (setup.node.clone(), setup.served.clone());
    let accepting = tokio::spawn(async move {
        while let Some(far) = arriving.recv().await {
            let (a, b) = tokio::io::duplex(256 << 10);
            let (far_read, far_write) = tokio::io::split(far);
            let (read, write) = tokio::io::split(a);
            tokio::spawn(forward(far_read, write, blocked.clone()));
            tokio::spawn(forward(read, far_write, blocked.clone()));
            let serving = tokio::spawn(serve_tls(b, server.clone(), node.clone()));
            served.lock().push(serving);
        }
    });
    setup.served.lock().push(accepting);
    setup
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    blocked: watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !*blocked.borrow() && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

fn setup(links: Links, address: SocketAddr, dialed: watch::Receiver<usize>) -> Setup {
    let (packets, receiver) = mpsc::unbounded_channel();
    let serving = Network::new("10.128.0.0/24".parse().unwrap());
    let dialing = Network::new("10.128.1.0/24".parse().unwrap());
    Setup {
        node: Arc::new(Node {
            pod: serving.join("uid").unwrap(),
            asked: Mutex::default(),
            packets,
        }),
        packets: receiver,
        links,
        peer: Peer {
            name: "server".to_owned(),
            address,
        },
        client: dialing.join("uid").unwrap(),
        served: Arc::default(),
        dialed,
    }
}

impl Setup {
    pub(super) fn listener(&self, port: u16) -> Listener {
        let address = SocketAddrV4::new(self.node.pod.address(), port);
        Listener::new(Arc::new(self.node.pod.bind_stream(address).unwrap()), 1024)
    }

    pub(super) fn to(&self, port: u16) -> Open {
        Open {
            from: SocketAddrV4::new(self.client.address(), 40_000),
            to: SocketAddrV4::new(self.node.pod.address(), port),
            pod: "uid".to_owned(),
        }
    }

    /// What a client pod does: the near end of its stream.
    pub(super) async fn open(&self, port: u16) -> Result<Stream, SocketError> {
        let any = SocketAddrV4::new(self.client.address(), 0);
        let bound = Arc::new(self.client.bind_stream(any).unwrap());
        let listener = Listener::new(bound, 1);
        let near = self.client.connect(listener.address()).await.unwrap();
        let far = listener.accept().await;
        self.links.open(&self.peer, self.to(port), far).await?;
        Ok(near)
    }

    /// A client's and a server's end.
    pub(super) async fn pair(&self, listener: &Listener) -> (Stream, Stream) {
        let near = self.open(listener.address().port()).await.unwrap();
        (near, listener.accept().await)
    }

    pub(super) fn kill(&self) {
        self.served.lock().drain(..).for_each(|task| task.abort());
    }
}

/// The far end of a stream whose near end is gone.
pub(super) async fn far_end(setup: &Setup) -> Stream {
    let any = SocketAddrV4::new(setup.client.address(), 0);
    let listener = Listener::new(Arc::new(setup.client.bind_stream(any).unwrap()), 1);
    let _near = setup.client.connect(listener.address()).await.unwrap();
    listener.accept().await
}
