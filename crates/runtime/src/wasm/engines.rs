//! The engines of a process, one for each handler: what they are made of, and when.

use std::sync::Arc;

use tokio::sync::OnceCell;
use wasmtime::Engine;

use super::engine::{capacity, capacity_beside, engine, fingerprint};
use super::link::Linkers;
use super::room::Room;
use crate::{Handler, PrepareError};

/// An engine with its pool of instances, and what its guests may import.
pub(super) struct Site {
    pub(super) engine: Engine,
    pub(super) linkers: Linkers,
}

impl Site {
    fn new(handler: Handler, room: &Arc<Room>) -> wasmtime::Result<Self> {
        let engine = engine(handler, room.capacity())?;
        let linkers = Linkers::new(&engine, handler, room.clone())?;
        Ok(Self { engine, linkers })
    }
}

/// The default one is there from the beginning; the dense one, whose pool is of no use to most nodes, from its first module
/// on.
pub(super) struct Engines {
    carob: Arc<Site>,
    room: Arc<Room>,
    dense: OnceCell<Arc<Site>>,
    /// How many instances the dense pool is to have at most.
    dense_instances: u32,
    fingerprints: [String; 2],
}

impl Engines {
    pub(super) fn new(instances: u32, dense_instances: u32) -> wasmtime::Result<Self> {
        let room = Room::new(Handler::Carob, capacity(instances), instances);
        let carob = Site::new(Handler::Carob, &room)?;
        // Its pool does not matter to what it compiles.
        let dense = fingerprint(&engine(Handler::Dense, 1)?);
        Ok(Self {
            fingerprints: [fingerprint(&carob.engine), dense],
            carob: Arc::new(carob),
            room,
            dense: OnceCell::new(),
            dense_instances,
        })
    }

    /// The room for instances of the default handler.
    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// How many guests of all handlers may live at a time, at most.
    pub(super) fn places(&self) -> usize {
        let dense = usize::try_from(self.dense_instances).unwrap_or(usize::MAX);
        let carob = usize::try_from(self.room.capacity()).unwrap_or(usize::MAX);
        carob.saturating_add(dense)
    }

    /// A handler's engine, made now if it is not there yet.
    ///
    /// # Errors
    /// When the system has no room for its pool.
    pub(super) async fn get(
        self: &Arc<Self>,
        handler: Handler,
        io: &tokio::runtime::Handle,
    ) -> Result<Arc<Site>, PrepareError> {
        if handler == Handler::Carob {
            return Ok(self.carob.clone());
        }
        let make = || async {
            let this = self.clone();
            let made = io.spawn_blocking(move || this.make_dense()).await;
            made.map_err(|_| PrepareError::ShuttingDown)?
                .map_err(|error| {
                    let name = handler.name();
                    PrepareError::Invalid(format!(
                        "this node has no room for the runtime class of the handler \"{name}\": {error:#}"
                    ))
                })
        };
        self.dense.get_or_try_init(make).await.cloned()
    }

    fn make_dense(&self) -> wasmtime::Result<Arc<Site>> {
        let wanted = self.dense_instances;
        // The default pool is there, and keeps what it may ever need.
        let instances = capacity_beside(self.room.capacity(), wanted);
        if instances == 0 {
            let why = "vm.max_map_count allows no more than the default one has";
            return Err(wasmtime::Error::msg(why));
        }
        let room = Room::new(Handler::Dense, instances, wanted);
        let site = Site::new(Handler::Dense, &room)?;
        tracing::info!(instances, "there is a dense pool now");
        Ok(Arc::new(site))
    }

    /// What the handler's compiled code is known by.
    pub(super) fn fingerprint(&self, handler: Handler) -> &str {
        let [carob, dense] = &self.fingerprints;
        match handler {
            Handler::Carob => carob,
            Handler::Dense => dense,
        }
    }

    /// Whether code that is known by this was compiled by one of them.
    pub(super) fn knows(&self, fingerprint: &str) -> bool {
        self.fingerprints.iter().any(|ours| ours == fingerprint)
    }

    /// Interrupts whoever computes.
    pub(super) fn tick(&self) {
        self.carob.engine.increment_epoch();
        if let Some(dense) = self.dense.get() {
            dense.engine.increment_epoch();
        }
    }
}
