//! Claims of storage and the volumes that they are bound to: what the binder, the scheduler and the nodes judge alike.

use std::cmp::Ordering;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::quantity::Quantity;
use crate::resources::Quantities;
use crate::selector::LabelSelector;
use crate::selector::node::{self, Labels};

/// Who makes volumes of directories on the nodes' own disks; also the finalizer by which such a volume waits until its
/// directory is gone.
pub const PROVISIONER: &str = "carob.dev/local-path";
/// The StorageClass of such volumes that every cluster has.
pub const CLASS: &str = "local-path";
/// Says of a StorageClass that new claims which name none get it.
pub const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
/// Any of these annotations, if it is `true`, says so.
pub const DEFAULT_MARKS: &[&str] = &[
    IS_DEFAULT,
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// The label of such a volume: on which node's disk it lies.
pub const NODE: &str = "carob.dev/node";
/// A StorageClass's provisioner that makes nothing.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// What keeps a volume while a claim is bound to it.
pub const PROTECTION: &str = "kubernetes.io/pv-protection";

/// On which node the scheduler wants a claim's volume.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to make a claim's volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same, as it was named before.
pub const ELDER_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// A claim has been bound once: what it loses is lost.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The binder chose, not the user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Who has made a volume.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// How claims and volumes named their class before they had a field for it.
const ELDER_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The value of an annotation.
pub fn annotation<'m>(meta: &'m ObjectMeta, name: &str) -> Option<&'m str> {
    let value = meta.annotations.as_ref()?.get(name)?;
    Some(value.as_str())
}

/// The class that a claim asks for; empty for none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let field = claim.spec.as_ref();
    let field = field.and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata, ELDER_CLASS)
        .or(field)
        .unwrap_or_default()
}

/// Whether a claim asks for a class; the empty one is an answer too.
pub fn asks_for_class(claim: &PersistentVolumeClaim) -> bool {
    let field = claim.spec.as_ref();
    let field = field.and_then(|spec| spec.storage_class_name.as_ref());
    field.is_some() || annotation(&claim.metadata, ELDER_CLASS).is_some()
}

/// Whether any of `marks` says of a class that it is the default.
pub fn is_default(class: &ObjectMeta, marks: &[&str]) -> bool {
    let mut said = marks.iter().filter_map(|mark| annotation(class, mark));
    said.any(|value| value == "true")
}

/// The name of the default among these classes. Of several the one made last, then the first by name.
pub fn default_of<'c>(
    classes: impl IntoIterator<Item = &'c ObjectMeta>,
    marks: &[&str],
) -> Option<&'c str> {
    let defaults = classes.into_iter().filter(|class| is_default(class, marks));
    let newest = defaults.min_by(|one, other| {
        let by_age = other.creation_timestamp.cmp(&one.creation_timestamp);
        by_age.then_with(|| one.name.cmp(&other.name))
    });
    newest?.name.as_deref()
}

/// The class that a volume is of; empty for none.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let field = volume.spec.as_ref();
    let field = field.and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata, ELDER_CLASS)
        .or(field)
        .unwrap_or_default()
}

/// Whether claims of a class wait for a pod that is placed.
pub fn waits(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Whether volumes of a class may lie on a node with these labels.
pub fn is_for_node(class: &StorageClass, labels: &Labels) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty() || terms.iter().any(|term| node::is_within(term, labels))
}

/// The volume that a claim names, if it names one.
pub fn volume_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

/// Whether a claim has been bound to the volume that it names.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    volume_of(claim).is_some() && annotation(&claim.metadata, BIND_COMPLETED).is_some()
}

/// What a volume says of the claim that has it.
pub fn claim_of(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether a volume is set aside for this very claim.
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(of) = claim_of(volume) else {
        return false;
    };
    let uid = of.uid.as_deref().filter(|uid| !uid.is_empty());
    of.name == claim.metadata.name
        && of.namespace == claim.metadata.namespace
        && uid.is_none_or(|uid| claim.metadata.uid.as_deref() == Some(uid))
}

/// How much storage is in a list of amounts. What is malformed counts as none.
pub fn storage(amounts: Option<&Quantities>) -> Option<Quantity> {
    Quantity::parse(&amounts?.get("storage")?.0).ok()
}

/// What a claim asks for.
pub fn asked(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    storage(resources.requests.as_ref())
}

/// What a volume has.
pub fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    storage(volume.spec.as_ref()?.capacity.as_ref())
}

/// The modes in which a claim is to be used.
pub fn modes_of_claim(claim: &PersistentVolumeClaim) -> &[String] {
    let modes = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    modes.unwrap_or_default()
}

/// The modes in which a volume can be.
pub fn modes_of_volume(volume: &PersistentVolume) -> &[String] {
    let modes = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    modes.unwrap_or_default()
}

/// Whether a volume may be mounted on the node of this name and with these labels.
pub fn is_near(volume: &PersistentVolume, name: &str, labels: &Labels) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else {
        return true;
    };
    let mut terms = required.node_selector_terms.iter();
    terms.any(|term| node::matches(term, name, labels))
}

fn is_small(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    match (capacity(volume), asked(claim)) {
        (Some(has), Some(asked)) => has < asked,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}

fn is_of_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let volume = volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    let claim = claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    volume.unwrap_or("Filesystem") == claim.unwrap_or("Filesystem")
}

fn has_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let has = modes_of_volume(volume);
    modes_of_claim(claim).iter().all(|mode| has.contains(mode))
}

/// Why a volume that a claim names cannot be its own, in Kubernetes' words.
pub fn misfit(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if is_small(volume, claim) {
        return Some("requested PV is too small");
    }
    if class_of_volume(volume) != class_of_claim(claim) {
        return Some("storageClassName does not match");
    }
    if !is_of_mode(volume, claim) {
        return Some("incompatible volumeMode");
    }
    (!has_modes(volume, claim)).then_some("incompatible accessMode")
}

/// For whom a volume is looked for.
#[derive(Clone, Copy)]
pub enum Seeker<'a> {
    /// For the claim alone. One that `waits` for a pod gets only what is set aside for it.
    Claim {
        /// Whether it waits.
        waits: bool,
    },
    /// For a pod on the node of this name and with these labels.
    Node {
        /// The node's name.
        name: &'a str,
        /// The node's labels.
        labels: &'a Labels,
    },
}

/// The volume that a claim is to have: the one that is set aside for it, or else the smallest of those that are free and
/// fit, which of several is the one in the fewest modes, then the first by name. None of those that are `taken`.
pub fn best<'v>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'v PersistentVolume>,
    seeker: Seeker<'_>,
    taken: impl Fn(&PersistentVolume) -> bool,
) -> Option<&'v PersistentVolume> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector.map(|selector| LabelSelector::from_meta(Some(selector)).ok());
    let is_chosen = |volume: &PersistentVolume| match &selector {
        None => true,
        Some(None) => false,
        Some(Some(selector)) => selector.matches_labels(volume.metadata.labels.as_ref()),
    };
    let reaches = |volume: &PersistentVolume| match seeker {
        Seeker::Claim { .. } => true,
        Seeker::Node { name, labels } => is_near(volume, name, labels),
    };
    let mut best: Option<&PersistentVolume> = None;
    for volume in volumes {
        if taken(volume) || is_going(volume) || !is_of_mode(volume, claim) {
            continue;
        }
        if is_for(volume, claim) {
            if is_small(volume, claim) {
                continue;
            }
            return Some(volume).filter(|volume| reaches(volume));
        }
        let is_free = claim_of(volume).is_none() && phase(volume) == "Available";
        let fits = is_free
            && !matches!(seeker, Seeker::Claim { waits: true })
            && is_chosen(volume)
            && misfit(volume, claim).is_none()
            && reaches(volume);
        if fits && best.is_none_or(|best| before(volume, best).is_lt()) {
            best = Some(volume);
        }
    }
    best
}

fn is_going(volume: &PersistentVolume) -> bool {
    volume.metadata.deletion_timestamp.is_some()
}

/// The phase that a volume is in.
pub fn phase(volume: &PersistentVolume) -> &str {
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    phase.unwrap_or_default()
}

/// Which of two volumes is to be used up first.
fn before(one: &PersistentVolume, other: &PersistentVolume) -> Ordering {
    capacity(one)
        .cmp(&capacity(other))
        .then_with(|| {
            modes_of_volume(one)
                .len()
                .cmp(&modes_of_volume(other).len())
        })
        .then_with(|| one.metadata.name.cmp(&other.metadata.name))
}

/// The claim that is made for an ephemeral volume of a pod.
pub fn ephemeral_claim(pod: &str, volume: &str) -> String {
    format!("{pod}-{volume}")
}

/// Why a claim is not that of this pod's ephemeral volume, in Kubernetes' words.
pub fn foreign(
    claim: &PersistentVolumeClaim,
    namespace: &str,
    pod: &str,
    uid: &str,
) -> Option<String> {
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    if controllers.any(|owner| owner.uid == uid) {
        return None;
    }
    let of = claim.metadata.namespace.as_deref().unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    Some(format!(
        "PVC {of}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
    ))
}

#[cfg(test)]
mod tests;
