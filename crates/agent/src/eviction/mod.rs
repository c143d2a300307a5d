//! Pods that end because they, or all together, use too much: the kubelet's eviction manager.
//!
//! | what | decides | performs |
//! |---|---|---|
//! | a pod's own limits: `ephemeral-storage`, `emptyDir.sizeLimit`, memory that volumes take | [`Limits::judge`] | `driver/storage.rs`, when the pod has written enough that it may have reached one |
//! | a node that is short of memory, of room for files there, of room or inodes on the disk | [`EvictionHard::met`], [`choose`] | [`Evictor`], every ten seconds after the garbage had its turn |
//! | guests that write faster than anybody looks | `room::grant`, [`choose`] | `room.rs` lets them wait, and [`Evictor`] makes room at once |
//! | guests that grow faster than anybody looks | [`memory_left`](crate::memory_left) | the runtime refuses those that have more than they requested |
//! | pods that come to a node under pressure | [`refusal`] | the driver as it takes them in |
//!
//! Several agents may share a machine, and see the same lack. They take turns: who ends a pod holds a lock of the machine
//! until all that the pod had is given back, looks anew once it has it, and leaves it to others until its next round.

mod hard;
mod local;
mod measure;
mod nameless;
mod rank;
mod room;
mod signals;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::blocking::blocking;
use crate::driver::{Driver, Rounds};

pub use hard::EvictionHard;
pub(crate) use hard::{FILES_LEFT, files_room};
pub(crate) use local::{Interest, Limits, Usage, Used, is_in_memory, writes_elsewhere};
pub(crate) use measure::{Amount, Bounds, measure};
pub(crate) use nameless::Nameless;
pub(crate) use rank::{Candidate, Met, Pressures, Signal, choose, refusal};
pub use signals::{Memory, ReadMemory, read_memory};
pub(crate) use signals::{Signals, Sources, memory_capacity};

/// How long the end of a pod is waited for before the next one goes.
const ENDS_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// Between two rounds while a writer waits for room.
const AGAIN: Duration = Duration::from_secs(1);
/// Where directories can lie in memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// Ends pods of a node that is short of something, one a round: when it is told that there is a lack, and while writers wait.
pub(crate) struct Evictor {
    evicting: Arc<Mutex<Evicting>>,
    _room: AbortOnDropHandle<()>,
}

struct Evicting {
    driver: Driver,
    hard: EvictionHard,
    sources: Sources,
    /// The lock that agents of this machine share.
    turns: Option<PathBuf>,
    turn: Option<Turn>,
    /// What pods were found to have in memory,
    in_memory: Rounds,
    /// and on the disk.
    on_disk: Rounds,
}

/// A pod was ended, and may still be on its way out.
struct Turn {
    uid: String,
    since: Timestamp,
    /// Held until then.
    _lock: Option<OwnedFd>,
}

impl Evictor {
    /// Agents that are given the same directory take turns.
    pub(crate) fn new(
        driver: Driver,
        hard: EvictionHard,
        sources: Sources,
        shared: Option<&Path>,
    ) -> Self {
        let disk = Arc::clone(driver.disk());
        let evicting = Arc::new(Mutex::new(Evicting {
            driver,
            hard,
            sources: sources.clone(),
            turns: shared.map(|dir| dir.join("evicting")),
            turn: None,
            in_memory: Rounds::default(),
            on_disk: Rounds::default(),
        }));
        let (told, lacks) = watch::channel(false);
        let makes_room = make_room(Arc::clone(&evicting), lacks);
        // Looks at the disk wait for no pod's end.
        let room = async move {
            tokio::join!(room::follow(disk, sources, hard, told), makes_room);
        };
        Self {
            evicting,
            _room: AbortOnDropHandle::new(tokio::spawn(room)),
        }
    }

    /// There is no lack: others may have their turn.
    pub(crate) fn rest(&mut self) {
        // Unless a writer waits, for which a round may be under way.
        if let Ok(mut evicting) = self.evicting.try_lock()
            && evicting.driver.disk().wanted() == 0
        {
            evicting.rest();
        }
    }

    /// Ends a pod if the node is still short of something, now that all has been done to avoid that.
    pub(crate) async fn round(&mut self, now: Timestamp) {
        self.evicting.lock().await.round(now).await;
    }
}

/// Ends pods as long as a writer waits for more room than there is.
async fn make_room(evicting: Arc<Mutex<Evicting>>, mut lacks: watch::Receiver<bool>) {
    while lacks.wait_for(|lacks| *lacks).await.is_ok() {
        {
            let mut evicting = evicting.lock().await;
            let now = evicting.driver.now();
            evicting.round(now).await;
        }
        sleep(AGAIN).await;
    }
}

impl Evicting {
    fn rest(&mut self) {
        self.turn = None;
        self.in_memory.rest();
        self.on_disk.rest();
    }

    async fn round(&mut self, now: Timestamp) {
        if let Some(turn) = self.turn.take() {
            let is_young = now.duration_since(turn.since) < ENDS_WITHIN;
            if is_young && self.driver.is_running(&turn.uid) {
                self.turn = Some(turn);
            }
            // Others may have the pod that it takes, and find the lock free now.
            return;
        }
        if self.short_of().await.is_empty() {
            return;
        }
        let lock = match self.take_turn().await {
            Ok(Some(lock)) => lock,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "agents of this machine cannot take turns");
                None
            }
        };
        // Another agent's pod may have ended just now.
        for Met { signal, .. } in self.short_of().await {
            // Where nobody can go for the first, somebody may for the next.
            let Some((uid, message)) = self.first_to_go(signal).await else {
                continue;
            };
            tracing::warn!(uid, message, "a pod ends for lack of something");
            self.driver.evict(&uid, message, true).await;
            self.turn = Some(Turn {
                uid,
                since: now,
                _lock: lock,
            });
            return;
        }
    }

    /// The pod that goes for lack of this, and what is said of that.
    async fn first_to_go(&mut self, signal: Signal) -> Option<(String, String)> {
        let rounds = match signal {
            Signal::Memory | Signal::Files => &mut self.in_memory,
            Signal::Nodefs | Signal::Inodes => &mut self.on_disk,
        };
        let candidates = self.driver.candidates(signal, rounds).await;
        // To measure them takes a while.
        let met = self.short_of().await;
        let met = met.into_iter().find(|met| met.signal == signal)?;
        let Some((pod, message)) = choose(&met, &candidates) else {
            tracing::debug!(
                ?met,
                "the node is short of it, and its pods have too little to end any"
            );
            return None;
        };
        Some((pod.uid.clone(), message))
    }

    /// All that there is too little of.
    async fn short_of(&self) -> Vec<Met> {
        let signals = self.sources.look().await;
        self.hard.lacking(&signals, self.driver.disk().wanted())
    }

    /// The lock, if there is one; `None` while somebody else has it.
    async fn take_turn(&self) -> io::Result<Option<Option<OwnedFd>>> {
        let Some(path) = self.turns.clone() else {
            return Ok(Some(None));
        };
        blocking(move || {
            if let Some(shared) = path.parent() {
                make_own(shared)?;
            }
            let mut open = OpenOptions::new();
            let file = open.create(true).truncate(false).write(true).open(path)?;
            let lock = OwnedFd::from(file);
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(Some(Some(lock))),
                Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}

/// The directory in memory that this user's agents on this machine share, made if it is missing.
///
/// # Errors
/// When there is no memory that looks like a disk, or somebody else has a directory of that name there.
pub fn shared_memory() -> io::Result<PathBuf> {
    let stat = rustix::fs::statfs(SHARED_MEMORY)?;
    if u64::try_from(stat.f_type).ok() != Some(u64::from(TMPFS)) {
        let why = format!("{SHARED_MEMORY} does not lie in memory");
        return Err(io::Error::other(why));
    }
    let user = rustix::process::geteuid().as_raw();
    own_directory(Path::new(SHARED_MEMORY), user)
}

/// What `statfs` says of a file system in memory.
const TMPFS: u32 = 0x0102_1994;

fn own_directory(above: &Path, user: u32) -> io::Result<PathBuf> {
    let dir = above.join(format!("carob-{user}"));
    make_directory_of(&dir, user)?;
    Ok(dir)
}

/// Makes a directory that only this user can look into, if it is not there. Whoever cleans up after a user's last session may
/// remove what an agent has made in memory, and what is made in its stead may be anybody's.
///
/// # Errors
/// When somebody else has something of that name.
pub(crate) fn make_own(dir: &Path) -> io::Result<()> {
    make_directory_of(dir, rustix::process::geteuid().as_raw())
}

fn make_directory_of(dir: &Path, user: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    // Anybody may make a directory, or a link, of any name there.
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() || found.uid() != user {
        let why = format!("{} is somebody else's", dir.display());
        return Err(io::Error::other(why));
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

/// How much of the machine's files in memory may be one pod's: half of what it has room for. Others, who may be no pods at
/// all, have theirs in the same place, and fail where it is full.
pub(crate) fn most_in_memory(shared: &Path) -> u64 {
    let stat = rustix::fs::statvfs(shared);
    let room = stat.map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
    // One without a size has an end elsewhere.
    if room == 0 { u64::MAX } else { room / 2 }
}

/// Where an agent's own volumes lie in that directory.
pub(crate) fn own_memory(shared: &Path, data_dir: &Path) -> PathBuf {
    // Whoever forgets it may name the directory in another way.
    let named = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let hash = Sha256::digest(named.as_os_str().as_encoded_bytes());
    shared.join(hex::encode(&hash[..8]))
}

/// Removes what the agent of a data directory has left in memory.
///
/// # Errors
/// When the file system says no.
pub fn forget_memory(data_dir: &Path) -> io::Result<()> {
    match shared_memory() {
        Ok(shared) => crate::remove::remove_tree(&own_memory(&shared, data_dir)),
        // Where there is none nothing was left.
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_anybody_could_have_made() {
        let dir = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let own = own_directory(dir.path(), user).unwrap();
        assert_eq!(own_directory(dir.path(), user).unwrap(), own);
        let mode = fs::metadata(&own).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let (one, other) = (Path::new("/a/agent"), Path::new("/b/agent"));
        assert_ne!(own_memory(&own, one), own_memory(&own, other));
        fs::remove_dir(&own).unwrap();
        std::os::unix::fs::symlink(dir.path(), &own).unwrap();
        let why = own_directory(dir.path(), user).unwrap_err().to_string();
        assert!(why.ends_with("is somebody else's"), "{why}");
        assert!(own_directory(dir.path(), user.wrapping_add(1)).is_err());
    }
}
