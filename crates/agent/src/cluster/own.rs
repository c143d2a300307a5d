//! What this node's own pods are to policies: known here before the watch of all pods tells of them, and for as long as
//! they have a network, whatever that watch says of others that have had or have their names.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use client::{Key, Object as _};
use k8s_openapi::api::core::v1::Pod;

use super::Cluster;
use crate::peer::Peer;
use crate::policies::{Changed, Index};

/// The index, and what it is told of this node's pods.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) index: Index,
    own: BTreeMap<Key, Own>,
    /// Counted up by each pod that joins.
    turn: u64,
}

/// A pod of this node that has a network.
#[derive(Debug)]
struct Own {
    /// As it is, with its address.
    pod: Pod,
    address: Ipv4Addr,
    turn: u64,
    /// The watch has told of it, so that whatever it tells of others of its name is later.
    heard: bool,
    /// What the watch last said of its name.
    said: Option<Pod>,
}

impl Known {
    /// A pod has got its address.
    fn joined(&mut self, key: &Key, pod: &Pod, address: Ipv4Addr) -> (u64, Changed) {
        self.turn += 1;
        let own = Own {
            pod: placed(Peer::from(pod.clone()).pod, address),
            address,
            turn: self.turn,
            heard: false,
            said: None,
        };
        let changed = self.set(key, Some(&own.pod));
        self.own.insert(key.clone(), own);
        (self.turn, changed)
    }

    /// The watch of all pods tells of a name. It may be behind: of an earlier pod of that name, or of this one without
    /// its address.
    pub(super) fn told(&mut self, key: &Key, new: Option<&Pod>) -> Changed {
        let Some(own) = self.own.get_mut(key) else {
            return self.set(key, new);
        };
        own.said = new.cloned();
        match new {
            Some(new) if new.uid() == own.pod.uid() => {
                own.heard = true;
                own.pod = placed(new.clone(), own.address);
                let pod = own.pod.clone();
                self.set(key, Some(&pod))
            }
            Some(new) if own.heard || created(new) > created(&own.pod) => {
                self.own.remove(key);
                self.set(key, Some(new))
            }
            _ => Changed::default(),
        }
    }

    /// A pod's network is gone. What the watch says holds from now on.
    fn left(&mut self, key: &Key, turn: u64) -> Changed {
        // A later one may have taken the name.
        if self.own.get(key).is_none_or(|own| own.turn != turn) {
            return Changed::default();
        }
        let said = self.own.remove(key).and_then(|own| own.said);
        self.set(key, said.as_ref())
    }

    fn set(&mut self, key: &Key, pod: Option<&Pod>) -> Changed {
        self.index.set_pod(&key.namespace, &key.name, pod)
    }
}

fn placed(mut pod: Pod, address: Ipv4Addr) -> Pod {
    pod.status.get_or_insert_default().pod_ip = Some(address.to_string());
    pod
}

fn created(pod: &Pod) -> Option<jiff::Timestamp> {
    let created = pod.metadata.creation_timestamp.as_ref();
    created.map(|time| time.0)
}

/// A pod of this node is known by its address while this is kept.
pub(crate) struct OwnPod {
    cluster: Cluster,
    key: Key,
    turn: u64,
}

impl Cluster {
    /// Takes up a pod of this node at its new address before anybody hears of that: its first connection is to be
    /// judged by its rules. To be kept for as long as the pod has that address.
    pub(crate) fn own_pod(&self, pod: &Pod, address: Ipv4Addr) -> OwnPod {
        let key = Key::of(pod);
        let mut turn = 0;
        self.rules(|known| {
            let changed;
            (turn, changed) = known.joined(&key, pod, address);
            changed
        });
        OwnPod {
            cluster: self.clone(),
            key,
            turn,
        }
    }
}

impl Drop for OwnPod {
    fn drop(&mut self) {
        self.cluster.rules(|known| known.left(&self.key, self.turn));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OLD: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 3);
    const NEW: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 4);

    fn pod(uid: &str, second: u32, label: &str, address: Option<Ipv4Addr>) -> Pod {
        let created = format!("2026-01-01T00:00:{second:02}Z");
        let metadata = json!({"namespace": "d", "name": "db-0", "uid": uid, "creationTimestamp": created,
            "labels": {"app": label}});
        let object = json!({"metadata": metadata, "spec": {"nodeName": "n", "containers": []}, "status": {"podIP": address}});
        serde_json::from_value(object).expect("a pod")
    }

    fn cluster() -> Cluster {
        let range = "10.128.0.0/24".parse().expect("a range");
        Cluster::new("n", network::Network::new(range))
    }

    fn tell(cluster: &Cluster, old: Option<&Pod>, new: Option<&Pod>) {
        let peers = [old, new].map(|pod| pod.cloned().map(Peer::from));
        let key = Key::new("d", "db-0");
        cluster.pod(&key, peers[0].as_ref(), peers[1].as_ref());
    }

    /// The uid by which an address is judged.
    fn at(cluster: &Cluster, address: Ipv4Addr) -> Option<String> {
        let policies = cluster.known.lock().index.policies();
        policies.get(address).map(|policy| policy.uid.clone())
    }

    #[test]
    fn a_watch_that_is_behind_takes_no_rules_from_a_new_pod_of_an_old_name() {
        let (old, new) = (pod("1", 1, "a", Some(OLD)), pod("2", 1, "a", None));
        for after in [None, Some(&new)] {
            let cluster = cluster();
            tell(&cluster, None, Some(&old));
            let own = cluster.own_pod(&new, NEW);
            let relabelled = pod("1", 1, "b", Some(OLD));
            for (before, after) in [(&old, Some(&relabelled)), (&relabelled, after)] {
                tell(&cluster, Some(before), after);
                assert_eq!(at(&cluster, NEW).as_deref(), Some("2"));
            }
            tell(&cluster, after, Some(&pod("2", 1, "a", Some(NEW))));
            assert_eq!(at(&cluster, NEW).as_deref(), Some("2"));
            // Without its object it is judged to its end.
            tell(&cluster, Some(&new), None);
            assert_eq!(at(&cluster, NEW).as_deref(), Some("2"));
            drop(own);
            assert_eq!((at(&cluster, NEW), at(&cluster, OLD)), (None, None));
        }
    }

    #[test]
    fn a_pod_without_its_address_yet_keeps_it_and_gets_new_labels() {
        let cluster = cluster();
        let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"app": "b"}}}});
        let policy = serde_json::from_value(policy).expect("a policy");
        cluster.rules(|known| known.index.set_policy("d", "p", Some(&policy)));
        let isolated = || {
            let policies = cluster.known.lock().index.policies();
            policies.isolates(NEW, network::policy::Direction::Ingress)
        };
        let _own = cluster.own_pod(&pod("2", 1, "a", None), NEW);
        assert!(!isolated());
        tell(&cluster, None, Some(&pod("2", 1, "b", None)));
        assert!(isolated());
    }

    #[test]
    fn a_pod_of_its_name_that_comes_after_it_has_the_name() {
        for (second, heard, due) in [
            (2, false, Some("2")),
            (1, true, Some("2")),
            (1, false, None),
        ] {
            let cluster = cluster();
            let own = cluster.own_pod(&pod("1", 1, "a", None), OLD);
            let before = heard.then(|| pod("1", 1, "a", None));
            if heard {
                tell(&cluster, None, before.as_ref());
            }
            let elsewhere = pod("2", second, "a", Some(NEW));
            tell(&cluster, before.as_ref(), Some(&elsewhere));
            assert_eq!(at(&cluster, NEW).as_deref(), due, "{second} {heard}");
            drop(own);
            assert_eq!(at(&cluster, NEW).as_deref(), Some("2"), "{second} {heard}");
            assert_eq!(at(&cluster, OLD), None);
        }
    }

    #[test]
    fn a_pods_second_address_outlives_its_first() {
        let cluster = cluster();
        let first = cluster.own_pod(&pod("1", 1, "a", None), OLD);
        let _second = cluster.own_pod(&pod("1", 1, "a", None), NEW);
        drop(first);
        assert_eq!(
            (at(&cluster, OLD), at(&cluster, NEW).as_deref()),
            (None, Some("1"))
        );
    }
}
