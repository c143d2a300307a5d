//! When openraft's clock runs, and when a leader sends heartbeats.
//!
//! While its clock runs, openraft wakes every 13/64 of a heartbeat's interval to look at its timers. On an idle cluster
//! that is half of all the times that a server wakes, for nothing: a leader has no timer but the next heartbeat, and a
//! follower that hears from its leader none that could fire.

use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
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

/// In how long a leader's next heartbeat is due, whose last one was `sent` so long ago and whose followers have
/// acknowledged what was sent to them so long ago, entries or heartbeats: an entry says as much as a heartbeat does.
/// Nothing is due where there are no followers.
fn heartbeat_in(acknowledged: &[Option<Duration>], sent: Option<Duration>) -> Option<Duration> {
    let never = Duration::MAX;
    let ages = acknowledged.iter().map(|age| age.unwrap_or(never));
    let longest_silent = ages.max()?;
    let last = longest_silent.min(sent.unwrap_or(never));
    Some(HEARTBEAT.saturating_sub(last))
}

/// How long ago each follower was sent what it acknowledged last.
fn acknowledged(raft: &Raft) -> Vec<Option<Duration>> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let members = metrics.heartbeat.iter().flatten();
    let followers = members.filter(|(id, _)| **id != metrics.id);
    followers.map(|(_, at)| at.map(|at| at.elapsed())).collect()
}

/// Runs the clock of a member until Raft stops.
pub(crate) async fn run(raft: Raft, pulse: Arc<Pulse>) {
    let mut changes = raft.server_metrics();
    let mut sent: Option<Instant> = None;
    loop {
        let state = changes.borrow_watched().state;
        let Need { ticks, mut lasts } = need(state, pulse.heard());
        raft.runtime_config().tick(ticks);
        if state.is_leader()
            && let Some(mut due) = heartbeat_in(&acknowledged(&raft), sent.map(|at| at.elapsed()))
        {
            if due.is_zero() {
                if raft.trigger().heartbeat().await.is_err() {
                    return;
                }
                sent = Some(Instant::now());
                due = HEARTBEAT;
            }
            lasts = due;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(lasts) => {}
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

    #[test]
    fn a_heartbeat_is_sent_where_nothing_else_was() {
        let ago = |age| Some(ms(age));
        let after = |age| Some(HEARTBEAT - ms(age));
        // A leader's first goes out at once.
        assert_eq!(heartbeat_in(&[None, None], None), Some(ms(0)));
        assert_eq!(heartbeat_in(&[None, None], ago(100)), after(100));
        // Entries take a heartbeat's place, where all followers had them.
        assert_eq!(heartbeat_in(&[ago(50), ago(40)], ago(250)), after(50));
        assert_eq!(heartbeat_in(&[ago(240), ago(50)], ago(240)), after(240));
        // One that is gone does not make heartbeats more frequent.
        assert_eq!(heartbeat_in(&[ago(9000), ago(10)], ago(100)), after(100));
        assert_eq!(heartbeat_in(&[ago(9000), ago(10)], ago(500)), Some(ms(0)));
        assert_eq!(heartbeat_in(&[], ago(0)), None);
    }
}
