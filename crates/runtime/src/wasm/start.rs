//! One start of a module, as a process or as a server, and the handle to what was started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use network::Listener;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::guest::{self, Component, Limits};
use super::http::{self, Outgoing};
use super::link::{CoreCode, ServerCode};
use super::preview1::Activation;
use super::room::Counted;
use super::sockets::{Resolver, Sockets};
use super::world::World;
use super::{Loaded, Wasm};
use crate::gate::Account;
use crate::running::{Control, Stop};
use crate::{Exit, Running, StartError, Usage, Workload};

/// What runs from its beginning to its end.
pub(super) enum Program {
    /// A preview 1 module.
    Core(CoreCode),
    /// A component that exports `wasi:cli/run`.
    Component(CommandPre<Component>),
}

impl Program {
    /// Opens the listeners that the program is to begin with, and tells its environment of them.
    fn listen(&self, workload: &mut Workload) -> Result<Vec<Listener>, StartError> {
        match (self, &workload.net) {
            (Self::Core(CoreCode { accepts: true, .. }), Some(net)) => {
                let activation = Activation::of(std::mem::take(&mut workload.serve))?;
                activation.tell(&mut workload.env);
                activation.listen(net)
            }
            // Without a network there is nothing to listen at.
            _ => Ok(Vec::new()),
        }
    }
}

/// What processes and servers have in common.
pub(super) struct Start {
    module: Arc<Loaded>,
    /// Bytes of linear memory and tables that there are.
    memory: Arc<AtomicU64>,
    memory_limit: Option<u64>,
    account: Arc<Account>,
    outgoing: Outgoing,
    stop: Arc<Stop>,
}

impl Start {
    pub(super) fn of(wasm: &Wasm, module: &Arc<Loaded>, workload: &Workload) -> Self {
        let account = wasm.gate.account(workload.cpu_weight, workload.cpu_quota);
        let sockets = Sockets {
            net: workload.net.clone(),
            resolver: Resolver::new(workload.net.clone(), workload.names.clone()),
        };
        Self {
            module: module.clone(),
            memory: Arc::default(),
            memory_limit: workload.memory_limit,
            account: account.clone(),
            outgoing: Outgoing {
                sockets,
                account,
                tls: wasm.tls.clone(),
            },
            stop: Arc::default(),
        }
    }

    fn handle(&self, exit: watch::Receiver<Option<Exit>>) -> Running {
        let control = GuestControl {
            stop: self.stop.clone(),
            drains: self.module.drains(),
            memory: self.memory.clone(),
            account: self.account.clone(),
        };
        Running::new(exit, Box::new(control))
    }

    /// Starts the only instance there will be.
    pub(super) fn process(
        self,
        wasm: &Wasm,
        program: Program,
        mut workload: Workload,
    ) -> Result<Running, StartError> {
        let listeners = program.listen(&mut workload)?;
        let world = World::of(workload)?;
        let place = wasm.room.take()?;
        let wasi = world.open()?;
        drop(world);
        let counted = Counted::new(&wasm.counters);
        let (sender, receiver) = watch::channel(None);
        let running = self.handle(receiver);
        let account = self.account.clone();
        let work = async move {
            let (stop, drains) = (self.stop.clone(), self.module.drains());
            tracing::info!(digest = self.module.digest(), "guest starts");
            let exit = tokio::select! {
                biased;
                exit = stop.due(drains) => exit,
                exit = self.run(program, wasi, listeners) => exit,
            };
            tracing::info!(code = exit.code(), "guest ended");
            tracing::debug!(?exit);
            drop((place, counted));
            sender.send_replace(Some(exit));
        };
        account.spawn(work.in_current_span());
        Ok(running)
    }

    /// Runs a program until it ends by itself.
    async fn run(self, program: Program, wasi: WasiCtxBuilder, listeners: Vec<Listener>) -> Exit {
        let limits = Limits::new(self.memory_limit, self.memory);
        match program {
            Program::Core(core) => {
                let listeners = core.extended.then_some(listeners);
                let run = guest::run_core(core.module, wasi, listeners, limits, self.stop);
                Box::pin(run).await
            }
            Program::Component(command) => {
                let run = guest::run_component(command, wasi, limits, self.stop, self.outgoing);
                Box::pin(run).await
            }
        }
    }

    /// Starts to listen. Instances come with requests.
    pub(super) fn server(
        self,
        wasm: &Wasm,
        code: ServerCode,
        mut workload: Workload,
    ) -> Result<Running, StartError> {
        let net = workload.net.clone().ok_or_else(|| {
            StartError::Invalid("a component that serves HTTP needs a network".into())
        })?;
        let ports = std::mem::take(&mut workload.serve);
        let ports = ports.into_iter().map(|port| port.number).collect();
        let (sender, receiver) = watch::channel(None);
        let running = self.handle(receiver);
        let plan = http::Plan {
            code,
            ports,
            net,
            worlds: World::of(workload)?.open_many()?,
            memory_limit: self.memory_limit,
            memory: self.memory,
            outgoing: self.outgoing,
            account: self.account,
            room: wasm.room.clone(),
            stop: self.stop,
            counted: Counted::new(&wasm.counters),
        };
        let serving = http::serve(plan, sender)?;
        wasm.io.spawn(serving.in_current_span());
        Ok(running)
    }
}

struct GuestControl {
    stop: Arc<Stop>,
    drains: bool,
    memory: Arc<AtomicU64>,
    account: Arc<Account>,
}

impl Control for GuestControl {
    fn handles_termination(&self) -> bool {
        self.drains
    }

    fn terminate(&self, grace: Duration) {
        self.stop.terminate(Instant::now(), grace);
        if !self.drains {
            self.account.expedite();
        }
    }

    fn kill(&self) {
        self.stop.kill();
        self.account.expedite();
    }

    fn usage(&self) -> Usage {
        Usage {
            cpu: self.account.used(),
            memory: self.memory.load(Ordering::Relaxed),
        }
    }
}
