//! Volumes on the node's own disk: their directories are removed when they are.
//!
//! The cluster's provisioner makes such a volume's object with this node's name in a label and a finalizer that waits for
//! the node; `volumes/claim.rs` makes the directory when a pod first mounts it.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::storage;
use client::{
    Client, EventType, Informer, Key, ListOptions, Patch, Recorder, WorkQueue, reference,
};
use k8s_openapi::api::core::v1::PersistentVolume;
use rustix::fs::CWD;
use rustix::io::Errno;
use serde_json::json;

use crate::blocking::blocking;
use crate::driver::Driver;
use crate::remove::{Patience, remove_tree_at};
use crate::volumes::{Disks, own_path};

/// Pauses before what could not be removed is tried again: from the first, doubling, to the last.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// How many files and directories of a volume go at a time: others have their turn then, however many there are.
const MOST_AT_ONCE: u32 = 100_000;

/// Removes what is to be removed, for ever.
pub(crate) async fn keep(client: Client, driver: Driver, disks: Disks, recorder: Recorder) {
    let of_node = ListOptions::default().labels(format!("{}={}", storage::NODE, disks.node));
    let volumes: Informer<PersistentVolume> = Informer::start(client.of(), of_node);
    let mut changes = volumes.subscribe();
    let queue = WorkQueue::with_backoff(FIRST_RETRY, LAST_RETRY);
    volumes.synced().await;
    for key in volumes.view().keys() {
        queue.add(key.clone());
    }
    loop {
        let item = tokio::select! {
            keys = changes.next() => {
                keys.into_iter().for_each(|key| queue.add(key));
                continue;
            }
            item = queue.next() => item,
        };
        let Some(item) = item else { return };
        let key: Key = (*item).clone();
        let due = volumes.get(&key);
        let Some(volume) = due.filter(|volume| to_remove(volume, &disks).is_some()) else {
            queue.forget(&key);
            continue;
        };
        match remove(&client, &driver, &disks, &key.name).await {
            Ok(Progress::Done) => queue.forget(&key),
            Ok(Progress::Begun) => queue.add(key),
            Err(why) => {
                tracing::warn!(volume = key.name, why, "a volume was not removed");
                let about = reference(&*volume);
                recorder.event(&about, EventType::Warning, "VolumeFailedDelete", why);
                queue.retry(key);
            }
        }
    }
}

/// The directory of a volume that is to go: it is being deleted, with what is on it, no claim has it, and it waits for
/// this node.
fn to_remove(volume: &PersistentVolume, disks: &Disks) -> Option<PathBuf> {
    let (meta, spec) = (&volume.metadata, volume.spec.as_ref()?);
    let held = |name| meta.finalizers.iter().flatten().any(|f| f == name);
    let is_here = meta.labels.as_ref()?.get(storage::NODE)? == &disks.node;
    let is_removed = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    let is_due = meta.deletion_timestamp.is_some()
        && is_here
        && is_removed
        && held(storage::PROVISIONER)
        && !held(storage::PROTECTION);
    let path = &spec.local.as_ref()?.path;
    own_path(&disks.own, path).filter(|_| is_due)
}

/// How far a removal has come.
enum Progress {
    Done,
    Begun,
}

async fn remove(
    client: &Client,
    driver: &Driver,
    disks: &Disks,
    name: &str,
) -> Result<Progress, String> {
    let volumes = client.of::<PersistentVolume>();
    // What was seen of it may be old: a claim's next volume has the name and the directory of the one before.
    let volume = volumes.find("", name).await;
    let Some(volume) = volume.map_err(|error| error.to_string())? else {
        return Ok(Progress::Done);
    };
    let Some(dir) = to_remove(&volume, disks) else {
        return Ok(Progress::Done);
    };
    // A claim may have been let go by force, and a pod deleted so, while a guest goes on.
    if let Some(pod) = driver.mounts(&dir) {
        return Err(format!("pod {pod} has it mounted"));
    }
    let of = dir.clone();
    let removed = blocking(move || remove_some(&of, MOST_AT_ONCE)).await;
    if let Progress::Begun = removed.map_err(|error| format!("{}: {error}", dir.display()))? {
        return Ok(Progress::Begun);
    }
    let meta = &volume.metadata;
    let finalizers = meta.finalizers.iter().flatten();
    let left: Vec<&String> = finalizers.filter(|f| *f != storage::PROVISIONER).collect();
    // The version makes sure that no finalizer which came meanwhile is lost.
    let patch = Patch::Merge(json!({"metadata": {
        "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": left,
    }}));
    match volumes.patch("", name, &patch, None).await {
        Err(error) if !error.is_not_found() => Err(error.to_string()),
        _ => Ok(Progress::Done),
    }
}

/// Removes a directory, or `most` of what is in it.
fn remove_some(dir: &Path, most: u32) -> io::Result<Progress> {
    let left = Cell::new(most);
    let goes_on = || left.replace(left.get().saturating_sub(1)) > 0;
    let patience = Patience {
        rounds: u32::MAX,
        goes_on: &goes_on,
    };
    match remove_tree_at(CWD, dir, &patience) {
        Ok(()) => Ok(Progress::Done),
        Err(Errno::CANCELED) => Ok(Progress::Begun),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_removed() {
        let disks = Disks {
            node: "n1".to_owned(),
            own: "/own".into(),
            shared: Vec::new(),
            host_path: false,
        };
        let volume = json!({
            "metadata": {"name": "pvc-1", "labels": {storage::NODE: "n1"},
                "deletionTimestamp": "2026-11-21T10:00:00Z", "finalizers": [storage::PROVISIONER]},
            "spec": {"local": {"path": "pvc-1"}, "persistentVolumeReclaimPolicy": "Delete"},
        });
        let table = [
            ("/metadata/name", json!("other"), true),
            ("/metadata/labels", json!({storage::NODE: "n2"}), false),
            ("/metadata/labels", json!({}), false),
            ("/metadata/deletionTimestamp", Value::Null, false),
            ("/metadata/finalizers", json!([]), false),
            (
                "/metadata/finalizers",
                json!([storage::PROVISIONER, storage::PROTECTION]),
                false,
            ),
            (
                "/spec/persistentVolumeReclaimPolicy",
                json!("Retain"),
                false,
            ),
            ("/spec/local", Value::Null, false),
            ("/spec/local", json!({"path": "/pvc-1"}), false),
            ("/spec/local", json!({"path": ".."}), false),
            ("/spec/local", json!({"path": "pvc-1/.."}), false),
            ("/spec/local", json!({"path": ""}), false),
        ];
        for (path, value, is) in table {
            let mut volume = volume.clone();
            let (parent, field) = path.rsplit_once('/').unwrap();
            volume.pointer_mut(parent).unwrap()[field] = value.clone();
            let volume: PersistentVolume = serde_json::from_value(volume).unwrap();
            let dir = to_remove(&volume, &disks);
            assert_eq!(
                dir,
                is.then(|| PathBuf::from("/own/pvc-1")),
                "{path} {value}"
            );
        }
    }

    #[test]
    fn what_is_large_goes_in_several_turns() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        std::fs::create_dir(&volume).unwrap();
        for file in 0..25 {
            std::fs::write(volume.join(file.to_string()), "x").unwrap();
        }
        let mut turns = 0;
        while let Progress::Begun = remove_some(&volume, 10).unwrap() {
            turns += 1;
            assert!(volume.exists() && turns < 25);
        }
        assert!(turns >= 2 && !volume.exists(), "{turns}");
    }
}
