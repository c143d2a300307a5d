//! Resources for pods: whether the node has what they come with, or wish for later, and giving it to containers that run.

use std::cmp::Reverse;
use std::sync::Arc;

use api::resources::{Requests, requested};
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use parking_lot::MutexGuard;
use runtime::ResizeError;

use super::Driver;
use super::cell::{Cell, State};
use super::perform;
use crate::eviction::refusal;
use crate::node::allocation::Part;
use crate::pod::{self, EventKind, Live, Observation, PodView as _, Why};
use crate::resources::limits;

impl Driver {
    /// Has what a pod wishes for judged.
    pub(super) fn ask_room(&self, cell: &Cell) {
        self.0.wishing.lock().insert(cell.uid.clone());
        self.0.room.notify_one();
    }

    /// Notes what a pod has: for whoever has changed its object or what is known of it, before its state is let go.
    pub(super) fn count(&self, cell: &Cell, state: &State) {
        if state.is_admitted {
            self.has(&cell.uid, held(state));
        }
    }

    /// Notes that a pod has so much. If that is less than before, those that wait for room are judged anew.
    pub(super) fn has(&self, uid: &str, held: Part) {
        let frees = self.0.ledger.lock().set(uid, held);
        if frees {
            self.0.room.notify_one();
        }
    }

    /// Judges those that wait, as they come and as room is freed. Whatever happens during one pass makes a single other one.
    pub(super) async fn share_room(self) {
        loop {
            self.0.room.notified().await;
            self.share();
        }
    }

    pub(super) fn share(&self) {
        for cell in self.waiting() {
            self.judge(&cell);
        }
    }

    /// Those that wait for room, the most important first; of these who comes, then who has wished for more for the longest. Who is deferred comes back; who asks
    /// meanwhile stays for the next pass.
    fn waiting(&self) -> Vec<Arc<Cell>> {
        let wishing = std::mem::take(&mut *self.0.wishing.lock());
        let mut waiting: Vec<_> = {
            let cells = self.0.cells.read();
            let found = wishing.iter().filter_map(|uid| cells.by_uid.get(uid));
            found.cloned().collect()
        };
        waiting.sort_by_cached_key(|cell| {
            let state = cell.state.lock();
            let priority = state.pod.pod_spec().and_then(|spec| spec.priority);
            let since = state.observed.resize.pending.as_ref().map(|p| p.since);
            (Reverse(priority.unwrap_or(0)), since)
        });
        waiting
    }

    /// Judges a pod that waits.
    fn judge(&self, cell: &Arc<Cell>) {
        let mut state = cell.state.lock();
        if state.is_forgotten {
            return;
        }
        if !state.is_admitted {
            return self.admit(cell, state);
        }
        let pod = state.pod.clone();
        let Some(spec) = pod
            .pod_spec()
            .filter(|_| !state.is_final() && !state.observed.is_allocated(&pod))
        else {
            // It was taken back, or would serve nobody any more.
            state.observed.resize.asking = false;
            state.observed.resize.pending = None;
            state.untold = true;
            drop(state);
            return self.0.queue.add(cell.uid.clone());
        };
        let (asked, wanted) = (asked(spec), pod::wanted(&pod));
        let machine = &self.0.tools.machine;
        let judged = self.0.ledger.lock().resize(&cell.uid, asked, machine);
        let refused = judged.err();
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
        self.count(cell, &state);
        drop(state);
        if !is_known {
            self.event(cell, None, kind, reason, message);
        }
        perform::spawn(self, cell, move |driver, cell| async move {
            driver.judged(&cell, keep).await
        });
    }

    /// Counts a pod that has come, and takes it in if it was here before or there is room for it. It was placed for what it
    /// asked for then, and may have been resized since.
    ///
    /// # Errors
    /// When there is not: Kubernetes' reason, and words.
    pub(super) fn take_in(&self, cell: &Cell, state: &mut State) -> Result<(), (String, String)> {
        let pod = state.pod.clone();
        // Who has ended needs nothing.
        if !state.is_admitted && !state.is_final() {
            let pressures = self.0.tools.health.borrow().pressures;
            let refused = refusal(&pod, pressures).filter(|_| !cell.is_static);
            if let Some(why) = refused {
                return Err(("Evicted".to_owned(), why));
            }
            let asked = pod.pod_spec().map(asked).unwrap_or_default();
            let machine = &self.0.tools.machine;
            self.0.ledger.lock().admit(&cell.uid, asked, machine)?;
        }
        state.is_admitted = true;
        state.observed.wishes(&pod);
        self.count(cell, state);
        Ok(())
    }

    /// Takes in a pod whose turn has come, or fails it.
    fn admit(&self, cell: &Arc<Cell>, mut state: MutexGuard<'_, State>) {
        let Err((reason, message)) = self.take_in(cell, &mut state) else {
            drop(state);
            return self.0.queue.add(cell.uid.clone());
        };
        // Those who have the room may not be there any more.
        let is_early = || !*self.0.taken_up.borrow();
        if cell.is_static && state.pod.deletion_grace().is_none() && is_early() {
            drop(state);
            self.0.wishing.lock().insert(cell.uid.clone());
            if !is_early() {
                self.0.room.notify_one();
            }
            return;
        }
        state.is_admitted = true;
        let told = format!("Pod was rejected: {message}");
        state.observed.turn_away(&reason, told);
        state.unsaved += 1;
        drop(state);
        self.event(cell, None, EventKind::Warning, &reason, message);
        perform::spawn(self, cell, |driver, cell| async move {
            driver.judged(&cell, true).await
        });
    }

    /// Keeps what was decided of a pod, and goes on with it.
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
        let resized = instance
            .running
            .resize(limits(Some(&resources), &self.0.tools.machine));
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

    /// All containers of a pod have what they were given.
    pub(super) fn resized(&self, cell: &Arc<Cell>, generation: i64) {
        let (pod, allocated) = {
            let state = cell.state.lock();
            (state.pod.clone(), state.observed.allocated.clone())
        };
        let message = pod::summary(&pod, &allocated, "completed", generation, "");
        self.event(cell, None, EventKind::Normal, "ResizeCompleted", message);
    }
}

/// What a pod has on the node.
pub(super) fn held(state: &State) -> Part {
    let spec = state.pod.pod_spec().filter(|_| state.has_room());
    let counted = |spec| Requests::asked(spec, &|c| state.observed.counted(c)).into();
    spec.map(counted).unwrap_or_default()
}

/// What a pod wishes for.
fn asked(spec: &PodSpec) -> Part {
    Requests::asked(spec, &|c| requested(c.resources.as_ref())).into()
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

#[cfg(test)]
pub(super) mod tests;
