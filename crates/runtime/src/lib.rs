//! Runs one WebAssembly workload as if it were a process.
//!
//! The crate knows nothing of pods or clusters: a [`Workload`] is a module with arguments, an
//! environment, mounts, outputs and limits; a [`Running`] is waited for, terminated or killed; an
//! [`Exit`] says how it ended. [`Wasm`] runs real modules; [`Scripted`] plays a script on tokio's
//! clock and is what simulations use; [`conformance`] holds both to the same contract.
//!
//! A capability of the guests passes through three phases: once a process (the engine: compiler,
//! pool, guest threads), once a module ([`Runtime::prepare`]: compiled or taken from the cache,
//! imports resolved), once a start ([`Runtime::start`]: arguments, mounts, limits).

pub mod conformance;
pub mod files;
mod gate;
mod handler;
mod limits;
mod memory;
pub mod meter;
mod metrics;
pub mod output;
mod quota;
mod running;
pub mod scripted;
mod streams;
pub mod tls;
mod wasm;
mod workload;

use async_trait::async_trait;

pub use handler::Handler;
pub use limits::{Limits, ResizeError};
pub use memory::MemoryLeft;
pub use meter::Meter;
pub use metrics::Metrics;
pub use output::Output;
pub use running::{Exit, Running, Usage};
pub use scripted::Scripted;
pub use streams::{Sink, Source};
pub use wasm::{Config, SetupError, Wasm};
pub use workload::{Host, Module, ModuleSource, Mount, Served, Stdin, Workload};

/// Why a module cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The bytes are no module that can run here; the text says what they are instead.
    #[error("{0}")]
    Invalid(String),
    /// The file's bytes do not have the digest that was promised.
    #[error("the module's bytes have digest {actual}, not {expected}")]
    Digest {
        /// What was promised.
        expected: String,
        /// What was found.
        actual: String,
    },
    /// The module or its compiled form could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The runtime is being torn down.
    #[error("the runtime is shutting down")]
    ShuttingDown,
}

/// Why a workload could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A mount or the working directory could not be set up.
    #[error("cannot mount {guest}: {source}")]
    Mount {
        /// The path as the guest would see it.
        guest: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The specification cannot be meant; the text names the field.
    #[error("{0}")]
    Invalid(String),
    /// A port that the module is to be given a listener at cannot be had.
    #[error("cannot listen at port {port}: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// Why the pod's network refuses it: it is taken.
        source: network::SocketError,
    },
    /// This node runs as many guests as it can; the text names the bound.
    #[error("{0}")]
    Exhausted(String),
}

/// Compiled code that is kept for a module's next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The digest of the bytes that it was made from.
    pub digest: String,
    /// How much it takes on the disk.
    pub bytes: u64,
}

/// Something that runs workloads.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Makes a module ready to start: loads its compiled form, or compiles it once, however many
    /// ask at the same time.
    ///
    /// # Errors
    /// When the bytes are no module that can run here, or cannot be read.
    async fn prepare(&self, source: ModuleSource) -> Result<Module, PrepareError>;

    /// Starts a workload. It returns at once; the guest runs on threads of its own.
    ///
    /// # Errors
    /// When a mount cannot be set up or the node is full. What goes wrong later, inside the
    /// guest, is an [`Exit`].
    fn start(&self, workload: Workload) -> Result<Running, StartError>;

    /// All compiled code that is kept, by digest.
    ///
    /// # Errors
    /// When the cache's directory cannot be read.
    async fn compiled(&self) -> std::io::Result<Vec<Compiled>>;

    /// Removes the compiled code of the module with this digest, unless somebody has the [`Module`] or something of it
    /// runs: whether there is none now. Who prepares the module at the same time gets it whole; it may be compiled anew.
    ///
    /// # Errors
    /// When it cannot be removed.
    async fn forget(&self, digest: &str) -> std::io::Result<bool>;

    /// What this runtime has done so far.
    fn metrics(&self) -> Metrics;
}
