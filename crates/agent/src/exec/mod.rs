//! Commands in a container that runs.
//!
//! A command is one of three things, by its first word ([`choice`]): an applet of the [`toolbox`], which the agent runs
//! itself; a module that lies in the container's file system ([`files`]); or the container's own module once more. The
//! modules run beside the container's instance: with its environment, its files and its network, and within its limits.
//! Whatever it is ends with the instance, or when nobody wants it any more: its future is dropped then.
//!
//! Somebody may sit at a terminal: at a command's own, or at that of a container ([`screen`]). [`tty`] says what becomes of
//! what he types, and [`keyboard`] does it.

mod choice;
pub(crate) mod files;
pub(crate) mod keyboard;
pub(crate) mod screen;
mod streams;
pub(crate) mod toolbox;
pub(crate) mod tty;
pub(crate) mod view;

use std::sync::Arc;

use client::tls::{Identity, certificates};
use jiff::Timestamp;
use network::PodNet;
use network::names::search::Search;
use runtime::{Exit, Meter, Module, Mount, Running, Runtime, Source, Stdin, Workload};
use rustls::ClientConfig;
use tokio::sync::OwnedSemaphorePermit;

use crate::blocking::blocking;
use choice::Choice;
use files::Files;
pub(crate) use streams::{Streams, Terminal};
use toolbox::Workers;
use view::{Process, View};

/// What is there, and cannot be run.
const CANNOT_RUN: i32 = 126;
/// What is not there.
const NOT_FOUND: i32 = 127;
/// What was told to end, and is killed.
const KILLED: i32 = 137;

/// What a container's instance was started with, which commands beside it get, too.
pub(crate) struct Given {
    pub(crate) module: Module,
    /// Its own name first.
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) working_dir: String,
    /// The pod's.
    pub(crate) meter: Arc<Meter>,
    pub(crate) net: Option<PodNet>,
    pub(crate) names: Arc<Search>,
    pub(crate) started: Timestamp,
}

impl Given {
    /// A start with all of it.
    pub(crate) fn workload(&self) -> Workload {
        Workload {
            argv: self.argv.clone(),
            env: self.env.clone(),
            mounts: self.mounts.clone(),
            working_dir: self.working_dir.clone(),
            meter: Some(self.meter.clone()),
            net: self.net.clone(),
            names: Arc::clone(&self.names),
            ..Workload::new(self.module.clone())
        }
    }
}

/// Whom HTTPS of the toolbox trusts: as that of guests, the cluster's own authority beside those that browsers do.
///
/// # Errors
/// When the identity cannot be used.
pub(crate) fn trust(identity: Option<&Identity>) -> Result<Arc<ClientConfig>, client::tls::Error> {
    let roots = identity.map(|identity| certificates(&identity.ca_pem));
    let roots = roots.transpose()?.unwrap_or_default();
    Ok(runtime::tls::trusting_authorities(&roots)?)
}

/// A command in a container, ready to be run.
pub(crate) struct Command {
    /// Its own name first.
    pub(crate) words: Vec<String>,
    /// The instance that it runs beside.
    pub(crate) main: Running,
    pub(crate) given: Arc<Given>,
    /// What runs in the pod.
    pub(crate) processes: Vec<Process>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) files: Files,
    /// Its places among those that may run at once, where it is a caller's.
    pub(crate) places: Option<Places>,
    /// The node's.
    pub(crate) workers: Workers,
    /// Whom HTTPS trusts.
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) span: tracing::Span,
}

/// Places that are free again when all clones are dropped.
pub(crate) type Places = Arc<[OwnedSemaphorePermit; 2]>;

/// Why a command was not run: its exit code, and words.
#[derive(Debug, PartialEq, Eq)]
struct Refused(i32, String);

impl Refused {
    fn cannot_run(why: impl ToString) -> Self {
        Self(CANNOT_RUN, why.to_string())
    }
}

impl Command {
    /// Runs it to its end, which is its container's at the latest, and answers its exit code. All that it has printed
    /// was written by then.
    pub(crate) async fn run(self, streams: Streams) -> i32 {
        let main = self.main.clone();
        beside(main, async { self.ready().await.alone(streams).await }).await
    }

    /// Has what it runs ready, which may take as long as the modules of others are compiled.
    pub(crate) async fn ready(self) -> Ready {
        let name = self.words.first().cloned().unwrap_or_default();
        let own = self.given.argv.first().map_or("", String::as_str);
        let program = match Choice::of(&name, own) {
            Choice::Applet => Ok(Program::Applet),
            Choice::File => self.file(&name).await.map(Program::Module),
            Choice::Module => Ok(Program::Module(self.given.module.clone())),
            Choice::Unknown => Ok(Program::Instead(self.given.module.clone())),
        };
        Ready {
            command: self,
            name,
            program,
        }
    }

    fn env(&self, streams: &Streams) -> Vec<(String, String)> {
        let mut env = self.given.env.clone();
        if let Some(terminal) = streams.terminal {
            terminal.tell(&mut env);
        }
        env
    }

    fn view(&self, env: Vec<(String, String)>) -> View {
        let given = &self.given;
        View {
            mounts: given.mounts.clone(),
            env,
            working_dir: given.working_dir.clone(),
            meter: given.meter.clone(),
            net: given.net.clone(),
            names: Arc::clone(&given.names),
            processes: self.processes.clone(),
            workers: self.workers.clone(),
            tls: Arc::clone(&self.tls),
        }
    }

    async fn applet(self, streams: Streams) -> i32 {
        let view = Arc::new(self.view(self.env(&streams)));
        let io = toolbox::Io {
            stdin: match streams.stdin {
                Some(reader) => Box::new(Source::from(reader)),
                None => Box::new(tokio::io::empty()),
            },
            stdout: Box::new(streams.stdout),
            stderr: Box::new(streams.stderr),
            terminal: streams.terminal.is_some(),
        };
        toolbox::run(self.words, view, io).await
    }

    async fn file(&self, path: &str) -> Result<Module, Refused> {
        let (view, path) = (self.view(Vec::new()), path.to_owned());
        let handler = self.given.module.handler();
        self.files.module(move || view.open(&path), handler).await
    }

    async fn module(self, module: Module, streams: Streams) -> Result<Exit, Refused> {
        let workload = Workload {
            module,
            env: self.env(&streams),
            argv: self.words,
            stdin: streams.stdin.map(Stdin::Pipe).unwrap_or_default(),
            stdout: Box::new(streams.stdout),
            stderr: Box::new(streams.stderr),
            terminal: streams.terminal.is_some(),
            // The limits are those of the instance, and the ports are its own.
            beside: Some(self.main),
            span: self.span,
            ..self.given.workload()
        };
        let (runtime, places) = (self.runtime, self.places.clone());
        let started = blocking(move || {
            // It opens the mounts, on whatever disks they are.
            let started = runtime.start(workload);
            // Held by the thread itself, which goes on when nobody waits any more.
            drop(places);
            Ok(started)
        });
        let started = started.await?;
        let running = started.map_err(Refused::cannot_run)?;
        Ok(running.wait().await)
    }
}

/// Waits for a command's end, or for that of the instance that it runs beside.
async fn beside(main: Running, ran: impl Future<Output = i32>) -> i32 {
    tokio::select! {
        // What has ended has its own exit code, though its container may have ended since.
        biased;
        code = ran => code,
        exit = main.wait() => ended_with(Some(exit)),
    }
}

/// The exit code of what ends because its container has.
fn ended_with(container: Option<Exit>) -> i32 {
    match container {
        Some(exit @ Exit::Terminated) => exit.code(),
        _ => KILLED,
    }
}

/// What a command runs.
enum Program {
    Applet,
    Module(Module),
    /// The container's own, for want of what was named.
    Instead(Module),
}

/// A command that waits for nothing but to be run.
pub(crate) struct Ready {
    command: Command,
    name: String,
    program: Result<Program, Refused>,
}

impl Ready {
    /// Runs it, as [`Command::run`] does.
    pub(crate) async fn run(self, streams: Streams) -> i32 {
        beside(self.command.main.clone(), self.alone(streams)).await
    }

    async fn alone(self, streams: Streams) -> i32 {
        let (stderr, main) = (streams.stderr.clone(), self.command.main.clone());
        let ran = match self.program {
            Ok(Program::Applet) => return self.command.applet(streams).await,
            Ok(Program::Module(module)) => self.command.module(module, streams).await,
            Ok(Program::Instead(module)) => {
                // First of all: what the module makes of such words may go on for ever.
                let name = toolbox::shown(&self.name);
                let why = "is no applet: running the container's module with these words";
                stderr.print(format!("carob: {name} {why}")).await;
                self.command.module(module, streams).await
            }
            Err(refused) => Err(refused),
        };
        let (code, why) = match ran {
            Ok(Exit::Trap { backtrace }) => (134, backtrace),
            Ok(Exit::OutOfMemory) => (KILLED, "out of memory".to_owned()),
            // By nobody but its container's end: who does not want it any more does not ask either.
            Ok(Exit::Killed) => return ended_with(main.exit()),
            Ok(exit) => return exit.code(),
            Err(Refused(code, why)) => (code, why),
        };
        stderr.print(format!("{}: {why}", self.name)).await;
        code
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => NOT_FOUND,
            _ => CANNOT_RUN,
        };
        Self(code, toolbox::words(&error))
    }
}

#[cfg(test)]
mod tests;
