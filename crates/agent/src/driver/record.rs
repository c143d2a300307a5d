//! What is kept of each pod over the agent's restarts: one file, replaced whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use network::PodNet;
use serde::{Deserialize, Serialize};

use super::Driver;
use super::cell::Cell;
use super::resize::held;
use crate::blocking::blocking;
use crate::node::allocation::Part;
use crate::pod::{Observed, Sandbox};
use crate::remove::remove_tree;
use crate::statics::StaticPod;

const FILE: &str = "record.json";
/// Where the object of a pod from a file is kept: the file may be broken by the agent's next start.
const STATIC: &str = "static.json";
/// Begins the names of directories that are being removed. No uid is like that.
const GONE: &str = ".gone-";

/// What a record says.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    observed: &'a Observed,
    #[serde(flatten)]
    room: Room,
}

/// The part of it that is of others' interest, too.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Room {
    /// What the pod had of the node.
    #[serde(default)]
    held: Part,
}

/// What earlier runs of the agent left, until their pods are here again.
#[derive(Default)]
pub(super) struct Left {
    /// Records, by uid; `None` where a directory has none that can be read.
    pub(super) records: BTreeMap<String, Option<Observed>>,
    /// Addresses that records tell of.
    nets: BTreeMap<String, PodNet>,
}

/// By uid, as in [`Left`].
type Kept = BTreeMap<String, Option<(Observed, Room)>>;

impl Driver {
    /// Writes a pod's record. After an instance's end it is on the disk when this returns; else it survives the agent
    /// but maybe not the machine, whose guests die with it: the API's own copy of the status tells of those.
    pub(super) async fn save(&self, cell: &Arc<Cell>, to_disk: bool) {
        let mut is_placed = cell.saving.lock().await;
        let bytes = {
            let state = cell.state.lock();
            if state.observed.gone {
                return;
            }
            let room = Room { held: held(&state) };
            let observed = &state.observed;
            serde_json::to_vec(&Record { observed, room })
        };
        let dir = cell.dir.clone();
        let place = to_disk && !*is_placed;
        let write = move || {
            let bytes = bytes.map_err(io::Error::other)?;
            write(&dir, FILE, &bytes, to_disk)?;
            match dir.parent().filter(|_| place) {
                Some(pods) => sync_dir(pods),
                None => Ok(()),
            }
        };
        let written = tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other)
            .flatten();
        match written {
            Ok(()) => *is_placed |= to_disk,
            Err(error) => {
                tracing::error!(pod = %cell.key, uid = %cell.uid, %error, "the pod's record cannot be written");
            }
        }
    }

    /// Keeps the object of a pod from a file.
    pub(super) async fn save_static(&self, cell: &Arc<Cell>, found: &StaticPod) {
        let _not_forgotten_meanwhile = cell.saving.lock().await;
        if cell.state.lock().observed.gone {
            return;
        }
        let (dir, bytes) = (cell.dir.clone(), found.to_bytes());
        let written = blocking(move || write(&dir, STATIC, &bytes, true)).await;
        if let Err(error) = written {
            tracing::error!(pod = %cell.key, uid = %cell.uid, %error, "the static pod's object cannot be kept");
        }
    }

    /// Those of these pods that are from files, as they were kept.
    pub(super) async fn static_records(&self, uids: Vec<String>) -> Vec<StaticPod> {
        let dir = self.0.tools.dir.clone();
        let read = move || {
            let kept = uids.iter().filter_map(|uid| {
                let bytes = fs::read(dir.join(uid).join(STATIC)).ok()?;
                let found = StaticPod::from_bytes(&bytes);
                if let Err(error) = &found {
                    tracing::warn!(uid, %error, "a static pod's object cannot be read");
                }
                found.ok().filter(|found| found.uid() == uid)
            });
            Ok(kept.collect())
        };
        blocking(read).await.unwrap_or_default()
    }

    /// The record of a pod that was here before, for whoever takes it up.
    pub(super) fn record_of(&self, uid: &str) -> Option<Observed> {
        self.0.left.lock().records.remove(uid).flatten()
    }

    /// A pod's address, which it had before.
    pub(super) fn rejoin(&self, address: Ipv4Addr, uid: &str) -> Option<PodNet> {
        let kept = self.0.left.lock().nets.remove(uid);
        let kept = kept.filter(|net| net.address() == address);
        kept.or_else(|| self.0.tools.network.rejoin(address, uid).ok())
    }

    /// What earlier runs of the agent left, with the addresses that their pods have. Nobody who is new gets what they have
    /// of the node before it is known which of them are still there.
    pub(super) async fn left_behind(&self) -> Left {
        let mut records = BTreeMap::new();
        for (uid, kept) in self.records().await {
            let (record, room) = kept.unzip();
            self.has(&uid, room.unwrap_or_default().held);
            records.insert(uid, record);
        }
        let network = &self.0.tools.network;
        let had = records.iter().filter_map(|(uid, record)| {
            let Sandbox::Ready(IpAddr::V4(address)) = record.as_ref()?.sandbox else {
                return None;
            };
            Some((uid.clone(), network.rejoin(address, uid).ok()?))
        });
        let nets = had.collect();
        Left { records, nets }
    }

    async fn records(&self) -> Kept {
        let dir = self.0.tools.dir.clone();
        let read = tokio::task::spawn_blocking(move || read_all(&dir))
            .await
            .map_err(io::Error::other)
            .flatten();
        read.unwrap_or_else(|error| {
            tracing::error!(%error, "the records of earlier pods cannot be read");
            BTreeMap::new()
        })
    }

    /// Removes the directories of pods that are not this node's any more.
    pub(super) async fn remove_orphans(&self) {
        let left: Vec<String> = self.0.left.lock().records.keys().cloned().collect();
        let this = self.clone();
        let remove = move || {
            for uid in left {
                tracing::info!(uid, "removing the directory of a pod that is gone");
                if let Err(error) = this.remove_orphan(&this.0.tools.dir.join(&uid)) {
                    tracing::warn!(uid, %error, "it cannot be removed");
                    this.left_untidy();
                }
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(remove).await {
            tracing::error!(%error, "removing orphaned pods failed");
        }
    }
}

impl Driver {
    /// Removes the directory of a pod that is not here. It takes its time, and a pod from a file may come under the same
    /// uid meanwhile: that one has what there is if it comes first, else none of it.
    ///
    /// # Errors
    /// When the file system says no. It may be tried again.
    pub(crate) fn remove_orphan(&self, dir: &Path) -> io::Result<()> {
        let Some(uid) = dir.file_name().and_then(|name| name.to_str()) else {
            return remove_tree(dir);
        };
        let aside = dir.with_file_name(match uid.starts_with(GONE) {
            true => uid.to_owned(),
            false => format!("{GONE}{uid}"),
        });
        // What an earlier removal has left.
        remove_tree(&aside)?;
        if !self.put_aside(uid, dir, &aside)? {
            return Ok(());
        }
        remove_tree(&aside)
    }

    /// Whether nobody has this uid: its directory is elsewhere then, and its record and address are free.
    fn put_aside(&self, uid: &str, dir: &Path, aside: &Path) -> io::Result<bool> {
        let _net = {
            // Nobody takes up a record, or becomes a pod of this node, in between.
            let _statics = self.0.statics.lock();
            let cells = self.0.cells.write();
            if cells.by_uid.contains_key(uid) {
                return Ok(false);
            }
            match fs::rename(dir, aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut left = self.0.left.lock();
            left.records.remove(uid);
            left.nets.remove(uid)
        };
        Ok(true)
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8], to_disk: bool) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    if to_disk {
        file.sync_data()?;
    }
    fs::rename(&temporary, dir.join(name))?;
    if to_disk {
        // The new name is on the disk when the directory is.
        sync_dir(dir)?;
    }
    Ok(())
}

fn read(bytes: &[u8]) -> io::Result<(Observed, Room)> {
    Ok((
        serde_json::from_slice(bytes)?,
        serde_json::from_slice(bytes)?,
    ))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn read_all(dir: &Path) -> io::Result<Kept> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(uid) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if uid.starts_with(GONE) {
            // Nobody's, whatever it says.
            all.insert(uid, None);
            continue;
        }
        let record = fs::read(entry.path().join(FILE)).and_then(|bytes| read(&bytes));
        if let Err(error) = &record {
            tracing::warn!(uid, %error, "a pod's record cannot be read: what the API knows counts");
        }
        all.insert(uid, record.ok());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use client::Key;
    use client::simulated::Simulated;
    use serde_json::json;

    use super::*;
    use crate::clock::Clock;
    use crate::driver::resize::tests::driver;
    use crate::node::ledger::Ledger;

    #[tokio::test]
    async fn what_was_here_before_has_all_that_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let client = Simulated::new().client("agent");
        let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
        let resources = json!({"requests": {"cpu": "100m"}});
        let pod = json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"containers": [{"name": "c", "resources": resources}], "overhead": {"cpu": "500m"}},
        });
        let pod = serde_json::from_value(pod).unwrap();
        let cell = driver.add((Key::new("d", "p"), false), &Arc::new(pod), None);
        driver.save(&cell, false).await;
        *driver.0.ledger.lock() = Ledger::default();
        let left = driver.left_behind().await;
        assert!(left.records["u"].is_some());
        let is_there = |milli_cpu| {
            let asked = Part {
                milli_cpu,
                ..Part::default()
            };
            let mut ledger = driver.0.ledger.lock();
            ledger.admit("new", asked, &driver.0.tools.machine).is_ok()
        };
        assert!(!is_there(401));
        assert!(is_there(400));
    }

    #[tokio::test]
    async fn what_came_meanwhile_is_nobodys_orphan() {
        let dir = tempfile::tempdir().unwrap();
        let client = Simulated::new().client("agent");
        let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
        let pods = dir.path().join("pods");
        for uid in ["here", "gone", ".gone-gone", ".gone-before"] {
            fs::create_dir_all(pods.join(uid).join("volumes/v")).unwrap();
        }
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "here"}, "spec": {"containers": []}});
        let pod = serde_json::from_value(pod).unwrap();
        driver.add((Key::new("d", "p"), true), &Arc::new(pod), None);
        for uid in ["here", "gone", ".gone-before", "none"] {
            driver.remove_orphan(&pods.join(uid)).unwrap();
        }
        let left = fs::read_dir(&pods).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["here"]);
        assert!(pods.join("here/volumes/v").exists());
    }
}
