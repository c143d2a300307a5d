//! One instance's own state: what its store holds, its limits, and how its end is read.

use std::sync::Arc;

use async_trait::async_trait;
use network::Listener;
use wasmtime::{Engine, ResourceLimiterAsync, Store};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::guard::{Guard, GuardedView};
use super::http::{MOST_OF_FIELDS, Outgoing};
use super::preview1::{self, Descriptors};
use super::world::Given;
use crate::memory::{Memory, OutOfMemory};
use crate::running::Stop;
use crate::{Exit, Handler};

/// What an element of a table costs: a pointer.
const TABLE_ELEMENT: u64 = 8;

/// Open files, streams and sockets that one guest may hold at a time. A connection takes about four
/// of them, so that a guest may have some thousand connections.
pub(super) const RESOURCES: usize = 4_096;

/// How much of a trap's text is kept.
const BACKTRACE: usize = 16 << 10;

/// Counts an instance's linear memories and tables together with those of its workload's other instances, and of
/// workloads beside it, against one limit.
pub(super) struct Limiter {
    /// What all instances have.
    memory: Arc<Memory>,
    /// By which each of its memories is bounded.
    handler: Handler,
    /// What this one has.
    held: u64,
    /// What the growth under way added, to be taken back where it fails.
    growing: u64,
}

impl Limiter {
    pub(super) fn new(memory: Arc<Memory>, handler: Handler) -> Self {
        Self {
            memory,
            handler,
            held: 0,
            growing: 0,
        }
    }

    fn grow(&mut self, bytes: u64) -> wasmtime::Result<bool> {
        // `Ok(false)` would make most guests abort in a way that tells nobody why.
        self.memory.grow(bytes)?;
        self.growing = bytes;
        self.held += bytes;
        Ok(true)
    }

    fn take_back(&mut self) {
        self.memory.shrink(self.growing);
        self.held -= self.growing;
        self.growing = 0;
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.memory.shrink(self.held);
    }
}

#[async_trait]
impl ResourceLimiterAsync for Limiter {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        // As with a limit, and in words that say what would help.
        self.handler.fits(desired as u64)?;
        self.grow(desired.saturating_sub(current) as u64)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current) as u64 * TABLE_ELEMENT)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        256
    }

    fn tables(&self) -> usize {
        256
    }

    fn memories(&self) -> usize {
        64
    }
}

/// The state of a preview 1 module.
pub(super) struct Core {
    pub(super) wasi: WasiP1Ctx,
    pub(super) guard: Guard,
    /// The descriptors of a module that accepts connections or takes part in its termination; no other's functions
    /// look at them.
    pub(super) descriptors: Descriptors,
    limits: Limiter,
    /// As of a component.
    pub(super) stop: Arc<Stop>,
}

/// The state of a component.
pub(super) struct Component {
    wasi: WasiCtx,
    guard: Guard,
    pub(super) table: ResourceTable,
    limits: Limiter,
    /// The end that was asked for, which `carob:pod/lifecycle` tells.
    pub(super) stop: Arc<Stop>,
    pub(super) outgoing: Outgoing,
    http: WasiHttpCtx,
}

impl Component {
    /// Bytes of linear memory and tables that it has.
    pub(super) fn held(&self) -> u64 {
        self.limits.held
    }

    /// Its files.
    pub(super) fn files(&mut self) -> GuardedView<'_> {
        GuardedView {
            stock: WasiFilesystemCtxView {
                ctx: self.wasi.filesystem(),
                table: &mut self.table,
            },
            guard: &mut self.guard,
        }
    }
}

impl WasiHttpView for Component {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outgoing,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl WasiView for Component {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

fn store<T: Send + 'static>(engine: &Engine, state: T) -> Store<T> {
    let mut store = Store::new(engine, state);
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store
}

/// Runs a preview 1 module to its end.
///
/// `listeners` are those of a module whose descriptors are ours, and `None` for any other.
pub(super) async fn run_core(
    module: wasmtime::InstancePre<Core>,
    given: Given<WasiCtxBuilder>,
    listeners: Option<Vec<Listener>>,
    limits: Limiter,
    stop: Arc<Stop>,
) -> Exit {
    let Given { mut wasi, guard } = given;
    let mut wasi = wasi.build_p1();
    guard.begin(wasi.ctx().ctx);
    wasi.ctx().table.set_max_capacity(RESOURCES);
    let descriptors = match listeners {
        Some(listeners) => match preview1::open(&mut wasi, listeners) {
            Ok(descriptors) => descriptors,
            Err(error) => return exit(&error),
        },
        None => Descriptors::default(),
    };
    let state = Core {
        wasi,
        guard,
        descriptors,
        limits,
        stop,
    };
    let mut store = store(module.module().engine(), state);
    store.limiter_async(|core| &mut core.limits);
    let run = async {
        let instance = module.instantiate_async(&mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call_async(&mut store, ()).await
    };
    match run.await {
        Ok(()) => Exit::Code(0),
        Err(error) => exit(&error),
    }
}

/// The store of a component that is yet to be instantiated.
pub(super) fn component_store(
    engine: &Engine,
    given: Given<WasiCtx>,
    limits: Limiter,
    stop: Arc<Stop>,
    outgoing: Outgoing,
) -> Store<Component> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(MOST_OF_FIELDS);
    let state = Component {
        wasi: given.wasi,
        guard: given.guard,
        table,
        limits,
        stop,
        outgoing,
        http,
    };
    let mut store = store(engine, state);
    store.limiter_async(|component| &mut component.limits);
    store
}

/// Runs a component to its end.
pub(super) async fn run_component(
    command: CommandPre<Component>,
    given: Given<WasiCtxBuilder>,
    limits: Limiter,
    stop: Arc<Stop>,
    outgoing: Outgoing,
) -> Exit {
    let given = match given.build() {
        Ok(given) => given,
        Err(error) => return exit(&error),
    };
    let mut store = component_store(command.engine(), given, limits, stop, outgoing);
    let run = async {
        let command = command.instantiate_async(&mut store).await?;
        command.wasi_cli_run().call_run(&mut store).await
    };
    match run.await {
        Ok(Ok(())) => Exit::Code(0),
        Ok(Err(())) => Exit::Code(1),
        Err(error) => exit(&error),
    }
}

/// How an instance ended that ended by this error.
pub(super) fn exit(error: &wasmtime::Error) -> Exit {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Exit::Code(*code);
    }
    if error.downcast_ref::<OutOfMemory>().is_some() {
        return Exit::OutOfMemory;
    }
    let mut backtrace = format!("{error:?}");
    if backtrace.len() > BACKTRACE {
        backtrace.truncate(backtrace.floor_char_boundary(BACKTRACE));
        backtrace.push_str("\n…");
    }
    Exit::Trap { backtrace }
}
