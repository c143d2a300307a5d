//! What this machine is, read once at the agent's start.

use std::fs;
use std::path::Path;

/// A machine's size and names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    /// Bytes.
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
            memory: memory(&text("/proc/meminfo")),
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
}

/// The host's architecture, as Go and Kubernetes call it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0) * 1024
}

fn os_image(release: &str) -> String {
    let name = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |n| n.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_read() {
        assert_eq!(memory("MemTotal:       16384 kB\nMemFree: 1 kB"), 16 << 20);
        assert_eq!(memory("nonsense"), 0);
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n"),
            "Debian GNU/Linux 13"
        );
    }
}
