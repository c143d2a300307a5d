//! The decider of node pressure: which pod goes, and what is said of it. As the kubelet ranks and words it.

use std::cmp::Reverse;

use api::priority::CRITICAL;
use api::quantity::{Notation, Quantity};
use api::resources::{Quantities, Requests, requested};
use k8s_openapi::api::core::v1::{Pod, Toleration};

use super::{SHARED_MEMORY, Usage};
use crate::pod::{PodView as _, qos_class};

/// Something of which a node may have too little. The first is reclaimed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    Memory,
    /// Room for files in memory.
    Files,
    Nodefs,
    Inodes,
}

impl Signal {
    pub(crate) fn is_of_disk(self) -> bool {
        matches!(self, Self::Nodefs | Self::Inodes)
    }

    /// Under which name it is a resource.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Files => SHARED_MEMORY,
            Self::Nodefs => "ephemeral-storage",
            Self::Inodes => "inodes",
        }
    }

    fn quantity(self, amount: u64) -> Quantity {
        let notation = match self {
            Self::Inodes => Notation::DecimalSi,
            Self::Memory | Self::Files | Self::Nodefs => Notation::BinarySi,
        };
        Quantity::from_value(i64::try_from(amount).unwrap_or(i64::MAX), notation)
    }
}

/// Something of which a node has too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) signal: Signal,
    /// How much there has to be,
    pub(crate) threshold: u64,
    /// and how much there is.
    pub(crate) available: u64,
    /// What a writer waits to add to that, if one does.
    pub(crate) wanted: u64,
}

impl Met {
    pub(super) fn missing(&self) -> u64 {
        let needed = self.threshold.saturating_add(self.wanted);
        needed.saturating_sub(self.available)
    }

    /// Who has added so much lately is why there is too little: some of what has to be left would be gone in a moment.
    fn much(&self) -> u64 {
        (self.threshold / 16).max(1)
    }
}

/// A pod that runs, and what it uses.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) uid: String,
    /// As what it has is allocated.
    pub(crate) pod: std::sync::Arc<Pod>,
    pub(crate) usage: Usage,
    /// Bytes that it has added to the disk lately, in volumes, too, that are not counted among what it uses.
    pub(crate) lately: u64,
}

/// The kubelet's conditions of a node that keep pods away, as far as a node here can have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressures {
    /// There is too little memory, or was a while ago.
    pub(crate) memory: bool,
    /// The same of the disk.
    pub(crate) disk: bool,
}

/// Why a node under pressure does not take in a pod; `None` if it does.
pub(crate) fn refusal(pod: &Pod, pressures: Pressures) -> Option<String> {
    let conditions: Vec<&str> = [
        (pressures.memory, "MemoryPressure"),
        (pressures.disk, "DiskPressure"),
    ]
    .into_iter()
    .filter_map(|(is_on, name)| is_on.then_some(name))
    .collect();
    // Who has asked for some of everything is believed to get by with that.
    let may = pressures.memory
        && !pressures.disk
        && (qos_class(pod) != "BestEffort" || tolerates_memory_pressure(pod));
    let is_taken = conditions.is_empty() || may || is_critical(pod);
    (!is_taken).then(|| format!("The node had condition: [{}]. ", conditions.join(" ")))
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    let tolerations = pod.pod_spec().and_then(|s| s.tolerations.as_ref());
    let tolerates = |t: &Toleration| {
        let key = t.key.as_deref().unwrap_or_default();
        let exists = t.operator.as_deref() == Some("Exists");
        let effect = t.effect.as_deref().unwrap_or_default();
        let is_key = key == "node.kubernetes.io/memory-pressure" || (key.is_empty() && exists);
        // The taint has no value.
        let is_value = exists || t.value.as_deref().unwrap_or_default().is_empty();
        is_key && is_value && matches!(effect, "" | "NoSchedule")
    };
    tolerations.into_iter().flatten().any(tolerates)
}

/// Whether a node keeps the pod whatever it lacks.
pub(crate) fn is_critical(pod: &Pod) -> bool {
    priority(pod) >= CRITICAL
}

fn priority(pod: &Pod) -> i32 {
    pod.pod_spec().and_then(|s| s.priority).unwrap_or(0)
}

/// Which pod goes for lack of something, and what is said of that; `None` where all are critical, or have less of it together
/// than is missing: others of the machine have taken it then, and pods would end for nothing.
///
/// Those go first that use more than they have asked for; of these, and of the others, who has the lower priority; then who
/// has added much lately, the most first; then who uses most beyond what it asked for. Whoever adds to volumes that its end
/// does not give back uses what it has added lately, for its end leaves room that it would have taken.
pub(crate) fn choose<'a>(met: &Met, pods: &'a [Candidate]) -> Option<(&'a Candidate, String)> {
    let rank = |candidate: &&Candidate| {
        let beyond = i128::from(used(met.signal, candidate)) - asked(met, &candidate.pod);
        let much = Some(candidate.lately).filter(|lately| *lately >= met.much());
        (
            Reverse(beyond > 0),
            priority(&candidate.pod),
            Reverse(much),
            Reverse(beyond),
            candidate.uid.clone(),
        )
    };
    let used = |candidate: &Candidate| used(met.signal, candidate);
    let mut may_go: Vec<&Candidate> = pods.iter().collect();
    may_go.retain(|candidate| !is_critical(&candidate.pod) && used(candidate) > 0);
    let all = may_go.iter().map(|candidate| used(candidate));
    if all.fold(0, u64::saturating_add) < met.missing() {
        return None;
    }
    let first = may_go.into_iter().min_by_key(rank)?;
    Some((first, message(met, first)))
}

fn used(signal: Signal, candidate: &Candidate) -> u64 {
    let usage = &candidate.usage;
    match signal {
        Signal::Memory => usage.memory(),
        Signal::Files => usage.files(),
        Signal::Nodefs => usage.disk().bytes.max(candidate.lately),
        Signal::Inodes => usage.disk().inodes,
    }
}

fn asked(met: &Met, pod: &Pod) -> i128 {
    let Some(spec) = pod.pod_spec() else { return 0 };
    let asked = Requests::asked(spec, &|c| requested(c.resources.as_ref()));
    i128::from(match met.signal {
        Signal::Memory => asked.memory,
        Signal::Nodefs => asked.ephemeral_storage,
        Signal::Files | Signal::Inodes => 0,
    })
}

fn message(met: &Met, of: &Candidate) -> String {
    let Met {
        signal,
        threshold,
        available,
        ..
    } = *met;
    let resource = signal.resource();
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        signal.quantity(threshold),
        signal.quantity(available),
    );
    for (_, container) in of.pod.all_containers() {
        let Some(used) = of.usage.containers.get(&container.name) else {
            continue;
        };
        let used = match signal {
            Signal::Memory => used.memory,
            Signal::Nodefs => used.disk.bytes,
            Signal::Files | Signal::Inodes => continue,
        };
        // How much that is nobody knows.
        if used == u64::MAX {
            continue;
        }
        let asked = requested(container.resources.as_ref());
        let (used, asked) = (signal.quantity(used), amount(&asked, resource));
        if used > asked {
            message += &format!(
                "Container {} was using {used}, request is {asked}, has larger consumption of {resource}. ",
                container.name
            );
        }
    }
    message
}

fn amount(quantities: &Quantities, resource: &str) -> Quantity {
    let quantity = quantities.get(resource);
    let quantity = quantity.and_then(|q| Quantity::parse(&q.0).ok());
    quantity.unwrap_or(Quantity::ZERO)
}

#[cfg(test)]
mod tests;
