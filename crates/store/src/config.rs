//! What a member needs to run, and what it shows of itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use crate::Revision;

/// What a member needs to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's own directory for its log and state. Created if missing.
    pub dir: PathBuf,
    /// The member's id, unique in the cluster.
    pub id: u64,
    /// The member's name, for people.
    pub name: String,
    /// Where the other members reach this one's listener.
    pub address: SocketAddr,
    /// After how many log entries a snapshot is taken and the log before it removed. 100,000 proved right.
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

/// Without the key.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
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
///
/// A member that was restarted knows no leader until its state is at least what it was before.
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
    /// Index of the last log entry, durable or not.
    pub last_log_index: Option<u64>,
    /// Index of the last log entry known to be committed.
    pub committed_index: Option<u64>,
    /// Index of the last log entry in the state.
    pub applied_index: Option<u64>,
    /// Index of the last log entry in the newest snapshot.
    pub snapshot_index: Option<u64>,
    /// Index of the last log entry that was removed because a snapshot holds it.
    pub purged_index: Option<u64>,
    /// How many times the log was synced since the start; many entries share one.
    pub log_syncs: u64,
}

/// After this long without an entry a leader says that it is there; `clock` sends it. Three must be lost before a
/// follower stands; more often costs idle CPU and makes no fail-over faster.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(300);
/// The least draw before an election.
pub(crate) const ELECTION_MIN: Duration = Duration::from_millis(400);
/// The greatest draw, and the leader's lease. A follower stands after the lease and a draw, 1.0 to 1.2 s of silence,
/// which is above the stalls of a busy machine and still resumes writes within two seconds.
pub(crate) const ELECTION_MAX: Duration = Duration::from_millis(600);

/// Raft's settings.
pub(crate) fn raft(config: &Config) -> Result<openraft::Config, Error> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    let raft = openraft::Config {
        cluster_name: "carob".to_owned(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min: millis(ELECTION_MIN),
        election_timeout_max: millis(ELECTION_MAX),
        // The default grants every pre-vote; `Network` really asks.
        enable_pre_vote: Some(true),
        // A leader that restarts has lost what it knew to be committed; it must be elected again.
        enable_leader_restore: Some(false),
        broadcast_submitted_on_append: Some(true),
        api_batch_linger_ms: 0,
        install_snapshot_timeout: 120_000,
        replication_lag_threshold: 500_000,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(config.snapshot_after.max(1)),
        max_in_snapshot_log_to_keep: (config.snapshot_after / 10).min(1000),
        // A member with an emptied directory is brought up again; it does not vote before (see `Newcomer`).
        allow_log_reversion: Some(true),
        ..openraft::Config::default()
    };
    raft.validate()
        .map_err(|error| Error::Invalid(error.to_string()))
}
