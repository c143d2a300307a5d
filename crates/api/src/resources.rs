//! Amounts of what a node has and a pod asks for.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, PodSpec, PodStatus, ResourceRequirements},
    apimachinery::pkg::api::resource,
};

use crate::quantity::Quantity;

/// What a container that asks for no CPU counts as in scores, in thousandths: otherwise a node
/// could take any number of such containers and still look empty. kube-scheduler's figure.
const DEFAULT_MILLI_CPU: i64 = 100;
/// The same for memory, in bytes.
const DEFAULT_MEMORY: i64 = 200 << 20;

/// Amounts of each resource. Sums stop at the largest number instead of overflowing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// A number of pods.
    pub pods: i64,
    /// Everything else (`example.com/gpu`, `hugepages-2Mi`), by name; no zeros.
    pub scalars: BTreeMap<String, i64>,
}

/// Amounts of resources by name, as objects have them.
pub type Quantities = BTreeMap<String, resource::Quantity>;

impl Resources {
    /// Reads a map of quantities; what is malformed counts as nothing.
    #[must_use]
    pub fn parse(quantities: Option<&Quantities>) -> Self {
        let mut resources = Resources::default();
        for (name, quantity) in quantities.into_iter().flatten() {
            let Ok(quantity) = Quantity::parse(&quantity.0) else {
                continue;
            };
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => resources.pods = quantity.value(),
                _ if quantity.value() != 0 => {
                    resources.scalars.insert(name.clone(), quantity.value());
                }
                _ => {}
            }
        }
        resources
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
    }

    /// Raises each amount to that of `other`.
    fn raise(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Resources, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = with(self.pods, other.pods);
        for (name, amount) in &other.scalars {
            let own = self.scalars.get(name).copied().unwrap_or(0);
            match with(own, *amount) {
                0 => self.scalars.remove(name),
                sum => self.scalars.insert(name.clone(), sum),
            };
        }
    }
}

/// What a pod asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// What it asks for, counted against what a node has.
    pub asked: Resources,
    /// The same with defaults for containers that ask for no CPU or memory, for scores.
    pub scored: Scored,
}

/// The two resources that scores look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scored {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
}

impl Requests {
    /// What a pod asks for, or has been given by its node: while it is resized, whatever is more of each container. What
    /// the node can never give it does not count.
    #[must_use]
    pub fn of(spec: &PodSpec, status: &PodStatus) -> Self {
        let infeasible = is_resize_infeasible(status);
        let init = status.init_container_statuses.iter().flatten();
        let all = init.chain(status.container_statuses.iter().flatten());
        let statuses: BTreeMap<&str, &ContainerStatus> =
            all.map(|status| (status.name.as_str(), status)).collect();
        Self::with(spec, &|container| {
            let asked = requested(container.resources.as_ref());
            let status = statuses.get(container.name.as_str()).copied();
            match status.and_then(given) {
                Some(given) if infeasible => given,
                Some(given) => larger(asked, &given),
                None => asked,
            }
        })
    }

    /// What a pod asks for whose containers request so much: their sum, or what initialisation needs if that is more; an
    /// amount that the pod states as a whole takes its containers' place; its overhead comes on top.
    #[must_use]
    pub fn with(spec: &PodSpec, of: &dyn Fn(&Container) -> Quantities) -> Self {
        let whole = spec.resources.as_ref();
        let scored = total(spec, &|container| with_defaults(&of(container), whole));
        let mut scored = stated(scored, whole);
        scored.add(&Resources::parse(spec.overhead.as_ref()));
        Requests {
            asked: Self::asked(spec, of),
            scored: Scored {
                milli_cpu: scored.milli_cpu,
                memory: scored.memory,
            },
        }
    }

    /// The same without what only scores look at.
    #[must_use]
    pub fn asked(spec: &PodSpec, of: &dyn Fn(&Container) -> Quantities) -> Resources {
        let asked = total(spec, &|container| Resources::parse(Some(&of(container))));
        let mut asked = stated(asked, spec.resources.as_ref());
        asked.add(&Resources::parse(spec.overhead.as_ref()));
        asked.pods = 1;
        asked
    }
}

/// Init containers run one after the other, beside those of them that keep running.
fn total(spec: &PodSpec, of: &dyn Fn(&Container) -> Resources) -> Resources {
    let mut sum = Resources::default();
    for container in &spec.containers {
        sum.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut most = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut now = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sum.add(&now);
            sidecars.add(&now);
            now = sidecars.clone();
        } else {
            now.add(&sidecars);
        }
        most.raise(&now);
    }
    sum.raise(&most);
    sum
}

/// Whether the pod's node has said that it can never have what it asks for.
fn is_resize_infeasible(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|c| {
        (c.type_.as_str(), c.reason.as_deref()) == ("PodResizePending", Some("Infeasible"))
    })
}

/// What a container's node has set aside for it, or has it run with, if that is more; `None` where it did not say yet.
fn given(status: &ContainerStatus) -> Option<Quantities> {
    let runs_with = requested(Some(status.resources.as_ref()?));
    let set_aside = status.allocated_resources.clone().unwrap_or_default();
    Some(larger(runs_with, &set_aside))
}

/// Of each resource the larger amount; what is malformed counts as nothing.
#[must_use]
pub fn larger(mut amounts: Quantities, others: &Quantities) -> Quantities {
    let parsed = |quantity: &resource::Quantity| Quantity::parse(&quantity.0).ok();
    for (name, other) in others {
        let is_more = match amounts.get(name) {
            Some(own) => parsed(other) > parsed(own),
            None => true,
        };
        if is_more {
            amounts.insert(name.clone(), other.clone());
        }
    }
    amounts
}

/// A container's requests; where it has only a limit, that is its request.
#[must_use]
pub fn requested(resources: Option<&ResourceRequirements>) -> Quantities {
    let Some(resources) = resources else {
        return Quantities::new();
    };
    let mut amounts = resources.limits.clone().unwrap_or_default();
    amounts.extend(resources.requests.clone().unwrap_or_default());
    amounts
}

fn with_defaults(own: &Quantities, whole: Option<&ResourceRequirements>) -> Resources {
    let whole = requested(whole);
    let mut resources = Resources::parse(Some(own));
    // An explicit zero is meant; and what the pod states as a whole replaces the sum anyway.
    let missing = |name| !own.contains_key(name) && !whole.contains_key(name);
    if missing("cpu") {
        resources.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if missing("memory") {
        resources.memory = DEFAULT_MEMORY;
    }
    resources
}

/// Replaces amounts by those that the pod states as a whole.
fn stated(mut sum: Resources, whole: Option<&ResourceRequirements>) -> Resources {
    let amounts = requested(whole);
    let stated = Resources::parse(Some(&amounts));
    if amounts.contains_key("cpu") {
        sum.milli_cpu = stated.milli_cpu;
    }
    if amounts.contains_key("memory") {
        sum.memory = stated.memory;
    }
    sum.scalars.extend(stated.scalars);
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn requests(spec: serde_json::Value) -> Requests {
        let spec = serde_json::from_value(spec).unwrap();
        Requests::of(&spec, &PodStatus::default())
    }

    #[test]
    fn containers_add_up() {
        let requests = requests(json!({ "containers": [
            { "name": "a", "resources": { "requests": { "cpu": "250m", "memory": "64Mi" } } },
            { "name": "b", "resources": { "limits": { "cpu": "1", "example.com/gpu": "2" } } },
        ] }));
        assert_eq!(requests.asked.milli_cpu, 1250);
        assert_eq!(requests.asked.memory, 64 << 20);
        assert_eq!(requests.asked.scalars["example.com/gpu"], 2);
        assert_eq!(requests.asked.pods, 1);
        let scored = Scored {
            milli_cpu: 1250,
            memory: 264 << 20,
        };
        assert_eq!(requests.scored, scored, "b asks for no memory");
    }

    #[test]
    fn initialisation_counts_if_it_needs_more() {
        let cpu = |amount: &str| json!({ "requests": { "cpu": amount, "memory": "1" } });
        let requests = requests(json!({
            "containers": [{ "name": "a", "resources": cpu("1") }],
            "initContainers": [
                { "name": "first", "resources": cpu("1500m") },
                { "name": "side", "restartPolicy": "Always", "resources": cpu("500m") },
                { "name": "last", "resources": cpu("1200m") },
            ],
            "overhead": { "cpu": "10m" },
        }));
        // last beside side: 1700m; afterwards a beside side: 1500m.
        assert_eq!(requests.asked.milli_cpu, 1710);
        assert_eq!(requests.asked.memory, 2);
    }

    #[test]
    fn a_pod_may_state_its_whole() {
        let requests = requests(json!({
            "containers": [{ "name": "a", "resources": { "requests": { "cpu": "3", "memory": "5" } } }],
            "resources": { "requests": { "cpu": "2" } },
        }));
        assert_eq!(requests.asked.milli_cpu, 2000);
        assert_eq!(requests.asked.memory, 5);
        assert_eq!(requests.scored.milli_cpu, 2000);
    }

    #[test]
    fn zero_is_not_missing() {
        let requests = requests(json!({ "containers": [
            { "name": "a", "resources": { "requests": { "cpu": "0" } } },
        ] }));
        assert_eq!(
            requests.scored,
            Scored {
                milli_cpu: 0,
                memory: 200 << 20
            }
        );
        assert_eq!(requests.asked.milli_cpu, 0);
    }

    #[test]
    fn a_pod_that_is_resized_counts_as_the_most_of_what_it_is() {
        let spec = serde_json::from_value(json!({
            "containers": [
                { "name": "a", "resources": { "requests": { "cpu": "300m", "memory": "10" } } },
                { "name": "b", "resources": { "requests": { "cpu": "100m" } } },
            ],
            "initContainers": [{
                "name": "side", "restartPolicy": "Always",
                "resources": { "requests": { "cpu": "50m" } },
            }],
        }));
        let spec: PodSpec = spec.unwrap();
        let status = |a: serde_json::Value, reason: &str| -> PodStatus {
            let status = json!({
                "containerStatuses": [a, { "name": "b", "image": "", "imageID": "", "ready": true, "restartCount": 0 }],
                "initContainerStatuses": [{
                    "name": "side", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "resources": { "requests": { "cpu": "80m" } },
                }],
                "conditions": [{ "type": "PodResizePending", "status": "True", "reason": reason }],
            });
            serde_json::from_value(status).unwrap()
        };
        let a = |resources: serde_json::Value, allocated: &str| {
            json!({
                "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "resources": resources, "allocatedResources": { "cpu": allocated, "memory": "10" },
            })
        };
        let runs_with = |cpu: &str| json!({ "requests": { "cpu": cpu, "memory": "12" } });
        for (case, status, cpu, memory) in [
            (
                "nothing is said",
                status(
                    json!({ "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0 }),
                    "",
                ),
                300,
                10,
            ),
            (
                "asked for most",
                status(a(runs_with("100m"), "100m"), "Deferred"),
                300,
                12,
            ),
            (
                "set aside most",
                status(a(runs_with("100m"), "500m"), "Deferred"),
                500,
                12,
            ),
            (
                "runs with most",
                status(a(runs_with("700m"), "100m"), "Deferred"),
                700,
                12,
            ),
            (
                "it cannot be",
                status(a(runs_with("100m"), "200m"), "Infeasible"),
                200,
                12,
            ),
            (
                "only limits",
                status(a(json!({ "limits": { "cpu": "1" } }), "0"), "Infeasible"),
                1000,
                10,
            ),
        ] {
            let requests = Requests::of(&spec, &status);
            // Beside b's 100m and the sidecar's 80m.
            assert_eq!(requests.asked.milli_cpu, cpu + 180, "{case}");
            assert_eq!(requests.asked.memory, memory, "{case}");
        }
    }

    #[test]
    fn sums_do_not_overflow() {
        let huge =
            json!({ "requests": { "memory": "9E", "example.com/x": "9223372036854775807" } });
        let requests = requests(json!({ "containers": [
            { "name": "a", "resources": huge }, { "name": "b", "resources": huge },
        ] }));
        assert_eq!(requests.asked.memory, i64::MAX);
        assert_eq!(requests.asked.scalars["example.com/x"], i64::MAX);
    }
}
