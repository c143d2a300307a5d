//! Who leads, as far as a member can honestly say.

use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftMetrics;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Leadership;
use crate::service::Raft;
use crate::types::TypeConfig;

/// After this long without a word from the leader, or for a leader from a majority, a member knows none: longer than
/// an election takes, so that in a healthy cluster this only ever says "elsewhere", and in a minority "nobody".
const SILENCE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// When a leader was last there. Raft itself keeps no such time that one could ask for.
#[derive(Default)]
pub(crate) struct Pulse {
    /// When one called, be it deposed, and whatever this member's disk makes of it.
    called: Mutex<Option<Instant>>,
    /// When something was taken from one.
    heard: Mutex<Option<Instant>>,
}

impl Pulse {
    pub(crate) fn call(&self) {
        *self.called.lock() = Some(Instant::now());
    }

    pub(crate) fn beat(&self) {
        *self.heard.lock() = Some(Instant::now());
    }

    /// How long ago something was taken from a leader.
    pub(crate) fn heard(&self) -> Option<Duration> {
        self.heard.lock().map(|heard| heard.elapsed())
    }

    fn silent(&self) -> bool {
        let called = *self.called.lock();
        called.is_none_or(|called| called.elapsed() > SILENCE)
    }
}

/// What a member looks at to say who leads.
pub(crate) struct Observer {
    pub(crate) id: u64,
    pub(crate) raft: Raft,
    pub(crate) pulse: std::sync::Arc<Pulse>,
    /// The last log index before this start.
    pub(crate) logged: Option<u64>,
}

impl Observer {
    /// Publishes who leads until Raft stops, but nobody before the state is what it was before a restart.
    pub(crate) async fn publish(self, leadership: watch::Sender<Leadership>) {
        // What the log ended with may never have been committed and be cut off; whatever remains must be applied.
        let recovered = |metrics: &RaftMetrics<TypeConfig>| {
            let applied = metrics.last_applied.map(|applied| applied.index);
            metrics.cluster_committed.is_some()
                && applied >= self.logged.min(metrics.last_log_index)
        };
        if let Err(error) = self
            .raft
            .wait(None)
            .metrics(recovered, "state recovered")
            .await
        {
            tracing::info!(%error, "stopped before the state was recovered");
            return;
        }
        let mut changes = self.raft.server_metrics();
        // When this member took office, by term: a leader is given some time to hear from its majority.
        let mut office = (0, Instant::now());
        loop {
            let now = self.look(&mut office);
            leadership.send_if_modified(|before| std::mem::replace(before, now) != now);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        // Raft has stopped, by a failure of the disk if not by a shutdown: nobody leads here any more.
        leadership.send_modify(|now| {
            *now = Leadership {
                term: now.term,
                ..Leadership::default()
            }
        });
    }

    fn look(&self, office: &mut (u64, Instant)) -> Leadership {
        let (term, leads, leader) = {
            let now = self.raft.server_metrics();
            let now = now.borrow_watched();
            (
                now.vote.leader_id.term,
                now.state.is_leader(),
                now.current_leader,
            )
        };
        if leads {
            if office.0 != term {
                *office = (term, Instant::now());
            }
            let is_leader = self.quorum_silent_for().min(office.1.elapsed()) <= SILENCE;
            return Leadership {
                leader: is_leader.then_some(self.id),
                is_leader,
                term,
            };
        }
        let leader = leader.filter(|leader| *leader != self.id && !self.pulse.silent());
        Leadership {
            leader,
            is_leader: false,
            term,
        }
    }

    /// How long ago a majority last answered this leader.
    fn quorum_silent_for(&self) -> Duration {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config.voter_ids().count() == 1 {
            // Its own majority.
            return Duration::ZERO;
        }
        metrics
            .last_quorum_acked
            .map_or(Duration::MAX, |acknowledged| acknowledged.elapsed())
    }
}
