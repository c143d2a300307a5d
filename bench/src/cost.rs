//! What processes cost: memory and time on processors, as the kernel counts them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Process;

/// Memory of some processes, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident pages, those shared between processes divided among them. What the processes
    /// together really take.
    pub pss: u64,
    /// Resident pages, shared ones counted in every process.
    pub rss: u64,
    /// Resident pages that no file backs: heaps, stacks.
    pub anonymous: u64,
}

impl std::iter::Sum for Memory {
    fn sum<I: Iterator<Item = Memory>>(all: I) -> Memory {
        all.fold(Memory::default(), |sum, one| Memory {
            pss: sum.pss + one.pss,
            rss: sum.rss + one.rss,
            anonymous: sum.anonymous + one.anonymous,
        })
    }
}

/// What these processes hold now.
pub fn memory(processes: &[Process]) -> Result<Memory> {
    processes.iter().map(|process| memory_of(process.pid)).sum()
}

fn memory_of(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|rest| rest.trim().strip_suffix("kB"));
        let number = kibibytes.and_then(|number| number.trim().parse::<u64>().ok());
        number
            .map(|number| number << 10)
            .with_context(|| format!("{path} has no {name}"))
    };
    Ok(Memory {
        pss: field("Pss:")?,
        rss: field("Rss:")?,
        anonymous: field("Anonymous:")?,
    })
}

/// What a process holds of what can run out, besides memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Holdings {
    /// Open files, sockets and the like.
    pub descriptors: usize,
    /// Its threads.
    pub threads: usize,
}

/// What this process holds now.
pub fn holdings(process: &Process) -> Result<Holdings> {
    let count = |what: &str| {
        let path = format!("/proc/{}/{what}", process.pid);
        let entries = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
        anyhow::Ok(entries.count())
    };
    Ok(Holdings {
        descriptors: count("fd")?,
        threads: count("task")?,
    })
}

/// The time that these processes have spent on processors, in seconds. It is counted in ticks of,
/// mostly, 10 ms.
pub fn cpu_seconds(processes: &[Process]) -> Result<f64> {
    let ticks = processes.iter().map(|process| ticks_of(process.pid));
    let sum = ticks.sum::<Result<u64>>()?;
    Ok(sum as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// For how long a process lives. It is counted in ticks of, mostly, 10 ms.
pub fn age(process: &Process) -> Result<Duration> {
    let [started] = stat(process.pid, 19)?;
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let up = Duration::try_from(up).context("the system's clock is before its start")?;
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Ok(up.saturating_sub(Duration::from_secs_f64(started as f64 / per_second)))
}

/// User and system time, the 14th and 15th fields of `stat`.
fn ticks_of(pid: u32) -> Result<u64> {
    let [user, system] = stat(pid, 11)?;
    Ok(user + system)
}

/// Numbers of a process's `stat`, from the one on that so many fields after the name come before.
fn stat<const COUNT: usize>(pid: u32, skipped: usize) -> Result<[u64; COUNT]> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field is the program's name in parentheses, which may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = fields.split_whitespace().skip(skipped).take(COUNT);
    let numbers: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    let numbers = numbers.try_into().ok();
    numbers.with_context(|| format!("{path}: no such numbers in {text:?}"))
}

/// Lets this process hold as many open files as it may, and so as many connections.
pub fn raise_open_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).context("the bound on open files")
}
