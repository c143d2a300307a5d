//! When openraft's clock runs, and when a leader sends heartbeats.
//!
//! While its clock runs, openraft wakes every 13/64 of a heartbeat's interval to look at its timers. On an idle cluster
//! that is half of all the times that a server wakes, for nothing: a leader has no timer but the next heartbeat, and a
//! follower that hears from its leader none that could fire.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use crate::config::ELECTION_MIN;
use crate::config::HEARTBEAT;
use crate::leadership::Pulse;
use crate::service::Raft;

/// What a member needs of the clock.
#[derive(Debug, PartialEq, Eq)]
struct Need {
    /// Whether openraft is to look at its timers.
    ticks: bool,
    /// How long this holds, unless the member's part changes.
    lasts: Duration,
}

/// What a member that plays the part of `state` needs, when it last took something from a leader `heard` ago.
///
/// An election waits for the leader's lease, which is longer than [`ELECTION_MIN`], and then for a draw: a clock that
/// is started after [`ELECTION_MIN`] of silence makes none later.
fn need(state: ServerState, heard: Option<Duration>) -> Need {
    let quiet = heard.map_or(ELECTION_MIN, |heard| heard.min(ELECTION_MIN));
    match state {
        ServerState::Leader => Need {
            ticks: false,
            lasts: HEARTBEAT,
        },
        ServerState::Follower | ServerState::Learner if quiet < ELECTION_MIN => Need {
            ticks: false,
            lasts: ELECTION_MIN - quiet,
        },
        _ => Need {
            ticks: true,
            lasts: ELECTION_MIN,
        },
    }
}

/// Runs the clock of a member until Raft stops.
pub(crate) async fn run(raft: Raft, pulse: Arc<Pulse>) {
    let mut changes = raft.server_metrics();
    let mut heartbeat = Instant::now();
    loop {
        let state = changes.borrow_watched().state;
        let Need { ticks, lasts } = need(state, pulse.heard());
        raft.runtime_config().tick(ticks);
        let now = Instant::now();
        let mut until = now + lasts;
        if state.is_leader() {
            if heartbeat <= now {
                if raft.trigger().heartbeat().await.is_err() {
                    return;
                }
                heartbeat = now + HEARTBEAT;
            }
            until = heartbeat;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_clock_runs_where_an_election_may_come() {
        let off = |lasts| Need {
            ticks: false,
            lasts,
        };
        let on = Need {
            ticks: true,
            lasts: ELECTION_MIN,
        };
        // A leader needs no clock of openraft's, whatever it heard when it followed.
        assert_eq!(need(ServerState::Leader, None), off(HEARTBEAT));
        assert_eq!(need(ServerState::Leader, Some(ms(5))), off(HEARTBEAT));
        for state in [ServerState::Follower, ServerState::Learner] {
            // After a start nobody was heard: there may be no leader at all.
            assert_eq!(need(state, None), on);
            assert_eq!(need(state, Some(ms(0))), off(ELECTION_MIN));
            assert_eq!(need(state, Some(HEARTBEAT)), off(ELECTION_MIN - HEARTBEAT));
            assert_eq!(need(state, Some(ELECTION_MIN)), on);
            assert_eq!(need(state, Some(ms(60_000))), on);
        }
        // A candidate that lost must try again, though its last leader was just heard.
        assert_eq!(need(ServerState::Candidate, Some(ms(5))), on);
    }
}
