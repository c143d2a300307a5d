//! The claims that pods name, and the volumes and classes that there are for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::storage;
use client::{Key, Object};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, PodSpec},
    storage::v1::StorageClass,
};

use crate::node::Node;

/// A claim that a pod names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimUse {
    pub(crate) claim: Key,
    /// It is of the pod's own making.
    pub(crate) is_own: bool,
}

impl ClaimUse {
    /// Those of a pod, each once: several of its volumes may name one.
    pub(crate) fn all(namespace: &str, pod: &str, spec: &PodSpec) -> Vec<ClaimUse> {
        let volumes = spec.volumes.iter().flatten();
        let all: Vec<ClaimUse> = volumes
            .filter_map(|volume| {
                let named = volume.persistent_volume_claim.as_ref();
                let is_own = volume.ephemeral.is_some();
                let name = match is_own {
                    true => storage::ephemeral_claim(pod, &volume.name),
                    false => named?.claim_name.clone(),
                };
                let claim = Key::new(namespace, name);
                Some(ClaimUse { claim, is_own })
            })
            .collect();
        let own = all.iter().filter(|named| named.is_own);
        let own: BTreeSet<Key> = own.map(|named| named.claim.clone()).collect();
        let mut seen = BTreeSet::new();
        let each = all.into_iter().filter(|n| seen.insert(n.claim.clone()));
        each.map(|ClaimUse { claim, .. }| ClaimUse {
            is_own: own.contains(&claim),
            claim,
        })
        .collect()
    }
}

/// What has to be written of a claim before a pod that uses it is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The volume is set aside for the claim.
    SetAside {
        /// The volume's name.
        volume: String,
        /// The claim.
        claim: Key,
    },
    /// The claim's volume is to be made on the node.
    Select {
        /// The claim.
        claim: Key,
        /// The node's name.
        node: String,
    },
}

impl Step {
    /// The claim that it is about.
    #[must_use]
    pub fn claim(&self) -> &Key {
        match self {
            Step::SetAside { claim, .. } | Step::Select { claim, .. } => claim,
        }
    }

    fn reservation(&self) -> Option<(String, Key)> {
        match self {
            Step::SetAside { volume, claim } => Some((volume.clone(), claim.clone())),
            Step::Select { .. } => None,
        }
    }
}

/// Claims, volumes and classes as they are, and what has been decided about them and is not seen yet.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    claims: BTreeMap<Key, Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: BTreeMap<String, Arc<StorageClass>>,
    /// The names of volumes, by what they are looked for.
    filed: BTreeSet<(File, String)>,
    /// By claim, with the pods for which that was decided.
    assumed: BTreeMap<Key, (Step, BTreeSet<Key>)>,
    /// The volumes that are to be set aside by that, each with its claim.
    reserved: BTreeSet<(String, Key)>,
}

/// By what a volume is looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum File {
    /// It is nobody's, and of this class.
    Free(String),
    /// It names this claim.
    SetAside(Key),
}

impl File {
    fn of(volume: &PersistentVolume) -> File {
        match key_of_claim(volume) {
            Some(claim) => File::SetAside(claim),
            None => File::Free(storage::class_of_volume(volume).to_owned()),
        }
    }
}

/// Whether a pod's claims are such that it may be bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    NotYet,
    /// It never will be, on that node.
    Broken(String),
}

impl Storage {
    /// Takes up a claim as it is now; none: it is gone.
    pub fn set_claim(&mut self, key: &Key, claim: Option<Arc<PersistentVolumeClaim>>) {
        match claim {
            Some(claim) => drop(self.claims.insert(key.clone(), claim)),
            None => drop(self.claims.remove(key)),
        }
    }

    /// Takes up a volume as it is now; none: it is gone.
    pub fn set_volume(&mut self, name: &str, volume: Option<Arc<PersistentVolume>>) {
        if let Some(old) = self.volumes.remove(name) {
            self.filed.remove(&(File::of(&old), name.to_owned()));
        }
        if let Some(volume) = volume {
            self.filed.insert((File::of(&volume), name.to_owned()));
            self.volumes.insert(name.to_owned(), volume);
        }
    }

    /// Takes up a class as it is now; none: it is gone.
    pub fn set_class(&mut self, name: &str, class: Option<Arc<StorageClass>>) {
        match class {
            Some(class) => drop(self.classes.insert(name.to_owned(), class)),
            None => drop(self.classes.remove(name)),
        }
    }

    pub(crate) fn claim(&self, key: &Key) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(key)
    }

    pub(crate) fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.get(name)
    }

    pub(crate) fn class(&self, name: &str) -> Option<&StorageClass> {
        self.classes.get(name).map(AsRef::as_ref)
    }

    /// What was decided about a claim for a pod that is on its way.
    pub(crate) fn assumed(&self, claim: &Key) -> Option<&Step> {
        self.assumed.get(claim).map(|(step, _)| step)
    }

    /// The volumes that a claim may get: of its class and nobody's, or set aside for it.
    pub(crate) fn candidates(
        &self,
        key: &Key,
        claim: &PersistentVolumeClaim,
    ) -> Vec<&PersistentVolume> {
        let own = self.filed_by(File::SetAside(key.clone()));
        let own = own.filter(|(_, volume)| storage::is_for(volume, claim));
        let class = storage::class_of_claim(claim).to_owned();
        let free = self.filed_by(File::Free(class));
        let free = free.filter(|(name, _)| !self.is_reserved_by_another(name, key));
        own.chain(free).map(|(_, volume)| volume).collect()
    }

    fn filed_by(&self, file: File) -> impl Iterator<Item = (&str, &PersistentVolume)> {
        self.filed
            .range((file.clone(), String::new())..)
            .take_while(move |(of, _)| *of == file)
            .filter_map(|(_, name)| Some((name.as_str(), &**self.volumes.get(name)?)))
    }

    fn is_reserved_by_another(&self, volume: &str, claim: &Key) -> bool {
        let first = (volume.to_owned(), Key::new("", ""));
        let by = self.reserved.range(first..);
        by.take_while(|(of, _)| of == volume)
            .any(|(_, by)| by != claim)
    }

    /// Counts what was decided for a pod as if it were so.
    pub(crate) fn assume(&mut self, pod: &Key, steps: &[Step]) {
        for step in steps {
            let entry = self.assumed.entry(step.claim().clone());
            let (step, pods) = entry.or_insert_with(|| (step.clone(), BTreeSet::new()));
            pods.insert(pod.clone());
            self.reserved.extend(step.reservation());
        }
    }

    /// Counts it no more.
    pub(crate) fn release(&mut self, pod: &Key, steps: &[Step]) {
        for step in steps {
            let Some((step, pods)) = self.assumed.get_mut(step.claim()) else {
                continue;
            };
            pods.remove(pod);
            if pods.is_empty() {
                let step = step.clone();
                if let Some(reservation) = step.reservation() {
                    self.reserved.remove(&reservation);
                }
                self.assumed.remove(step.claim());
            }
        }
    }

    /// Whether a pod that uses these claims may be bound to the node. `written` has the revisions of the claims that were written for
    /// it: what was seen before says nothing.
    pub(crate) fn readiness(
        &self,
        claims: &[ClaimUse],
        node: &Node,
        written: &BTreeMap<Key, u64>,
    ) -> Readiness {
        for ClaimUse { claim: key, .. } in claims {
            let Some(claim) = self.claims.get(key).filter(|claim| !is_going(claim)) else {
                return Readiness::Broken(format!(
                    "persistentvolumeclaim \"{}\" not found",
                    key.name
                ));
            };
            if !storage::is_bound(claim) {
                let selected = storage::annotation(&claim.metadata, storage::SELECTED_NODE);
                let since = written.get(key).copied();
                if since.is_some_and(|since| claim.revision() >= since)
                    && selected != Some(&node.name)
                {
                    let why = format!("provisioning failed for PVC \"{}\"", key.name);
                    return Readiness::Broken(why);
                }
                return Readiness::NotYet;
            }
            let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
            if phase != Some("Bound") {
                // Its node would say that it is not.
                return Readiness::NotYet;
            }
            let name = storage::volume_of(claim).unwrap_or_default();
            let Some(volume) = self.volumes.get(name) else {
                return Readiness::NotYet;
            };
            if !storage::is_near(volume, &node.name, &node.labels) {
                let why = format!(
                    "pv \"{name}\" node affinity doesn't match node \"{}\"",
                    node.name
                );
                return Readiness::Broken(why);
            }
        }
        Readiness::Ready
    }
}

/// The claim that a volume names.
pub(crate) fn key_of_claim(volume: &PersistentVolume) -> Option<Key> {
    let of = storage::claim_of(volume)?;
    Some(Key::new(
        of.namespace.as_deref().unwrap_or_default(),
        of.name.as_deref().unwrap_or_default(),
    ))
}

/// Whether a claim is being deleted.
pub(crate) fn is_going(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    fn set(all: &mut Storage, name: &str, spec: Value) {
        let volume = json!({"metadata": {"name": name}, "spec": spec});
        let volume = serde_json::from_value(volume).unwrap();
        all.set_volume(name, Some(Arc::new(volume)));
    }

    fn free(class: &str) -> Value {
        json!({"storageClassName": class})
    }

    fn names(claim: &str, uid: &str) -> Value {
        let of = json!({"namespace": "ns", "name": claim, "uid": uid});
        json!({"storageClassName": "a", "claimRef": of})
    }

    fn candidates(all: &Storage, claim: &str, class: &str) -> Vec<String> {
        let object = json!({"metadata": {"namespace": "ns", "name": claim, "uid": claim}, "spec": free(class)});
        let object = serde_json::from_value(object).unwrap();
        let found = all.candidates(&key(claim), &object);
        let names = found.iter().map(|volume| volume.metadata.name.clone());
        names.map(Option::unwrap).collect()
    }

    #[test]
    fn candidates_are_of_the_class_and_free_or_the_claims_own() {
        let mut all = Storage::default();
        for (name, class) in [("v1", "a"), ("v2", "a"), ("v3", "ab"), ("v4", "")] {
            set(&mut all, name, free(class));
        }
        set(&mut all, "v5", names("one", ""));
        set(&mut all, "v6", names("one", "one"));
        set(&mut all, "v7", names("one", "another of its name"));
        for (claim, class, found) in [
            ("one", "a", &["v5", "v6", "v1", "v2"][..]),
            ("one", "ab", &["v5", "v6", "v3"]),
            ("other", "a", &["v1", "v2"]),
            ("other", "", &["v4"]),
            ("other", "b", &[]),
        ] {
            assert_eq!(candidates(&all, claim, class), found, "{claim} of {class}");
        }
        set(&mut all, "v1", names("other", "other"));
        set(&mut all, "v5", free("a"));
        set(&mut all, "v3", free("a"));
        all.set_volume("v2", None);
        assert_eq!(candidates(&all, "one", "a"), ["v6", "v3", "v5"]);
        assert_eq!(candidates(&all, "other", "a"), ["v1", "v3", "v5"]);
        assert_eq!(candidates(&all, "other", "ab"), ["v1"]);
        for name in ["v1", "v3", "v4", "v5", "v6", "v7"] {
            all.set_volume(name, None);
        }
        assert!(all.filed.is_empty());
    }

    #[test]
    fn what_was_decided_for_a_claim_is_no_candidate_of_another() {
        let mut all = Storage::default();
        set(&mut all, "v1", free("a"));
        set(&mut all, "v2", free("a"));
        let set_aside = |volume: &str| Step::SetAside {
            volume: volume.to_owned(),
            claim: key("one"),
        };
        let (pod, other) = (key("pod"), key("other-pod"));
        all.assume(&pod, &[set_aside("v1")]);
        // The claim has been decided on, whatever else is thought of for a second pod.
        all.assume(&other, &[set_aside("v2")]);
        assert_eq!(candidates(&all, "one", "a"), ["v1", "v2"]);
        assert_eq!(candidates(&all, "two", "a"), ["v2"]);
        all.release(&pod, &[set_aside("v1")]);
        assert_eq!(candidates(&all, "two", "a"), ["v2"]);
        all.release(&other, &[set_aside("v2")]);
        assert_eq!(candidates(&all, "two", "a"), ["v1", "v2"]);
        assert!(all.reserved.is_empty());
    }
}
