//! The runtime that runs real modules, on wasmtime.

mod cache;
mod classify;
mod engine;
mod guest;
mod lifecycle;
mod link;
mod mounts;
mod sockets;
mod stdio;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;
use wasmtime_wasi::WasiCtxBuilder;

pub(crate) use link::Loaded;

use crate::gate::{Gate, Task};
use crate::metrics::{Counters, count};
use crate::running::{Control, Stop};
use crate::workload::Code as AnyCode;
use crate::{
    Exit, Metrics, Module, ModuleSource, PrepareError, Running, Runtime, StartError, Stdin, Usage,
    Workload,
};
use cache::Cache;
use guest::Limits;
use link::{Code, Linkers};
use sockets::Sockets;

/// How a [`Wasm`] runtime is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where compiled modules are kept: a directory of this user alone (mode 0700), made if it
    /// does not exist. One process at a time may use it.
    pub cache_dir: PathBuf,
    /// Threads that run guests: the number of cores, usually.
    pub threads: usize,
    /// Guests that may live at a time; fewer where the system's `vm.max_map_count` demands it.
    pub instances: u32,
}

impl Config {
    /// A thread for each core and room for 16,000 guests.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            instances: 16_000,
        }
    }
}

/// Why the runtime could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The engine does not run on this machine, or its pool could not be mapped.
    #[error("setting up wasmtime: {0:#}")]
    Engine(wasmtime::Error),
    /// The cache's directory, or a thread, could not be had.
    #[error("setting up the runtime: {0}")]
    Io(#[from] std::io::Error),
}

/// The runtime that runs real modules. It ends all its guests when it is dropped.
pub struct Wasm {
    cache: Arc<Cache>,
    counters: Arc<Counters>,
    capacity: u32,
    gate: Gate,
    /// Kept until the gate's threads are gone.
    _io: GuestIo,
}

/// Guests' timers and blocking calls, on threads that serve nobody else.
struct GuestIo(Option<tokio::runtime::Runtime>);

impl GuestIo {
    fn start() -> std::io::Result<(Self, tokio::runtime::Handle)> {
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("carob-guest-io")
            .max_blocking_threads(64)
            .enable_all()
            .build()?;
        let handle = io.handle().clone();
        Ok((Self(Some(io)), handle))
    }
}

impl Drop for GuestIo {
    fn drop(&mut self) {
        if let Some(io) = self.0.take() {
            // Not by dropping it: that waits, which is forbidden inside an async task.
            io.shutdown_background();
        }
    }
}

impl Wasm {
    /// Sets up the engine and its threads.
    ///
    /// # Errors
    /// When this machine cannot run guests or the cache's directory is not ours alone.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        let capacity = engine::capacity(config.instances);
        let engine = engine::engine(capacity).map_err(SetupError::Engine)?;
        let (io, handle) = GuestIo::start()?;
        let counters = Arc::new(Counters::default());
        let linkers = Linkers::new(&engine).map_err(SetupError::Engine)?;
        let cache = Cache::open(
            &config.cache_dir,
            &engine,
            linkers,
            handle.clone(),
            counters.clone(),
        )?;
        let ticked = engine.clone();
        let tick = move || ticked.increment_epoch();
        let gate = Gate::start(config.threads, handle, tick)?;
        Ok(Self {
            cache: Arc::new(cache),
            counters,
            capacity,
            gate,
            _io: io,
        })
    }

    /// How many guests may live at a time.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

#[async_trait]
impl Runtime for Wasm {
    async fn prepare(&self, source: ModuleSource) -> Result<Module, PrepareError> {
        let loaded = self.cache.get(source).await?;
        Ok(Module(AnyCode::Wasm(loaded)))
    }

    fn start(&self, workload: Workload) -> Result<Running, StartError> {
        let AnyCode::Wasm(module) = workload.module.0.clone() else {
            let why = "a module that another runtime prepared".into();
            return Err(StartError::Invalid(why));
        };
        validate(&workload)?;
        let place = Place::take(&self.counters, self.capacity)?;
        let span = workload.span.clone();
        let _entered = span.enter();
        let (weight, quota) = (workload.cpu_weight, workload.cpu_quota);
        let memory = Arc::new(AtomicU64::new(0));
        let limits = Limits::new(workload.memory_limit, memory.clone());
        let sockets = Sockets {
            net: workload.net.clone(),
            names: workload.names.clone(),
        };
        let wasi = wasi(workload)?;
        let stop = Arc::new(Stop::default());
        let (sender, receiver) = watch::channel(None);
        let control = GuestControl {
            stop: stop.clone(),
            drains: module.drains(),
            memory: memory.clone(),
            task: std::sync::OnceLock::new(),
        };
        let drains = module.drains();
        let work = async move {
            tracing::info!(digest = module.digest(), "guest starts");
            let exit = tokio::select! {
                biased;
                exit = stop.due(drains) => exit,
                exit = run(&module, wasi, limits, stop.clone(), sockets) => exit,
            };
            tracing::info!(code = exit.code(), "guest ended");
            tracing::debug!(?exit);
            memory.store(0, Ordering::Relaxed);
            drop(place);
            sender.send_replace(Some(exit));
        };
        count(&self.counters.starts);
        let task = self
            .gate
            .spawn(weight, quota, work.instrument(span.clone()));
        // The cell is new: nobody else has set it.
        let _ = control.task.set(task);
        Ok(Running::new(receiver, Box::new(control)))
    }

    fn metrics(&self) -> Metrics {
        self.counters.read()
    }
}

/// Runs a module until it ends by itself.
async fn run(
    module: &Loaded,
    wasi: WasiCtxBuilder,
    limits: Limits,
    stop: Arc<Stop>,
    sockets: Sockets,
) -> Exit {
    match module.code() {
        Code::Core(core) => Box::pin(guest::run_core(core, wasi, limits)).await,
        Code::Component(command) => {
            Box::pin(guest::run_component(command, wasi, limits, stop, sockets)).await
        }
    }
}

fn validate(workload: &Workload) -> Result<(), StartError> {
    let invalid = |why: &str| Err(StartError::Invalid(why.into()));
    if workload.argv.iter().any(|argument| argument.contains('\0')) {
        return invalid("an argument contains a NUL");
    }
    let wrong = |(name, value): &(String, String)| {
        name.is_empty() || name.contains(['\0', '=']) || value.contains('\0')
    };
    if let Some((name, _)) = workload.env.iter().find(|pair| wrong(pair)) {
        return invalid(&format!(
            "environment variable {name:?}: not a name and a value"
        ));
    }
    if workload
        .cpu_quota
        .is_some_and(|quota| quota.is_nan() || quota <= 0.0)
    {
        return invalid("a CPU quota is more than 0");
    }
    Ok(())
}

/// The guest's view of the world, as its workload gives it.
fn wasi(workload: Workload) -> Result<WasiCtxBuilder, StartError> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(&workload.argv)
        .envs(&workload.env)
        .stdout(stdio::Sink(workload.stdout.into()))
        .stderr(stdio::Sink(workload.stderr.into()))
        .allow_tcp(false)
        .allow_udp(false);
    if let Stdin::Pipe(reader) = workload.stdin {
        wasi.stdin(stdio::Source(Arc::new(reader)));
    }
    if workload.working_dir != "/" && workload.env.iter().all(|(name, _)| name != "PWD") {
        // Guests without a working directory of their own (Go's, for one) start from this.
        wasi.env("PWD", &workload.working_dir);
    }
    mounts::preopen(&mut wasi, &workload.mounts, &workload.working_dir)?;
    Ok(wasi)
}

/// A place among the guests that may live at a time.
struct Place(Arc<Counters>);

impl Place {
    fn take(counters: &Arc<Counters>, capacity: u32) -> Result<Self, StartError> {
        let more = |running: u64| (running < u64::from(capacity)).then_some(running + 1);
        let running = &counters.running;
        match running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self(counters.clone())),
            Err(running) => Err(StartError::Exhausted(format!(
                "{running} modules run here, and this node has room for no more \
                 (vm.max_map_count bounds it)"
            ))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

struct GuestControl {
    stop: Arc<Stop>,
    drains: bool,
    memory: Arc<AtomicU64>,
    task: std::sync::OnceLock<Arc<Task>>,
}

impl GuestControl {
    fn expedite(&self) {
        if let Some(task) = self.task.get() {
            task.expedite();
        }
    }
}

impl Control for GuestControl {
    fn handles_termination(&self) -> bool {
        self.drains
    }

    fn terminate(&self, grace: Duration) {
        self.stop.terminate(Instant::now(), grace);
        if !self.drains {
            self.expedite();
        }
    }

    fn kill(&self) {
        self.stop.kill();
        self.expedite();
    }

    fn usage(&self) -> Usage {
        Usage {
            cpu: self.task.get().map_or(Duration::ZERO, |task| task.used()),
            memory: self.memory.load(Ordering::Relaxed),
        }
    }
}
