//! The end of leases. The state only says when a lease was renewed in the order of things; the leader alone counts
//! the time since it saw that, and proposes the end. A new leader counts from its own beginning: a lease lives longer
//! across an election, never shorter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::Command;
use crate::Leadership;
use crate::Op;
use crate::RequestId;
use crate::State;
use crate::When;
use crate::apply::Proposal;
use crate::forward::Ask;
use crate::forward::Forwarder;
use crate::forward::TRY_FOR;
use crate::machine::Published;

/// How long to wait after leases were ended, or could not be, before looking again.
const PAUSE: Duration = Duration::from_millis(200);

/// When the leases end, as this leader counts.
#[derive(Default)]
pub(crate) struct Deadlines {
    /// By lease: the renewal that was seen, and when its time is over.
    seen: BTreeMap<u64, (u64, Instant)>,
}

impl Deadlines {
    /// Looks at the leases at `now` and returns the commands that end those whose time is over. Each is conditional
    /// on the lease not having been renewed meanwhile.
    pub(crate) fn due(&mut self, state: &State, now: Instant) -> Vec<Command> {
        self.seen.retain(|id, _| state.lease(*id).is_some());
        let mut due = Vec::new();
        for (id, lease) in state.leases() {
            let ttl = Duration::from_millis(lease.ttl_ms);
            // A time to live beyond what the clock can count never ends.
            let Some(fresh) = now.checked_add(ttl) else {
                continue;
            };
            let (renewed, deadline) = self.seen.entry(id).or_insert((lease.renewed, fresh));
            if *renewed != lease.renewed {
                (*renewed, *deadline) = (lease.renewed, fresh);
            }
            if *deadline <= now {
                let when = vec![When::Unrenewed {
                    id,
                    renewed: lease.renewed,
                }];
                due.push(Command {
                    when,
                    ops: vec![Op::RevokeLease { id }],
                });
            }
        }
        due
    }
}

impl Deadlines {
    /// When the next lease ends that was looked at.
    fn next(&self) -> Option<Instant> {
        self.seen.values().map(|(_, deadline)| *deadline).min()
    }
}

/// Waits for a time that may never come.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// While this member leads, ends the leases whose time is over.
pub(crate) async fn end_leases(
    forwarder: Forwarder,
    published: Arc<Published>,
    mut leadership: watch::Receiver<Leadership>,
) {
    while leadership
        .wait_for(|leadership| leadership.is_leader)
        .await
        .is_ok()
    {
        let mut deadlines = Deadlines::default();
        let mut applied = published.applied.subscribe();
        while leadership.borrow_and_update().is_leader {
            applied.borrow_and_update();
            let due = deadlines.due(&published.state.load(), Instant::now());
            if due.is_empty() {
                tokio::select! {
                    () = reached(deadlines.next()) => {}
                    // A lease may have been granted or renewed.
                    _ = applied.changed() => {}
                    changed = leadership.changed() => if changed.is_err() {
                        return;
                    },
                }
                continue;
            }
            for command in due {
                let seen = published
                    .applied
                    .borrow()
                    .map_or(0, |applied| applied.index);
                let proposal = Proposal {
                    id: RequestId::random(),
                    seen,
                    command: Arc::new(command),
                };
                if let Err(error) = forwarder.ask(&Ask::Write(proposal), TRY_FOR).await {
                    tracing::warn!(%error, "a lease that is over could not be ended yet");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests;
