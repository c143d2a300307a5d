//! What is run: a prepared module, and all that one start of it is given.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use network::names::search::{Hosts, Search};

use crate::output::Output;
use crate::{Handler, Limits, Meter, Running};

/// Where a module's bytes lie.
#[derive(Clone, Debug)]
pub struct ModuleSource {
    /// The `.wasm` file. It is read only where no compiled form of `digest` is cached.
    pub path: PathBuf,
    /// `sha256:` and 64 lower-case hexadecimal digits: the digest of the file's bytes. It is
    /// checked whenever the file is read.
    pub digest: String,
    /// Whether the compiled form stays on disk for a later process. Else it goes with the last handle to the module.
    pub keep: bool,
    /// By what its instances are to be run.
    pub handler: Handler,
}

impl ModuleSource {
    /// A file of at most so many bytes is compiled beside a larger one, for which it does not wait.
    pub const SMALL: u64 = 2 << 20;
}

/// A module that is ready to be started any number of times. Clones are handles to the same code.
#[derive(Clone)]
pub struct Module(pub(crate) Code);

#[derive(Clone)]
pub(crate) enum Code {
    Wasm(Arc<crate::wasm::Loaded>),
    Scripted { digest: Arc<str>, handler: Handler },
}

impl Module {
    /// The digest of the bytes that the module was made from.
    pub fn digest(&self) -> &str {
        match &self.0 {
            Code::Wasm(loaded) => loaded.digest(),
            Code::Scripted { digest, .. } => digest,
        }
    }

    /// By what its instances are run.
    pub fn handler(&self) -> Handler {
        match &self.0 {
            Code::Wasm(loaded) => loaded.handler(),
            Code::Scripted { handler, .. } => *handler,
        }
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.digest()).finish()
    }
}

/// What of the host a mount shows.
#[derive(Clone, Debug)]
pub enum Host {
    /// The directory or the regular file at this path.
    Path(PathBuf),
    /// The directory at this path, which nobody moves, replaces or removes while the workload runs: it may be opened as late
    /// as the guest looks.
    Own(PathBuf),
    /// This regular file, whatever takes its name. A descriptor never goes without its owner: its number alone may be
    /// another file's by the time that somebody looks.
    File(Arc<OwnedFd>),
}

impl From<PathBuf> for Host {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for Host {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

/// A directory of the host that the guest sees, or a single file.
#[derive(Clone, Debug)]
pub struct Mount {
    /// What it shows.
    pub host: Host,
    /// What the guest sees of it, as a path without `..`; empty for all of it. A directory that
    /// is missing is made. Guests may change what lies in `host` meanwhile: a symbolic link on the
    /// way is refused. Of a file it is what is there at the start, whatever takes its name later.
    pub beneath: String,
    /// The absolute path at which the guest sees it. Where mounts are nested the longest prefix of
    /// a path decides.
    pub guest: String,
    /// Whether every change through this mount is refused.
    pub read_only: bool,
}

/// What the guest reads from its standard input.
#[derive(Debug, Default)]
pub enum Stdin {
    /// The end of the stream at once.
    #[default]
    Empty,
    /// What the caller writes into the pipe's other end.
    Pipe(network::pipe::Reader),
}

impl Stdin {
    /// A standard input that holds exactly these bytes.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        let (writer, reader) = network::pipe::pipe(1);
        // The reader is right here, so that this write cannot fail.
        let _ = writer.write(bytes.into());
        Self::Pipe(reader)
    }
}

/// A TCP port at which a module serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The port, which is not 0.
    pub number: u16,
    /// What it is called.
    pub name: Option<String>,
}

impl From<u16> for Served {
    /// A port without a name.
    fn from(number: u16) -> Self {
        Self { number, name: None }
    }
}

/// One start of a module: a finished specification, of which only the limits can change later.
pub struct Workload {
    /// The code to run.
    pub module: Module,
    /// The guest's arguments, its own name first.
    pub argv: Vec<String>,
    /// The guest's environment, in order. A name that comes twice is seen twice.
    pub env: Vec<(String, String)>,
    /// The absolute directory that relative paths start at. It is made where it does not exist
    /// and the mount that it lies in may be written.
    pub working_dir: String,
    /// What the guest sees of the host's files. A writable root of the guest's own is a mount at
    /// `/`; without one there is no root.
    pub mounts: Vec<Mount>,
    /// The guest's standard input.
    pub stdin: Stdin,
    /// Where the guest's standard output goes.
    pub stdout: Box<dyn Output>,
    /// Where the guest's standard error goes.
    pub stderr: Box<dyn Output>,
    /// Whether the guest is to take its standard streams for a terminal.
    pub terminal: bool,
    /// What the guest may use at first.
    pub limits: Limits,
    /// Counts what the guest adds to the node's disk through mounts that it may write; others may share it. Without one
    /// nobody counts.
    pub meter: Option<Arc<Meter>>,
    /// A started workload that this one is to run beside, as a second process in the same container would: whatever
    /// `limits` says they share that one's, and are counted together. It is killed when that one ends; wanting more
    /// memory than is left ends only the one that wants it. A server runs beside nobody.
    pub beside: Option<Running>,
    /// How the guest's names are looked up.
    pub names: Arc<Search>,
    /// The pod's network; without it every socket is refused.
    pub net: Option<network::PodNet>,
    /// The TCP ports at which the runtime listens for a module that leaves that to it, on every address of the pod. A
    /// component that exports `wasi:http/incoming-handler` is served at them (none mean 8080). A preview 1 module that
    /// imports `sock_accept` finds a listener at each of them, in this order, as its descriptors from 3 on, and
    /// systemd's `LISTEN_FDS` and `LISTEN_FDNAMES` in its environment unless `env` has them. Other modules bind what
    /// they like.
    pub serve: Vec<Served>,
    /// The span that the guest's start, run and end are traced in.
    pub span: tracing::Span,
}

impl Workload {
    /// A start of this module without arguments, files, network or limits, that prints to nobody.
    pub fn new(module: Module) -> Self {
        Self {
            module,
            argv: vec!["module".into()],
            env: Vec::new(),
            working_dir: "/".into(),
            mounts: Vec::new(),
            stdin: Stdin::Empty,
            stdout: Box::new(crate::output::Discard),
            stderr: Box::new(crate::output::Discard),
            terminal: false,
            limits: Limits::default(),
            meter: None,
            beside: None,
            names: Arc::new(Search::none(Hosts::new())),
            net: None,
            serve: Vec::new(),
            span: tracing::Span::none(),
        }
    }
}
