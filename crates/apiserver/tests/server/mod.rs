//! A server over a single-member store in a directory of its own, for the tests of this directory.

#![expect(dead_code, reason = "each test uses a part of this module")]

use std::sync::Arc;
use std::time::Duration;

use apiserver::ca::{Ca, Profile};
use apiserver::{ApiServer, Config};
use bytes::Bytes;
use client::kubeconfig::{Context, Credentials};
use client::{Client, Informer, ListOptions, Transport};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use rustls::pki_types::ServerName;
use serde_json::Value;
use store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// A running server. Its directory goes with it.
pub(crate) struct Server {
    pub(crate) server: ApiServer,
    pub(crate) ca: Arc<Ca>,
    pub(crate) identity: client::tls::Identity,
    pub(crate) store: Store,
    admin: Arc<dyn Transport>,
    /// What controllers do in a whole cluster; it ends with this.
    controllers: JoinSet<()>,
    dir: Arc<tempfile::TempDir>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

impl Server {
    pub(crate) async fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::create().unwrap());
        let address = [127, 0, 0, 1].into();
        let issued = ca
            .issue(&Profile::Server {
                name: "s1".to_owned(),
                addresses: vec![address],
            })
            .unwrap();
        let identity = client::tls::Identity {
            cert_pem: issued.certificate,
            key_pem: issued.key,
            ca_pem: ca.certificate().to_owned(),
        };
        let store = open_store(dir.path(), 1, "s1", &identity).await;
        store.bootstrap().await.unwrap();
        Server::over(store, ca, identity, Arc::new(dir)).await
    }

    /// Another server over the same store, as after a restart.
    pub(crate) async fn restarted(&self) -> Server {
        Server::over(
            self.store.clone(),
            Arc::clone(&self.ca),
            self.identity.clone(),
            Arc::clone(&self.dir),
        )
        .await
    }

    /// A server over a store that belongs to a cluster.
    pub(crate) async fn over(
        store: Store,
        ca: Arc<Ca>,
        identity: client::tls::Identity,
        dir: Arc<tempfile::TempDir>,
    ) -> Server {
        let server = ApiServer::new(
            store.clone(),
            Config {
                name: "s1".to_owned(),
                url: "https://127.0.0.1:6443".to_owned(),
                ca: Arc::clone(&ca),
                identity: identity.clone(),
                mounts: Vec::new(),
            },
        );
        let mut ready = server.ready();
        tokio::time::timeout(Duration::from_secs(20), ready.wait_for(|r| *r))
            .await
            .expect("the server becomes ready")
            .unwrap();
        let admin = server.transport("admin", ["system:masters"]);
        let mut controllers = JoinSet::new();
        let (made, accounts) = oneshot::channel();
        controllers.spawn(make_accounts(Arc::clone(&admin), made));
        // From here on the store's revision moves by what the test does alone.
        accounts.await.expect("the namespaces have their accounts");
        Server {
            admin,
            controllers,
            server,
            ca,
            identity,
            store,
            dir,
        }
    }

    /// The certificate of the node `n1`.
    pub(crate) fn node_identity(&self) -> client::tls::Identity {
        let profile = Profile::Node {
            name: "n1".to_owned(),
            addresses: vec![],
        };
        let issued = self.ca.issue(&profile).unwrap();
        client::tls::Identity {
            cert_pem: issued.certificate,
            key_pem: issued.key,
            ca_pem: self.ca.certificate().to_owned(),
        }
    }

    /// Serves HTTPS until the token fires; its URL.
    pub(crate) async fn listen(&self) -> (String, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let tls = apiserver::tls::server_config(&self.identity).unwrap();
        let (serving, token) = (self.server.clone(), stop.clone());
        tokio::spawn(async move { serving.serve(listener, tls, token.clone(), token).await });
        (url, stop)
    }

    /// Serves HTTPS until the token fires; what the administrator reaches it by.
    pub(crate) async fn context(&self) -> (Context, CancellationToken) {
        let (url, stop) = self.listen().await;
        let admin = self.ca.issue(&Profile::Admin).unwrap();
        let context = Context {
            name: "t".to_owned(),
            server: url,
            ca_pem: self.ca.certificate().to_owned(),
            credentials: Credentials::Certificate {
                cert_pem: admin.certificate,
                key_pem: admin.key,
            },
            namespace: "default".to_owned(),
        };
        (context, stop)
    }

    /// A connection of the administrator's on which nothing is said yet, for HTTP/1.1.
    pub(crate) async fn connect(&self, url: &str) -> TlsStream<TcpStream> {
        let issued = self.ca.issue(&Profile::Admin).unwrap();
        let identity = client::tls::Identity {
            cert_pem: issued.certificate,
            key_pem: issued.key,
            ca_pem: self.ca.certificate().to_owned(),
        };
        let mut config = identity.client_config().unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let address = url.strip_prefix("https://").unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let tls = TlsConnector::from(Arc::new(config));
        tls.connect(name, tcp).await.unwrap()
    }

    /// Sends a request as the administrator.
    pub(crate) async fn send(&self, request: http::Request<Bytes>) -> Answer {
        send(&self.admin, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, "application/json", body).await
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Value,
    ) -> Answer {
        call(&self.admin, method, path, content_type, body).await
    }
}

/// Gives every namespace its default account, as the controller of namespaces does.
async fn make_accounts(admin: Arc<dyn Transport>, made: oneshot::Sender<()>) {
    let client = Client::new(admin, "accounts");
    let namespaces = Informer::start(client.of::<Namespace>(), ListOptions::default());
    let mut changes = namespaces.subscribe();
    let mut made = Some(made);
    loop {
        for key in changes.next().await {
            let mut account = ServiceAccount::default();
            account.metadata.namespace = Some(key.name.clone());
            account.metadata.name = Some("default".to_owned());
            // One that is there already, or whose namespace is gone, is refused.
            let _ = client.of::<ServiceAccount>().create(&account).await;
        }
        if let Some(made) = made.take() {
            // Nobody waits any more where the test has ended.
            let _ = made.send(());
        }
    }
}

/// Opens a member's store on a free port of 127.0.0.1.
pub(crate) async fn open_store(
    dir: &std::path::Path,
    id: u64,
    name: &str,
    identity: &client::tls::Identity,
) -> Store {
    open_store_at(dir, id, name, identity, "127.0.0.1:0".parse().unwrap()).await
}

/// Opens a member's store on a port that is known beforehand.
pub(crate) async fn open_store_at(
    dir: &std::path::Path,
    id: u64,
    name: &str,
    identity: &client::tls::Identity,
    address: std::net::SocketAddr,
) -> Store {
    let listener = TcpListener::bind(address).await.unwrap();
    let config = store::Config {
        dir: dir.join(format!("store-{id}")),
        id,
        name: name.to_owned(),
        address: listener.local_addr().unwrap(),
        snapshot_after: 100_000,
        history: 10_000,
        tls: store::Tls {
            ca_pem: identity.ca_pem.clone().into(),
            cert_pem: identity.cert_pem.clone().into(),
            key_pem: identity.key_pem.clone().into(),
        },
    };
    Store::open(config, listener).await.unwrap()
}

pub(crate) async fn call(
    transport: &Arc<dyn Transport>,
    method: &str,
    path: &str,
    content_type: &str,
    body: Value,
) -> Answer {
    let bytes = match body {
        Value::Null => Bytes::new(),
        body => Bytes::from(body.to_string()),
    };
    let mut request = http::Request::builder().method(method).uri(path);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    send(transport, request.body(bytes).unwrap()).await
}

pub(crate) async fn send(transport: &Arc<dyn Transport>, request: http::Request<Bytes>) -> Answer {
    let response = transport.send(request).await.unwrap();
    let (head, body) = response.into_parts();
    Answer {
        code: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}
