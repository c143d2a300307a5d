//! What pods take of the node's disk and memory: measured where they may have reached a limit of theirs, and where the node is
//! short of something (`shortage.rs`).
//!
//! Nobody looks at the disk of a pod that has no limits, or does not write: its guests pay a meter as they write, and wait
//! where what they have left is less than they want. Then, and when half of it is used, it is measured anew. Each meter is
//! within the node's, of which every pod's guests pay: `eviction/room.rs` looks after that.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use runtime::Meter;
use runtime::meter::Measurer;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Driver;
use super::cell::{Cell, State};
use super::measuring::Pace;
use crate::blocking::blocking;
use crate::eviction::{
    Amount, Bounds, Interest, Limits, Nameless, Usage, Used, is_in_memory, measure,
};
use crate::pod::{EventKind, Observation, PodView as _};
use crate::remove::list;

/// A tree of more names than this is as one that takes more than anybody may.
const MOST_NAMES: u64 = 1 << 24;
/// What may always be written before the next measurement: who overwrites what is there adds nothing, though it counts.
const SLACK: u64 = 1 << 20;
/// After a measurement there is none for so many times what it took.
const REST: u32 = 9;
/// After one that failed, at least so long.
const AGAIN: Duration = Duration::from_secs(1);
/// How often guests' memory is looked at that counts together with files in memory: nobody says when it grows.
const LOOKED_AT: Duration = Duration::from_secs(10);

/// What a tree is to its pod.
pub(super) enum Of {
    Container(String),
    Disk(String),
    Memory(String),
}

impl Of {
    pub(super) fn count(self, amount: Amount, usage: &mut Usage) {
        match self {
            Self::Container(name) => usage.containers.entry(name).or_default().disk = amount,
            Self::Disk(name) => {
                usage.on_disk.insert(name, amount);
            }
            Self::Memory(name) => {
                usage.in_memory.insert(name, amount);
            }
        }
    }
}

/// Something to be measured: its directories, and how many bytes are of interest.
pub(super) struct Tree {
    pub(super) of: Of,
    dirs: Vec<PathBuf>,
    bytes: u64,
}

impl Driver {
    /// Follows what a pod writes, if it has limits.
    pub(super) fn follow_storage(&self, cell: &Arc<Cell>) {
        if self.limits(cell).is_none() {
            return;
        }
        let mut state = cell.state.lock();
        if state.following.is_none() {
            let following = self.clone().follow(Arc::clone(cell));
            state.following = Some(AbortOnDropHandle::new(tokio::spawn(following)));
        }
    }

    async fn follow(self, cell: Arc<Cell>) {
        let meter = &cell.meter;
        // Whoever writes once nobody measures any more is not to wait for ever.
        let _measurer = Measurer::of(Arc::clone(meter));
        // What an earlier agent's guests have written is there.
        meter.begin();
        let (mut has_failed, mut pace) = (false, Pace::default());
        while let Some(limits) = self.limits(&cell) {
            let measure = || self.measure(&cell, limits.of_interest(), None, || ());
            let (measured, took) = self.0.measuring.measure(&mut pace, measure).await;
            let known_at = Instant::now();
            let mut judged = match &measured {
                Ok(usage) => may_go_on(&limits, usage, meter),
                Err(error) => {
                    if !has_failed {
                        tracing::warn!(pod = %cell.key, uid = %cell.uid, %error, "what a pod has written cannot be measured");
                    }
                    meter.allow(Some(SLACK));
                    tokio::time::sleep(AGAIN).await;
                    Ok(())
                }
            };
            has_failed = measured.is_err();
            if judged.is_ok() {
                // However often it is due, most of the time goes to others.
                tokio::time::sleep(took * REST).await;
                let files = measured.map(|usage| usage.in_memory);
                judged = self.due(&cell, files.unwrap_or_default()).await;
            }
            match judged {
                Err(_) if limits.is_spared => {
                    meter.allow(Some(0));
                    tokio::time::sleep(AGAIN).await;
                }
                Err(message) => return self.exceeded(&cell, message).await,
                // Nobody waits: what comes within a second is measured together.
                Ok(()) if meter.wanted() == 0 => tokio::time::sleep_until(known_at + AGAIN).await,
                Ok(()) => {}
            }
        }
    }

    pub(super) fn limits_of(&self, pod: &Pod, is_static: bool) -> Option<Limits> {
        let tools = &self.0.tools;
        Limits::of(pod, is_static, tools.machine.memory, tools.most_in_memory)
    }

    /// Counts what a pod writes. Of who was here before nobody may write before the first measurement, where the pod has
    /// limits; who is new has nothing that could be found.
    pub(super) fn meter(&self, pod: &Pod, is_static: bool, was_here: bool) -> Arc<Meter> {
        let allowance = self.limits_of(pod, is_static).map_or(u64::MAX, |limits| {
            let left = limits.judge(&Usage::default()).ok();
            let left = left.filter(|_| !was_here);
            left.map_or(0, |left| left.bytes.max(SLACK))
        });
        Arc::new(Meter::within(Arc::clone(self.disk()), allowance))
    }

    fn limits(&self, cell: &Cell) -> Option<Limits> {
        let pod = cell.state.lock().allocated_pod();
        self.limits_of(&pod, cell.is_static)
    }

    /// Waits until a pod is to be measured anew. To files that it has in memory nothing comes meanwhile, but its guests may
    /// take more, or its limits become less.
    async fn due(&self, cell: &Cell, files: BTreeMap<String, Amount>) -> Result<(), String> {
        let meter = &cell.meter;
        if files.is_empty() {
            meter.due().await;
            return Ok(());
        }
        while tokio::time::timeout(LOOKED_AT, meter.due()).await.is_err() {
            let Some(limits) = self.limits(cell) else {
                break;
            };
            let in_memory = files.clone();
            let guests = guests(&cell.state.lock());
            limits.judge(&Usage {
                in_memory,
                ..guests
            })?;
        }
        Ok(())
    }

    /// Ends a pod that has exceeded a limit of its own. Until that is over, and this is dropped, who waits to write does not: a
    /// guest that wrote after all might come to its own end before it is told to.
    async fn exceeded(&self, cell: &Arc<Cell>, message: String) {
        let (driver, of) = (self.clone(), Arc::clone(cell));
        // Who follows it is stopped as soon as its end is seen, and that has to be kept all the same.
        let evicted = tokio::spawn(async move { driver.evict_pod(&of, message, false).await });
        if let Err(error) = evicted.await {
            tracing::error!(%error, "a pod that has taken too much was not evicted");
        }
        pending::<()>().await;
    }

    /// Ends a pod for what it, or all together, have taken.
    pub(crate) async fn evict(&self, uid: &str, message: String, disrupted: bool) {
        let cell = self.0.cells.read().by_uid.get(uid).cloned();
        if let Some(cell) = cell {
            self.evict_pod(&cell, message, disrupted).await;
        }
    }

    async fn evict_pod(&self, cell: &Arc<Cell>, message: String, disrupted: bool) {
        let said = message.clone();
        let evicted = Observation::Evicted { message, disrupted };
        {
            let mut state = cell.state.lock();
            if !state.may_be_evicted() {
                return;
            }
            // At once: another reason may come from elsewhere.
            let now = self.0.tools.clock.now();
            state.observed.observe(evicted.clone(), now);
        }
        tracing::info!(pod = %cell.key, uid = %cell.uid, message = said, "a pod is evicted");
        self.event(cell, None, EventKind::Warning, "Evicted", said);
        self.learned(cell, evicted).await;
    }

    /// Whether anything of a pod is there still that its end gives back.
    pub(crate) fn is_running(&self, uid: &str) -> bool {
        let cell = self.0.cells.read().by_uid.get(uid).cloned();
        cell.is_some_and(|cell| cell.state.lock().has_something())
    }

    /// Measures what of a pod is of interest.
    ///
    /// Files without names are looked for, unless they are known; `begins` is called when its trees are looked at.
    pub(super) async fn measure(
        &self,
        cell: &Arc<Cell>,
        interest: &Interest,
        nameless: Option<Arc<Nameless>>,
        begins: impl FnOnce() + Send + 'static,
    ) -> io::Result<Usage> {
        let (mut usage, trees) = {
            let state = cell.state.lock();
            (guests(&state), cell.trees(&state, interest))
        };
        if trees.is_empty() {
            return Ok(usage);
        }
        // Nobody is left to wait for it when this is dropped.
        let stopped = CancellationToken::new();
        let _stops = stopped.clone().drop_guard();
        let memory = self.memory_dir(&cell.uid);
        let dirs: Vec<PathBuf> = memory.into_iter().chain([cell.dir.clone()]).collect();
        let amounts = blocking(move || {
            let goes_on = || !stopped.is_cancelled();
            let nameless = match nameless {
                Some(known) => known,
                None => Arc::new(Nameless::of_process(&dirs, &goes_on)?),
            };
            begins();
            let all = trees.into_iter().map(|tree| {
                let amount = tree.measure(&nameless, &goes_on)?;
                Ok((tree.of, amount))
            });
            all.collect::<io::Result<Vec<_>>>()
        });
        for (of, amount) in amounts.await? {
            of.count(amount, &mut usage);
        }
        Ok(usage)
    }

    /// Where a pod's volumes in memory lie, if the node has memory for that.
    pub(super) fn memory_dir(&self, uid: &str) -> Option<PathBuf> {
        let dir = self.0.tools.host.memory.as_ref()?;
        Some(dir.join(uid))
    }

    /// Removes what pods that are not here have left in memory.
    pub(super) async fn forget_memory(&self) {
        let Some(dir) = self.0.tools.host.memory.clone() else {
            return;
        };
        let this = self.clone();
        let removed = blocking(move || {
            for left in this.orphans_in(&dir)? {
                tracing::info!(path = %left.display(), "removing the memory of a pod that is gone");
                this.remove_orphan(&left)?;
            }
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "what pods have left in memory cannot be removed");
            self.left_untidy();
        }
    }

    /// What lies in a directory of pods and is none's that is here.
    pub(super) fn orphans_in(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        list(dir, |uid| {
            let cells = self.0.cells.read();
            !uid.is_some_and(|uid| cells.by_uid.contains_key(uid))
        })
    }
}

impl Cell {
    /// The directories of what is of interest.
    pub(super) fn trees(&self, state: &State, interest: &Interest) -> Vec<Tree> {
        let containers = interest.containers.iter().map(|(name, bytes)| Tree {
            of: Of::Container(name.clone()),
            dirs: vec![self.dir.join("containers").join(name), self.log_dir(name)],
            bytes: *bytes,
        });
        let volumes = state.pod.volumes().iter().filter_map(|volume| {
            let name = volume.name.clone();
            Some(Tree {
                bytes: *interest.volumes.get(&name)?,
                dirs: vec![state.volumes.get(&name)?.path.clone()],
                of: match is_in_memory(volume) {
                    true => Of::Memory(name),
                    false => Of::Disk(name),
                },
            })
        });
        containers.chain(volumes).collect()
    }
}

impl Tree {
    fn measure(&self, nameless: &Nameless, goes_on: &dyn Fn() -> bool) -> io::Result<Amount> {
        let mut sum = Amount::default();
        for dir in &self.dirs {
            sum = sum.plus(nameless.below(dir));
            let bytes = self.bytes.saturating_sub(sum.bytes);
            let bounds = Bounds::new(bytes, MOST_NAMES, goes_on);
            let amount = measure(dir, &bounds)?;
            sum = sum.plus(amount);
            if amount.inodes > MOST_NAMES {
                sum.bytes = u64::MAX;
            }
        }
        Ok(sum)
    }
}

/// Lets a pod write what it may.
///
/// # Errors
/// When it has exceeded a limit, or waits for what would: the kubelet's message.
fn may_go_on(limits: &Limits, usage: &Usage, meter: &Meter) -> Result<(), String> {
    let left = limits.judge(usage)?;
    let mut allowed = left.bytes.max(SLACK);
    let wanted = meter.wanted();
    if wanted > allowed {
        if !limits.writes_elsewhere {
            // Waiting helps it no more than writing would.
            return Err(left.message);
        }
        // Nobody knows for which volume that is: the next measurement does.
        allowed = wanted;
    }
    meter.allow_beyond(left.bytes, Some(allowed));
    Ok(())
}

/// What guests have of memory.
pub(super) fn guests(state: &State) -> Usage {
    let running = state.running.iter();
    let running = running.filter(|(_, instance)| instance.running.exit().is_none());
    let used = |instance: &super::cell::Instance| Used {
        memory: instance.running.usage().memory,
        ..Used::default()
    };
    Usage {
        containers: running
            .map(|(name, instance)| (name.clone(), used(instance)))
            .collect(),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use client::Key;
    use client::simulated::Simulated;
    use serde_json::json;

    use super::*;
    use crate::clock::Clock;
    use crate::driver::resize::tests::driver;
    use crate::pod::Observed;

    #[tokio::test]
    async fn who_is_new_writes_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let client = Simulated::new().client("agent");
        let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
        let may_write = |uid: &str, record: Option<Observed>, bytes: u64| {
            let volumes = json!([{"name": "v", "emptyDir": {"sizeLimit": "4Mi"}}]);
            let pod = json!({
                "metadata": {"name": uid, "namespace": "d", "uid": uid},
                "spec": {"containers": [], "volumes": volumes},
            });
            let pod = serde_json::from_value(pod).unwrap();
            let cell = driver.add((Key::new("d", uid), false), &Arc::new(pod), record);
            cell.meter.try_charge(bytes, bytes).is_some()
        };
        assert!(may_write("new", None, 4 << 20));
        assert!(!may_write("more", None, (4 << 20) + 1));
        assert!(!may_write("before", Some(Observed::default()), 1));
    }

    #[tokio::test]
    async fn all_write_to_one_disk() {
        let dir = tempfile::tempdir().unwrap();
        let client = Simulated::new().client("agent");
        let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
        let meter = |uid: &str| {
            let pod = json!({
                "metadata": {"name": uid, "namespace": "d", "uid": uid},
                "spec": {"containers": []},
            });
            let pod = serde_json::from_value(pod).unwrap();
            let cell = driver.add((Key::new("d", uid), false), &Arc::new(pod), None);
            driver.follow_storage(&cell);
            assert!(cell.state.lock().following.is_none(), "nobody measures it");
            cell.meter.clone()
        };
        let (one, other) = (meter("one"), meter("other"));
        driver.disk().allow(Some(10));
        assert!(one.try_charge(8, 8).is_some());
        assert!(other.try_charge(8, 8).is_none());
        assert_eq!(driver.disk().wanted(), 8);
    }
}
