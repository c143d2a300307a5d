//! Linking: what guests may import, and a module with its imports resolved.

use std::sync::Arc;

use wasmtime::component::Component as ComponentCode;
use wasmtime::{Caller, Engine, InstancePre, Module, UnknownImportError};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, p1, p2};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::guest::{Component, Core};
use super::room::{Needs, Room};
use super::{guard, lifecycle, preview1, sockets};
use crate::Handler;

/// Bytes of a page of linear memory.
const PAGE: u64 = 64 << 10;

/// What is imported from, for either kind of guest.
pub(super) struct Linkers {
    core: wasmtime::Linker<Core>,
    /// For preview 1 modules that have descriptors which wasmtime-wasi does not know.
    extended: wasmtime::Linker<Core>,
    component: wasmtime::component::Linker<Component>,
    handler: Handler,
    room: Arc<Room>,
}

/// A module with its imports resolved: the next step is an instance.
pub(crate) struct Loaded {
    digest: String,
    code: Code,
    drains: bool,
    handler: Handler,
    /// Where its instances have their places.
    room: Arc<Room>,
    /// What each of them takes there.
    needs: Needs,
}

#[derive(Clone)]
pub(super) enum Code {
    Core(CoreCode),
    Component(CommandPre<Component>),
    Server(ServerCode),
}

/// A preview 1 module.
#[derive(Clone)]
pub(super) struct CoreCode {
    pub(super) module: InstancePre<Core>,
    /// Whether it accepts connections, at listeners that it is to be given.
    pub(super) accepts: bool,
    /// Whether its descriptors are ours: those of a module that accepts connections or takes part in its termination.
    pub(super) extended: bool,
}

/// A server, an instance of which answers one request.
#[derive(Clone)]
pub(super) struct ServerCode {
    pub(super) proxy: ProxyPre<Component>,
    /// Bytes of linear memory that an instance begins with.
    pub(super) memory: u64,
}

impl Loaded {
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    pub(crate) fn handler(&self) -> Handler {
        self.handler
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    pub(super) fn needs(&self) -> Needs {
        self.needs
    }

    pub(super) fn code(&self) -> Code {
        self.code.clone()
    }

    /// Whether the module imports `carob:pod/lifecycle`, or is a server.
    pub(super) fn drains(&self) -> bool {
        self.drains
    }
}

impl Linkers {
    pub(super) fn new(
        engine: &Engine,
        handler: Handler,
        room: Arc<Room>,
    ) -> wasmtime::Result<Self> {
        let mut core = wasmtime::Linker::new(engine);
        p1::add_to_linker_async(&mut core, |core: &mut Core| &mut core.wasi)?;
        // wasmtime's own traps for codes above 125; a process may exit with any byte.
        core.allow_shadowing(true);
        core.func_wrap(
            "wasi_snapshot_preview1",
            "proc_exit",
            |_: Caller<'_, Core>, code: i32| -> wasmtime::Result<()> {
                Err(I32Exit(code & 0xff).into())
            },
        )?;
        preview1::link_guarded(&mut core)?;
        let mut extended = core.clone();
        preview1::link(&mut extended)?;
        lifecycle::link_core(&mut extended)?;
        let mut component = wasmtime::component::Linker::new(engine);
        link_wasi(&mut component)?;
        guard::link(&mut component)?;
        sockets::link(&mut component)?;
        lifecycle::link(&mut component)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut component)?;
        Ok(Self {
            core,
            extended,
            component,
            handler,
            room,
        })
    }

    fn loaded(&self, digest: String, code: Code, drains: bool, needs: Needs) -> Loaded {
        Loaded {
            digest,
            code,
            drains,
            handler: self.handler,
            room: self.room.clone(),
            needs,
        }
    }

    /// With whether its instances have a garbage-collected heap, as the others.
    pub(super) fn core(
        &self,
        digest: String,
        module: Module,
        heap: bool,
    ) -> wasmtime::Result<Loaded> {
        let needs = Needs::of(Some(&module.resources_required()), heap);
        let accepts = preview1::accepts(&module);
        let drains = lifecycle::imported_by_core(&module);
        let extended = accepts || drains;
        let linker = match extended {
            true => &self.extended,
            false => &self.core,
        };
        let code = CoreCode {
            module: linker.instantiate_pre(&module)?,
            accepts,
            extended,
        };
        Ok(self.loaded(digest, Code::Core(code), drains, needs))
    }

    pub(super) fn component(
        &self,
        digest: String,
        component: ComponentCode,
        heap: bool,
    ) -> wasmtime::Result<Loaded> {
        let needs = Needs::of(component.resources_required().as_ref(), heap);
        let drains = lifecycle::imported_by(&component);
        let linked = self.component.instantiate_pre(&component)?;
        let code = Code::Component(CommandPre::new(linked)?);
        Ok(self.loaded(digest, code, drains, needs))
    }

    pub(super) fn server(
        &self,
        digest: String,
        component: ComponentCode,
        heap: bool,
    ) -> wasmtime::Result<Loaded> {
        let needs = Needs::of(component.resources_required().as_ref(), heap);
        let memory = initial_memory(&component);
        let proxy = ProxyPre::new(self.component.instantiate_pre(&component)?)?;
        let code = Code::Server(ServerCode { proxy, memory });
        Ok(self.loaded(digest, code, true, needs))
    }
}

/// Why a module cannot be linked, in words that name what it imports in vain.
pub(super) fn refusal(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<UnknownImportError>() {
        Some(import) => {
            let (module, name) = (import.module(), import.name());
            format!("the module imports {module}::{name}, which carob does not offer")
        }
        None => format!("a module that cannot run here: {error:#}"),
    }
}

/// The linear memory that instances of a component begin with: at least as much as they have.
fn initial_memory(component: &ComponentCode) -> u64 {
    let Some(needed) = component.resources_required() else {
        return 0;
    };
    let pages = needed.max_initial_memory_size.unwrap_or(0);
    let memories = u64::from(needed.num_memories);
    memories.saturating_mul(pages).saturating_mul(PAGE)
}

/// All of `wasi:cli/imports` but `wasi:sockets` and `wasi:filesystem`: one by one, so that the operating system's
/// sockets are never within a guest's reach.
fn link_wasi(linker: &mut wasmtime::component::Linker<Component>) -> wasmtime::Result<()> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
    use wasmtime_wasi::p2::bindings::{cli, random};
    use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
    p2::add_to_linker_proxy_interfaces_async(linker)?;
    random::insecure::add_to_linker::<_, WasiRandom>(linker, Component::random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, Component::random)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, Component::cli)?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, Component::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, Component::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, Component::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, Component::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, Component::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, Component::cli)?;
    Ok(())
}
