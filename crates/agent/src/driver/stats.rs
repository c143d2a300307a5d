//! What containers use, and how often they were started again.

use std::collections::BTreeMap;

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

    /// The same, of one pod of each name.
    pub(crate) fn usage_by_name(&self) -> Vec<PodUsage> {
        let cells = self.0.cells.read();
        let all = cells.by_uid.values();
        let all = all.map(|cell| (cell.uid.as_str(), usage(cell)));
        one_of_each(all, &cells.by_key)
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

/// Where the API has a pod of a name, that one: one from a file, or one that is gone and has not ended, may have the same.
fn one_of_each<'a>(
    all: impl Iterator<Item = (&'a str, PodUsage)>,
    uids: &BTreeMap<Key, String>,
) -> Vec<PodUsage> {
    let mut pods = BTreeMap::new();
    for (uid, pod) in all.filter(|(_, pod)| !pod.containers.is_empty()) {
        if uids.get(&pod.key).is_none_or(|of| of == uid) {
            pods.entry(pod.key.clone()).or_insert(pod);
        }
    }
    pods.into_values().collect()
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
        uid: cell.told_as(&state).unwrap_or(&cell.uid).to_owned(),
        containers: containers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_pods() {
        let pod = |uid: &'static str, name: &str, runs: bool| {
            let container = ContainerUsage {
                name: "c".to_owned(),
                attempt: 0,
                started_at: Timestamp::UNIX_EPOCH,
                restarts: 0,
                used: Usage::default(),
            };
            let pod = PodUsage {
                key: Key::new("d", name),
                uid: uid.to_owned(),
                containers: runs.then_some(container).into_iter().collect(),
            };
            (uid, pod)
        };
        let all = [
            pod("file", "both", true),
            pod("of-api", "both", true),
            pod("file-2", "ended", true),
            pod("of-api-2", "ended", false),
            pod("file-3", "alone", true),
            pod("gone", "alone", true),
        ];
        let uids = [("both", "of-api"), ("ended", "of-api-2")];
        let uids = uids.map(|(name, uid)| (Key::new("d", name), uid.to_owned()));
        let found = one_of_each(all.into_iter(), &uids.into());
        let found: Vec<&str> = found.iter().map(|pod| pod.uid.as_str()).collect();
        assert_eq!(found, ["file-3", "of-api"]);
    }
}
