//! What is left of the machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blocking::blocking;
use crate::garbage::{Disk, ReadDisk};

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// The memory that an agent and its guests live in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that there are.
    pub capacity: u64,
    /// Bytes that can be had without taking them from anybody.
    pub available: u64,
}

/// Says how much memory there is.
pub type ReadMemory = Arc<dyn Fn() -> io::Result<Memory> + Send + Sync>;

/// What is left of everything; what could not be read is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    pub(crate) memory: Option<Memory>,
    pub(crate) disk: Option<Disk>,
    /// Where files lie in memory.
    pub(crate) files: Option<Disk>,
}

/// Where the signals come from.
#[derive(Clone)]
pub(crate) struct Sources {
    /// A directory on the node's disk.
    pub(crate) dir: PathBuf,
    pub(crate) disk: ReadDisk,
    pub(crate) memory: ReadMemory,
    /// A directory in memory, if there is one for files.
    pub(crate) shared: Option<PathBuf>,
}

impl Sources {
    /// Reads them all.
    pub(crate) async fn look(&self) -> Signals {
        let (dir, disk, memory) = (self.dir.clone(), self.disk.clone(), self.memory.clone());
        let shared = self.shared.clone();
        let read = move || Ok((memory(), disk(&dir), shared.map(|dir| disk(&dir))));
        let (memory, disk, files) = match blocking(read).await {
            Ok(read) => read,
            Err(error) => (Err(io::Error::other(error.to_string())), Err(error), None),
        };
        Signals {
            memory: read_or_warn(memory, "the machine does not say how much memory is left"),
            disk: read_or_warn(disk, UNREADABLE_DISK),
            files: files.and_then(|files| read_or_warn(files, UNREADABLE_FILES)),
        }
    }

    /// Reads how much room there is on the disk, if it says so.
    pub(crate) async fn disk(&self) -> Option<Disk> {
        let (dir, disk) = (self.dir.clone(), self.disk.clone());
        read_or_warn(blocking(move || disk(&dir)).await, UNREADABLE_DISK)
    }
}

const UNREADABLE_FILES: &str = "nobody says how much room is left for files in memory";
const UNREADABLE_DISK: &str = "the disk does not say how full it is";

fn read_or_warn<T>(read: io::Result<T>, what: &str) -> Option<T> {
    read.inspect_err(|error| tracing::warn!(%error, "{what}"))
        .ok()
}

/// Asks the machine how much memory is left, and the control groups around this process how much they leave of it.
///
/// # Errors
/// When the machine does not say.
pub fn read_memory() -> io::Result<Memory> {
    let least = levels()?.into_iter().min_by_key(|m| m.available);
    least.ok_or_else(|| io::Error::other("no memory at all"))
}

/// How much memory this process may have, with all others in its control groups.
pub(crate) fn memory_capacity() -> io::Result<u64> {
    let least = levels()?.into_iter().map(|m| m.capacity).min();
    Ok(least.unwrap_or(0))
}

/// The machine, and the groups around this process that have a limit.
fn levels() -> io::Result<Vec<Memory>> {
    let machine = of_machine(&fs::read_to_string("/proc/meminfo")?)
        .ok_or_else(|| io::Error::other("/proc/meminfo is not understood"))?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = own_groups(&groups, Path::new(GROUPS));
    let around = groups.iter().flat_map(|group| group.ancestors());
    let within = around.filter(|dir| dir.starts_with(GROUPS));
    Ok(within.filter_map(of_group).chain([machine]).collect())
}

fn of_machine(meminfo: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Memory {
        capacity: bytes("MemTotal:")?,
        available: bytes("MemAvailable:")?,
    })
}

/// The directories of the process' own group: in the unified hierarchy, and in the older one of memory.
fn own_groups(groups: &str, root: &Path) -> Vec<PathBuf> {
    let of = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(":/")?;
        let root = match controllers {
            "" => root.to_owned(),
            "memory" => root.join("memory"),
            _ => return None,
        };
        let is_below = !path.split('/').any(|part| part == "..");
        is_below.then(|| root.join(path))
    };
    groups.lines().filter_map(of).collect()
}

/// What a group leaves, if it has a limit. What it has cached of files can be had, as in the machine's own figure; the kubelet
/// counts what was used lately as taken.
fn of_group(dir: &Path) -> Option<Memory> {
    let read = |file: &str| fs::read_to_string(dir.join(file)).ok();
    let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
    let either = |file: &str, older: &str| number(file).or_else(|| number(older));
    let capacity = either("memory.max", "memory.limit_in_bytes")?;
    let used = either("memory.current", "memory.usage_in_bytes")?;
    let stat = read("memory.stat").unwrap_or_default();
    let bytes = |name: &str| {
        let line = stat.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    // The older hierarchy says them of all groups below, too, in other words.
    let cached = |name: &str| bytes(name).max(bytes(&format!("total_{name}")));
    let files = cached("inactive_file ").saturating_add(cached("active_file "));
    let working = used.saturating_sub(files.saturating_add(bytes("slab_reclaimable ")));
    Some(Memory {
        capacity,
        available: capacity.saturating_sub(working),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_read() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    8192 kB\n";
        let memory = Memory {
            capacity: 16 << 20,
            available: 8 << 20,
        };
        assert_eq!(of_machine(text), Some(memory));
        assert_eq!(of_machine("nonsense"), None);
        assert!(read_memory().unwrap().available > 0);
    }

    #[test]
    fn groups_leave_what_their_limits_say() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let of = |groups: &str| own_groups(groups, root);
        assert_eq!(of("0::/\n"), [root.to_owned()]);
        let group = root.join("a/b");
        assert_eq!(
            of("1:name=systemd:/x\n0::/a/b\n"),
            std::slice::from_ref(&group)
        );
        assert!(of("0::/../x\n5:memory:/../y").is_empty());
        let older = root.join("memory/x");
        assert_eq!(
            of("3:cpu,cpuacct:/x\n4:memory:/x\n"),
            std::slice::from_ref(&older)
        );
        fs::create_dir_all(&older).unwrap();
        fs::write(older.join("memory.limit_in_bytes"), "100\n").unwrap();
        fs::write(older.join("memory.usage_in_bytes"), "70\n").unwrap();
        let stat = "inactive_file 1\ntotal_inactive_file 7\ntotal_active_file 3\n";
        fs::write(older.join("memory.stat"), stat).unwrap();
        let memory = Memory {
            capacity: 100,
            available: 40,
        };
        assert_eq!(of_group(&older), Some(memory));
        fs::create_dir_all(&group).unwrap();
        assert_eq!(of_group(&group), None);
        fs::write(group.join("memory.max"), "max\n").unwrap();
        fs::write(group.join("memory.current"), "700\n").unwrap();
        assert_eq!(of_group(&group), None);
        fs::write(group.join("memory.max"), "1000\n").unwrap();
        fs::write(
            group.join("memory.stat"),
            "anon 1\ninactive_file 100\nactive_file 50\nslab_reclaimable 50\n",
        )
        .unwrap();
        let memory = Memory {
            capacity: 1000,
            available: 500,
        };
        assert_eq!(of_group(&group), Some(memory));
    }
}
