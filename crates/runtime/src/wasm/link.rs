//! Linking: what guests may import, and a module with its imports resolved.

use wasmtime::component::Component as ComponentCode;
use wasmtime::{Caller, Engine, InstancePre, Module};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, p1, p2};

use super::guest::{Component, Core};
use super::lifecycle;

/// What is imported from, for either kind of guest.
pub(super) struct Linkers {
    core: wasmtime::Linker<Core>,
    component: wasmtime::component::Linker<Component>,
}

/// A module with its imports resolved: the next step is an instance.
pub(crate) struct Loaded {
    digest: String,
    code: Code,
    drains: bool,
}

#[derive(Clone)]
pub(super) enum Code {
    Core(InstancePre<Core>),
    Component(CommandPre<Component>),
}

impl Loaded {
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    pub(super) fn code(&self) -> Code {
        self.code.clone()
    }

    /// Whether the module imports `carob:pod/lifecycle`.
    pub(super) fn drains(&self) -> bool {
        self.drains
    }
}

impl Linkers {
    pub(super) fn new(engine: &Engine) -> wasmtime::Result<Self> {
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
        let mut component = wasmtime::component::Linker::new(engine);
        p2::add_to_linker_async(&mut component)?;
        lifecycle::link(&mut component)?;
        Ok(Self { core, component })
    }

    pub(super) fn core(&self, digest: String, module: Module) -> wasmtime::Result<Loaded> {
        Ok(Loaded {
            digest,
            code: Code::Core(self.core.instantiate_pre(&module)?),
            drains: false,
        })
    }

    pub(super) fn component(
        &self,
        digest: String,
        component: ComponentCode,
    ) -> wasmtime::Result<Loaded> {
        let drains = component
            .component_type()
            .imports(component.engine())
            .any(|(name, _)| name.split('@').next() == Some(lifecycle::INTERFACE));
        let linked = self.component.instantiate_pre(&component)?;
        Ok(Loaded {
            digest,
            code: Code::Component(CommandPre::new(linked)?),
            drains,
        })
    }
}
