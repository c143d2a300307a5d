//! Commands in containers: where they run, and how many at once.

use std::sync::Arc;

use client::node::{ExecTarget, NOT_RUNNING};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Driver;
use super::cell::{Cell, State};
use super::log::{Refusal, container_of};
use crate::exec::Command;
use crate::exec::view::Process;

/// How many commands callers may run at once, on a node and in a pod.
pub(super) const MOST_OF_NODE: usize = 256;
pub(super) const MOST_OF_POD: usize = 8;

impl Driver {
    /// Finds the container that a command is meant for, and makes room for it.
    ///
    /// # Errors
    /// When there is no such container, it does not run, or as many commands run as may.
    pub(crate) fn exec(&self, target: ExecTarget) -> Result<Command, Refusal> {
        let ExecTarget {
            namespace,
            pod: name,
            uid,
            container,
            command,
            ..
        } = target;
        let cell = self.find(&namespace, &name, &uid)?;
        let state = cell.state.lock();
        container_of(&state.pod, &name, &container)?;
        let command = self.command(&cell, &state, &container, command);
        let command = command.ok_or_else(|| {
            let place = format!("container \"{container}\" in pod \"{name}\"");
            Refusal::NotYet(format!("{place} {NOT_RUNNING}"))
        })?;
        let of_pod = take(&cell.commands, MOST_OF_POD, "pod")?;
        let of_node = take(&self.0.commands, MOST_OF_NODE, "node")?;
        Ok(Command {
            files: self.0.files.clone(),
            places: Some(Arc::new([of_pod, of_node])),
            ..command
        })
    }

    /// A command of the container's own, beside its instance that runs; `None` where none does.
    pub(super) fn command(
        &self,
        cell: &Cell,
        state: &State,
        container: &str,
        words: Vec<String>,
    ) -> Option<Command> {
        let instance = state.running.get(container)?;
        let runs = instance.running.exit().is_none();
        runs.then(|| Command {
            span: tracing::info_span!("exec", pod = %cell.key, uid = %cell.uid, container),
            words,
            main: instance.running.clone(),
            given: Arc::clone(&instance.given),
            processes: processes(state),
            runtime: Arc::clone(&self.0.tools.runtime),
            files: instance.files.clone(),
            places: None,
            workers: self.0.workers.clone(),
            tls: Arc::clone(&self.0.tools.tls),
        })
    }
}

/// # Errors
/// Where no place is free.
fn take(places: &Arc<Semaphore>, most: usize, of: &str) -> Result<OwnedSemaphorePermit, Refusal> {
    let taken = Arc::clone(places).try_acquire_owned();
    taken.map_err(|_| {
        let why = format!("{most} commands run in this {of} already, and no more may at once");
        Refusal::Full(why)
    })
}

/// The instances of a pod that run, the oldest first.
fn processes(state: &State) -> Vec<Process> {
    let running = state.running.iter();
    let running = running.filter(|(_, instance)| instance.running.exit().is_none());
    let process = running.map(|(container, instance)| Process {
        container: container.clone(),
        argv: instance.given.argv.clone(),
        started: instance.given.started,
        usage: instance.running.usage(),
    });
    let mut all: Vec<_> = process.collect();
    all.sort_by_key(|process| process.started);
    all
}
