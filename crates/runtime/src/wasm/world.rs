//! What an instance sees of the world: words, streams and files, as its workload gives them.

use std::path::PathBuf;
use std::sync::Arc;

use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::guard::Guard;
use super::guard::budget::{Budget, Share};
use super::guard::late::Blanks;
use super::mounts;
use super::stdio::{Input, Printed};
use crate::gate::Account;
use crate::streams::Sink;
use crate::{Meter, Mount, Output, StartError, Stdin, Workload};

/// Random bytes that are made at once, one by one: some two milliseconds' work, of a thread that runs guests.
pub(super) const RANDOM_AT_ONCE: u32 = 256 << 10;

/// What all guests of a node have in common.
pub(super) struct Node {
    /// A directory of the runtime's own.
    pub(super) directory: PathBuf,
    /// What they may have open together.
    pub(super) open_files: Arc<Budget>,
    pub(super) blanks: Blanks,
}

/// What one instance is given.
pub(super) struct Given<W> {
    /// wasmtime-wasi's part.
    pub(super) wasi: W,
    pub(super) guard: Guard,
}

impl Given<WasiCtxBuilder> {
    /// For a component.
    ///
    /// # Errors
    /// When wasmtime-wasi cannot list its own directories.
    pub(super) fn build(mut self) -> wasmtime::Result<Given<WasiCtx>> {
        let (mut wasi, mut guard) = (self.wasi.build(), self.guard);
        guard.begin(&mut wasi);
        guard.learn(&mut wasi)?;
        Ok(Given { wasi, guard })
    }
}

/// What every instance of a workload is given.
pub(super) struct World {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    working_dir: String,
    mounts: Vec<Mount>,
    meter: Option<Arc<Meter>>,
    stdin: Option<Input>,
    stdout: Printed,
    stderr: Printed,
}

impl World {
    /// What this workload gives.
    ///
    /// # Errors
    /// When an argument or a variable cannot be one.
    pub(super) fn of(workload: Workload) -> Result<Self, StartError> {
        validate(&workload)?;
        let mut env = workload.env;
        if workload.working_dir != "/" && env.iter().all(|(name, _)| name != "PWD") {
            // Guests without a working directory of their own (Go's, for one) start from this.
            env.push(("PWD".to_owned(), workload.working_dir.clone()));
        }
        let terminal = workload.terminal;
        let printed = |output: Box<dyn Output>| Printed {
            sink: output.into(),
            terminal,
        };
        Ok(Self {
            argv: workload.argv,
            env,
            working_dir: workload.working_dir,
            mounts: workload.mounts,
            meter: workload.meter,
            stdin: match workload.stdin {
                Stdin::Empty => None,
                Stdin::Pipe(reader) => Some(Input {
                    source: reader.into(),
                    terminal,
                }),
            },
            stdout: printed(workload.stdout),
            stderr: printed(workload.stderr),
        })
    }

    /// For the only instance there is, at this account's expense.
    ///
    /// # Errors
    /// When a mount or the working directory cannot be set up.
    pub(super) fn open(
        &self,
        node: &Node,
        account: Arc<Account>,
    ) -> Result<Given<WasiCtxBuilder>, StartError> {
        let mut wasi = self.without_files();
        let preopened = mounts::preopen(&mut wasi, &self.mounts, &self.working_dir, node)?;
        let (meter, share) = (self.meter.clone(), Share::new(preopened.held));
        let guard = Guard::new(meter, preopened.singles, preopened.late, share, account);
        Ok(Given { wasi, guard })
    }

    /// For any number of instances.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub(super) fn open_many(
        self,
        node: &Node,
        account: Arc<Account>,
    ) -> Result<Worlds, StartError> {
        let given = self.open(node, account)?.build();
        let mut given = given.map_err(|error| StartError::Invalid(error.to_string()))?;
        let files = given.wasi.filesystem().clone();
        let working_dir = mounts::normal(&self.working_dir)?;
        Ok(Worlds {
            world: self,
            working_dir,
            files,
            guard: given.guard,
        })
    }

    fn without_files(&self) -> WasiCtxBuilder {
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&self.argv)
            .envs(&self.env)
            .stdout(self.stdout.clone())
            .stderr(self.stderr.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .max_random_size(RANDOM_AT_ONCE.into());
        if let Some(stdin) = &self.stdin {
            wasi.stdin(stdin.clone());
        }
        wasi
    }
}

/// A world for each of many instances. The mounts were opened once, so that all of them see what was there then.
pub(super) struct Worlds {
    world: World,
    working_dir: String,
    files: WasiFilesystemCtx,
    guard: Guard,
}

impl Worlds {
    /// One more.
    pub(super) fn one(&self) -> Given<WasiCtx> {
        let mut wasi = self.world.without_files();
        let mut wasi = wasi.initial_cwd(&self.working_dir).build();
        *wasi.filesystem() = self.files.clone();
        Given {
            wasi,
            guard: self.guard.another(),
        }
    }

    /// Where what goes wrong is told.
    pub(super) fn stderr(&self) -> &Sink {
        &self.world.stderr.sink
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
    let limits = workload.limits.validate();
    limits.map_err(|error| StartError::Invalid(error.to_string()))
}
