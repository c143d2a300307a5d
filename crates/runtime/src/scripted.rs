//! A runtime that plays a script instead of running code, for simulations.
//!
//! Every argument after the first is one step; with `CAROB_SCRIPT` in the environment its steps,
//! separated by `;`, are played instead. Time is tokio's, so that a paused clock makes it
//! deterministic, and no file is read.
//!
//! | step | does |
//! |---|---|
//! | `print TEXT`, `eprint TEXT` | prints a line to standard output or error |
//! | `args`, `env` | prints the arguments, or the environment, a line each |
//! | `read` | copies standard input to standard output until its end |
//! | `sleep DURATION` | waits: `5ms`, `5s`, `5m`, `5h` |
//! | `allocate BYTES` | uses memory; beyond the limit it ends as out of memory |
//! | `write BYTES` | charges the workload's meter as if it had written a file, and waits as long as that does |
//! | `drain DURATION` | anywhere in a script: termination is handled, by waiting and exiting with 0 |
//! | `exit CODE`, `trap TEXT` | ends |
//! | `forever` | waits for its end |
//!
//! An empty script is `forever`; one that runs out of steps exits with 0.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::limits::Resources;
use crate::memory::{Memory, NodeMemory};
use crate::metrics::{Counters, count};
use crate::running::{Control, Main, Stop};
use crate::workload::Code;
use crate::{
    Compiled, Exit, Metrics, Module, ModuleSource, Output, PrepareError, Running, Runtime,
    StartError, Stdin, Workload,
};

/// The environment variable that overrides the arguments as the script.
pub const SCRIPT: &str = "CAROB_SCRIPT";

/// How many bytes the compiled code of each module is said to take.
pub const COMPILED: u64 = 1 << 20;

/// The runtime that plays scripts. Any module can be prepared, unless it was declared invalid.
#[derive(Clone, Debug, Default)]
pub struct Scripted {
    counters: Arc<Counters>,
    invalid: Arc<BTreeSet<String>>,
    /// What was prepared and not forgotten: as if each took [`COMPILED`] on a disk.
    compiled: Arc<Mutex<BTreeMap<String, Arc<str>>>>,
}

impl Scripted {
    /// A runtime that takes every module for valid, whatever its source holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// A runtime to which the modules with these digests are invalid.
    pub fn with_invalid(digests: impl IntoIterator<Item = String>) -> Self {
        Self {
            counters: Arc::default(),
            invalid: Arc::new(digests.into_iter().collect()),
            compiled: Arc::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Print(String),
    PrintError(String),
    Args,
    Env,
    Read,
    Sleep(Duration),
    Allocate(u64),
    Write(u64),
    Drain(Duration),
    Exit(i32),
    Trap(String),
    Forever,
}

fn parse(step: &str) -> Option<Step> {
    let (verb, rest) = step.trim().split_once(' ').unwrap_or((step.trim(), ""));
    let rest = rest.trim();
    Some(match verb {
        "print" => Step::Print(rest.to_owned()),
        "eprint" => Step::PrintError(rest.to_owned()),
        "args" => Step::Args,
        "env" => Step::Env,
        "read" => Step::Read,
        "sleep" => Step::Sleep(duration(rest)?),
        "allocate" => Step::Allocate(rest.parse().ok()?),
        "write" => Step::Write(rest.parse().ok()?),
        "drain" => Step::Drain(duration(rest)?),
        "exit" => Step::Exit(rest.parse().ok()?),
        "trap" => Step::Trap(rest.to_owned()),
        "forever" => Step::Forever,
        _ => return None,
    })
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let milliseconds = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(milliseconds)?))
}

fn script(workload: &Workload) -> Result<Vec<Step>, StartError> {
    let from_env = workload.env.iter().rfind(|(name, _)| name == SCRIPT);
    let texts: Vec<&str> = match from_env {
        Some((_, text)) => text
            .split(';')
            .filter(|step| !step.trim().is_empty())
            .collect(),
        None => workload.argv.iter().skip(1).map(String::as_str).collect(),
    };
    if texts.is_empty() {
        return Ok(vec![Step::Forever]);
    }
    let step = |text: &str| {
        parse(text).ok_or_else(|| StartError::Invalid(format!("{text:?} is no step of a script")))
    };
    texts.into_iter().map(step).collect()
}

#[async_trait]
impl Runtime for Scripted {
    async fn prepare(&self, source: ModuleSource) -> Result<Module, PrepareError> {
        if self.invalid.contains(&source.digest) {
            let why = format!("{} is declared invalid", source.digest);
            return Err(PrepareError::Invalid(why));
        }
        count(&self.counters.memory_cache_hits);
        let mut compiled = self.compiled.lock();
        let digest = compiled
            .entry(source.digest)
            .or_insert_with_key(|digest| digest.as_str().into());
        Ok(Module(Code::Scripted {
            digest: digest.clone(),
            handler: source.handler,
        }))
    }

    fn start(&self, mut workload: Workload) -> Result<Running, StartError> {
        let steps = script(&workload)?;
        let drain = steps.iter().find_map(|step| match step {
            Step::Drain(time) => Some(*time),
            _ => None,
        });
        count(&self.counters.starts);
        count(&self.counters.running);
        let counters = self.counters.clone();
        let mut main = workload.beside.as_ref().map(Running::as_main);
        let memory = match &main {
            Some(main) => main.resources.memory.clone(),
            None => Arc::new(Memory::new(
                workload.limits.memory,
                0,
                NodeMemory::endless(),
            )),
        };
        let resources = Resources {
            memory: memory.clone(),
            account: None,
        };
        let stop = Arc::new(Stop::default());
        let (sender, receiver) = watch::channel(None);
        let control = ScriptControl {
            stop: stop.clone(),
            handles_termination: drain.is_some(),
        };
        let span = workload.span.clone();
        // Held as long as the task lives, a handle would keep the other one alive.
        drop(workload.beside.take());
        let play = async move {
            let mut held = Held { memory, bytes: 0 };
            let exit = tokio::select! {
                biased;
                exit = stop.due(drain.is_some()) => exit,
                () = ended(main.as_mut()) => Exit::Killed,
                exit = drained(&stop, drain) => exit,
                exit = play(&workload, steps, &mut held) => exit,
            };
            // The outputs are closed before anybody learns of the end.
            drop((workload, held));
            counters.running.fetch_sub(1, Ordering::Relaxed);
            sender.send_replace(Some(exit));
        };
        tokio::spawn(play.instrument(span));
        Ok(Running::new(receiver, resources, Box::new(control)))
    }

    async fn compiled(&self) -> io::Result<Vec<Compiled>> {
        let compiled = self.compiled.lock();
        let kept = compiled.keys().map(|digest| Compiled {
            digest: digest.clone(),
            bytes: COMPILED,
        });
        Ok(kept.collect())
    }

    async fn forget(&self, digest: &str) -> io::Result<bool> {
        let mut compiled = self.compiled.lock();
        // A module, and a workload by its module, holds the digest.
        let is_held = |held: &Arc<str>| Arc::strong_count(held) > 1;
        if compiled.get(digest).is_some_and(is_held) {
            return Ok(false);
        }
        compiled.remove(digest);
        Ok(true)
    }

    fn metrics(&self) -> Metrics {
        self.counters.read()
    }
}

/// Plays what a script that handles termination does about it.
async fn drained(stop: &Stop, drain: Option<Duration>) -> Exit {
    let Some(drain) = drain else {
        return std::future::pending().await;
    };
    stop.begun().await;
    tokio::time::sleep(drain).await;
    Exit::Code(0)
}

async fn ended(main: Option<&mut Main>) {
    match main {
        Some(main) => main.ended().await,
        None => std::future::pending().await,
    }
}

/// The memory that one script has.
struct Held {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes);
    }
}

async fn play(workload: &Workload, steps: Vec<Step>, held: &mut Held) -> Exit {
    for step in steps {
        match step {
            Step::Print(text) => line(&*workload.stdout, text).await,
            Step::PrintError(text) => line(&*workload.stderr, text).await,
            Step::Args => {
                for argument in &workload.argv {
                    line(&*workload.stdout, argument.clone()).await;
                }
            }
            Step::Env => {
                for (name, value) in &workload.env {
                    line(&*workload.stdout, format!("{name}={value}")).await;
                }
            }
            Step::Read => copy(workload).await,
            Step::Sleep(time) => tokio::time::sleep(time).await,
            Step::Allocate(bytes) => {
                if held.memory.grow(bytes).is_err() {
                    return Exit::OutOfMemory;
                }
                held.bytes += bytes;
            }
            Step::Write(bytes) => {
                if let Some(meter) = &workload.meter {
                    drop(meter.charge(bytes).await);
                }
            }
            Step::Drain(_) => {}
            Step::Exit(code) => return Exit::Code(code),
            Step::Trap(backtrace) => return Exit::Trap { backtrace },
            Step::Forever => std::future::pending().await,
        }
    }
    Exit::Code(0)
}

/// Prints a line. Like a real program that ignores `EPIPE`, it goes on when nobody reads.
async fn line(output: &dyn Output, mut text: String) {
    text.push('\n');
    write(output, text.into()).await;
}

async fn write(output: &dyn Output, mut chunk: Bytes) {
    while !chunk.is_empty() && poll_fn(|cx| output.poll_ready(cx)).await.is_ok() {
        let part = chunk.split_to(chunk.len().min(64 << 10));
        let _ = output.write(part);
    }
}

async fn copy(workload: &Workload) {
    if let Stdin::Pipe(reader) = &workload.stdin {
        while let Ok(Some(chunk)) = reader.read(64 << 10).await
            && !chunk.is_empty()
        {
            write(&*workload.stdout, chunk).await;
        }
    }
}

struct ScriptControl {
    stop: Arc<Stop>,
    handles_termination: bool,
}

impl Control for ScriptControl {
    fn handles_termination(&self) -> bool {
        self.handles_termination
    }

    fn terminate(&self, grace: Duration) {
        self.stop.terminate(Instant::now(), grace);
    }

    fn kill(&self) {
        self.stop.kill();
    }

    fn resized(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_or_named() {
        assert_eq!(
            parse("sleep 5ms"),
            Some(Step::Sleep(Duration::from_millis(5)))
        );
        assert_eq!(parse("print a  b"), Some(Step::Print("a  b".into())));
        for wrong in [
            "sleep",
            "sleep 5",
            "sleep 5d",
            "exit x",
            "fly",
            "",
            "allocate -1",
            "write",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse("sleep 99999999999999999999h"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_tokios() {
        let runtime = Scripted::new();
        let source = ModuleSource {
            path: "/nowhere".into(),
            digest: "sha256:0".into(),
            keep: true,
            handler: crate::Handler::default(),
        };
        let mut workload = Workload::new(runtime.prepare(source).await.unwrap());
        workload.env = vec![(SCRIPT.into(), "sleep 24h; exit 5".into())];
        let begun = Instant::now();
        let running = runtime.start(workload).unwrap();
        assert_eq!(running.wait().await, Exit::Code(5));
        assert_eq!(begun.elapsed(), Duration::from_secs(24 * 3600));
        assert_eq!(runtime.metrics().running, 0);
    }
}
