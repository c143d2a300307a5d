//! The decider of a pod's own limits: on its `emptyDir`s, its containers' logs and roots, and all of them. In the kubelet's
//! order and words.

use std::collections::BTreeMap;

use api::quantity::{Notation, Quantity};
use api::resources::{Quantities, Requests};
use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::measure::Amount;
use super::rank::is_critical;
use crate::pod::{PodView as _, Role};
use crate::volumes::{Written, size_limit, written};

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// Its logs and its writable root.
    pub(crate) disk: Amount,
}

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) containers: BTreeMap<String, Used>,
    /// Its `emptyDir`s on the disk.
    pub(crate) on_disk: BTreeMap<String, Amount>,
    /// Those in memory.
    pub(crate) in_memory: BTreeMap<String, Amount>,
}

impl Usage {
    /// Bytes of memory.
    pub(crate) fn memory(&self) -> u64 {
        let guests = self.containers.values().map(|used| used.memory);
        guests.fold(self.files(), u64::saturating_add)
    }

    /// Bytes of files in memory.
    pub(super) fn files(&self) -> u64 {
        let files = self.in_memory.values().map(|amount| amount.bytes);
        files.fold(0, u64::saturating_add)
    }

    /// What counts against its ephemeral storage.
    pub(crate) fn disk(&self) -> Amount {
        let containers = self.containers.values().map(|used| used.disk);
        let volumes = self.on_disk.values().copied();
        let all = containers.chain(volumes);
        all.fold(Amount::default(), Amount::plus)
    }

    fn of_volume(&self, name: &str) -> u64 {
        let volume = self.on_disk.get(name).or_else(|| self.in_memory.get(name));
        volume.map_or(0, |amount| amount.bytes)
    }
}

/// How many bytes of what are of interest: beyond that a limit is exceeded, however much it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) containers: BTreeMap<String, u64>,
    pub(crate) volumes: BTreeMap<String, u64>,
}

/// What a pod may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The `sizeLimit`s of `emptyDir`s, in the pod's order.
    volumes: Vec<(String, Quantity)>,
    /// The `ephemeral-storage` of all containers.
    disk: Option<Quantity>,
    /// The `ephemeral-storage` of each, in the order in which they begin.
    containers: Vec<(String, Quantity)>,
    /// The memory of a pod that has volumes in memory, and whether the pod itself says so.
    memory: Option<(Quantity, bool)>,
    /// How much may lie in memory, where any of its volumes does.
    files: Option<Quantity>,
    interest: Interest,
    /// It is never ended: who writes into its volumes in memory waits, and nothing else of it is limited.
    pub(crate) is_spared: bool,
    /// It has volumes, too, that none of these limits is of.
    pub(crate) writes_elsewhere: bool,
}

/// What is left until the first limit is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) bytes: u64,
    /// What is said of a pod that takes more.
    pub(crate) message: String,
}

impl Limits {
    /// The limits that a pod has on a node with so much memory, so much of which its files may take; `None` if there are none.
    pub(crate) fn of(
        pod: &Pod,
        is_static: bool,
        node_memory: i64,
        most_in_memory: u64,
    ) -> Option<Self> {
        let is_spared = is_static || is_critical(pod);
        let volumes = pod.volumes().iter();
        let volumes = volumes.filter(|volume| !is_spared || is_in_memory(volume));
        let volumes = volumes.filter_map(|v| Some((v.name.clone(), size_limit(v)?)));
        let containers = pod.all_containers().filter(|_| !is_spared);
        let containers = containers.filter_map(|(_, c)| {
            let limit = limit(c, "ephemeral-storage")?;
            (!limit.is_zero()).then(|| (c.name.clone(), limit))
        });
        let mut limits = Self {
            volumes: volumes.collect(),
            disk: of_all(pod, "ephemeral-storage").filter(|_| !is_spared),
            containers: containers.collect(),
            memory: (in_memory(pod).next().filter(|_| !is_spared))
                .map(|_| memory(pod, node_memory)),
            files: in_memory(pod).next().map(|_| {
                let most = i64::try_from(most_in_memory).unwrap_or(i64::MAX);
                Quantity::from_value(most, Notation::BinarySi)
            }),
            interest: Interest::default(),
            is_spared,
            writes_elsewhere: writes_elsewhere(pod),
        };
        limits.interest = limits.interest(pod);
        (limits.interest != Interest::default()).then_some(limits)
    }

    /// What has to be measured in order to judge.
    pub(crate) fn of_interest(&self) -> &Interest {
        &self.interest
    }

    fn interest(&self, pod: &Pod) -> Interest {
        let bytes = |limit: &Quantity| u64::try_from(limit.value()).unwrap_or(0);
        let disk = self.disk.as_ref().map(bytes);
        let own = |all: &[(String, Quantity)], name: &str| {
            let own = all.iter().find(|(n, _)| n == name);
            own.map(|(_, limit)| bytes(limit))
        };
        let memory = self.memory.iter().map(|(limit, _)| limit);
        let memory = memory.chain(&self.files).map(bytes).min();
        let volumes = pod.volumes().iter().filter_map(|v| {
            let around = match written(v)? {
                Written::Memory => memory,
                Written::Disk => disk,
                Written::Elsewhere => return None,
            };
            let least = own(&self.volumes, &v.name).into_iter().chain(around).min();
            Some((v.name.clone(), least?))
        });
        let containers = pod.all_containers().filter_map(|(_, c)| {
            let least = own(&self.containers, &c.name).into_iter().chain(disk).min();
            Some((c.name.clone(), least?))
        });
        Interest {
            containers: containers.collect(),
            volumes: volumes.collect(),
        }
    }

    /// What is left of the limit that is nearest.
    ///
    /// # Errors
    /// When a limit is exceeded: the kubelet's message.
    pub(crate) fn judge(&self, usage: &Usage) -> Result<Left, String> {
        let mut nearest: Option<Left> = None;
        for (used, limit, message) in self.all(usage) {
            let limit = u64::try_from(limit.value()).unwrap_or(0);
            let Some(bytes) = limit.checked_sub(used) else {
                return Err(message);
            };
            if nearest.as_ref().is_none_or(|left| bytes < left.bytes) {
                nearest = Some(Left { bytes, message });
            }
        }
        Ok(nearest.unwrap_or(Left {
            bytes: u64::MAX,
            message: String::new(),
        }))
    }

    /// How much is used of each limit, and what is said of whoever uses more.
    fn all(&self, usage: &Usage) -> Vec<(u64, Quantity, String)> {
        let volumes = self.volumes.iter().map(|(name, limit)| {
            let message =
                format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". ");
            (usage.of_volume(name), *limit, message)
        });
        let disk = self.disk.iter().map(|limit| {
            let message = format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
            );
            (usage.disk().bytes, *limit, message)
        });
        let containers = self.containers.iter().map(|(name, limit)| {
            let used = usage.containers.get(name).copied().unwrap_or_default();
            let message = format!(
                "Container {name} exceeded its local ephemeral storage limit \"{limit}\". "
            );
            (used.disk.bytes, *limit, message)
        });
        let memory = self.memory.iter().map(|(limit, is_own)| {
            let whose = match is_own {
                true => "the total memory limit of containers",
                false => "the memory of the node",
            };
            let message = format!(
                "Pod memory usage, with its EmptyDir volumes in memory, exceeds {whose} {limit}. "
            );
            (usage.memory(), *limit, message)
        });
        let files = self.files.iter().map(|limit| {
            let message = format!(
                "Usage of EmptyDir volumes in memory exceeds what a pod may have of the node's: {limit}. "
            );
            (usage.files(), *limit, message)
        });
        volumes
            .chain(disk)
            .chain(containers)
            .chain(memory)
            .chain(files)
            .collect()
    }
}

/// Whether what guests write into a volume lies in memory.
pub(crate) fn is_in_memory(volume: &Volume) -> bool {
    written(volume) == Some(Written::Memory)
}

/// Whether a pod's guests may write into volumes that none of its limits is of.
pub(crate) fn writes_elsewhere(pod: &Pod) -> bool {
    let mut volumes = pod.volumes().iter();
    volumes.any(|volume| written(volume) == Some(Written::Elsewhere))
}

/// The volumes of a pod into which guests write that lie in memory.
pub(crate) fn in_memory(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.volumes().iter().filter(|volume| is_in_memory(volume))
}

fn limit(container: &Container, resource: &str) -> Option<Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    Quantity::parse(&limits.get(resource)?.0).ok()
}

/// The limits of all containers together, if any has one.
fn of_all(pod: &Pod, resource: &str) -> Option<Quantity> {
    let mut all = pod.all_containers();
    if !all.any(|(_, c)| limit(c, resource).is_some()) {
        return None;
    }
    let limits = |c: &Container| -> Quantities {
        let limits = c.resources.as_ref().and_then(|r| r.limits.clone());
        limits.unwrap_or_default()
    };
    let sum = Requests::asked(pod.pod_spec()?, &limits);
    let sum = match resource {
        "memory" => sum.memory,
        _ => sum.ephemeral_storage,
    };
    Some(Quantity::from_value(sum, Notation::BinarySi))
}

/// The memory that a pod may have: its containers' limits, where all that stay have one, else all that the node has.
fn memory(pod: &Pod, node: i64) -> (Quantity, bool) {
    let mut stay = pod.all_containers().filter(|(role, _)| *role != Role::Init);
    let own = of_all(pod, "memory").filter(|_| stay.all(|(_, c)| limit(c, "memory").is_some()));
    match own {
        Some(limit) => (limit, true),
        None => (Quantity::from_value(node, Notation::BinarySi), false),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MIB: u64 = 1 << 20;
    const NODE: i64 = 1 << 30;

    fn limits(spec: Value) -> Option<Limits> {
        let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
        Limits::of(&pod, false, NODE, u64::MAX)
    }

    #[test]
    fn files_in_memory_leave_room_for_others() {
        let volumes = json!([
            {"name": "v", "emptyDir": {"medium": "Memory"}},
            {"name": "w", "emptyDir": {"medium": "Memory", "sizeLimit": "50Mi"}},
        ]);
        let spec = json!({"containers": [{"name": "a"}], "volumes": volumes});
        let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
        let limits = Limits::of(&pod, false, NODE, 30 * MIB).unwrap();
        let interest = &limits.of_interest().volumes;
        assert_eq!((interest["v"], interest["w"]), (30 * MIB, 30 * MIB));
        let of = |v, w| Usage {
            in_memory: [("v".to_owned(), mib(v)), ("w".to_owned(), mib(w))].into(),
            ..Usage::default()
        };
        assert_eq!(limits.judge(&of(10, 15)).unwrap().bytes, 5 * MIB);
        assert_eq!(
            limits.judge(&of(10, 21)).unwrap_err(),
            "Usage of EmptyDir volumes in memory exceeds what a pod may have of the node's: 30Mi. "
        );
    }

    fn with_limit(name: &str, limits: Value) -> Value {
        json!({"name": name, "resources": {"limits": limits}})
    }

    /// Two containers and three volumes, of which only `free` has no limit of its own.
    fn all() -> Limits {
        let limits = limits(json!({
            "containers": [
                with_limit("a", json!({"ephemeral-storage": "10Mi", "memory": "64Mi"})),
                with_limit("b", json!({"ephemeral-storage": "20Mi", "memory": "64Mi"})),
            ],
            "volumes": [
                {"name": "sized", "emptyDir": {"sizeLimit": "5Mi"}},
                {"name": "free", "emptyDir": {}},
                {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "40Mi"}},
                {"name": "other", "configMap": {"name": "c"}},
            ],
        }));
        limits.unwrap()
    }

    fn mib(n: u64) -> Amount {
        Amount {
            bytes: n * MIB,
            inodes: 1,
        }
    }

    fn usage((a, b): (u64, u64), (sized, free): (u64, u64), (fast, guests): (u64, u64)) -> Usage {
        let used = |disk: u64, memory: u64| Used {
            memory: memory * MIB,
            disk: mib(disk),
        };
        Usage {
            containers: [
                ("a".to_owned(), used(a, guests)),
                ("b".to_owned(), used(b, 0)),
            ]
            .into(),
            on_disk: [
                ("sized".to_owned(), mib(sized)),
                ("free".to_owned(), mib(free)),
            ]
            .into(),
            in_memory: [("fast".to_owned(), mib(fast))].into(),
        }
    }

    #[test]
    fn the_first_limit_that_is_exceeded_is_told_of() {
        let limits = all();
        let sized = "Usage of EmptyDir volume \"sized\" exceeds the limit \"5Mi\". ";
        let fast = "Usage of EmptyDir volume \"fast\" exceeds the limit \"40Mi\". ";
        let pod = "Pod ephemeral local storage usage exceeds the total limit of containers 30Mi. ";
        let a = "Container a exceeded its local ephemeral storage limit \"10Mi\". ";
        let memory = "Pod memory usage, with its EmptyDir volumes in memory, exceeds the total memory limit of containers 128Mi. ";
        for (used, exceeded) in [
            (usage((10, 15), (5, 0), (40, 88)), None),
            (usage((11, 20), (6, 0), (41, 128)), Some(sized)),
            (usage((11, 20), (5, 0), (41, 128)), Some(fast)),
            (usage((11, 20), (5, 0), (40, 128)), Some(pod)),
            (usage((11, 0), (0, 0), (40, 89)), Some(a)),
            (usage((10, 0), (0, 20), (40, 89)), Some(memory)),
            (usage((0, 0), (0, 31), (0, 0)), Some(pod)),
        ] {
            let judged = limits.judge(&used);
            assert_eq!(judged.err().as_deref(), exceeded, "{used:?}");
        }
    }

    #[test]
    fn what_is_left_is_of_the_nearest() {
        let limits = all();
        let left = |used: &Usage| {
            let left = limits.judge(used).unwrap();
            (
                left.bytes / MIB,
                left.message.split(' ').nth(3).unwrap().to_owned(),
            )
        };
        assert_eq!(
            left(&usage((0, 0), (0, 0), (0, 0))),
            (5, "volume".to_owned())
        );
        assert_eq!(
            left(&usage((0, 0), (0, 28), (0, 0))),
            (2, "storage".to_owned())
        );
        assert_eq!(left(&usage((9, 0), (0, 0), (0, 0))), (1, "its".to_owned()));
        assert_eq!(
            left(&usage((0, 0), (0, 0), (5, 120))),
            (3, "with".to_owned())
        );
    }

    #[test]
    fn who_is_never_ended_has_limits_in_memory_alone() {
        let spec = |class: Value| {
            json!({
                "priority": class,
                "containers": [with_limit("a", json!({"ephemeral-storage": "10Mi", "memory": "8Mi"}))],
                "volumes": [
                    {"name": "sized", "emptyDir": {"sizeLimit": "5Mi"}},
                    {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "40Mi"}},
                ],
            })
        };
        let (critical, usual) = (spec(json!(2_000_000_000)), spec(json!(0)));
        for (spec, is_static) in [(&critical, false), (&usual, true)] {
            let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
            let limits = Limits::of(&pod, is_static, NODE, 30 * MIB).unwrap();
            assert!(limits.is_spared);
            let interest = limits.of_interest();
            assert_eq!(interest.volumes, [("fast".to_owned(), 30 * MIB)].into());
            assert!(interest.containers.is_empty());
        }
        assert!(!limits(usual).unwrap().is_spared);
    }

    #[test]
    fn only_what_has_a_limit_is_looked_at() {
        let of = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            let pairs = pairs.iter();
            pairs
                .map(|(name, n)| ((*name).to_owned(), n * MIB))
                .collect()
        };
        let interest = all().of_interest().clone();
        assert_eq!(interest.containers, of(&[("a", 10), ("b", 20)]));
        let volumes = of(&[("fast", 40), ("free", 30), ("sized", 5)]);
        assert_eq!(interest.volumes, volumes);

        let free = json!({"name": "a"});
        let volumes = json!([
            {"name": "free", "emptyDir": {}},
            {"name": "zero", "emptyDir": {"sizeLimit": "0"}},
        ]);
        assert_eq!(
            limits(json!({"containers": [free], "volumes": volumes})),
            None
        );
        let sized =
            json!([{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "w", "emptyDir": {}}]);
        let one = limits(json!({"containers": [free], "volumes": sized})).unwrap();
        assert_eq!(one.of_interest().volumes, of(&[("v", 1)]));
        assert!(one.of_interest().containers.is_empty());
        // A limit of one container is one of the pod, too.
        let some = json!([with_limit("a", json!({"ephemeral-storage": "10Mi"})), {"name": "b"}]);
        let one = limits(json!({"containers": some, "volumes": volumes})).unwrap();
        assert_eq!(one.of_interest().containers, of(&[("a", 10), ("b", 10)]));
        assert_eq!(one.of_interest().volumes, of(&[("free", 10), ("zero", 10)]));
        let critical = json!({"priority": 2_000_000_000, "containers": [free], "volumes": sized});
        assert_eq!(limits(critical), None);
    }

    #[test]
    fn without_a_limit_of_its_own_a_pod_has_the_nodes_memory() {
        let fast = json!([{"name": "v", "emptyDir": {"medium": "Memory"}}]);
        let limited = with_limit("a", json!({"memory": "64Mi"}));
        for (containers, wanted) in [
            (json!([limited]), 64),
            (json!([limited, {"name": "b"}]), 1024),
        ] {
            let limits = limits(json!({"containers": containers, "volumes": fast})).unwrap();
            assert_eq!(limits.of_interest().volumes["v"], wanted * MIB);
            let full = Usage {
                in_memory: [("v".to_owned(), mib(wanted + 1))].into(),
                ..Usage::default()
            };
            let message = limits.judge(&full).unwrap_err();
            let whose = match wanted {
                64 => "exceeds the total memory limit of containers 64Mi. ",
                _ => "exceeds the memory of the node 1Gi. ",
            };
            assert!(message.ends_with(whose), "{message}");
        }
    }
}
