//! What this machine is, read once at the agent's start.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use runtime::MemoryLeft;

use super::Process;
use crate::eviction::{EvictionHard, memory_capacity, read_memory};

/// A machine's size and names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    /// Bytes, as far as control groups leave them to this process.
    pub(crate) memory: u64,
    /// Bytes of the file system that the agent's data lie on.
    pub(crate) storage: u64,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) machine_id: String,
    pub(crate) boot_id: String,
}

impl Machine {
    /// Looks at the machine; what cannot be read stays empty.
    pub(crate) fn read(data_dir: &Path) -> Self {
        let text = |path: &str| {
            fs::read_to_string(path)
                .map(|t| t.trim().to_owned())
                .unwrap_or_default()
        };
        let storage =
            rustix::fs::statvfs(data_dir).map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: memory_capacity().unwrap_or(0),
            storage,
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: os_image(&text("/etc/os-release")),
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
        }
    }
}

impl Machine {
    /// Its size as containers' limits are counted.
    pub(crate) fn amounts(&self) -> crate::resources::Amounts {
        let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        crate::resources::Amounts {
            milli_cpu: i64::try_from(self.cores).unwrap_or(i64::MAX / 1000) * 1000,
            memory: bytes(self.memory),
            ephemeral: bytes(self.storage),
        }
    }

    /// What of it pods may have: all but what stays free.
    pub(crate) fn allocatable(&self, hard: &EvictionHard) -> crate::resources::Amounts {
        let all = self.amounts();
        let kept = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        crate::resources::Amounts {
            memory: (all.memory - kept(hard.memory.of(self.memory))).max(0),
            ephemeral: (all.ephemeral - kept(hard.nodefs.of(self.storage))).max(0),
            ..all
        }
    }
}

/// Bytes of memory that pods may have here, as the node's status tells: all but what stays free. `None` where the system
/// does not say what there is.
pub fn memory_of_pods(hard: &EvictionHard) -> Option<u64> {
    let all = memory_capacity().ok()?;
    Some(all.saturating_sub(hard.memory.of(all)))
}

/// Says how many bytes of memory pods may have besides those that they have: what is available above the threshold, less what
/// they have not touched yet, for that is still available. As much of it as the agent has itself is overlooked, and so is
/// all that pods of other agents have not touched.
pub fn memory_left(hard: EvictionHard) -> MemoryLeft {
    Arc::new(move |held| {
        // Before the other: what is touched meanwhile must not be neither.
        let untouched = held.saturating_sub(Process::touched()?);
        let free = hard.free_memory(&read_memory().ok()?);
        Some(free.saturating_sub(untouched))
    })
}

/// The host's architecture, as Go and Kubernetes call it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os_image(release: &str) -> String {
    let name = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |n| n.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_free_is_nobodys() {
        let machine = Machine {
            memory: 1 << 30,
            storage: 100 << 30,
            ..Machine::default()
        };
        let hard = "memory.available<24Mi,nodefs.available<10%";
        let left = machine.allocatable(&hard.parse().unwrap());
        assert_eq!(left.memory, 1000 << 20);
        assert_eq!(left.ephemeral, 90 << 30);
        let most = "memory.available<2Gi".parse().unwrap();
        assert_eq!(machine.allocatable(&most).memory, 0);
    }

    #[test]
    fn memory_that_is_not_touched_is_not_left() {
        let left = memory_left("memory.available<1Mi".parse().unwrap());
        // Whatever the tests beside this one take and give back.
        let much = read_memory().unwrap().capacity;
        assert_eq!(left(2 * much), Some(0));
        let all = left(0).unwrap();
        assert!(0 < all && all < much, "{all}");
        let most = memory_left("memory.available<1Ei".parse().unwrap());
        assert_eq!(most(0), Some(0));
    }

    #[test]
    fn files_of_the_system_are_read() {
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n"),
            "Debian GNU/Linux 13"
        );
    }
}
