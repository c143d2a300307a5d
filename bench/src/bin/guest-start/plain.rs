//! The same guests on wasmtime alone, as one would embed it: linked before, instances from a pool.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use carob_bench::first;
use wasmtime::component::{self, ResourceTable};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module,
    PoolingAllocationConfig, Store,
};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p2};

/// More than the time takes.
const PRINTED: usize = 64;

/// Both guests, ready to start.
pub(crate) struct Plain {
    engine: Engine,
    core: InstancePre<WasiP1Ctx>,
    component: CommandPre<State>,
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Plain {
    pub(crate) fn new(core: &[u8], component: &[u8]) -> Result<Self> {
        let mut config = Config::new();
        // As in carob: nothing of what guests import here needs it.
        config.concurrency_support(false);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(
            PoolingAllocationConfig::new(),
        ));
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        p1::add_to_linker_async(&mut linker, |wasi: &mut WasiP1Ctx| wasi)?;
        let core = linker.instantiate_pre(&Module::new(&engine, core)?)?;
        let mut linker = component::Linker::new(&engine);
        p2::add_to_linker_async(&mut linker)?;
        let component = component::Component::new(&engine, component)?;
        let component = CommandPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self {
            engine,
            core,
            component,
        })
    }

    /// Runs the preview 1 module; how long it took to its first instruction.
    pub(crate) async fn core(&self) -> Result<Duration> {
        let printed = MemoryOutputPipe::new(PRINTED);
        let decided = SystemTime::now();
        let wasi = WasiCtxBuilder::new().stdout(printed.clone()).build_p1();
        let mut store = Store::new(&self.engine, wasi);
        let instance = self.core.instantiate_async(&mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call_async(&mut store, ()).await?;
        first::after(decided, &printed.contents())
    }

    /// Runs the component; how long it took to its first instruction.
    pub(crate) async fn component(&self) -> Result<Duration> {
        let printed = MemoryOutputPipe::new(PRINTED);
        let decided = SystemTime::now();
        let state = State {
            wasi: WasiCtxBuilder::new().stdout(printed.clone()).build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, state);
        let command = self.component.instantiate_async(&mut store).await?;
        let ended = command.wasi_cli_run().call_run(&mut store).await?;
        ensure!(ended.is_ok(), "the component failed");
        first::after(decided, &printed.contents())
    }
}
