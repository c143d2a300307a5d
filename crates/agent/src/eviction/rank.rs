//! The decider of node pressure: which pod goes, and what is said of it. As the kubelet ranks and words it.

use std::cmp::Reverse;

use api::quantity::{Notation, Quantity};
use api::resources::{Quantities, Requests, requested};
use k8s_openapi::api::core::v1::{Pod, Toleration};

use super::Usage;
use crate::pod::{PodView as _, qos_class};

/// From this priority on a pod is critical: its node keeps it whatever it lacks.
const CRITICAL: i32 = 2_000_000_000;

/// Something of which a node may have too little. The first is reclaimed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    Memory,
    Nodefs,
    Inodes,
}

impl Signal {
    /// Under which name it is a resource.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Nodefs => "ephemeral-storage",
            Self::Inodes => "inodes",
        }
    }

    fn quantity(self, amount: u64) -> Quantity {
        let notation = match self {
            Self::Inodes => Notation::DecimalSi,
            Self::Memory | Self::Nodefs => Notation::BinarySi,
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
}

/// A pod that runs, and what it uses.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) uid: String,
    /// As what it has is allocated.
    pub(crate) pod: std::sync::Arc<Pod>,
    pub(crate) usage: Usage,
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

/// The priority of a class that every cluster has and nobody changes.
pub(crate) fn system_priority(class: &str) -> Option<i32> {
    match class {
        "system-cluster-critical" => Some(CRITICAL),
        "system-node-critical" => Some(CRITICAL + 1_000),
        _ => None,
    }
}

fn priority(pod: &Pod) -> i32 {
    pod.pod_spec().and_then(|s| s.priority).unwrap_or(0)
}

/// Which pod goes for lack of something, and what is said of that; `None` where all are critical, or have less of it together
/// than is missing: others of the machine have taken it then, and pods would end for nothing.
///
/// Those go first that use more than they have asked for; of these, and of the others, who has the lower priority; then who
/// uses most beyond what it asked for.
pub(crate) fn choose<'a>(met: &Met, pods: &'a [Candidate]) -> Option<(&'a Candidate, String)> {
    let rank = |candidate: &&Candidate| {
        let beyond = i128::from(used(met.signal, &candidate.usage)) - asked(met, &candidate.pod);
        (
            Reverse(beyond > 0),
            priority(&candidate.pod),
            Reverse(beyond),
            candidate.uid.clone(),
        )
    };
    let used = |candidate: &Candidate| used(met.signal, &candidate.usage);
    let mut may_go: Vec<&Candidate> = pods.iter().collect();
    may_go.retain(|candidate| !is_critical(&candidate.pod) && used(candidate) > 0);
    let all = may_go.iter().map(|candidate| used(candidate));
    if all.fold(0, u64::saturating_add) < met.threshold.saturating_sub(met.available) {
        return None;
    }
    let first = may_go.into_iter().min_by_key(rank)?;
    Some((first, message(met, first)))
}

fn used(signal: Signal, usage: &Usage) -> u64 {
    match signal {
        Signal::Memory => usage.memory(),
        Signal::Nodefs => usage.disk().bytes,
        Signal::Inodes => usage.disk().inodes,
    }
}

fn asked(met: &Met, pod: &Pod) -> i128 {
    let Some(spec) = pod.pod_spec() else { return 0 };
    let asked = Requests::asked(spec, &|c| requested(c.resources.as_ref()));
    i128::from(match met.signal {
        Signal::Memory => asked.memory,
        Signal::Nodefs => asked.ephemeral_storage,
        Signal::Inodes => 0,
    })
}

fn message(met: &Met, of: &Candidate) -> String {
    let Met {
        signal,
        threshold,
        available,
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
            Signal::Inodes => continue,
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
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::{Amount, Used};
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A pod of one container that asks for so many MiB of both and uses so many.
    fn candidate(uid: &str, priority: i32, asked: Option<u64>, used: u64) -> Candidate {
        let asked = asked.map(|mib| format!("{mib}Mi"));
        let requests = match asked {
            Some(asked) => json!({"memory": asked, "ephemeral-storage": asked}),
            None => json!({}),
        };
        let used = Used {
            memory: used * MIB,
            disk: Amount {
                bytes: used * MIB,
                inodes: used,
            },
        };
        Candidate {
            uid: uid.to_owned(),
            pod: pod(json!({
                "priority": priority,
                "containers": [{"name": "c", "resources": {"requests": requests}}],
            })),
            usage: Usage {
                containers: [("c".to_owned(), used)].into(),
                ..Usage::default()
            },
        }
    }

    fn pod(spec: Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({ "spec": spec })).unwrap())
    }

    fn met(signal: Signal) -> Met {
        Met {
            signal,
            threshold: 100 * MIB,
            available: 1_500,
        }
    }

    /// A little is missing.
    fn short_of(signal: Signal) -> Met {
        Met {
            available: 100 * MIB - 1,
            ..met(signal)
        }
    }

    #[test]
    fn nobody_goes_for_what_others_have_taken() {
        let mut pods = vec![
            candidate("critical", CRITICAL, None, 900),
            candidate("idle", -1, None, 0),
            candidate("modest", 0, Some(50), 40),
            candidate("small", 1, Some(50), 9),
        ];
        let missing = |mib: u64| Met {
            available: (100 - mib) * MIB,
            ..met(Signal::Memory)
        };
        assert!(choose(&missing(50), &pods).is_none());
        assert_eq!(choose(&missing(49), &pods).unwrap().0.uid, "modest");
        pods.truncate(2);
        assert!(choose(&short_of(Signal::Memory), &pods).is_none());
    }

    #[test]
    fn who_goes_first() {
        for signal in [Signal::Memory, Signal::Nodefs] {
            let mut pods = vec![
                candidate("critical", CRITICAL, None, 900),
                candidate("within, most important", 9, Some(500), 500),
                candidate("within, uses less of it", 0, Some(500), 400),
                candidate("within, uses more of it", 0, Some(100), 90),
                candidate("within, all of it", 0, Some(10), 10),
                candidate("beyond, important", 9, Some(1), 900),
                candidate("beyond, a little", 0, Some(800), 801),
                candidate("beyond, best effort", 0, None, 2),
                candidate("beyond, the same", 0, None, 2),
                candidate("beyond, unimportant", -1, Some(1), 2),
            ];
            let mut order = Vec::new();
            while let Some((first, _)) = choose(&short_of(signal), &pods) {
                let uid = first.uid.clone();
                pods.retain(|pod| pod.uid != uid);
                order.push(uid);
            }
            assert_eq!(
                order,
                [
                    "beyond, unimportant",
                    "beyond, best effort",
                    "beyond, the same",
                    "beyond, a little",
                    "beyond, important",
                    "within, all of it",
                    "within, uses more of it",
                    "within, uses less of it",
                    "within, most important",
                ]
            );
            assert_eq!(pods.len(), 1);
        }
        // Nobody asks for inodes.
        let pods = [
            candidate("few", 0, None, 2),
            candidate("many", 0, Some(100), 3),
        ];
        let (first, message) = choose(&short_of(Signal::Inodes), &pods).unwrap();
        assert_eq!(first.uid, "many");
        assert_eq!(
            message,
            "The node was low on resource: inodes. Threshold quantity: 104857600, available: 104857599. "
        );
        assert!(choose(&short_of(Signal::Memory), &[]).is_none());
    }

    #[test]
    fn what_lies_in_memory_is_memory() {
        let mut pods = [
            candidate("guests", 0, None, 10),
            candidate("files", 0, None, 5),
        ];
        let amount = Amount {
            bytes: 6 * MIB,
            inodes: 1,
        };
        pods[1].usage.in_memory.insert("v".to_owned(), amount);
        assert_eq!(
            choose(&short_of(Signal::Memory), &pods).unwrap().0.uid,
            "files"
        );
        assert_eq!(
            choose(&short_of(Signal::Nodefs), &pods).unwrap().0.uid,
            "guests"
        );
    }

    #[test]
    fn the_kubelets_words() {
        let pod = pod(json!({"containers": [
            {"name": "much", "resources": {"requests": {"memory": "64Mi", "ephemeral-storage": "1Gi"}}},
            {"name": "enough", "resources": {"requests": {"memory": "64Mi"}}},
            {"name": "unasked"},
            {"name": "never-ran"},
            {"name": "unmeasured"},
        ]}));
        let used = |memory, bytes| Used {
            memory,
            disk: Amount { bytes, inodes: 1 },
        };
        let usage = Usage {
            containers: [
                ("much".to_owned(), used(65 * MIB, 65 * MIB)),
                ("enough".to_owned(), used(64 * MIB, 0)),
                ("unasked".to_owned(), used(1_001, 4_096)),
                ("unmeasured".to_owned(), used(u64::MAX, u64::MAX)),
            ]
            .into(),
            ..Usage::default()
        };
        let one = Candidate {
            uid: "u".to_owned(),
            pod,
            usage,
        };
        assert_eq!(
            message(&met(Signal::Memory), &one),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 1500. \
             Container much was using 65Mi, request is 64Mi, has larger consumption of memory. \
             Container unasked was using 1001, request is 0, has larger consumption of memory. "
        );
        assert_eq!(
            message(&met(Signal::Nodefs), &one),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 1500. \
             Container unasked was using 4Ki, request is 0, has larger consumption of ephemeral-storage. "
        );
    }

    #[test]
    fn who_is_taken_in_under_pressure() {
        let best_effort = json!({"containers": [{"name": "c"}]});
        let burstable =
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
        let critical = json!({"priority": CRITICAL, "containers": [{"name": "c"}]});
        let tolerant =
            |toleration: Value| json!({"tolerations": [toleration], "containers": [{"name": "c"}]});
        let memory = json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"});
        let all = json!({"operator": "Exists"});
        let other = json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoExecute"});
        let valued = json!({"key": "node.kubernetes.io/memory-pressure", "value": "x"});
        for (spec, memory, disk, both) in [
            (best_effort, false, false, false),
            (burstable, true, false, false),
            (critical, true, true, true),
            (tolerant(memory), true, false, false),
            (tolerant(all), true, false, false),
            (tolerant(other), false, false, false),
            (tolerant(valued), false, false, false),
        ] {
            let case = spec.to_string();
            let pod = pod(spec);
            let refused = |memory, disk| refusal(&pod, Pressures { memory, disk });
            assert_eq!(refused(false, false), None, "{case}");
            assert_eq!(refused(true, false).is_none(), memory, "{case}");
            assert_eq!(refused(false, true).is_none(), disk, "{case}");
            assert_eq!(refused(true, true).is_none(), both, "{case}");
        }
        let pod = pod(json!({"containers": [{"name": "c"}]}));
        let both = Pressures {
            memory: true,
            disk: true,
        };
        assert_eq!(
            refusal(&pod, both).unwrap(),
            "The node had condition: [MemoryPressure DiskPressure]. "
        );
    }
}
