//! What containers use, and how often they were started again.

use client::Key;
use jiff::Timestamp;
use runtime::Usage;

use super::Driver;
use super::cell::Cell;
use crate::pod::Live;

/// A pod with a container that runs.
#[derive(Clone, Debug)]
pub(crate) struct PodUsage {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) containers: Vec<ContainerUsage>,
}

/// The instance of a container that runs.
#[derive(Clone, Debug)]
pub(crate) struct ContainerUsage {
    pub(crate) name: String,
    /// Which instance, from 0.
    pub(crate) attempt: u32,
    pub(crate) started_at: Timestamp,
    pub(crate) restarts: u32,
    pub(crate) used: Usage,
}

/// How often a container was started again, whether it runs or not.
#[derive(Clone, Debug)]
pub(crate) struct Restarts {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) container: String,
    pub(crate) count: u32,
}

impl Driver {
    /// What all containers that run now have used and use.
    pub(crate) fn usage(&self) -> Vec<PodUsage> {
        let cells = self.0.cells.read();
        let pods = cells.by_uid.values().map(|cell| usage(cell));
        pods.filter(|pod| !pod.containers.is_empty()).collect()
    }

    /// Of each container that was ever started.
    pub(crate) fn restarts(&self) -> Vec<Restarts> {
        let cells = self.0.cells.read();
        let mut all = Vec::new();
        for cell in cells.by_uid.values() {
            let state = cell.state.lock();
            let known = state.observed.containers.iter();
            let started = known.filter(|(_, c)| c.starts > 0);
            all.extend(started.map(|(name, c)| Restarts {
                key: cell.key.clone(),
                uid: cell.uid.clone(),
                container: name.clone(),
                count: c.restart_count().unsigned_abs(),
            }));
        }
        all
    }
}

fn usage(cell: &Cell) -> PodUsage {
    let state = cell.state.lock();
    let containers = state.running.iter().filter_map(|(name, instance)| {
        let running = &instance.running;
        let known = state.observed.get(name)?;
        // What has ended uses nothing, and nobody may have heard of its end yet.
        let Live::Running {
            attempt,
            started_at,
            ..
        } = known.live
        else {
            return None;
        };
        running.exit().is_none().then(|| ContainerUsage {
            name: name.clone(),
            attempt,
            started_at,
            restarts: known.restart_count().unsigned_abs(),
            used: running.usage(),
        })
    });
    PodUsage {
        key: cell.key.clone(),
        uid: cell.uid.clone(),
        containers: containers.collect(),
    }
}
