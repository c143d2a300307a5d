//! Volumes in the node's memory: a directory a pod, in a file system that other programs use, too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::eviction::{FILES_LEFT, files_room, make_own};
use crate::garbage::{Disk, read_disk};
use crate::remove::remove_tree;

/// Makes the directory of a pod's volumes in memory.
///
/// # Errors
/// When the file system says no, or somebody else has what it lies in.
pub(super) fn make(pod: &Path) -> io::Result<()> {
    // The machine's, the agent's and the pod's.
    let above: Vec<&Path> = pod.ancestors().take(3).collect();
    above.into_iter().rev().try_for_each(make_own)
}

/// The directory for a volume of the agent's own files: where it was `before`, for guests may have it open; else in the
/// pod's `memory`, or on the `disk` where nobody else can look into it. What was made elsewhere goes.
///
/// # Errors
/// When the file system says no.
pub(super) fn place(
    before: Option<PathBuf>,
    memory: Option<&Path>,
    disk: PathBuf,
    bytes: u64,
) -> io::Result<PathBuf> {
    if let Some(before) = before {
        // Somebody may have cleaned up there.
        let pod = memory.filter(|pod| before.starts_with(pod));
        return pod.map_or(Ok(()), make).map(|()| before);
    }
    if let (Some(pod), Some(name)) = (memory, disk.file_name()) {
        let dir = pod.join(name);
        let room = make(pod).and_then(|()| Ok(has_room(&read_disk(pod)?, bytes)));
        let why = match room {
            Ok(true) => {
                remove_tree(&disk)?;
                return Ok(dir);
            }
            Ok(false) => {
                remove_tree(&dir)?;
                "there is no room".to_owned()
            }
            // What is there may be anybody's: nothing is touched.
            Err(error) => error.to_string(),
        };
        tracing::warn!(volume = %disk.display(), why, "a volume lies on the disk, not in memory");
    }
    if let Some(parent) = disk.parent() {
        fs::create_dir_all(parent)?;
    }
    make_own(&disk)?;
    Ok(disk)
}

/// Whether a file system has room for so much, and something left then.
fn has_room(disk: &Disk, bytes: u64) -> bool {
    files_room(disk) >= bytes.saturating_add(FILES_LEFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_for_what_is_replaced() {
        let disk = |capacity: u64, available: u64, inodes: u64, inodes_free: u64| Disk {
            capacity,
            available,
            inodes,
            inodes_free,
        };
        let (enough, names) = (FILES_LEFT + 4096, FILES_LEFT / 4096 + 1);
        for ((capacity, available), (inodes, inodes_free), has) in [
            ((1 << 30, enough), (1 << 20, names), true),
            ((1 << 30, enough - 1), (1 << 20, names), false),
            ((1 << 30, enough), (1 << 20, names - 1), false),
            ((FILES_LEFT, FILES_LEFT), (1 << 20, names), false),
            ((0, 0), (0, 0), true),
        ] {
            let disk = disk(capacity, available, inodes, inodes_free);
            assert_eq!(has_room(&disk, 4096), has, "{disk:?}");
        }
        assert!(!has_room(&disk(1 << 30, enough, 0, 0), u64::MAX));
    }
}
