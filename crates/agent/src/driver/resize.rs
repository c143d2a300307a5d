//! Other resources for pods that are here: whether the node has them, and giving them to containers that run.

use std::cmp::Reverse;
use std::sync::Arc;

use api::resources::{Requests, Resources, requested};
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use runtime::ResizeError;

use super::Driver;
use super::cell::{Cell, State};
use super::perform;
use crate::node::allocation::{self, Used};
use crate::pod::{self, EventKind, Live, Observation, PodView as _, Why};
use crate::resources::limits;

impl Driver {
    /// Has what a pod wishes for judged.
    pub(super) fn ask_room(&self, cell: &Cell) {
        self.0.wishing.lock().insert(cell.uid.clone());
        self.0.room.notify_one();
    }

    /// What others had is free: those that wait for room are judged anew.
    pub(super) fn room_freed(&self) {
        self.0.room.notify_one();
    }

    /// Judges wishes as they come and as room is freed. Only one task does, for what one pod is given another one must not
    /// be; whatever happens during one pass makes a single other one.
    pub(super) async fn share_room(self) {
        loop {
            self.0.room.notified().await;
            self.share();
        }
    }

    /// Judges all that wish for something, the most important first, then who waits longest.
    fn share(&self) {
        // Who is deferred comes back; who asks meanwhile stays for the next pass.
        let wishing = std::mem::take(&mut *self.0.wishing.lock());
        if wishing.is_empty() {
            return;
        }
        let cells: Vec<_> = self.0.cells.read().by_uid.values().cloned().collect();
        let mut used = Used::default();
        let mut waiting = Vec::new();
        for cell in cells {
            let state = cell.state.lock();
            let held = held(&state);
            used.add(&held);
            if wishing.contains(&cell.uid) {
                let priority = state.pod.pod_spec().and_then(|spec| spec.priority);
                let since = state.observed.resize.pending.as_ref().map(|p| p.since);
                let order = (Reverse(priority.unwrap_or(0)), since);
                drop(state);
                waiting.push((order, cell, held));
            }
        }
        waiting.sort_by_key(|(order, ..)| *order);
        for (_, cell, held) in waiting {
            used.subtract(&held);
            used.add(&self.judge(&cell, &used));
        }
    }

    /// Judges what a pod wishes for where others use so much; what it has then.
    fn judge(&self, cell: &Arc<Cell>, used: &Used) -> Resources {
        let mut state = cell.state.lock();
        let pod = state.pod.clone();
        let Some(spec) = pod
            .pod_spec()
            .filter(|_| !state.is_final() && !state.observed.is_allocated(&pod))
        else {
            // It was taken back, or would serve nobody any more.
            state.observed.resize.asking = false;
            state.observed.resize.pending = None;
            state.untold = true;
            let held = held(&state);
            drop(state);
            self.0.queue.add(cell.uid.clone());
            return held;
        };
        let (asked, wanted) = (asked(spec), pod::wanted(&pod));
        let machine = &self.0.tools.machine;
        let refused = allocation::judge(&asked, &held(&state), used, machine);
        let generation = pod.metadata.generation.unwrap_or_default();
        let before = state.observed.resize.pending.as_ref();
        let is_known = before.is_some_and(|before| {
            let judged = refused.as_ref().map(|(why, words)| (*why, words.as_str()));
            judged == Some((before.why, before.message.as_str())) && before.wanted == wanted
        });
        let (kind, reason, what, error) = match &refused {
            None => (EventKind::Normal, "ResizeStarted", "started", ""),
            Some((Why::Deferred, why)) => {
                self.0.wishing.lock().insert(cell.uid.clone());
                (
                    EventKind::Warning,
                    "ResizeDeferred",
                    "Deferred",
                    why.as_str(),
                )
            }
            Some((Why::Infeasible, why)) => (
                EventKind::Warning,
                "ResizeInfeasible",
                "Infeasible",
                why.as_str(),
            ),
        };
        let message = pod::summary(&pod, &wanted, what, generation, error);
        let room = Observation::Room {
            wanted,
            generation,
            refused,
        };
        let keep = room.is_durable();
        state.observed.observe(room, self.0.tools.clock.now());
        state.untold = true;
        state.unsaved += u32::from(keep);
        let held = held(&state);
        drop(state);
        if !is_known {
            self.event(cell, None, kind, reason, message);
        }
        perform::spawn(self, cell, move |driver, cell| async move {
            driver.judged(&cell, keep).await
        });
        held
    }

    /// Keeps what a pod was given, and goes on with it.
    async fn judged(&self, cell: &Arc<Cell>, keep: bool) {
        if keep {
            self.save(cell, false).await;
            cell.state.lock().unsaved -= 1;
        }
        self.0.queue.add(cell.uid.clone());
    }

    /// Has a running container use these resources from now on.
    pub(super) async fn resize(
        &self,
        cell: &Arc<Cell>,
        container: String,
        attempt: u32,
        resources: ResourceRequirements,
    ) {
        let (instance, is_first) = {
            let state = cell.state.lock();
            let c = state.observed.get(&container);
            let failed = c.and_then(|c| c.change.failure()).is_some();
            // The next instance may run already, with what was given since.
            let is_it = c.is_some_and(
                |c| matches!(c.live, Live::Running { attempt: of, .. } if of == attempt),
            );
            let running = state.running.get(&container).filter(|_| is_it);
            (running.cloned(), !failed)
        };
        // What has ended is started with them.
        let Some(instance) = instance else { return };
        let resized = instance.running.resize(limits(Some(&resources)));
        let error = resized.err().map(|error| words(&container, &error));
        if let Some(error) = error.as_deref().filter(|_| is_first) {
            let (pod, observed) = {
                let state = cell.state.lock();
                (state.pod.clone(), state.observed.clone())
            };
            let generation = observed.resize.progress.unwrap_or_default();
            let message = pod::summary(&pod, &observed.allocated, "error", generation, error);
            self.event(cell, None, EventKind::Warning, "ResizeError", message);
        }
        let learned = Observation::Resized {
            container,
            attempt,
            resources,
            error,
        };
        self.learned(cell, learned).await;
    }

    /// All containers of a pod have what they were given. They may have had more.
    pub(super) fn resized(&self, cell: &Arc<Cell>, generation: i64) {
        let (pod, allocated) = {
            let state = cell.state.lock();
            (state.pod.clone(), state.observed.allocated.clone())
        };
        let message = pod::summary(&pod, &allocated, "completed", generation, "");
        self.event(cell, None, EventKind::Normal, "ResizeCompleted", message);
        self.room_freed();
    }
}

/// What a pod has on the node.
fn held(state: &State) -> Resources {
    let spec = state.pod.pod_spec().filter(|_| state.has_room());
    let counted = |spec| Requests::asked(spec, &|c| state.observed.counted(c));
    spec.map(counted).unwrap_or_default()
}

/// What a pod wishes for.
fn asked(spec: &PodSpec) -> Resources {
    Requests::asked(spec, &|c| requested(c.resources.as_ref()))
}

/// Why a container keeps what it has, as the kubelet says it.
fn words(container: &str, error: &ResizeError) -> String {
    match error {
        ResizeError::MemoryInUse { limit, used } => format!(
            "cannot decrease memory limits: attempting to set container {container:?} memory limit ({limit}) below current usage ({used}); what a guest has of memory it keeps until it ends"
        ),
        ResizeError::Invalid(why) => why.clone(),
    }
}
