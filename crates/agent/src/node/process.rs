//! What the agent's own process uses, guests included: all that of the machine is surely this node's.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

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
        let memory = fs::read_to_string("/proc/self/status").map_or(0, |status| resident(&status));
        Self {
            cpu: Duration::try_from(cpu).unwrap_or_default(),
            memory,
        }
    }
}

fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_read() {
        assert_eq!(
            resident("Name:\tcarob\nVmRSS:\t   16384 kB\nThreads:\t7\n"),
            16 << 20
        );
        assert_eq!(resident("VmRSS: much"), 0);
        let now = Process::read();
        assert!(!now.cpu.is_zero() && now.memory > 0, "{now:?}");
    }
}
