//! The runtime that runs real modules, on wasmtime.

mod cache;
mod classify;
mod engine;
mod engines;
mod guard;
mod guest;
mod http;
mod lifecycle;
mod link;
mod mounts;
mod permit;
mod preview1;
mod room;
mod sockets;
mod start;
mod stdio;
mod world;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;

pub(crate) use link::Loaded;

use crate::gate::Gate;
use crate::memory::{MemoryLeft, NodeMemory};
use crate::metrics::Counters;
use crate::workload::Code as AnyCode;
use crate::{
    Compiled, Metrics, Module, ModuleSource, PrepareError, Running, Runtime, StartError, Workload,
};
use cache::Cache;
use engines::Engines;
use guard::budget::Budget;
use guard::late::Blanks;
use link::Code;
use start::{Program, Start};
use world::Node;

/// How a [`Wasm`] runtime is set up.
#[derive(Clone)]
pub struct Config {
    /// Where compiled modules are kept: a directory of this user alone (mode 0700), made if it
    /// does not exist. One process at a time may use it.
    pub cache_dir: PathBuf,
    /// Threads that run guests: the number of cores, usually.
    pub threads: usize,
    /// Guests that may live at a time; fewer where the system's `vm.max_map_count` demands it.
    pub instances: u32,
    /// Bytes of linear memory and tables that guests may have together: beyond them who has more than its
    /// [request](crate::Limits::memory_request) ends with [`Exit::OutOfMemory`](crate::Exit::OutOfMemory). `None` for no bound.
    pub memory: Option<u64>,
    /// What is left of the machine's memory for all guests, which bounds them in the same way: each look grants half of it, to
    /// who wants more than that at once all.
    pub memory_left: MemoryLeft,
    /// Files and directories that guests may have open together; `None` for three quarters of what the process may.
    pub open_files: Option<usize>,
    /// Guests of [`Handler::Dense`](crate::Handler::Dense) that may live besides; fewer where the others leave less of that.
    /// What they need is set aside with the first.
    pub dense_instances: u32,
    /// Authorities that guests' HTTPS requests trust beside those that browsers do: the cluster's own.
    pub roots: Vec<CertificateDer<'static>>,
}

impl Config {
    /// A thread for each core and room for 16,000 guests, and for 50,000 dense ones.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            instances: 16_000,
            memory: None,
            memory_left: Arc::new(|_| None),
            open_files: None,
            dense_instances: 50_000,
            roots: Vec::new(),
        }
    }
}

/// Why the runtime could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The engine does not run on this machine, or its pool could not be mapped.
    #[error("setting up wasmtime: {0:#}")]
    Engine(wasmtime::Error),
    /// One of the authorities' certificates is none.
    #[error("setting up TLS: {0}")]
    Roots(#[from] rustls::Error),
    /// The cache's directory, or a thread, could not be had.
    #[error("setting up the runtime: {0}")]
    Io(#[from] std::io::Error),
}

/// The runtime that runs real modules. It ends all its guests when it is dropped.
pub struct Wasm {
    cache: Arc<Cache>,
    counters: Arc<Counters>,
    engines: Arc<Engines>,
    node: Node,
    memory: Arc<NodeMemory>,
    tls: Arc<rustls::ClientConfig>,
    gate: Gate,
    io: tokio::runtime::Handle,
    /// Kept until the gate's threads are gone.
    _io: Background,
    _modules: Background,
}

/// What goes on behind, on threads that serve nothing else.
struct Background(Option<tokio::runtime::Runtime>);

impl Background {
    fn start(name: &str) -> std::io::Result<(Self, tokio::runtime::Handle)> {
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .max_blocking_threads(64)
            .enable_all()
            .build()?;
        let handle = io.handle().clone();
        Ok((Self(Some(io)), handle))
    }
}

impl Drop for Background {
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
        let tls = crate::tls::trusting_authorities(&config.roots)?;
        let engines = Engines::new(config.instances, config.dense_instances);
        let engines = Arc::new(engines.map_err(SetupError::Engine)?);
        let places = engines.places();
        // Guests' timers, and what they wait for by preview 1's `poll_oneoff`.
        let (io, handle) = Background::start("carob-guest-io")?;
        // Whatever guests wait for, modules are loaded.
        let (modules, loading) = Background::start("carob-modules")?;
        let counters = Arc::new(Counters::default());
        let cache = Cache::open(
            &config.cache_dir,
            engines.clone(),
            loading,
            counters.clone(),
        )?;
        let ticked = engines.clone();
        let tick = move || ticked.tick();
        let gate = Gate::start(config.threads, handle.clone(), tick)?;
        let open_files = match config.open_files {
            Some(most) => Budget::new(most, places),
            None => Budget::of_files(places),
        };
        Ok(Self {
            cache: Arc::new(cache),
            counters,
            engines,
            node: Node {
                blanks: Blanks::new(config.cache_dir.clone(), open_files.clone()),
                directory: config.cache_dir,
                open_files,
            },
            memory: NodeMemory::new(config.memory, config.memory_left),
            tls,
            gate,
            io: handle,
            _io: io,
            _modules: modules,
        })
    }

    /// How many guests of the default handler may live at a time.
    pub fn capacity(&self) -> u32 {
        self.engines.room().capacity()
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
        let _entered = workload.span.clone().entered();
        let start = Start::of(self, &module, &workload);
        match module.code() {
            Code::Core(core) => start.process(self, Program::Core(core), workload),
            Code::Component(command) => start.process(self, Program::Component(command), workload),
            Code::Server(server) => start.server(self, server, workload),
        }
    }

    async fn compiled(&self) -> std::io::Result<Vec<Compiled>> {
        self.cache.compiled().await
    }

    async fn forget(&self, digest: &str) -> std::io::Result<bool> {
        self.cache.forget(digest).await
    }

    fn metrics(&self) -> Metrics {
        self.counters.read()
    }
}
