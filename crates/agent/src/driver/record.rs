//! What is kept of each pod over the agent's restarts: one file, replaced whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use super::Driver;
use super::cell::Cell;
use crate::pod::Observed;
use crate::remove::remove_tree;

const FILE: &str = "record.json";

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
            serde_json::to_vec(&state.observed)
        };
        let dir = cell.dir.clone();
        let place = to_disk && !*is_placed;
        let write = move || {
            let bytes = bytes.map_err(io::Error::other)?;
            write(&dir, &bytes, to_disk)?;
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

    /// The records that earlier runs of the agent left, by uid; `None` where a directory has none that can be read.
    pub(super) async fn left_behind(&self) -> BTreeMap<String, Option<Observed>> {
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
    pub(super) async fn remove_orphans(&self, left: BTreeMap<String, Option<Observed>>) {
        let dir = self.0.tools.dir.clone();
        let remove = move || {
            for uid in left.keys() {
                tracing::info!(uid, "removing the directory of a pod that is gone");
                if let Err(error) = remove_tree(&dir.join(uid)) {
                    tracing::warn!(uid, %error, "it cannot be removed");
                }
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(remove).await {
            tracing::error!(%error, "removing orphaned pods failed");
        }
    }
}

fn write(dir: &Path, bytes: &[u8], to_disk: bool) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let temporary = dir.join("record.json.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    if to_disk {
        file.sync_data()?;
    }
    fs::rename(&temporary, dir.join(FILE))?;
    if to_disk {
        // The new name is on the disk when the directory is.
        sync_dir(dir)?;
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn read_all(dir: &Path) -> io::Result<BTreeMap<String, Option<Observed>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(uid) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let record = fs::read(entry.path().join(FILE))
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
        if let Err(error) = &record {
            tracing::warn!(uid, %error, "a pod's record cannot be read: what the API knows counts");
        }
        all.insert(uid, record.ok());
    }
    Ok(all)
}
