//! Volumes in the node's memory: a directory a pod, in a file system that other programs use, too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfs;

use crate::eviction::make_own;
use crate::remove::remove_tree;

/// What has to be left, in bytes, when a volume is made: files are replaced by new ones while the old ones are shown.
const LEFT: u64 = 16 << 20;
/// The same, in files, directories and links.
const LEFT_INODES: u64 = 4096;

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
        let room = make(pod).and_then(|()| Ok(has_room(&rustix::fs::statvfs(pod)?, bytes)));
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

/// Whether a file system has room for so much, and something left then. One without a size has its end elsewhere.
fn has_room(stat: &StatVfs, bytes: u64) -> bool {
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let has_bytes = stat.f_blocks == 0 || free >= bytes.saturating_add(LEFT);
    has_bytes && (stat.f_files == 0 || stat.f_favail >= LEFT_INODES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_for_what_is_replaced() {
        let stat = |blocks: u64, free: u64, files: u64, free_files: u64| StatVfs {
            f_frsize: 4096,
            f_blocks: blocks,
            f_bavail: free,
            f_files: files,
            f_favail: free_files,
            ..rustix::fs::statvfs("/").unwrap()
        };
        let left = LEFT / 4096;
        for ((blocks, free), (files, free_files), has) in [
            ((1 << 20, left + 1), (1 << 20, LEFT_INODES), true),
            ((1 << 20, left), (1 << 20, LEFT_INODES), false),
            ((1 << 20, left + 1), (1 << 20, LEFT_INODES - 1), false),
            ((left / 2, left / 2), (1 << 20, LEFT_INODES), false),
            ((0, 0), (0, 0), true),
        ] {
            let room = has_room(&stat(blocks, free, files, free_files), 4096);
            assert_eq!(room, has, "{blocks} {free} {files} {free_files}");
        }
        assert!(!has_room(&stat(1 << 20, left, 0, 0), u64::MAX));
    }
}
