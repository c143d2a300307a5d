//! The driver: performs for every pod of this node what the decider plans, and feeds back what came of it.
//!
//! A pod is looked at when its object changed, when something was learned about it, or when its plan asked for a time.
//! Looking is quick and never waits; whatever takes time is a task of its own that ends in an [`Observation`]. A pod at
//! rest has no task, except the one that awaits each running guest's end and, where it may not write without end, the one
//! that measures it, and no timer of its own but for files in memory: a time at which its plan wants to be made again (a
//! token's renewal, say) is a line in the queue that all pods share.

mod cell;
mod class;
mod exec;
mod forward;
mod hook;
mod launch;
mod log;
mod measuring;
mod message;
mod mount;
mod names;
mod perform;
mod probe;
mod record;
mod report;
mod resize;
mod root;
mod run;
mod shortage;
mod start;
mod statics;
mod stats;
mod stdin;
mod storage;
mod sub_path;
mod sweep;
mod terminal;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use client::{Key, WorkQueue};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::exec::files::Files;
use crate::exec::toolbox::Workers;
use crate::node::allocation::Part;
use crate::node::ledger::Ledger;
use crate::objects::{self, Objects};
use crate::pod::{self, Action, Observation, Observed, PodView as _};
use cell::Cell;
use measuring::Measuring;
use record::{Leaving, Left};
use statics::Statics;

pub(crate) use log::Refusal;
pub(crate) use shortage::Rounds;
pub(crate) use stats::{ContainerUsage, PodUsage, Restarts};
pub(crate) use tools::Tools;

/// All pods of this node. Clones are handles to the same ones.
#[derive(Clone)]
pub(crate) struct Driver(Arc<Inner>);

struct Inner {
    tools: Tools,
    /// Uids of pods to be looked at.
    queue: WorkQueue<String>,
    cells: RwLock<Cells>,
    /// Something came to rest: who waits for all looks again.
    rested: Notify,
    /// Room for volumes that are being made anew, a pod each.
    renewals: Semaphore,
    /// Room for probes that are being made.
    probes: probe::Room,
    /// Room for commands that somebody runs in containers.
    commands: Arc<Semaphore>,
    /// Modules that lie in containers' file systems, as callers run them.
    files: Files,
    /// Threads of commands.
    workers: Workers,
    /// Room for pods whose files are measured.
    measuring: Measuring,
    /// What earlier runs of the agent left was taken up.
    taken_up: watch::Sender<bool>,
    /// Something that nobody needs could not be removed.
    untidy: AtomicBool,
    /// The uids of pods that are new or wish for other resources and are not judged yet, or wait for room.
    wishing: Mutex<BTreeSet<String>>,
    /// Someone is new or wishes for more, or someone's room is free.
    room: Notify,
    /// What each pod has of the node. It is in step with a pod whose `state` nobody holds; locked after that, as `cells` are
    /// before, and nothing else is locked then.
    ledger: Mutex<Ledger>,
    /// Pods from files of this node; locked before `cells`.
    statics: Mutex<Statics>,
    /// Names whose mirrors in the API are to be looked at.
    mirrors: WorkQueue<Key>,
    /// What earlier runs of the agent left.
    left: Mutex<Left>,
}

#[derive(Default)]
struct Cells {
    by_uid: BTreeMap<String, Arc<Cell>>,
    by_key: BTreeMap<Key, String>,
    /// Uids whose directories are on their way out: who comes under one of them writes nothing before this is cancelled.
    leaving: BTreeMap<String, CancellationToken>,
    /// Set once the agent ends: for pods that come later.
    shutdown: Option<SignedDuration>,
}

impl Driver {
    pub(crate) fn new(tools: Tools) -> Self {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        let files = Files::new(&tools.dir, Arc::clone(&tools.runtime));
        Self(Arc::new(Inner {
            tools,
            queue: WorkQueue::with_backoff(first, longest),
            cells: RwLock::default(),
            rested: Notify::new(),
            renewals: Semaphore::new(mount::RENEWALS),
            probes: probe::Room::of_node(),
            commands: Arc::new(Semaphore::new(exec::MOST_OF_NODE)),
            files,
            workers: Workers::of_node(),
            measuring: Measuring::of_node(),
            taken_up: watch::Sender::new(false),
            untidy: AtomicBool::new(false),
            wishing: Mutex::default(),
            room: Notify::new(),
            ledger: Mutex::default(),
            statics: Mutex::default(),
            mirrors: WorkQueue::with_backoff(first, longest),
            left: Mutex::default(),
        }))
    }

    /// Ends all pods, each within `grace`; their objects stay. Returns when nothing runs and all is reported.
    pub(crate) async fn end(&self, grace: Duration) {
        let limit = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
        let cells: Vec<_> = {
            let mut cells = self.0.cells.write();
            cells.shutdown = Some(limit);
            cells.by_uid.values().cloned().collect()
        };
        for cell in &cells {
            {
                let mut state = cell.state.lock();
                state.observed.shutdown = Some(limit);
                state.untold = true;
            }
            self.0.queue.add(cell.uid.clone());
        }
        loop {
            let rested = self.0.rested.notified();
            let all_rest = || cells.iter().all(|c| c.state.lock().at_rest());
            if all_rest() {
                return;
            }
            rested.await;
        }
    }

    /// What the pods' volumes show.
    pub(crate) fn objects(&self) -> &Objects {
        &self.0.tools.objects
    }

    /// How many pods there are here, and how many of them have a running container.
    pub(crate) fn pods(&self) -> (usize, usize) {
        let cells = self.0.cells.read();
        let running = cells
            .by_uid
            .values()
            .filter(|c| !c.state.lock().running.is_empty())
            .count();
        (cells.by_uid.len(), running)
    }

    /// The pod of that name, if it is the one with that uid (any, if it is empty).
    fn find(&self, namespace: &str, name: &str, uid: &str) -> Result<Arc<Cell>, Refusal> {
        let key = Key::new(namespace, name);
        let from_file = self.static_uid(&key);
        let cells = self.0.cells.read();
        let found = [cells.by_key.get(&key), from_file.as_ref()];
        let mut found = found
            .into_iter()
            .flatten()
            .filter_map(|of| cells.by_uid.get(of));
        let is_it = |cell: &&Arc<Cell>| {
            uid.is_empty() || uid == cell.uid || cell.told_as(&cell.state.lock()) == Some(uid)
        };
        let unknown = || Refusal::Unknown(format!("pod {namespace}/{name} is not on this node"));
        found.find(is_it).cloned().ok_or_else(unknown)
    }

    /// Takes up a pod's present object.
    fn desired(&self, pod: &Arc<Pod>, record: Option<Observed>) {
        let uid = pod.uid().to_owned();
        if uid.is_empty() || !uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            tracing::warn!(
                pod = pod.name(),
                uid,
                "a pod without a usable uid is left alone"
            );
            return;
        }
        let key = Key::of(pod.as_ref());
        let (before, known) = {
            let mut cells = self.0.cells.write();
            let known = cells.by_uid.get(&uid).cloned();
            // In the same step, or it would be forgotten in between.
            if let Some(cell) = &known {
                cell.state.lock().observed.gone = false;
            }
            (cells.by_key.insert(key.clone(), uid.clone()), known)
        };
        if let Some(old) = before.filter(|old| *old != uid) {
            self.vanished(&old);
        }
        match known {
            Some(cell) => {
                let mut state = cell.state.lock();
                state.pod = pod.clone();
                // What others wrote into the status is seen here, and put right by the next report.
                state.holds(pod);
                state.untold = true;
                self.count(&cell, &state);
            }
            None => {
                self.add((key, false), pod, record);
                return;
            }
        }
        self.0.queue.add(uid);
    }

    /// Takes up a pod that was not here. Its name, and whether it is from a file.
    fn add(&self, of: (Key, bool), pod: &Arc<Pod>, record: Option<Observed>) -> Arc<Cell> {
        let mut cell = self.new_cell(of, pod, record);
        let cell = {
            let mut cells = self.0.cells.write();
            cell.awaits = cells.leaving.get(&cell.uid).cloned();
            let cell = Arc::new(cell);
            cell.state.lock().observed.shutdown = cells.shutdown;
            // Before anything is read for its volumes, and not between a forgotten pod's cell and its volumes: this may be
            // the same pod.
            self.0.tools.objects.put(pod);
            cells.by_uid.insert(cell.uid.clone(), cell.clone());
            cell
        };
        match self.take_in(&cell, &mut cell.state.lock()) {
            Ok(()) => self.0.queue.add(cell.uid.clone()),
            // What others had may be free by its turn.
            Err(_) => self.ask_room(&cell),
        }
        cell
    }

    fn new_cell(&self, of: (Key, bool), pod: &Arc<Pod>, record: Option<Observed>) -> Cell {
        let now = self.0.tools.clock.now();
        let known = known(pod);
        let is_admitted = record.is_some() || known.is_some();
        let mut observed = record
            .or_else(|| known.map(Observed::from_status))
            .unwrap_or_default();
        observed.start_time.get_or_insert(now);
        observed.observe(Observation::AgentRestarted, now);
        let net = match observed.sandbox {
            pod::Sandbox::Ready(IpAddr::V4(ip)) => self.rejoin(ip, pod.uid()),
            _ => None,
        };
        if matches!(observed.sandbox, pod::Sandbox::Ready(_))
            && net.is_none()
            && !pod.ended_in_api()
        {
            // Its address is not to be had any more (the node has another range now).
            observed.sandbox = pod::Sandbox::Absent;
        }
        // The API may not have heard of its address.
        let cluster = &self.0.tools.cluster;
        let own = net
            .as_ref()
            .map(|net| cluster.own_pod(pod, of.1, net.address()));
        let meter = self.meter(pod, of.1, is_admitted);
        Cell::new(
            pod.clone(),
            of,
            self.0.tools.dir.join(pod.uid()),
            (observed, is_admitted),
            (net, own),
            meter,
        )
    }

    fn gone(&self, key: &Key) {
        let uid = self.0.cells.write().by_key.remove(key);
        if let Some(uid) = uid {
            self.vanished(&uid);
        }
    }

    fn vanished(&self, uid: &str) {
        if let Some(cell) = self.0.cells.read().by_uid.get(uid).cloned() {
            let mut state = cell.state.lock();
            state.observed.gone = true;
            self.count(&cell, &state);
            self.0.queue.add(uid.to_owned());
        }
    }

    /// Takes in that volumes show what has changed.
    pub(crate) fn stale(&self, pods: &objects::Volumes) {
        let now = self.0.tools.clock.now();
        for (uid, volumes) in pods {
            let Some(cell) = self.0.cells.read().by_uid.get(uid).cloned() else {
                continue;
            };
            let stale = Observation::VolumesStale(volumes.clone());
            cell.state.lock().observed.observe(stale, now);
            self.0.queue.add(uid.clone());
        }
    }

    /// Lets go of a pod that is gone; `None` where it does not: it may have come back meanwhile. What comes back later waits
    /// until its directory has gone.
    fn forget(&self, cell: &Cell) -> Option<Leaving> {
        let leaving = {
            let mut cells = self.0.cells.write();
            let mut state = cell.state.lock();
            if !state.observed.gone || state.is_forgotten {
                return None;
            }
            cells.by_uid.remove(&cell.uid);
            self.0.tools.objects.remove(&state.pod);
            // What is under way for it still is not noted any more: the same pod may come again.
            state.is_admitted = false;
            state.is_forgotten = true;
            drop(state);
            self.has(&cell.uid, Part::default());
            Leaving::begin(self, &mut cells, &cell.uid)
        };
        self.0.queue.forget(&cell.uid);
        Some(leaving)
    }

    async fn work(self) {
        while let Some(uid) = self.0.queue.next().await {
            let Some(cell) = self.0.cells.read().by_uid.get(&*uid).cloned() else {
                continue;
            };
            self.look(&cell);
        }
    }

    /// Looks at one pod: plans, sets off what is planned, and reports what has changed.
    fn look(&self, cell: &Arc<Cell>) {
        let _span = tracing::info_span!("sync_pod", pod = %cell.key, uid = %cell.uid).entered();
        let now = self.0.tools.clock.now();
        let (actions, keep, routine) = {
            let mut state = cell.state.lock();
            if !state.is_admitted {
                return;
            }
            let pod = state.pod.clone();
            let keep = state.observed.sees(&pod, now);
            state.observed.held_ready = cell.told_as(&state).is_some() && state.is_held_ready();
            let actions = pod::sync(&state.pod, &state.observed, &self.0.tools.host, now);
            for action in &actions {
                state.observed.begin(action, now);
            }
            // Guests that still run may need what is made anew.
            if state.is_over() && !state.observed.any_live() {
                state.mounting.cancel();
            }
            // Most looks at a pod with probes: nothing that its status tells has changed since the last.
            let routine = !state.untold && probe::are_all(&actions);
            self.count(cell, &state);
            (actions, keep, routine)
        };
        if keep {
            perform::save(self, cell);
        }
        for action in actions {
            self.perform(cell, action);
        }
        if routine {
            return;
        }
        self.report(cell);
        if cell.state.lock().at_rest() {
            self.0.rested.notify_waiters();
        }
    }

    /// Takes in something learned, keeps it where it must outlive the agent, and looks at the pod again.
    async fn learned(&self, cell: &Arc<Cell>, observation: Observation) {
        tracing::debug!(pod = %cell.key, uid = %cell.uid, ?observation, "learned");
        let keep = observation.is_durable();
        let ended = matches!(observation, Observation::Ended { .. });
        {
            let mut state = cell.state.lock();
            state
                .observed
                .observe(observation, self.0.tools.clock.now());
            state.untold = true;
            state.unsaved += u32::from(keep);
            self.count(cell, &state);
        }
        if keep {
            self.save(cell, ended).await;
            cell.state.lock().unsaved -= 1;
        }
        self.0.queue.add(cell.uid.clone());
    }

    fn event(
        &self,
        cell: &Cell,
        container: Option<&str>,
        kind: pod::EventKind,
        reason: &str,
        message: impl Into<String>,
    ) {
        let pod = cell.state.lock().pod.clone();
        let mut about = client::reference(pod.as_ref());
        about.field_path = container.map(|c| {
            let init = pod.init_containers().iter().any(|i| i.name == c);
            format!(
                "spec.{}{{{c}}}",
                if init { "initContainers" } else { "containers" }
            )
        });
        let kind = match kind {
            pod::EventKind::Normal => client::EventType::Normal,
            pod::EventKind::Warning => client::EventType::Warning,
        };
        self.0.tools.recorder.event(&about, kind, reason, message);
    }

    fn again_at(&self, cell: &Cell, at: jiff::Timestamp) {
        // A little later than asked for: the clocks' resolutions differ, and too early means once more.
        let delay = self.0.tools.clock.until(at) + Duration::from_millis(1);
        self.0.queue.add_after(cell.uid.clone(), delay);
    }

    fn perform(&self, cell: &Arc<Cell>, action: Action) {
        perform::perform(self, cell, action);
    }
}

/// What the API knows of a pod's containers, if it was here before.
fn known(pod: &Pod) -> Option<&PodStatus> {
    let status = pod.status.as_ref()?;
    (status.container_statuses.is_some() || pod.ended_in_api()).then_some(status)
}
