//! One pod, as the driver holds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use network::PodNet;
use parking_lot::Mutex;
use runtime::{Meter, Running};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::probe::Room;
use super::stdin::Input;
use crate::cluster::OwnPod;
use crate::exec::Given;
use crate::exec::files::Files;
use crate::exec::screen::Screen;
use crate::image::Ready;
use crate::logs::Log;
use crate::pod::{Observed, PodView as _, phase};
use crate::volumes::Made;

/// A container's instance that runs.
#[derive(Clone)]
pub(super) struct Instance {
    pub(super) running: Running,
    /// What it was started with.
    pub(super) given: Arc<Given>,
    /// The modules among its files that its probes and hooks run.
    pub(super) files: Files,
}

pub(super) struct Cell {
    pub(super) uid: String,
    pub(super) key: Key,
    /// It is from a file of this node. The API holds at most a mirror of it, which has another uid.
    pub(super) is_static: bool,
    /// Everything of this pod on this node.
    pub(super) dir: PathBuf,
    /// Cancelled once the directory of who had its uid before is elsewhere, where that was on its way out when this came.
    pub(super) awaits: Option<CancellationToken>,
    pub(super) state: Mutex<State>,
    /// Held while the record is written, so that a later one is never overwritten by an earlier one. Whether the pod's
    /// directory itself is known to be on the disk.
    pub(super) saving: tokio::sync::Mutex<bool>,
    /// Held while the API is told, for the same reason.
    pub(super) telling: tokio::sync::Mutex<()>,
    /// Room for its probes.
    pub(super) probes: Room,
    /// Room for commands that somebody runs in it.
    pub(super) commands: Arc<Semaphore>,
    /// What it writes is counted, and waits where it may not be written yet.
    pub(super) meter: Arc<Meter>,
}

pub(super) struct State {
    pub(super) pod: Arc<Pod>,
    pub(super) observed: Observed,
    /// Whether the node has found room for it, or it was here before, and it is not forgotten yet: else nothing is done for
    /// it, and the ledger does not know it.
    pub(super) is_admitted: bool,
    /// It is nobody's any more: the same pod, should it come again, has another cell.
    pub(super) is_forgotten: bool,
    pub(super) net: Option<PodNet>,
    /// What the pod is to policies, as long as it has a network.
    pub(super) own: Option<OwnPod>,
    pub(super) volumes: BTreeMap<String, Made>,
    pub(super) modules: BTreeMap<String, Ready>,
    pub(super) running: BTreeMap<String, Instance>,
    /// The logs that are being written, with their instances' numbers.
    pub(super) logs: BTreeMap<String, (u32, Arc<Log>)>,
    /// The standard inputs of the instances that run and have one.
    pub(super) inputs: BTreeMap<String, Input>,
    /// Measures what it writes, from when its volumes are there until all is given back.
    pub(super) following: Option<AbortOnDropHandle<()>>,
    /// The screens of containers that have a terminal, the last instance's each.
    pub(super) screens: BTreeMap<String, Screen>,
    /// Ends the wait for what volumes are made of.
    pub(super) mounting: CancellationToken,
    /// The uid of what mirrors it in the API, where it is from a file.
    pub(super) mirror: Option<String>,
    /// What the API holds of the pod's status, whoever wrote it.
    pub(super) reported: Option<PodStatus>,
    /// The object's version that `reported` is of.
    pub(super) reported_in: u64,
    /// Something was learned since the API was last known to be told all.
    pub(super) untold: bool,
    /// How much was learned that is not in the pod's record yet, and has to be.
    pub(super) unsaved: u32,
    /// A report is on its way.
    pub(super) reporting: bool,
    /// A report that says little waits until then for one that says more.
    pub(super) report_at: Option<Timestamp>,
}

impl Cell {
    pub(super) fn new(
        pod: Arc<Pod>,
        (key, is_static): (Key, bool),
        dir: PathBuf,
        (observed, is_admitted): (Observed, bool),
        (net, own): (Option<PodNet>, Option<OwnPod>),
        meter: Arc<Meter>,
    ) -> Self {
        let (reported, reported_in) = (pod.status.clone(), version(&pod));
        Self {
            uid: pod.uid().to_owned(),
            key,
            is_static,
            dir,
            awaits: None,
            state: Mutex::new(State {
                pod,
                observed,
                is_admitted,
                is_forgotten: false,
                net,
                own,
                volumes: BTreeMap::new(),
                modules: BTreeMap::new(),
                running: BTreeMap::new(),
                logs: BTreeMap::new(),
                inputs: BTreeMap::new(),
                following: None,
                screens: BTreeMap::new(),
                mounting: CancellationToken::new(),
                mirror: None,
                reported,
                reported_in,
                untold: true,
                unsaved: 0,
                reporting: false,
                report_at: None,
            }),
            saving: tokio::sync::Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            probes: Room::of_pod(),
            commands: Arc::new(Semaphore::new(super::exec::MOST_OF_POD)),
            meter,
        }
    }

    /// Waits until its directory is its own: before anything is written there.
    pub(super) async fn has_place(&self) {
        if let Some(vacated) = &self.awaits {
            vacated.cancelled().await;
        }
    }

    /// By which uid the API knows it, if it does.
    pub(super) fn told_as<'a>(&'a self, state: &'a State) -> Option<&'a str> {
        match self.is_static {
            true => state.mirror.as_deref(),
            false => Some(&self.uid),
        }
    }

    pub(super) fn volumes_dir(&self) -> PathBuf {
        self.dir.join("volumes")
    }

    pub(super) fn instance_dir(&self, container: &str, attempt: u32) -> PathBuf {
        self.dir
            .join("containers")
            .join(container)
            .join(attempt.to_string())
    }

    pub(super) fn log_dir(&self, container: &str) -> PathBuf {
        self.dir.join("logs").join(container)
    }
}

/// Where a container's instances have copies of what their pod has in `memory`: beside its volumes, by a name that none of
/// them has.
pub(super) fn copies_in(memory: &Path, container: &str) -> PathBuf {
    memory.join("..sub-paths").join(container)
}

impl State {
    /// Takes in the status that the API holds. Answers and the watch overtake each other: the newest version counts.
    pub(super) fn holds(&mut self, pod: &Pod) {
        let version = version(pod);
        if version >= self.reported_in {
            self.reported.clone_from(&pod.status);
            self.reported_in = version;
        }
    }

    /// Whether the API has it that the pod is ready.
    pub(super) fn is_held_ready(&self) -> bool {
        let held = self.reported.as_ref();
        let mut held = held.into_iter().flat_map(|h| h.conditions.iter().flatten());
        held.any(|c| c.type_ == "Ready" && c.status == "True")
    }

    /// The pod as its containers are to see it: with the resources that they have or will be started with.
    pub(super) fn allocated_pod(&self) -> Arc<Pod> {
        self.observed.as_allocated(&self.pod)
    }

    /// Nothing will be started any more, so that nothing needs to be waited for.
    pub(super) fn is_over(&self) -> bool {
        let ending = self.observed.gone || self.pod.deletion_grace().is_some();
        ending || self.observed.verdict.is_some()
    }

    /// Nothing of it will be started any more, for its end has begun or its containers have ended.
    pub(super) fn is_final(&self) -> bool {
        self.is_over() || matches!(phase(&self.pod, &self.observed), "Succeeded" | "Failed")
    }

    /// Whether its end can be made its node's doing, or come sooner by that. A final phase stays.
    pub(super) fn may_be_evicted(&self) -> bool {
        let is_final = matches!(phase(&self.pod, &self.observed), "Succeeded" | "Failed");
        !is_final && !self.observed.gone
    }

    /// Whether anything of it runs, or is not given back yet.
    pub(super) fn has_something(&self) -> bool {
        self.observed.any_live() || !self.observed.sandbox.is_released()
    }

    /// Whether what is set aside for its containers is so still. What was deleted by force counts for nobody any more: the
    /// scheduler may have placed others in its stead.
    pub(super) fn has_room(&self) -> bool {
        let runs = self.observed.any_live() && !self.observed.gone;
        runs || (self.is_admitted && !self.is_final())
    }

    /// Nothing of the pod runs, and the API and the record know all about it.
    pub(super) fn at_rest(&self) -> bool {
        let is_told = !self.untold && !self.reporting;
        // Nothing is told of one that was not taken in.
        !self.observed.any_live() && self.unsaved == 0 && (is_told || !self.is_admitted)
    }
}

/// The number in an object's `resourceVersion`; 0 if it has none.
pub(super) fn version(pod: &Pod) -> u64 {
    let version = pod.metadata.resource_version.as_deref();
    version.and_then(|v| v.parse().ok()).unwrap_or(0)
}
