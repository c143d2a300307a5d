//! `carob:pod/lifecycle`: how a guest learns of its own termination. A component has a pollable for it, a preview 1
//! module a descriptor.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;
use wasmtime::component::{Component as ComponentCode, HasSelf, Linker, Resource};
use wasmtime::{Caller, Module};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::guest::{Component, Core};
use crate::running::Stop;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "carob:pod/drains",
        imports: { default: trappable },
        require_store_data_send: true,
        with: { "wasi:io/poll": wasmtime_wasi::p2::bindings::io::poll },
    });
}

use bindings::carob::pod::lifecycle::{Host, add_to_linker};

/// The package and interface that a module imports to have a grace period, without its version.
const INTERFACE: &str = "carob:pod/lifecycle";

/// What preview 1 modules import it from: their imports have no versions that could be compatible.
const MODULE: &str = "carob:pod/lifecycle@0.1.0";

fn is_ours(import: &str) -> bool {
    import.split('@').next() == Some(INTERFACE)
}

/// Whether a component imports the interface.
pub(super) fn imported_by(component: &ComponentCode) -> bool {
    component
        .component_type()
        .imports(component.engine())
        .any(|(name, _)| is_ours(name))
}

/// Whether a preview 1 module does.
pub(super) fn imported_by_core(module: &Module) -> bool {
    module.imports().any(|import| is_ours(import.module()))
}

/// Nanoseconds until the guest is killed, once its termination has begun.
fn remaining(stop: &Stop) -> Option<u64> {
    stop.deadline().map(|deadline| {
        let remaining = deadline.saturating_duration_since(Instant::now());
        // The grace was bounded to a year when it was asked for.
        remaining.as_nanos() as u64
    })
}

struct Termination(Arc<Stop>);

#[async_trait]
impl Pollable for Termination {
    async fn ready(&mut self) {
        self.0.begun().await;
    }
}

impl Host for Component {
    fn subscribe_termination(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let termination = self.table.push(Termination(self.stop.clone()))?;
        subscribe(&mut self.table, termination)
    }

    fn remaining_grace(&mut self) -> wasmtime::Result<Option<u64>> {
        Ok(remaining(&self.stop))
    }
}

pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    add_to_linker::<_, HasSelf<Component>>(linker, |component| component)
}

/// Links the same for preview 1 modules, in numbers alone: -1 is what is not there.
pub(super) fn link_core(linker: &mut wasmtime::Linker<Core>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "subscribe-termination",
        |mut caller: Caller<'_, Core>| -> i32 {
            let core = caller.data_mut();
            let opened = core.descriptors.open_termination(core.stop.clone());
            opened.map_or(-1, u32::cast_signed)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "remaining-grace",
        |caller: Caller<'_, Core>| -> i64 {
            remaining(&caller.data().stop).map_or(-1, u64::cast_signed)
        },
    )?;
    Ok(())
}
