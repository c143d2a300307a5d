//! Other amounts of CPU and memory for containers that may run: what was wished for, what the node has set aside, and what
//! each container runs with.
//!
//! A wish is the pod's spec. It is put to the node ([`Action::AskRoom`]), which takes it as a whole or not at all: what it
//! took is allocated, outlives the agent, and is what containers are started with. Those that run with something else are
//! then changed while they run, or started anew where their `resizePolicy` says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quantity::Quantity;
use api::resources::{Quantities, larger, requested};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, ResourceRequirements};
use serde::Serialize;

use super::observed::later;
use super::sync::Plan;
use super::{Action, Cause, Container, Live, Observed, PodView as _, Role};

/// How long a change that a container refuses waits for its next try.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// The resources that change while a container runs.
const CHANGING: [&str; 2] = ["cpu", "memory"];

/// Resources by container.
pub type Resources = BTreeMap<String, ResourceRequirements>;

/// What becomes of wishes for other resources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resize {
    /// The node is being asked.
    pub asking: bool,
    /// The wish that it did not take.
    pub pending: Option<Pending>,
    /// The generation of the pod whose wish is being carried out.
    pub progress: Option<i64>,
}

/// A wish that the node did not take.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// What was wished for.
    pub wanted: Resources,
    /// The pod's generation then.
    pub generation: i64,
    /// Why it was not taken.
    pub why: Why,
    /// In words.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// Why a wish was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Other pods have what it takes.
    Deferred,
    /// The node does not have it.
    Infeasible,
}

impl Why {
    /// As conditions name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deferred => "Deferred",
            Self::Infeasible => "Infeasible",
        }
    }
}

/// How the change of a running instance's resources stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Change {
    /// None is under way.
    #[default]
    None,
    /// It is being made; how it failed before.
    Doing(Option<Failure>),
    /// It was refused.
    Failed(Failure),
}

/// A change that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The change.
    pub wanted: ResourceRequirements,
    /// Why.
    pub message: String,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

impl Change {
    /// How it failed, if that is not settled.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::None => None,
            Self::Doing(failure) => failure.as_ref(),
            Self::Failed(failure) => Some(failure),
        }
    }
}

/// The containers that can be resized.
fn resizable(pod: &Pod) -> impl Iterator<Item = &ContainerSpec> {
    let all = pod.all_containers().filter(|(role, _)| *role != Role::Init);
    all.map(|(_, spec)| spec)
}

/// What the pod's spec wishes for its containers that can be resized.
pub fn wanted(pod: &Pod) -> Resources {
    let wish = |c: &ContainerSpec| (c.name.clone(), c.resources.clone().unwrap_or_default());
    resizable(pod).map(wish).collect()
}

/// Whether both are the same CPU and memory.
fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    a == b || changed(a, b).is_empty()
}

/// Which of CPU and memory differ.
fn changed(a: &ResourceRequirements, b: &ResourceRequirements) -> Vec<&'static str> {
    let amount = |list: &Option<Quantities>, name: &str| {
        let held = list.as_ref()?.get(name)?;
        Quantity::parse(&held.0).ok()
    };
    let differs = |name: &&str| {
        amount(&a.requests, name) != amount(&b.requests, name)
            || amount(&a.limits, name) != amount(&b.limits, name)
    };
    CHANGING.into_iter().filter(differs).collect()
}

/// What a container, or init container, has in an event's summary.
#[derive(Serialize)]
struct Allocation {
    name: String,
    resources: ResourceRequirements,
}

/// As the kubelet writes it into events: in this order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Allocation>,
    containers: Vec<Allocation>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: String,
}

/// An event's message about a resize to these resources.
pub fn summary(
    pod: &Pod,
    resources: &Resources,
    what: &str,
    generation: i64,
    error: &str,
) -> String {
    let all = |containers: &[ContainerSpec]| -> Vec<Allocation> {
        let one = |c: &ContainerSpec| Allocation {
            name: c.name.clone(),
            resources: resources
                .get(&c.name)
                .or(c.resources.as_ref())
                .cloned()
                .unwrap_or_default(),
        };
        containers.iter().map(one).collect()
    };
    let summary = Summary {
        init_containers: all(pod.init_containers()),
        containers: all(pod.containers()),
        generation,
        error: error.to_owned(),
    };
    match serde_json::to_string(&summary) {
        Ok(summary) => format!("Pod resize {what}: {summary}"),
        Err(_) => format!("Pod resize {what}"),
    }
}

impl Observed {
    /// Whether the node has set aside what the pod wishes for.
    pub fn is_allocated(&self, pod: &Pod) -> bool {
        let nothing = ResourceRequirements::default();
        resizable(pod).all(|spec| {
            let held = self.allocated.get(&spec.name);
            held.is_some_and(|held| same(held, spec.resources.as_ref().unwrap_or(&nothing)))
        })
    }

    /// The pod with what is set aside for its containers in place of what it wishes for.
    pub fn as_allocated(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let mut pod = pod.clone();
        if self.is_allocated(&pod) {
            return pod;
        }
        if let Some(spec) = &mut Arc::make_mut(&mut pod).spec {
            let init = spec.init_containers.iter_mut().flatten();
            for container in init.chain(&mut spec.containers) {
                if let Some(allocated) = self.allocated.get(&container.name) {
                    container.resources = Some(allocated.clone());
                }
            }
        }
        pod
    }

    /// Takes in what the pod's spec wishes for. What it wished for as the node took it in is what it has at first.
    pub(crate) fn wishes(&mut self, pod: &Pod) {
        for spec in resizable(pod) {
            if !self.allocated.contains_key(&spec.name) {
                let resources = spec.resources.clone().unwrap_or_default();
                self.allocated.insert(spec.name.clone(), resources);
            }
        }
        if self.resize.pending.is_some() && self.is_allocated(pod) {
            self.resize.pending = None;
        }
    }

    /// The node's judgement of a wish: taken, or why not.
    pub(super) fn room(
        &mut self,
        wanted: Resources,
        generation: i64,
        refused: Option<(Why, String)>,
        now: Timestamp,
    ) {
        self.resize.asking = false;
        let before = self.resize.pending.take();
        let Some((why, message)) = refused else {
            self.allocated.extend(wanted);
            self.resize.progress = Some(generation);
            // What was refused was another wish.
            for c in self.containers.values_mut() {
                c.change = match c.change {
                    Change::Doing(_) => Change::Doing(None),
                    Change::None | Change::Failed(_) => Change::None,
                };
            }
            return;
        };
        let since = before.filter(|before| before.why == why);
        self.resize.pending = Some(Pending {
            wanted,
            generation,
            why,
            message,
            since: since.map_or(now, |before| before.since),
        });
    }

    /// What became of a running instance's change.
    pub(super) fn resized(
        &mut self,
        container: &str,
        of: u32,
        resources: ResourceRequirements,
        error: Option<String>,
        now: Timestamp,
    ) {
        let Some(c) = self.containers.get_mut(container) else {
            return;
        };
        let is_it = matches!(c.live, Live::Running { attempt, .. } if attempt == of);
        if !is_it {
            return;
        }
        // What is set aside may be something else by now.
        let allocated = self.allocated.get(container);
        let is_due = allocated.is_some_and(|allocated| same(allocated, &resources));
        c.change = match error {
            None => {
                c.resources = Some(resources);
                Change::None
            }
            Some(_) if !is_due => Change::None,
            Some(message) => Change::Failed(Failure {
                wanted: resources,
                message,
                retry_at: later(now, PAUSE),
            }),
        };
    }

    /// What a container counts as on its node: what was set aside for it, or what it runs with, if that is more.
    pub fn counted(&self, spec: &ContainerSpec) -> Quantities {
        let allocated = self.allocated.get(&spec.name).or(spec.resources.as_ref());
        let allocated = requested(allocated);
        let runs_with = self.get(&spec.name).filter(|c| c.live != Live::Idle);
        match runs_with.and_then(|c| c.resources.as_ref()) {
            Some(runs_with) => larger(allocated, &requested(Some(runs_with))),
            None => allocated,
        }
    }

    /// Why the wish that is being carried out is not, where containers refuse it.
    pub fn resize_error(&self) -> Option<String> {
        let mut all: Vec<&str> = self
            .containers
            .values()
            .filter_map(|c| c.change.failure())
            .map(|failure| failure.message.as_str())
            .collect();
        match all.len() {
            0 | 1 => all.pop().map(str::to_owned),
            _ => Some(format!("[{}]", all.join(", "))),
        }
    }

    /// Whether every container has what is set aside for it, or will be started with it.
    fn is_resized(&self) -> bool {
        let is_resized = |(name, allocated): (&String, &ResourceRequirements)| {
            let Some(c) = self.get(name) else {
                return true;
            };
            match c.live {
                Live::Idle => c
                    .ended
                    .as_ref()
                    .is_none_or(|ended| ended.cause != Some(Cause::Resized)),
                Live::Starting => false,
                Live::Running { .. } => c.runs_with(allocated),
            }
        };
        self.allocated.iter().all(is_resized)
    }
}

impl Container {
    fn runs_with(&self, allocated: &ResourceRequirements) -> bool {
        let runs_with = self.resources.as_ref();
        runs_with.is_none_or(|resources| same(resources, allocated))
    }
}

impl Plan<'_> {
    /// Puts the pod's wish to the node, unless that has judged it already.
    pub(super) fn ask_room(&mut self) {
        let resize = &self.observed.resize;
        if resize.asking || self.observed.is_allocated(self.pod) {
            return;
        }
        let judged = |pending: &Pending| pending.wanted == wanted(self.pod);
        if !resize.pending.as_ref().is_some_and(judged) {
            self.push(Action::AskRoom);
        }
    }

    /// Says so when the last wish is carried out.
    pub(super) fn complete_resize(&mut self) {
        if let Some(generation) = self.observed.resize.progress
            && self.observed.is_resized()
        {
            self.push(Action::CompleteResize { generation });
        }
    }

    /// Whether a container that runs has to be started anew to have what is set aside for it.
    pub(super) fn restarts_to_resize(&self, spec: &ContainerSpec, c: &Container) -> bool {
        let allocated = self.observed.allocated.get(&spec.name);
        let (Some(allocated), Some(runs_with)) = (allocated, &c.resources) else {
            return false;
        };
        let changed = changed(allocated, runs_with);
        let policies = spec.resize_policy.iter().flatten();
        let mut restarts = policies.filter(|p| p.restart_policy == "RestartContainer");
        restarts.any(|policy| changed.contains(&policy.resource_name.as_str()))
    }

    /// Changes what a container runs with to what is set aside for it.
    pub(super) fn resize(&mut self, spec: &ContainerSpec, c: &Container, attempt: u32) {
        let Some(allocated) = self.observed.allocated.get(&spec.name) else {
            return;
        };
        if c.runs_with(allocated) {
            return;
        }
        match &c.change {
            Change::Doing(_) => return,
            Change::Failed(failure)
                if failure.wanted == *allocated && failure.retry_at > self.now =>
            {
                return self.again_at(failure.retry_at);
            }
            Change::None | Change::Failed(_) => {}
        }
        self.push(Action::ResizeContainer {
            container: spec.name.clone(),
            attempt,
            resources: allocated.clone(),
        });
    }
}
