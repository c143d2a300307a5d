//! One start of a module, as a process or as a server, and the handle to what was started.

use std::sync::Arc;
use std::time::Duration;

use network::Listener;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::guest::{self, Component, Limiter};
use super::http::{self, Admission, Outgoing};
use super::link::{CoreCode, ServerCode};
use super::preview1::Activation;
use super::room::Counted;
use super::sockets::{Resolver, Sockets};
use super::world::{Given, World};
use super::{Loaded, Wasm};
use crate::gate::{Account, Task};
use crate::limits::Resources;
use crate::memory::Memory;
use crate::running::{Control, Main, Stop};
use crate::{Exit, Running, StartError, Workload};

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
    memory: Arc<Memory>,
    account: Arc<Account>,
    /// The workload that it runs beside.
    main: Option<Main>,
    outgoing: Outgoing,
    stop: Arc<Stop>,
}

impl Start {
    pub(super) fn of(wasm: &Wasm, module: &Arc<Loaded>, workload: &Workload) -> Self {
        let main = workload.beside.as_ref().map(Running::as_main);
        let shared = main.as_ref().map(|main| main.resources.clone());
        let limits = workload.limits;
        let own = || wasm.gate.account(limits.cpu_weight, limits.cpu_quota);
        let (memory, account) = match shared {
            Some(Resources { memory, account }) => (memory, account.unwrap_or_else(own)),
            None => {
                let (limit, requested) = (limits.memory, limits.memory_request);
                let memory = Memory::new(limit, requested, wasm.memory.clone());
                (Arc::new(memory), own())
            }
        };
        let sockets = Sockets {
            net: workload.net.clone(),
            resolver: Resolver::new(workload.net.clone(), workload.names.clone()),
        };
        Self {
            module: module.clone(),
            memory,
            account: account.clone(),
            main,
            outgoing: Outgoing {
                sockets,
                account,
                tls: wasm.tls.clone(),
            },
            stop: Arc::default(),
        }
    }

    fn resources(&self) -> Resources {
        Resources {
            memory: self.memory.clone(),
            account: Some(self.account.clone()),
        }
    }

    /// Starts the only instance there will be.
    pub(super) fn process(
        mut self,
        wasm: &Wasm,
        program: Program,
        mut workload: Workload,
    ) -> Result<Running, StartError> {
        let listeners = program.listen(&mut workload)?;
        let world = World::of(workload)?;
        let place = self.module.room().take(self.module.needs())?;
        let given = world.open(&wasm.node, self.account.clone())?;
        drop(world);
        let counted = Counted::new(&wasm.counters);
        let (sender, receiver) = watch::channel(None);
        let resources = self.resources();
        let (stop, drains) = (self.stop.clone(), self.module.drains());
        let (account, main) = (self.account.clone(), self.main.take());
        let is_beside = main.is_some();
        let (stopped, charged) = (stop.clone(), account.clone());
        let work = async move {
            tracing::info!(digest = self.module.digest(), "guest starts");
            let exit = tokio::select! {
                biased;
                exit = stopped.due(drains) => exit,
                () = ended(main) => Exit::Killed,
                exit = self.run(program, given, listeners) => exit,
            };
            tracing::info!(code = exit.code(), "guest ended");
            tracing::debug!(?exit);
            drop((place, counted));
            sender.send_replace(Some(exit));
            if !is_beside {
                // Those beside it are to end now, whatever the account owes.
                charged.expedite();
            }
        };
        let task = account.spawn(work.in_current_span());
        let control = GuestControl {
            stop,
            drains,
            runs: match is_beside {
                true => Runs::Beside(task),
                false => Runs::Alone(account),
            },
            admission: None,
        };
        Ok(Running::new(receiver, resources, Box::new(control)))
    }

    /// Runs a program until it ends by itself.
    async fn run(
        self,
        program: Program,
        given: Given<WasiCtxBuilder>,
        listeners: Vec<Listener>,
    ) -> Exit {
        let limits = Limiter::new(self.memory, self.module.handler());
        match program {
            Program::Core(core) => {
                let listeners = core.extended.then_some(listeners);
                let run = guest::run_core(core.module, given, listeners, limits, self.stop);
                Box::pin(run).await
            }
            Program::Component(command) => {
                let run = guest::run_component(command, given, limits, self.stop, self.outgoing);
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
        if self.main.is_some() {
            let why = "the module serves HTTP, and cannot be run as a command: it exports no wasi:cli/run";
            return Err(StartError::Invalid(why.into()));
        }
        let net = workload.net.clone().ok_or_else(|| {
            StartError::Invalid("a component that serves HTTP needs a network".into())
        })?;
        let ports = std::mem::take(&mut workload.serve);
        let ports = ports.into_iter().map(|port| port.number).collect();
        let (sender, receiver) = watch::channel(None);
        let admission = Admission::new(self.memory.clone(), code.memory);
        let control = GuestControl {
            stop: self.stop.clone(),
            drains: self.module.drains(),
            runs: Runs::Alone(self.account.clone()),
            admission: Some(admission.clone()),
        };
        let running = Running::new(receiver, self.resources(), Box::new(control));
        let plan = http::Plan {
            code,
            ports,
            net,
            worlds: World::of(workload)?.open_many(&wasm.node, self.account.clone())?,
            memory: self.memory,
            admission,
            outgoing: self.outgoing,
            account: self.account,
            places: self.module.room().serve(self.module.needs())?,
            handler: self.module.handler(),
            stop: self.stop,
            counted: Counted::new(&wasm.counters),
        };
        let serving = http::serve(plan, sender)?;
        wasm.io.spawn(serving.in_current_span());
        Ok(running)
    }
}

/// Waits for the end of the workload that one runs beside, if there is one.
async fn ended(main: Option<Main>) {
    match main {
        Some(mut main) => main.ended().await,
        None => std::future::pending().await,
    }
}

struct GuestControl {
    stop: Arc<Stop>,
    drains: bool,
    runs: Runs,
    /// Of a server.
    admission: Option<Arc<Admission>>,
}

/// What is to be let run so that a guest's end comes at once.
enum Runs {
    /// Everything that the account pays for ends with it.
    Alone(Arc<Account>),
    /// What else the account pays for goes on, within its quota.
    Beside(Arc<Task>),
}

impl GuestControl {
    fn expedite(&self) {
        match &self.runs {
            Runs::Alone(account) => account.expedite(),
            Runs::Beside(task) => task.expedite(),
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

    fn resized(&self) {
        if let Some(admission) = &self.admission {
            admission.advance();
        }
    }
}
