//! Members with a runtime each, so that one can be stopped as `kill -9` stops a process: at once and whole.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::SanType;
use store::Command;
use store::Config;
use store::Member;
use store::Op;
use store::Store;
use store::Tls;
use store::When;
use store::Written;
use tokio::runtime::Runtime;
use tokio::time::Instant;

pub(crate) const SERVERS: &str = "system:carob:servers";

/// A CA for one test.
pub(crate) struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params
            .distinguished_name
            .push(DnType::CommonName, "carob-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("CA").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn issue(&self, organisation: &str) -> Tls {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params
            .distinguished_name
            .push(DnType::OrganizationName, organisation);
        params
            .distinguished_name
            .push(DnType::CommonName, "a member");
        params
            .subject_alt_names
            .push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.issuer).expect("certificate");
        Tls {
            ca_pem: self.pem.clone().into_bytes(),
            cert_pem: cert.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
        }
    }
}

/// A running member.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Node {
    /// Stops the member at once: its tasks and connections are gone, nothing is said to anybody.
    pub(crate) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn member(&self) -> Member {
        Member {
            id: self.id,
            name: format!("member-{}", self.id),
            address: self.address,
            voter: true,
        }
    }

    /// Starts `work` on the member's own runtime.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().expect("running").spawn(work)
    }

    /// Runs `work` on the member's own runtime.
    pub(crate) async fn run<T, F>(&self, work: impl FnOnce(Store) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.spawn(work(self.store.clone())).await.expect("work")
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> Result<Written, store::Error> {
        let command = put(key, value);
        self.run(|store| async move { store.write(command).await })
            .await
    }

    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        self.store
            .state()
            .get(key.as_bytes())
            .map(|entry| entry.value.clone())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the members of one test share.
pub(crate) struct Cluster {
    pub(crate) ca: Ca,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) snapshot_after: u64,
    pub(crate) history: usize,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            ca: Ca::new(),
            dir: tempfile::tempdir().expect("dir"),
            snapshot_after: 100_000,
            history: 10_000,
        }
    }

    pub(crate) fn path(&self, id: u64) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    pub(crate) async fn start(&self, id: u64) -> Node {
        self.start_at(id, ([127, 0, 0, 1], 0).into(), &self.path(id))
            .await
            .expect("open")
    }

    pub(crate) async fn start_at(
        &self,
        id: u64,
        address: SocketAddr,
        dir: &Path,
    ) -> Result<Node, store::Error> {
        let tls = self.ca.issue(SERVERS);
        let (snapshot_after, history, dir) = (self.snapshot_after, self.history, dir.to_owned());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("rt");
        let opened = runtime.spawn(async move {
            let listener = listen(address).await;
            let address = listener.local_addr().expect("address");
            let name = format!("member-{id}");
            let config = Config {
                dir,
                id,
                name,
                address,
                snapshot_after,
                history,
                tls,
            };
            Store::open(config, listener)
                .await
                .map(|store| (store, address))
        });
        match opened.await.expect("open") {
            Ok((store, address)) => Ok(Node {
                id,
                store,
                address,
                runtime: Some(runtime),
            }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Three members, the first of them founder.
    pub(crate) async fn three(&self) -> Vec<Node> {
        let mut nodes = vec![
            self.start(1).await,
            self.start(2).await,
            self.start(3).await,
        ];
        nodes[0]
            .run(|store| async move { store.bootstrap().await })
            .await
            .expect("bootstrap");
        for node in &nodes[1..] {
            let member = node.member();
            nodes[0]
                .run(|store| async move { store.add_member(member).await })
                .await
                .expect("add");
        }
        for node in &mut nodes {
            leader(node).await;
        }
        nodes
    }
}

async fn listen(address: SocketAddr) -> tokio::net::TcpListener {
    // A member that was just killed may hold its port for a moment.
    for _ in 0..100 {
        if let Ok(listener) = tokio::net::TcpListener::bind(address).await {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{address} stays taken");
}

/// Waits until the member knows a leader, and returns it.
pub(crate) async fn leader(node: &Node) -> u64 {
    let mut leadership = node.store.leadership();
    let known = leadership.wait_for(|leadership| leadership.leader.is_some());
    let known = tokio::time::timeout(Duration::from_secs(20), known)
        .await
        .expect("a leader in time");
    known.expect("running").leader.expect("leader")
}

/// Takes the leader out of `nodes`.
pub(crate) async fn take_leader(nodes: &mut Vec<Node>) -> Node {
    let id = leader(&nodes[0]).await;
    let at = nodes.iter().position(|node| node.id == id).expect("leader");
    nodes.remove(at)
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// That two members hold the same state, each after it has caught up with all that was acknowledged: a write is
/// acknowledged when its leader has applied it, which says nothing of the others.
pub(crate) async fn same_state(one: &Node, other: &Node) {
    for node in [one, other] {
        let caught_up = node.run(|store| async move { store.barrier().await });
        caught_up.await.expect("barrier");
    }
    assert_eq!(*one.store.state(), *other.store.state());
}

/// Waits until a killed member's last thread has let go of its directory.
pub(crate) async fn released(dir: &Path) {
    let lock = std::fs::File::open(dir.join("lock")).expect("lock");
    until("the directory is free", || lock.try_lock().is_ok()).await;
}

pub(crate) fn put(key: &str, value: &str) -> Command {
    Command::always(vec![put_op(key, value)])
}

pub(crate) fn put_op(key: &str, value: &str) -> Op {
    Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: None,
    }
}

pub(crate) fn create(key: &str, value: &str) -> Command {
    let when = When::Revision {
        key: Bytes::copy_from_slice(key.as_bytes()),
        is: 0,
    };
    Command {
        when: vec![when],
        ops: vec![put_op(key, value)],
    }
}
