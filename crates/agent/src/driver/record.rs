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
        let _one_at_a_time = cell.saving.lock().await;
        let bytes = {
            let state = cell.state.lock();
            if state.observed.gone {
                return;
            }
            serde_json::to_vec(&state.observed)
        };
        let dir = cell.dir.clone();
        let write = move || {
            bytes
                .map_err(io::Error::other)
                .and_then(|bytes| write(&dir, &bytes, to_disk))
        };
        let written = tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other)
            .flatten();
        if let Err(error) = written {
            tracing::error!(pod = %cell.key, uid = %cell.uid, %error, "the pod's record cannot be written");
        }
    }

    /// The records that earlier runs of the agent left, by uid; `Observed::default()` where one cannot be read.
    pub(super) async fn left_behind(&self) -> BTreeMap<String, Observed> {
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
    pub(super) async fn remove_orphans(&self, left: BTreeMap<String, Observed>) {
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
    fs::rename(&temporary, dir.join(FILE))
}

fn read_all(dir: &Path) -> io::Result<BTreeMap<String, Observed>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(uid) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let record = match fs::read(entry.path().join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(uid, %error, "a pod's record cannot be read: it counts as new");
                Observed::default()
            }),
            Err(_) => Observed::default(),
        };
        all.insert(uid, record);
    }
    Ok(all)
}
