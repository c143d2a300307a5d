//! What a node does not need any more goes: by its age, and when there is too little room.
//!
//! | what | goes |
//! |---|---|
//! | the writable root and the volumes of what has ended, logs before the last two instances' | when it ends; where that failed, with the next minute's round |
//! | directories of pods that are not this node's, with their logs | two minutes after a look at all directories has found them |
//! | an image's content, its unpacked tree and its machine code | when nobody has used it for a week; an hour, where no image's name leads to it; and when there is too little room, the one used longest ago first |
//!
//! Logs of a pod that has ended stay until its object is gone. Images that a pod of this node names are in use, and so is
//! whatever is between a pull and the end of the container or the volume that it was for: `image/kept.rs` says why that is
//! never taken away. [`select()`] decides, [`Garbage::run`] performs. Looking at the disk is one system call every ten
//! seconds; directories of pods are looked at each hour, under pressure, and each minute while something is left that has to
//! go, so that a node at rest does nothing for each of its pods. Where all that is not enough, or memory is short, pods end:
//! `eviction` has that.

mod select;
#[cfg(test)]
mod tests;
mod thresholds;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::{EventType, Informer, Key, Recorder};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::blocking::blocking;
use crate::clock::Clock;
use crate::driver::Driver;
use crate::eviction::{EvictionHard, Evictor, Met, Pressures, Signal, Sources};
use crate::image::Images;
use crate::node::Health;
use crate::remove::remove_tree;

pub(crate) use select::{Item, Kind, What};
use select::{Remove, excess, select};
pub use thresholds::Disk;
pub(crate) use thresholds::Pressure;
use thresholds::Thresholds;

/// Says how much room there is on the disk that a path lies on.
pub type ReadDisk = Arc<dyn Fn(&Path) -> io::Result<Disk> + Send + Sync>;

/// Between two looks at the disk.
const EVERY: Duration = Duration::from_secs(10);
/// After so many looks: dead things, images, all directories.
const MINUTE: u64 = 6;
const IMAGES: u64 = 5 * MINUTE;
const HOUR: u64 = 60 * MINUTE;

/// Asks the system how much room there is.
///
/// # Errors
/// When it does not say.
pub fn read_disk(path: &Path) -> io::Result<Disk> {
    let s = rustix::fs::statvfs(path)?;
    Ok(Disk {
        capacity: s.f_blocks.saturating_mul(s.f_frsize),
        available: s.f_bavail.saturating_mul(s.f_frsize),
        inodes: s.f_files,
        inodes_free: s.f_favail,
    })
}

/// Looks at the machine for the first time: a node that is under pressure does not say otherwise while its agent starts.
pub(crate) async fn first_look(
    sources: &Sources,
    hard: EvictionHard,
    now: Timestamp,
) -> (Lasting, Pressures) {
    let mut lasting = Lasting::default();
    let thresholds = thresholds(hard);
    let met = hard.met(&sources.look().await);
    let pressures = lasting.observe(&met, &thresholds, now);
    (lasting, pressures)
}

fn thresholds(hard: EvictionHard) -> Thresholds {
    Thresholds {
        hard,
        ..Thresholds::default()
    }
}

/// The pressures of a node, each for a while after it was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lasting {
    memory: Pressure,
    disk: Pressure,
}

impl Lasting {
    fn observe(&mut self, met: &[Met], thresholds: &Thresholds, now: Timestamp) -> Pressures {
        // Room for files in memory, which the system's other programs may fill, is not what a pod asks for.
        let of_memory = met.iter().any(|m| m.signal == Signal::Memory);
        let of_disk = met.iter().any(|m| m.signal.is_of_disk());
        Pressures {
            memory: self.memory.observe(of_memory, thresholds, now),
            disk: self.disk.observe(of_disk, thresholds, now),
        }
    }
}

/// The collector of one node.
pub(crate) struct Garbage {
    pub(crate) sources: Sources,
    pub(crate) clock: Clock,
    pub(crate) driver: Driver,
    pub(crate) images: Images,
    pub(crate) recorder: Recorder,
    pub(crate) nodes: Informer<Node>,
    pub(crate) node: Key,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) hard: EvictionHard,
    /// As the [`first_look`] found them.
    pub(crate) lasting: Lasting,
    /// What agents of this machine share.
    pub(crate) shared: Option<PathBuf>,
}

/// What it remembers from round to round.
struct Memory {
    thresholds: Thresholds,
    lasting: Lasting,
    evictor: Evictor,
    /// What there was too little of at the last look.
    was_met: Vec<Signal>,
    /// When directories of no pod of this node were first seen.
    orphans: BTreeMap<PathBuf, Timestamp>,
    /// The last collection of images did not free what it had to.
    images_failed: bool,
}

impl Garbage {
    /// Collects for ever: drop it.
    pub(crate) async fn run(self) {
        // Before that nobody knows whose the directories are.
        self.driver.taken_up().await;
        let mut memory = Memory {
            thresholds: thresholds(self.hard),
            lasting: self.lasting,
            evictor: Evictor::new(
                self.driver.clone(),
                self.hard,
                self.sources.clone(),
                self.shared.as_deref(),
            ),
            was_met: Vec::new(),
            orphans: BTreeMap::new(),
            images_failed: false,
        };
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0_u64.. {
            tick.tick().await;
            self.round(&mut memory, round).await;
        }
    }

    async fn round(&self, memory: &mut Memory, round: u64) {
        let now = self.clock.now();
        let signals = self.sources.look().await;
        // Where writers wait the disk is as full as it gets.
        let wanted = self.driver.disk().wanted();
        let met = self.hard.lacking(&signals, wanted);
        let pressures = memory.lasting.observe(&met, &memory.thresholds, now);
        self.health.send_if_modified(|health| {
            std::mem::replace(&mut health.pressures, pressures) != pressures
        });
        let is_minute = round.is_multiple_of(MINUTE);
        let is_new = |met: &&Met| is_minute || !memory.was_met.contains(&met.signal);
        let reclaimed: Vec<Met> = met.iter().filter(is_new).copied().collect();
        memory.was_met = met.iter().map(|m| m.signal).collect();
        if let Some(first) = reclaimed.first() {
            tracing::warn!(?signals, "the node is short of something");
            let message = format!("Attempting to reclaim {}", first.signal.resource());
            self.warn("EvictionThresholdMet", message);
        }
        let reclaims = reclaimed.iter().any(|m| m.signal.is_of_disk());
        let untidy = is_minute && self.driver.take_untidy();
        if let Some(disk) = &signals.disk {
            if reclaims || untidy || round.is_multiple_of(HOUR) {
                self.sweep(memory, disk, now).await;
            }
            if reclaims || round.is_multiple_of(IMAGES) {
                self.collect_images(memory, disk, now).await;
            }
        }
        match met.is_empty() {
            true => memory.evictor.rest(),
            false => memory.evictor.round(now).await,
        }
    }

    /// Removes what is left of pods and instances.
    async fn sweep(&self, memory: &mut Memory, disk: &Disk, now: Timestamp) {
        let left = match self.driver.leftovers().await {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(%error, "the pods' directories cannot be looked through");
                self.driver.left_untidy();
                return;
            }
        };
        memory.orphans.retain(|path, _| {
            let orphan = (Kind::Orphan, path.clone());
            left.contains(&orphan)
        });
        let items: Vec<_> = left
            .into_iter()
            .map(|(kind, path)| Item {
                first_seen: match kind {
                    Kind::Orphan => {
                        let seen = memory.orphans.entry(path.clone()).or_insert(now);
                        // A clock that was ahead is set back.
                        *seen = now.min(*seen);
                        *seen
                    }
                    _ => now,
                },
                what: What::Path(path),
                kind,
                size: 0,
                last_used: None,
                in_use: false,
            })
            .collect();
        let plan = select(&items, disk, &memory.thresholds, now);
        let mut failed = plan.len() < items.len();
        for Remove { what, .. } in plan {
            let What::Path(path) = what else { continue };
            tracing::info!(path = %path.display(), "removing what nobody needs any more");
            let (of, driver) = (path.clone(), self.driver.clone());
            let is_orphan = memory.orphans.contains_key(&path);
            let remove = move || match is_orphan {
                true => driver.remove_orphan(&of),
                false => remove_tree(&of),
            };
            if let Err(error) = blocking(remove).await {
                tracing::warn!(path = %path.display(), %error, "it cannot be removed");
                failed = true;
            }
        }
        if failed {
            self.driver.left_untidy();
        }
    }

    async fn collect_images(&self, memory: &mut Memory, disk: &Disk, now: Timestamp) {
        let failure = self.remove_images(&memory.thresholds, disk, now).await;
        let failed_before = std::mem::replace(&mut memory.images_failed, failure.is_err());
        if let Err(message) = failure {
            tracing::warn!(message, "images could not be collected");
            // As the kubelet does: once may be chance.
            if failed_before {
                self.warn("ImageGCFailed", message);
            }
        }
    }

    /// Removes the images that are to go. Why that was not enough is told in words.
    async fn remove_images(
        &self,
        thresholds: &Thresholds,
        disk: &Disk,
        now: Timestamp,
    ) -> Result<(), String> {
        let items = self.images.items(now).await;
        let mut items = items.map_err(|error| error.to_string())?;
        let named = || self.driver.images_named();
        self.images.forget_lost(&items, named).await;
        let wanted = excess(&items, disk, thresholds);
        if wanted == 0 && select(&items, disk, thresholds, now).is_empty() {
            return Ok(());
        }
        // Only now, for it looks at each pod.
        self.images.mark(&mut items, &named(), now).await;
        let (mut freed, mut failure) = (0_u64, None);
        for Remove { what, size } in select(&items, disk, thresholds, now) {
            let What::Content(digest) = what else {
                continue;
            };
            // Each takes its time, and pods come meanwhile that may not be allowed to pull what they name.
            if self.images.contents(&named()).contains(&digest) {
                continue;
            }
            match self.images.remove(&digest).await {
                Ok(true) => {
                    tracing::info!(%digest, size, "removed what was kept of an image");
                    freed = freed.saturating_add(size);
                }
                // Somebody came for it.
                Ok(false) => {}
                Err(error) => failure = Some(format!("{digest}: {error}")),
            }
        }
        if freed < wanted {
            let message = too_little(disk, freed);
            self.warn("FreeDiskSpaceFailed", message.clone());
            return Err(failure.unwrap_or(message));
        }
        failure.map_or(Ok(()), Err)
    }

    /// An event of the Node.
    fn warn(&self, reason: &str, message: String) {
        if let Some(node) = self.nodes.get(&self.node) {
            let about = client::reference(node.as_ref());
            self.recorder
                .event(&about, EventType::Warning, reason, message);
        }
    }
}

/// The kubelet's words.
fn too_little(disk: &Disk, freed: u64) -> String {
    let free = u128::from(disk.available) * 100 / u128::from(disk.capacity.max(1));
    format!(
        "Insufficient free disk space on the node's image filesystem ({}% of {} used). \
         Failed to free sufficient space by deleting unused images (freed {freed} bytes). \
         Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
        100_u128.saturating_sub(free),
        size(disk.capacity),
    )
}

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Bytes as the kubelet words them.
fn size(bytes: u64) -> String {
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1024, unit + 1);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}
