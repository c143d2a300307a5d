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
}

/// Claims, volumes and classes as they are, and what has been decided about them and is not seen yet.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    claims: BTreeMap<Key, Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: BTreeMap<String, Arc<StorageClass>>,
    /// By claim, with the pods for which that was decided.
    assumed: BTreeMap<Key, (Step, BTreeSet<Key>)>,
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
        match volume {
            Some(volume) => drop(self.volumes.insert(name.to_owned(), volume)),
            None => drop(self.volumes.remove(name)),
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
        let class = storage::class_of_claim(claim);
        let assumed: BTreeSet<&str> = self
            .assumed
            .values()
            .filter_map(|(step, _)| match step {
                Step::SetAside { volume, claim } if claim != key => Some(volume.as_str()),
                _ => None,
            })
            .collect();
        let volumes = self.volumes.iter().filter(|(name, volume)| {
            let is_free = storage::claim_of(volume).is_none()
                && storage::class_of_volume(volume) == class
                && !assumed.contains(name.as_str());
            is_free || storage::is_for(volume, claim)
        });
        volumes.map(|(_, volume)| &**volume).collect()
    }

    /// Counts what was decided for a pod as if it were so.
    pub(crate) fn assume(&mut self, pod: &Key, steps: &[Step]) {
        for step in steps {
            let entry = self.assumed.entry(step.claim().clone());
            let (_, pods) = entry.or_insert_with(|| (step.clone(), BTreeSet::new()));
            pods.insert(pod.clone());
        }
    }

    /// Counts it no more.
    pub(crate) fn release(&mut self, pod: &Key, steps: &[Step]) {
        for step in steps {
            if let Some((_, pods)) = self.assumed.get_mut(step.claim()) {
                pods.remove(pod);
                if pods.is_empty() {
                    self.assumed.remove(step.claim());
                }
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
