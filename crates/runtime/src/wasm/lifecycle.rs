//! `carob:pod/lifecycle` for components: how a guest learns of its own termination.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::guest::Component;
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
pub(super) const INTERFACE: &str = "carob:pod/lifecycle";

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
        Ok(self.stop.deadline().map(|deadline| {
            let remaining = deadline.saturating_duration_since(Instant::now());
            // The grace was bounded to a year when it was asked for.
            remaining.as_nanos() as u64
        }))
    }
}

pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    add_to_linker::<_, HasSelf<Component>>(linker, |component| component)
}
