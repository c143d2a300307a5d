//! What is kept of each pod over the agent's restarts: one file, replaced whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use network::PodNet;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::cell::{Cell, State};
use super::resize::held;
use super::{Cells, Driver};
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
        keep(cell, FILE, to_disk, |state| {
            let room = Room { held: held(state) };
            let observed = &state.observed;
            serde_json::to_vec(&Record { observed, room })
        })
        .await;
    }

    /// Keeps the object of a pod from a file.
    pub(super) async fn save_static(&self, cell: &Arc<Cell>, found: &StaticPod) {
        keep(cell, STATIC, true, |_| Ok(found.to_bytes())).await;
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
    ///
    /// A rename may wait for the disk, so no lock is held over it. The order is right all the same. Before it record and address are
    /// taken from what is left, so that whoever comes has none of them; while it lasts who comes writes nothing, by its
    /// cell's `awaits`; after it the address is free. On the disk it is this order, too: the rename and the directory of who comes
    /// are changes of one directory, which [`keep`] syncs with the first file that has to outlive the machine.
    fn put_aside(&self, uid: &str, dir: &Path, aside: &Path) -> io::Result<bool> {
        let Some((leaving, had)) = self.leave(uid) else {
            return Ok(false);
        };
        let renamed = match fs::rename(dir, aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        };
        if renamed.is_err() {
            self.give_back(uid, had);
        }
        drop(leaving);
        renamed
    }

    /// Has nobody take up what is left of a pod; `None` where somebody has its uid, or it is on its way out already.
    fn leave(&self, uid: &str) -> Option<(Leaving, Had)> {
        // Who takes up a record is a pod of this node before this is let go.
        let _statics = self.0.statics.lock();
        let mut cells = self.0.cells.write();
        if cells.by_uid.contains_key(uid) || cells.leaving.contains_key(uid) {
            return None;
        }
        let mut left = self.0.left.lock();
        let had = (left.records.remove(uid), left.nets.remove(uid));
        Some((Leaving::begin(self, &mut cells, uid), had))
    }

    /// What is left of a pod stays where it is, for whoever has its uid next. Who has come meanwhile has begun without.
    fn give_back(&self, uid: &str, (record, net): Had) {
        let _statics = self.0.statics.lock();
        let cells = self.0.cells.read();
        if !cells.by_uid.contains_key(uid) {
            let mut left = self.0.left.lock();
            left.records.extend(record.map(|had| (uid.to_owned(), had)));
            left.nets.extend(net.map(|had| (uid.to_owned(), had)));
        }
    }
}

/// A pod's record and address, as [`Left`] has them.
type Had = (Option<Option<Observed>>, Option<PodNet>);

/// A uid whose directory is on its way out, until this is dropped. Who drops it holds no locks.
pub(super) struct Leaving {
    driver: Driver,
    uid: String,
    over: CancellationToken,
}

impl Leaving {
    /// Of a uid that nobody has.
    pub(super) fn begin(driver: &Driver, cells: &mut Cells, uid: &str) -> Self {
        let over = CancellationToken::new();
        cells.leaving.insert(uid.to_owned(), over.clone());
        let (driver, uid) = (driver.clone(), uid.to_owned());
        Self { driver, uid, over }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.driver.0.cells.write().leaving.remove(&self.uid);
        self.over.cancel();
    }
}

/// Writes a file into a pod's directory, unless the pod is gone. With the first that has to outlive the machine the
/// directory itself is on the disk, too.
async fn keep(
    cell: &Cell,
    name: &'static str,
    to_disk: bool,
    bytes: impl FnOnce(&State) -> serde_json::Result<Vec<u8>>,
) {
    cell.has_place().await;
    let mut is_placed = cell.saving.lock().await;
    let bytes = {
        let state = cell.state.lock();
        if state.observed.gone {
            return;
        }
        bytes(&state)
    };
    let dir = cell.dir.clone();
    let place = to_disk && !*is_placed;
    let written = blocking(move || {
        write(&dir, name, &bytes?, to_disk)?;
        match dir.parent().filter(|_| place) {
            Some(pods) => sync_dir(pods),
            None => Ok(()),
        }
    });
    match written.await {
        Ok(()) => *is_placed |= to_disk,
        Err(error) => {
            tracing::error!(pod = %cell.key, uid = %cell.uid, name, %error, "what is to be kept of a pod cannot be written");
        }
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
    use crate::driver::perform;
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
    async fn whatever_outlives_the_machine_has_a_directory_that_does() {
        let dir = tempfile::tempdir().unwrap();
        let client = Simulated::new().client("agent");
        let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
        let of = |uid: &str| {
            let metadata = json!({"name": uid, "namespace": "d", "uid": uid});
            let object = json!({"metadata": metadata, "spec": {"containers": []}});
            let kept = json!({"file": "f", "object": object}).to_string();
            let found = StaticPod::from_bytes(kept.as_bytes()).unwrap();
            let cell = driver.add((Key::new("d", uid), true), &found.pod, None);
            (cell, found)
        };
        let (recorded, _) = of("recorded");
        driver.save(&recorded, false).await;
        assert!(!*recorded.saving.lock().await);
        driver.save(&recorded, true).await;
        assert!(*recorded.saving.lock().await);
        let (from_file, found) = of("from-file");
        driver.save_static(&from_file, &found).await;
        assert!(*from_file.saving.lock().await);
        let kept = driver.static_records(vec!["from-file".to_owned()]).await;
        assert_eq!(kept, [found]);
        let (gone, found) = of("gone");
        gone.state.lock().observed.gone = true;
        driver.save_static(&gone, &found).await;
        assert!(!gone.dir.exists() && !*gone.saving.lock().await);
    }

    fn files(dir: &Path) -> Vec<std::ffi::OsString> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
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
        assert_eq!(files(&pods), ["here"]);
        assert!(pods.join("here/volumes/v").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_meanwhile_waits_until_the_directory_is_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let client = Simulated::new().client("agent");
        let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {"containers": []}});
        let pod = Arc::new(serde_json::from_value(pod).unwrap());
        let (before, aside) = (dir.path().join("pods/u"), dir.path().join("pods/.gone-u"));
        fs::create_dir_all(before.join("volumes/v")).unwrap();
        driver.0.left.lock().records.insert("u".to_owned(), None);
        let (leaving, had) = driver.leave("u").unwrap();
        assert!(driver.leave("u").is_none());
        let cell = driver.add((Key::new("d", "p"), true), &pod, None);
        // Time does not go on while anything is being written.
        let second = std::time::Duration::from_secs(1);
        let begun = Arc::new(tokio::sync::Notify::new());
        let of = begun.clone();
        perform::spawn(&driver, &cell, |_, _| async move { of.notify_one() });
        let early = tokio::time::timeout(second, begun.notified()).await;
        assert!(early.is_err(), "something was begun");
        let early = tokio::time::timeout(second, driver.save(&cell, true)).await;
        assert!(early.is_err(), "a record was written");
        fs::rename(&before, &aside).unwrap();
        // As it would be where that had failed: it is not for who has come.
        driver.give_back("u", had);
        assert!(driver.record_of("u").is_none() && driver.0.left.lock().records.is_empty());
        drop(leaving);
        begun.notified().await;
        driver.save(&cell, true).await;
        assert!(before.join(FILE).exists() && !before.join("volumes").exists());
        assert!(driver.leave("u").is_none());
    }

    #[tokio::test]
    async fn what_cannot_be_put_aside_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let client = Simulated::new().client("agent");
        let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
        let pods = dir.path().join("pods");
        fs::create_dir_all(pods.join("u")).unwrap();
        let record = Some(Observed::default());
        driver.0.left.lock().records.insert("u".to_owned(), record);
        // Something is in the way.
        let (here, aside) = (pods.join("u"), pods.join(".gone-u"));
        fs::create_dir_all(aside.join("full")).unwrap();
        driver.put_aside("u", &here, &aside).unwrap_err();
        assert!(here.exists() && driver.0.left.lock().records.contains_key("u"));
        driver.remove_orphan(&here).unwrap();
        assert!(driver.record_of("u").is_none() && files(&pods).is_empty());
    }
}
