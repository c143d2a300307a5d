//! The driver of the decider: takes committed entries, has them applied, publishes the result.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::Stream;
use futures::TryStreamExt;
use openraft::OptionalSend;
use openraft::storage::EntryResponder;
use openraft::storage::RaftSnapshotBuilder;
use openraft::storage::RaftStateMachine;
use openraft::storage::Snapshot;
use tokio::sync::watch;

use crate::Error;
use crate::Event;
use crate::Outcome;
use crate::State;
use crate::apply::apply_once;
use crate::copier::Copier;
use crate::copy::Checkpoint;
use crate::history::History;
use crate::repair::note_members;
use crate::types::CommittedLeaderId;
use crate::types::LogId;
use crate::types::Payload;
use crate::types::Peer;
use crate::types::SnapshotMeta;
use crate::types::StoredMembership;
use crate::types::TypeConfig;

/// After how many entries a long batch is published in between.
const PUBLISH_AFTER: usize = 4096;

/// What the applied state is seen through.
pub(crate) struct Published {
    pub(crate) state: ArcSwap<State>,
    pub(crate) history: Arc<History>,
    /// The log id up to which `state` is applied.
    pub(crate) applied: watch::Sender<Option<LogId>>,
}

/// The state machine that openraft drives.
pub(crate) struct Machine {
    current: Checkpoint,
    published: Arc<Published>,
    copier: Copier,
    /// Where the members are noted.
    dir: PathBuf,
    /// Whether a snapshot was built or installed since the start.
    has_snapshot: bool,
}

type MachineSnapshot = Snapshot<CommittedLeaderId, u64, Peer, Arc<State>>;

impl Machine {
    pub(crate) fn new(
        dir: &Path,
        current: Checkpoint,
        history: usize,
        copier: Copier,
    ) -> (Self, Arc<Published>) {
        let published = Arc::new(Published {
            state: ArcSwap::from_pointee(current.state.clone()),
            history: Arc::new(History::new(current.state.revision, history)),
            applied: watch::Sender::new(current.applied),
        });
        let dir = dir.to_owned();
        let machine = Self {
            current,
            published: Arc::clone(&published),
            copier,
            dir,
            has_snapshot: false,
        };
        (machine, published)
    }

    /// What is applied now: pointer copies.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        self.current.clone()
    }

    /// Makes what was applied visible: first the state, then its events, so that whoever sees an event finds the state
    /// at least as new.
    fn publish(&mut self, events: Vec<Event>) {
        self.published
            .state
            .store(Arc::new(self.current.state.clone()));
        self.current.state.compacted = self.published.history.push(events);
        self.published.applied.send_replace(self.current.applied);
        self.copier.offer(self.current.clone());
    }

    fn note_members(&self) {
        if let Err(error) = note_members(&self.dir, &self.current.membership) {
            tracing::warn!(%error, "the members could not be noted beside the state");
        }
    }

    fn take(&mut self, log_id: LogId, payload: &Payload, events: &mut Vec<Event>) -> Outcome {
        self.current.applied = Some(log_id);
        match payload {
            Payload::Blank => {}
            Payload::Normal(proposal) => {
                let applied = apply_once(&mut self.current.state, log_id.index, proposal);
                events.extend(applied.events);
                return applied.outcome;
            }
            Payload::Membership(membership) => {
                self.current.membership = StoredMembership::new(Some(log_id), membership.clone());
                self.note_members();
            }
        }
        Outcome::Applied {
            revision: self.current.state.revision,
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Arc<State>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.current.applied, self.current.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        loop {
            let mut events = Vec::new();
            let mut answers = Vec::new();
            let mut taken = 0;
            while taken < PUBLISH_AFTER
                && let Some((entry, responder)) = entries.try_next().await?
            {
                let outcome = self.take(entry.log_id, &entry.payload, &mut events);
                answers.extend(responder.map(|responder| (responder, outcome)));
                taken += 1;
            }
            if taken == 0 {
                return Ok(());
            }
            self.publish(events);
            for (responder, outcome) in answers {
                responder.send(outcome);
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.has_snapshot = true;
        Builder {
            checkpoint: self.current.clone(),
            copier: self.copier.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Arc<State>,
    ) -> io::Result<()> {
        let mut state = State::clone(&snapshot);
        state.compacted = state.revision;
        let next = Checkpoint {
            state,
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        self.copier
            .install(next.clone())
            .await
            .map_err(io::Error::other)?;
        self.current = next;
        self.note_members();
        self.has_snapshot = true;
        self.published
            .state
            .store(Arc::new(self.current.state.clone()));
        self.published.history.reset(self.current.state.revision);
        self.published.applied.send_replace(self.current.applied);
        Ok(())
    }

    /// The snapshot that is sent is always the newest state, which costs nothing to take; so no old state is kept
    /// alive for the next member that may need one.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<MachineSnapshot>> {
        Ok(self.has_snapshot.then(|| snapshot(&self.current)))
    }
}

/// Makes a snapshot final: from then on the log may be cut, so the copy must hold it durably.
pub(crate) struct Builder {
    checkpoint: Checkpoint,
    copier: Copier,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Arc<State>;

    async fn build_snapshot(&mut self) -> io::Result<MachineSnapshot> {
        self.copier
            .flush()
            .await
            .map_err(|error: Error| io::Error::other(error))?;
        Ok(snapshot(&self.checkpoint))
    }
}

fn snapshot(checkpoint: &Checkpoint) -> MachineSnapshot {
    let meta = SnapshotMeta {
        last_log_id: checkpoint.applied,
        last_membership: checkpoint.membership.clone(),
    };
    Snapshot {
        meta,
        snapshot: Arc::new(checkpoint.state.clone()),
    }
}
