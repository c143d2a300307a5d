//! A node with a pod behind a Service, and its proxy's doors at the machine's loopback address.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use futures::future::BoxFuture;
use http::request;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use network::entrance::listen;
use network::services::{Endpoint, Name, Place, Service, ServicePort, Slice};
use network::{Listener, Network, PodNet, Protocol, Table};
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::super::certificates::{Certificates, Found};
use super::super::super::room::Room;
use super::super::super::rules::Compiled;
use super::super::super::serve::{Door, tls};
use super::*;

/// How much a socket takes before the other end does, about: as good as nothing.
pub(super) const NARROW: u32 = 4 << 10;

type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

pub(super) fn handler<F>(handle: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |request| handle(request).boxed())
}

pub(super) fn full(text: impl Into<Bytes>) -> Body {
    let body = Full::new(text.into());
    body.map_err(|never| match never {}).boxed_unsync()
}

pub(super) async fn text(answer: Response<Incoming>) -> String {
    let bytes = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

pub(super) struct World {
    pub(super) at: SocketAddrV4,
    by_tls: SocketAddrV4,
    trusted: ClientConfig,
    server: PodNet,
    _network: Network,
    _serving: [AbortOnDropHandle<()>; 2],
}

/// Of the pods' addresses.
const RANGE: &str = "10.128.0.0/24";

/// The Services, and the port of the one pod that each leads to. Nobody listens at the last.
const SERVICES: [(&str, u16); 3] = [("web", 8080), ("garbage", 8081), ("closed", 8082)];

fn router() -> Router {
    let backend = |service: &str| json!({"service": {"name": service, "port": {"name": "http"}}});
    let path = |name: &str| json!({"path": format!("/{name}"), "pathType": "Prefix", "backend": backend(name)});
    let resource = json!({"resource": {"kind": "Bucket", "name": "b"}});
    let paths = json!([path("web"), path("garbage"), path("closed"), path("gone"),
        {"path": "/resource", "pathType": "Exact", "backend": resource}]);
    let ingress = json!({"metadata": {"namespace": "d", "name": "i"},
        "spec": {"ingressClassName": "carob", "rules": [{"host": "x", "http": {"paths": paths}}]}});
    let class =
        json!({"metadata": {"name": "carob"}, "spec": {"controller": api::ingress::CONTROLLER}});
    let ingress = serde_json::from_value(ingress).expect("an Ingress");
    let class = serde_json::from_value(class).expect("a class");
    Compiled::new([&ingress], [&class]).router
}

fn lead_to(server: &PodNet, network: &Network) {
    network.update(|table| {
        *table = Table::new(Place {
            node: "n".to_owned(),
            zone: None,
        });
        for (name, number) in SERVICES {
            let name = Name {
                namespace: "d".to_owned(),
                name: name.to_owned(),
            };
            let port = ServicePort {
                name: "http".to_owned(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None,
            };
            let service = Service {
                ports: vec![port],
                ..Service::default()
            };
            let endpoint = Endpoint {
                address: Some(server.address()),
                ready: true,
                serving: true,
                ..Endpoint::default()
            };
            let slice = Slice {
                ports: vec![("http".to_owned(), Protocol::Tcp, number)],
                endpoints: vec![endpoint],
            };
            table.services.set_service(&name, Some(service));
            table.services.set_slice(&name, "s", Some(slice));
        }
    });
}

/// Certificates with one for `x`, and a client that trusts it and speaks HTTP/2.
fn certificates() -> (Arc<Certificates>, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["x".to_owned()]).expect("a certificate");
    let data = [
        ("tls.crt", made.cert.pem()),
        ("tls.key", made.signing_key.serialize_pem()),
    ];
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    let secret = Secret {
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data.into()),
        ..Secret::default()
    };
    let certificates = Certificates::new().expect("certificates");
    let wanted = super::super::super::certificates::Wanted {
        ingress: client::Key::new("d", "i"),
        secret: client::Key::new("d", "s"),
        hosts: Vec::new(),
    };
    let secret = Arc::new(secret);
    assert_eq!(
        certificates.set(&[wanted], |_| Found::Is(secret.clone())),
        []
    );
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let builder = ClientConfig::builder_with_provider(certificates.provider().clone());
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(certificates), config)
}

impl World {
    pub(super) async fn new(limits: Limits) -> Self {
        Self::in_network(limits, Network::new(RANGE.parse().expect("a range"))).await
    }

    /// On a node with so many sockets.
    pub(super) async fn with_sockets(most: usize) -> Self {
        let network = Network::with_sockets(RANGE.parse().expect("a range"), most);
        Self::in_network(Limits::default(), network).await
    }

    async fn in_network(limits: Limits, network: Network) -> Self {
        let gateway = network.join("gateway").expect("an address");
        let server = network.join("server").expect("an address");
        lead_to(&server, &network);
        let entrance = Entrance::new(network.clone(), gateway);
        let proxy = Arc::new(Proxy::new(Arc::new(entrance), limits));
        proxy.set_router(router());
        let (certificates, trusted) = certificates();
        let config = tls(certificates).expect("TLS");
        let room = Room::new(limits.connections);
        let open = |tls| {
            let listener = listen(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a port");
            // So is what is accepted there.
            let narrowed = sockopt::set_socket_send_buffer_size(&listener, NARROW as usize);
            narrowed.expect("a size");
            let port = listener.local_addr().expect("its address").port();
            let door = Door {
                listener,
                port,
                tls,
                room: room.clone(),
            };
            let serving = AbortOnDropHandle::new(tokio::spawn(door.serve(proxy.clone())));
            (SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), serving)
        };
        let (at, clear) = open(None);
        let (by_tls, secret) = open(Some(config));
        Self {
            at,
            by_tls,
            trusted,
            server,
            _network: network,
            _serving: [clear, secret],
        }
    }

    fn listen(&self, port: u16) -> Listener {
        let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        Listener::new(Arc::new(self.server.bind_stream(at).expect("a port")), 8)
    }

    /// Serves the Service `web` from the pod.
    pub(super) fn pod(&self, handler: Handler) {
        let listener = self.listen(8080);
        tokio::spawn(async move {
            loop {
                let io = TokioIo::new(listener.accept().await.into_io());
                let handler = handler.clone();
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let builder = hyper::server::conn::http1::Builder::new();
                tokio::spawn(builder.serve_connection(io, service).with_upgrades());
            }
        });
    }

    /// Says the same to whoever comes to the Service `garbage`.
    pub(super) fn pod_that_says(&self, text: &'static str) -> AbortOnDropHandle<()> {
        let listener = self.listen(8081);
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let mut io = listener.accept().await.into_io();
                let _ = io.write_all(text.as_bytes()).await;
            }
        }))
    }

    /// Answers who comes next to the Service `garbage`: with a head at once, and with so many bytes when it is told to. It
    /// says when it is left.
    pub(super) fn pod_in_steps(
        &self,
        bytes: usize,
    ) -> (oneshot::Sender<()>, oneshot::Receiver<()>) {
        let listener = self.listen(8081);
        let (go_on, told) = oneshot::channel();
        let (left, was_left) = oneshot::channel();
        tokio::spawn(async move {
            let mut io = listener.accept().await.into_io();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(io.read_u8().await.expect("a request"));
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
            io.write_all(head.as_bytes()).await.expect("sent");
            told.await.expect("told");
            io.write_all(&vec![b'y'; bytes]).await.expect("sent");
            let _ = io.read_to_end(&mut Vec::new()).await;
            let _ = left.send(());
        });
        (go_on, was_left)
    }

    pub(super) fn request(&self, host: &str, path: &str) -> request::Builder {
        Request::builder().uri(path).header("host", host)
    }

    pub(super) async fn http1(&self, request: Request<Body>) -> Response<Incoming> {
        let socket = TcpStream::connect(self.at).await.expect("a connection");
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("HTTP");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    }

    /// A connection by TLS to the name in the certificate.
    pub(super) async fn shake(&self) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.by_tls).await.expect("a connection");
        let connector = TlsConnector::from(Arc::new(self.trusted.clone()));
        let name = ServerName::try_from("x").expect("a name");
        connector.connect(name, socket).await.expect("TLS")
    }

    pub(super) async fn http2(&self, request: Request<Body>) -> Response<Incoming> {
        let stream = TokioIo::new(self.shake().await);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    }

    /// Sends that and nothing more; all that comes back until the connection ends.
    pub(super) async fn raw(&self, lines: &str) -> String {
        let mut socket = TcpStream::connect(self.at).await.expect("a connection");
        // One that is not read to its end is cut off.
        let _ = socket.write_all(lines.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}
