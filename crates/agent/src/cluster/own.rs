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
    /// By what each is [known by](known_by).
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
    /// The watch of all pods tells of a name: what it stood for, and what it stands for now.
    pub(super) fn peer(&mut self, key: &Key, old: Option<&Peer>, new: Option<&Peer>) -> Changed {
        let place = |peer: &Peer| known_by(key, &peer.pod, peer.is_mirror);
        let after = new.map(|new| (place(new), &new.pod));
        let before = old.map(place);
        let left = before.filter(|before| after.as_ref().is_none_or(|(now, _)| now != before));
        let mut changed = left.map_or_else(Changed::default, |left| self.told(&left, None));
        if let Some((now, new)) = after {
            let told = self.told(&now, Some(new));
            changed.addresses.extend(told.addresses);
        }
        changed
    }

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

    /// The watch of all pods tells of what is known by this. It may be behind: of an earlier pod of that name, or of this one without
    /// its address.
    fn told(&mut self, key: &Key, new: Option<&Pod>) -> Changed {
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

/// What a pod is known by: its name, but one from a file of a node, which may share that with others, by its node and uid,
/// too. No name of the API's is like that, and no other node's mirror.
fn known_by(key: &Key, pod: &Pod, is_from_file: bool) -> Key {
    if !is_from_file {
        return key.clone();
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let name = [&*key.name, node.unwrap_or_default(), pod.uid()].join("\0");
    Key::new(key.namespace.as_str(), name)
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
    pub(crate) fn own_pod(&self, pod: &Pod, is_from_file: bool, address: Ipv4Addr) -> OwnPod {
        let key = known_by(&Key::of(pod), pod, is_from_file);
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
            let own = cluster.own_pod(&new, false, NEW);
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

    /// A cluster in which all that is labelled `b` is isolated.
    fn isolating() -> Cluster {
        let cluster = cluster();
        let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"app": "b"}}}});
        let policy = serde_json::from_value(policy).expect("a policy");
        cluster.rules(|known| known.index.set_policy("d", "p", Some(&policy)));
        cluster
    }

    fn is_isolated(cluster: &Cluster, address: Ipv4Addr) -> bool {
        let policies = cluster.known.lock().index.policies();
        policies.isolates(address, network::policy::Direction::Ingress)
    }

    #[test]
    fn who_shares_the_name_of_one_from_a_file_takes_no_rules_from_it() {
        let from_file = pod("f", 1, "b", None);
        let mirror_on = |node: &str, label| {
            let mut mirror = pod("m", 3, label, (node == "n").then_some(OLD));
            let marked = [(api::static_pods::MIRROR.to_owned(), "f".to_owned())];
            mirror.metadata.annotations = Some(marked.into());
            mirror.spec.get_or_insert_default().node_name = Some(node.to_owned());
            mirror
        };
        let (mirror, forged) = (mirror_on("n", "b"), mirror_on("elsewhere", "a"));
        for (node, heard, second) in [
            ("n", false, 0),
            ("n", true, 2),
            ("elsewhere", false, 2),
            ("elsewhere", true, 0),
        ] {
            let cluster = isolating();
            let _file = cluster.own_pod(&from_file, true, OLD);
            let before = heard.then_some(&mirror);
            if heard {
                tell(&cluster, None, before);
            }
            let mut other = pod("2", second, "b", Some(NEW));
            other.spec.get_or_insert_default().node_name = Some(node.to_owned());
            let own = (node == "n").then(|| cluster.own_pod(&other, false, NEW));
            tell(&cluster, before, Some(&other));
            let both = [OLD, NEW].map(|address| is_isolated(&cluster, address));
            assert_eq!(both, [true, true], "{node} {heard} {second}");
            drop(own);
            tell(&cluster, Some(&other), Some(&forged));
            let both = [OLD, NEW].map(|address| is_isolated(&cluster, address));
            assert_eq!(both, [true, false], "{node} {heard} {second}");
        }
    }

    #[test]
    fn a_mirror_says_the_labels_of_one_from_a_file() {
        let cluster = isolating();
        let file = cluster.own_pod(&pod("f", 1, "a", None), true, OLD);
        let mut mirror = pod("m", 1, "b", None);
        let marked = [(api::static_pods::MIRROR.to_owned(), "f".to_owned())];
        mirror.metadata.annotations = Some(marked.into());
        tell(&cluster, None, Some(&mirror));
        assert!(is_isolated(&cluster, OLD));
        tell(&cluster, Some(&mirror), None);
        assert!(is_isolated(&cluster, OLD));
        drop(file);
        assert_eq!(at(&cluster, OLD), None);
    }

    #[test]
    fn a_pod_without_its_address_yet_keeps_it_and_gets_new_labels() {
        let cluster = isolating();
        let isolated = || is_isolated(&cluster, NEW);
        let _own = cluster.own_pod(&pod("2", 1, "a", None), false, NEW);
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
            let own = cluster.own_pod(&pod("1", 1, "a", None), false, OLD);
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
        let first = cluster.own_pod(&pod("1", 1, "a", None), false, OLD);
        let _second = cluster.own_pod(&pod("1", 1, "a", None), false, NEW);
        drop(first);
        assert_eq!(
            (at(&cluster, OLD), at(&cluster, NEW).as_deref()),
            (None, Some("1"))
        );
    }
}
