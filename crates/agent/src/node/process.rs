//! What the agent's own process uses, guests included: all that of the machine is surely this node's.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What all processes are told of themselves.
const STATUS: &str = "/proc/self/status";

/// The process, looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// CPU time since it began.
    pub(crate) cpu: Duration,
    /// Resident bytes.
    pub(crate) memory: u64,
}

impl Process {
    /// Looks at it; what cannot be read is nothing.
    pub(crate) fn read() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let memory = fs::read_to_string(STATUS).ok();
        let memory = memory.and_then(|status| bytes(&status, "VmRSS:"));
        Self {
            cpu: Duration::try_from(cpu).unwrap_or_default(),
            memory: memory.unwrap_or(0),
        }
    }

    /// What it has in memory that nobody else has and no file: all that guests have touched of theirs, and the agent's own.
    pub(crate) fn touched() -> Option<u64> {
        bytes(&fs::read_to_string(STATUS).ok()?, "RssAnon:")
    }
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_read() {
        let status = "Name:\tcarob\nVmRSS:\t   16384 kB\nThreads:\t7\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(16 << 20));
        assert_eq!(bytes(status, "RssAnon:"), None);
        assert_eq!(bytes("VmRSS: much", "VmRSS:"), None);
        assert!(Process::touched().unwrap() > 0);
        let now = Process::read();
        assert!(!now.cpu.is_zero() && now.memory > 0, "{now:?}");
    }
}
