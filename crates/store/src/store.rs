//! The handle that the rest of the server holds, and how a member starts and stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::InitializeError;
use openraft::errors::RaftError;
use openraft::metrics::RaftMetrics;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Command;
use crate::Config;
use crate::Error;
use crate::Leadership;
use crate::Member;
use crate::Metrics;
use crate::Outcome;
use crate::RequestId;
use crate::Revision;
use crate::State;
use crate::Watch;
use crate::Written;
use crate::apply::Proposal;
use crate::clock;
use crate::config;
use crate::copier::Copier;
use crate::forward::Answer;
use crate::forward::Ask;
use crate::forward::Forwarder;
use crate::forward::TRY_FOR;
use crate::forward::TRY_MEMBERSHIP_FOR;
use crate::leadership::Observer;
use crate::leadership::Pulse;
use crate::lease::end_leases;
use crate::machine::Machine;
use crate::machine::Published;
use crate::members;
use crate::network::Networks;
use crate::network::Peers;
use crate::newcomer::Newcomer;
use crate::repair::repair;
use crate::service::Raft;
use crate::start::lock;
use crate::start::recover;
use crate::start::serve;
use crate::tls::Identity;
use crate::types::Peer;
use crate::types::TypeConfig;
use crate::wal::Wal;

/// How long a member that has forwarded a write waits to see it itself.
const SEE_WITHIN: Duration = Duration::from_secs(1);
/// How long calls under way have when the member stops.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// A member's handle to the store. Clones are the same member.
///
/// Dropping all of them without [`Store::shutdown`] is what a crash would be: nothing acknowledged is lost.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    forwarder: Forwarder,
    published: Arc<Published>,
    newcomer: Arc<Newcomer>,
    wal: Wal,
    copier: Copier,
    leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
    tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Store {
    /// Opens the member in `config.dir`: recovers its log and state and serves the other members on `listener`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its files cannot be used without losing acknowledged writes, [`Error::Io`] if they
    /// cannot be read or are in use, [`Error::Tls`] if the certificates are unusable.
    pub fn open(config: Config, listener: TcpListener) -> BoxFuture<'static, Result<Store, Error>> {
        // Boxed here, so that Raft is compiled with this crate and not with every program that opens a store.
        Box::pin(Self::begin(config, listener))
    }

    async fn begin(config: Config, listener: TcpListener) -> Result<Store, Error> {
        let identity = Identity::new(&config.tls)?;
        let raft_config = Arc::new(config::raft(&config)?);
        let lock = Arc::new(lock(&config.dir).await?);
        let recovering = {
            let dir = config.dir.clone();
            tokio::task::spawn_blocking(move || recover(&dir, &lock))
        };
        let (wal, copy) = recovering
            .await
            .map_err(|error| Error::Stopped(error.to_string()))??;
        let newcomer = Arc::new(Newcomer::open(&config.dir, &wal)?);
        let logged = wal.last_index();
        let peers = Peers::new(identity.clone());
        let copy = repair(&config.dir, config.id, &wal, copy, &peers).await?;
        let checkpoint = copy.held().clone();
        let copier = Copier::start(copy)?;
        let (machine, published) =
            Machine::new(&config.dir, checkpoint, config.history, copier.clone());
        let networks = Networks::new(peers.clone());
        let raft = Raft::new(config.id, raft_config, networks, wal.clone(), machine).await;
        let raft = raft.map_err(|fatal| Error::Stopped(fatal.to_string()))?;
        if raft
            .is_initialized()
            .await
            .map_err(|fatal| Error::Stopped(fatal.to_string()))?
        {
            // What `initialised` and `members` look at is filled in by Raft's task, a moment after its start.
            let known = |metrics: &RaftMetrics<TypeConfig>| {
                metrics.membership_config.nodes().next().is_some()
            };
            let _ = raft
                .wait(Some(TRY_FOR))
                .metrics(known, "members known")
                .await;
        }
        let (leadership, leadership_seen) = watch::channel(Leadership::default());
        let stop = CancellationToken::new();
        let forwarder = Forwarder {
            id: config.id,
            raft: raft.clone(),
            peers,
        };
        let pulse = Arc::new(Pulse::default());
        let observer = Observer {
            id: config.id,
            raft: raft.clone(),
            pulse: Arc::clone(&pulse),
            logged,
        };
        let ending = end_leases(
            forwarder.clone(),
            Arc::clone(&published),
            leadership_seen.clone(),
        );
        let ticking = clock::run(raft.clone(), Arc::clone(&pulse));
        let serving = serve(
            listener,
            identity,
            raft,
            Arc::clone(&newcomer),
            pulse,
            stop.clone(),
        );
        let tasks = vec![
            tokio::spawn(serving),
            spawn_until(&stop, observer.publish(leadership)),
            spawn_until(&stop, ending),
            spawn_until(&stop, ticking),
        ];
        let inner = Inner {
            config,
            forwarder,
            published,
            newcomer,
            wal,
            copier,
            leadership: leadership_seen,
            stop,
            tasks: parking_lot::Mutex::new(tasks),
        };
        Ok(Store {
            inner: Arc::new(inner),
        })
    }

    /// Makes this member the first of a new cluster. Nothing happens if it belongs to one already.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        if self.initialised() {
            return Ok(());
        }
        self.inner.newcomer.settled()?;
        let Config {
            id, name, address, ..
        } = &self.inner.config;
        let members = BTreeMap::from([(
            *id,
            Peer {
                name: name.clone(),
                address: address.to_string(),
            },
        )]);
        match self.inner.forwarder.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(Error::Membership(error.to_string())),
        }
    }

    /// Whether this member belongs to a cluster.
    pub fn initialised(&self) -> bool {
        self.inner
            .forwarder
            .raft
            .server_metrics()
            .borrow_watched()
            .membership_config
            .nodes()
            .next()
            .is_some()
    }

    /// Carries out a command once, whichever member this is called on: it is forwarded to the leader and tried again
    /// across elections for up to 5 s.
    ///
    /// When this returns `Ok`, the command lies on the disks of a majority and is applied, also here unless this
    /// member lags behind.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::LeaseNotFound`]: nothing was done. [`Error::Unavailable`]: no majority could
    /// be reached; the command may or may not take effect. [`Error::Stopped`]: this member is shut down.
    pub async fn write(&self, command: Command) -> Result<Written, Error> {
        self.write_as(RequestId::random(), command).await
    }

    /// As [`Store::write`], under an id of the caller's choice: repeating it soon with the same id and command, on any
    /// member, does not apply it again but gives the same answer. Answers are remembered for a bounded number of log
    /// entries; a command that is repeated after that is a new one.
    #[tracing::instrument(level = "debug", name = "store_write", skip_all, fields(request = %format_args!("{:032x}", id.0)))]
    pub async fn write_as(&self, id: RequestId, command: Command) -> Result<Written, Error> {
        command.validate()?;
        let seen = self
            .inner
            .published
            .applied
            .borrow()
            .map_or(0, |applied| applied.index);
        let ask = Ask::Write(Proposal {
            id,
            seen,
            command: Arc::new(command),
        });
        match self.inner.forwarder.ask(&ask, TRY_FOR).await? {
            Answer::Outcome(outcome) => self.written(outcome).await,
            other => Err(Error::Stopped(format!("answered {other:?} to a write"))),
        }
    }

    async fn written(&self, outcome: Outcome) -> Result<Written, Error> {
        let written = match outcome {
            Outcome::Applied { revision } => Written::Applied { revision },
            Outcome::Refused { current, revision } => Written::Refused { current, revision },
            Outcome::LeaseNotFound { id } => return Err(Error::LeaseNotFound(id)),
            Outcome::TooOld => {
                let reason = "the command took too long or this member lags far behind; it may have been applied";
                return Err(Error::Unavailable(reason.to_owned()));
            }
        };
        let (Written::Applied { revision } | Written::Refused { revision, .. }) = written;
        let mut applied = self.inner.published.applied.subscribe();
        let seen = applied.wait_for(|_| self.inner.published.state.load().revision() >= revision);
        // A member that lags has the answer all the same.
        let _ = tokio::time::timeout(SEE_WITHIN, seen).await;
        Ok(written)
    }

    /// This member's applied state: immutable, a pointer copy.
    pub fn state(&self) -> Arc<State> {
        self.inner.published.state.load_full()
    }

    /// Waits until [`Store::state`] here reflects every write acknowledged anywhere before this call, and returns
    /// its revision.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no majority answers within 5 s: a minority never reads what may be stale.
    pub async fn barrier(&self) -> Result<Revision, Error> {
        let deadline = Instant::now() + TRY_FOR;
        let index = match self.inner.forwarder.ask(&Ask::Barrier, TRY_FOR).await? {
            Answer::Barrier(index) => index,
            other => return Err(Error::Stopped(format!("answered {other:?} to a barrier"))),
        };
        let mut applied = self.inner.published.applied.subscribe();
        let reached =
            applied.wait_for(|applied| applied.is_some_and(|applied| applied.index >= index));
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(self.state().revision()),
            Ok(Err(_)) => Err(Error::Stopped("shut down".to_owned())),
            Err(_) => Err(Error::Unavailable(
                "this member lags behind the leader".to_owned(),
            )),
        }
    }

    /// Watches every event with a revision above `from`, which may lie in the future.
    ///
    /// # Errors
    /// [`Error::Compacted`] if events after `from` are not kept any more.
    pub fn watch(&self, from: Revision) -> Result<Watch, Error> {
        self.inner.published.history.watch(from)
    }

    /// Who leads, and every change of it.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// The members, as this one knows them, in the order of their ids.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.inner.forwarder.raft.server_metrics();
        let membership = metrics
            .borrow_watched()
            .membership_config
            .membership()
            .clone();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let member = |(id, peer): (&u64, &Peer)| {
            let address = peer.address.parse().ok()?;
            Some(Member {
                id: *id,
                name: peer.name.clone(),
                address,
                voter: voters.contains(id),
            })
        };
        membership.nodes().filter_map(member).collect()
    }

    /// Adds a member: it learns until it has caught up and then votes, if it is to be a voter. Its process must be
    /// running. Repeating this is harmless.
    ///
    /// # Errors
    /// [`Error::Membership`] if the id is taken by a member elsewhere, [`Error::Unavailable`] if it did not catch up
    /// within 60 s (it may do so later) or no majority answers.
    pub async fn add_member(&self, member: Member) -> Result<(), Error> {
        self.inner
            .forwarder
            .ask(&Ask::AddMember(member), TRY_MEMBERSHIP_FOR)
            .await
            .map(drop)
    }

    /// Removes a member. Nothing happens if it is none.
    pub async fn remove_member(&self, id: u64) -> Result<(), Error> {
        self.inner
            .forwarder
            .ask(&Ask::RemoveMember(id), TRY_MEMBERSHIP_FOR)
            .await
            .map(drop)
    }

    /// Hands leadership over, if this member leads and there is another voter; used before a clean stop. It takes no
    /// longer than an election.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no other voter takes over: the others are gone, or end as well.
    pub async fn transfer_leadership(&self) -> Result<(), Error> {
        let Forwarder { raft, id, peers } = &self.inner.forwarder;
        if raft.server_metrics().borrow_watched().current_leader != Some(*id) {
            return Ok(());
        }
        members::transfer_leadership(raft, peers, *id).await
    }

    /// Figures of this member.
    pub fn metrics(&self) -> Metrics {
        let state = self.state();
        let metrics = self.inner.forwarder.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |log_id: &Option<crate::types::LogId>| log_id.map(|log_id| log_id.index);
        Metrics {
            revision: state.revision(),
            keys: state.len(),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index,
            committed_index: index(&metrics.local_committed),
            applied_index: index(&metrics.last_applied),
            snapshot_index: index(&metrics.snapshot),
            purged_index: index(&metrics.purged),
            log_syncs: self.inner.wal.syncs(),
        }
    }

    /// Stops this member: watches end, calls fail, everything is synced. Other handles to it are of no use after,
    /// but this may be repeated by them.
    pub async fn shutdown(self) -> Result<(), Error> {
        let stopped = self.inner.forwarder.raft.shutdown().await;
        self.inner.published.history.stop();
        self.inner.stop.cancel();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        for mut task in tasks {
            if tokio::time::timeout(STOP_WITHIN, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.inner.copier.flush().await?;
        self.inner
            .wal
            .sync()
            .await
            .map_err(|error| Error::io(&self.inner.config.dir, error))?;
        stopped.map_err(|error| Error::Stopped(error.to_string()))
    }
}

/// Runs `work` until it ends or `stop` is called.
fn spawn_until(
    stop: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let stop = stop.clone();
    tokio::spawn(async move {
        stop.run_until_cancelled_owned(work)
            .await
            .unwrap_or_default()
    })
}
