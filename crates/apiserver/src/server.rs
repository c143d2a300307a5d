//! The server: its parts and its life.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use store::Store;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::aside::Aside;
use crate::ca::Ca;
use crate::cache::Cache;
use crate::metrics::Metrics;
use crate::mount::Mount;
use crate::payload::Room;
use crate::{bootstrap, registry};

/// How long to wait before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a server is told.
pub struct Config {
    /// The server's name, such as `carob-1`.
    pub name: String,
    /// Where agents and other servers reach this server: `https://127.0.0.2:34567`.
    pub url: String,
    /// The cluster's CA, to sign the certificates of those who join.
    pub ca: Arc<Ca>,
    /// This server's certificate and key, by which it calls agents.
    pub identity: client::tls::Identity,
    /// What else is served.
    pub mounts: Vec<Mount>,
}

/// A Kubernetes API server over a store. Clones are the same server; it ends with the last of them.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Metrics,
    pub(crate) room: Room,
    pub(crate) aside: Aside,
    pub(crate) event_leases: registry::EventLeases,
    pub(crate) agents: crate::handlers::Agents,
    /// What agents say of what is used on their nodes.
    pub(crate) answers: crate::handlers::Answers,
    pub(crate) tokens: crate::tokens::Tokens,
    ready: watch::Sender<bool>,
    /// Ends the tasks below when the server is dropped.
    _closing: DropGuard,
}

impl ApiServer {
    /// A server over an open store. Begins to fill its cache at once and, as soon as the store has a
    /// leader, puts the bootstrap objects there. Must be called within a tokio runtime.
    pub fn new(store: Store, config: Config) -> ApiServer {
        let closing = CancellationToken::new();
        let cache = Arc::new(Cache::new());
        tokio::spawn(Arc::clone(&cache).feed(store.clone(), closing.clone()));
        let server = ApiServer {
            inner: Arc::new(Inner {
                config,
                store,
                cache,
                metrics: Metrics::default(),
                room: Room::default(),
                aside: Aside::default(),
                event_leases: registry::EventLeases::default(),
                agents: crate::handlers::Agents::default(),
                answers: crate::handlers::Answers::default(),
                tokens: crate::tokens::Tokens::default(),
                ready: watch::Sender::new(false),
                _closing: closing.clone().drop_guard(),
            }),
        };
        // The task holds the server weakly between its steps, or it would keep it alive for ever.
        let weak = Arc::downgrade(&server.inner);
        let leadership = server.inner.store.leadership();
        let ready = server.ready();
        tokio::spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                _ = futures::future::join(
                    keep_ready(weak.clone(), leadership),
                    bootstrap::keep(weak, ready),
                ) => {}
            }
        });
        server
    }

    /// Whether requests can be answered: the store has a leader, the watch cache is filled, the
    /// bootstrap objects are there.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.inner.ready.subscribe()
    }

    /// The cluster's CA certificate, PEM.
    pub fn ca_certificate(&self) -> &str {
        self.inner.config.ca.certificate()
    }
}

/// Follows the store's leadership and says whether the server is ready.
async fn keep_ready(
    server: std::sync::Weak<Inner>,
    mut leadership: watch::Receiver<store::Leadership>,
) {
    let mut prepared = false;
    loop {
        let led = leadership.borrow_and_update().leader.is_some();
        let Some(inner) = server.upgrade() else {
            return;
        };
        let server_now = ApiServer { inner };
        if led && !prepared {
            prepared = prepare(&server_now).boxed().await;
        }
        let ready = led && prepared && server_now.caught_up().await;
        let changed = server_now
            .inner
            .ready
            .send_if_modified(|was| std::mem::replace(was, ready) != ready);
        if changed {
            info!(ready, "API server");
        }
        drop(server_now);
        if ready || !led {
            if leadership.changed().await.is_err() {
                return;
            }
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Has everything that must be there before a request is answered; false if it could not be had now.
async fn prepare(server: &ApiServer) -> bool {
    if let Err(status) = server.prepare_tokens().await {
        warn!(error = %status.message, "tokens cannot be signed yet");
        return false;
    }
    if let Err(error) = bootstrap::run(server).await {
        warn!(%error, "the cluster's first objects are not there yet");
        return false;
    }
    true
}

impl ApiServer {
    /// Whether reads here see every write acknowledged anywhere.
    async fn caught_up(&self) -> bool {
        match self.inner.store.barrier().await {
            Ok(revision) => self.inner.cache.reach(revision, PAUSE * 10).await,
            Err(_) => false,
        }
    }
}
