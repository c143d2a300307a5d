//! The handle that the rest of the server holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Command;
use crate::Error;
use crate::Outcome;
use crate::RequestId;
use crate::Revision;
use crate::State;
use crate::Watch;
use crate::Written;
use crate::apply::Proposal;
use crate::apply::apply_once;
use crate::history::History;

/// What a member needs to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's own directory for its log and state. Created if missing.
    pub dir: PathBuf,
    /// The member's id, unique in the cluster and never used again for a member with another directory.
    pub id: u64,
    /// The member's name, for people.
    pub name: String,
    /// Where the other members reach this one's listener.
    pub address: SocketAddr,
    /// After how many log entries a snapshot is taken and the log before it removed.
    pub snapshot_after: u64,
    /// How many revisions back a watch can start.
    pub history: usize,
    /// The certificates for both directions.
    pub tls: Tls,
}

/// PEM certificates for mutual TLS between members.
#[derive(Clone)]
pub struct Tls {
    /// The cluster's CA.
    pub ca_pem: Vec<u8>,
    /// This member's certificate: organisation `system:carob:servers`, the advertised IP among its names.
    pub cert_pem: Vec<u8>,
    /// Its private key.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where its raft service is reached.
    pub address: SocketAddr,
    /// Whether it votes; else it only learns.
    pub voter: bool,
}

/// Who leads, as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader's id, if one is known.
    pub leader: Option<u64>,
    /// Whether it is this member.
    pub is_leader: bool,
    /// Raft's term.
    pub term: u64,
}

/// Figures of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The state's revision.
    pub revision: Revision,
    /// How many keys there are.
    pub keys: usize,
    /// Raft's term.
    pub term: u64,
}

/// A member's handle to the store. Clones are the same member.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    state: ArcSwap<State>,
    history: Arc<History>,
    apply: Mutex<()>,
    initialised: AtomicBool,
    index: AtomicU64,
    leadership: watch::Sender<Leadership>,
}

impl Store {
    /// Opens the store.
    pub async fn open(config: Config, listener: TcpListener) -> Result<Store, Error> {
        drop(listener);
        Ok(Store {
            inner: Arc::new(Inner {
                history: Arc::new(History::new(0, config.history)),
                config,
                state: ArcSwap::default(),
                apply: Mutex::new(()),
                initialised: AtomicBool::new(false),
                index: AtomicU64::new(0),
                leadership: watch::Sender::new(Leadership::default()),
            }),
        })
    }

    /// Makes this member the first of a new cluster. Nothing happens if it already belongs to one.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        self.inner.initialised.store(true, Ordering::SeqCst);
        self.inner.leadership.send_replace(Leadership {
            leader: Some(self.inner.config.id),
            is_leader: true,
            term: 1,
        });
        Ok(())
    }

    /// Whether this member belongs to a cluster.
    pub fn initialised(&self) -> bool {
        self.inner.initialised.load(Ordering::SeqCst)
    }

    /// Carries out a command once; see [`Store::write_as`].
    pub async fn write(&self, command: Command) -> Result<Written, Error> {
        self.write_as(RequestId::random(), command).await
    }

    /// Carries out a command at most once for this id, on whichever member this is called, and returns when it lies
    /// on the disks of a majority and is applied here or on the leader.
    pub async fn write_as(&self, id: RequestId, command: Command) -> Result<Written, Error> {
        command.validate()?;
        if !self.initialised() {
            return Err(Error::Unavailable("not a member of a cluster".to_owned()));
        }
        let _applying = self.inner.apply.lock();
        let index = self.inner.index.fetch_add(1, Ordering::SeqCst);
        let mut state = State::clone(&self.inner.state.load());
        let applied = apply_once(
            &mut state,
            index,
            &Proposal {
                id,
                seen: index,
                command,
            },
        );
        self.inner.state.store(Arc::new(state));
        self.inner.history.push(applied.events);
        answer(applied.outcome)
    }

    /// This member's applied state: immutable, a pointer copy.
    pub fn state(&self) -> Arc<State> {
        self.inner.state.load_full()
    }

    /// Waits until [`Store::state`] here reflects every write acknowledged anywhere before this call, and returns
    /// its revision.
    pub async fn barrier(&self) -> Result<Revision, Error> {
        Ok(self.state().revision())
    }

    /// Watches every event with a revision above `from`.
    pub fn watch(&self, from: Revision) -> Result<Watch, Error> {
        self.inner.history.watch(from)
    }

    /// Who leads, and every change of it.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// The members, as this one knows them.
    pub fn members(&self) -> Vec<Member> {
        let config = &self.inner.config;
        vec![Member {
            id: config.id,
            name: config.name.clone(),
            address: config.address,
            voter: true,
        }]
    }

    /// Figures of this member.
    pub fn metrics(&self) -> Metrics {
        let state = self.state();
        Metrics {
            revision: state.revision(),
            keys: state.len(),
            term: self.inner.leadership.borrow().term,
        }
    }

    /// Stops this member.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.inner.history.stop();
        Ok(())
    }
}

fn answer(outcome: Outcome) -> Result<Written, Error> {
    match outcome {
        Outcome::Applied { revision } => Ok(Written::Applied { revision }),
        Outcome::Refused { current, revision } => Ok(Written::Refused { current, revision }),
        Outcome::LeaseNotFound { id } => Err(Error::LeaseNotFound(id)),
        Outcome::TooOld => Err(Error::Unavailable(
            "the command took too long; whether it was applied is unknown".to_owned(),
        )),
    }
}
