//! A pod goes where the volumes of its claims are, or can be.
//!
//! Claims that are bound tie it to where their volumes may be mounted. Others whose class waits for a consumer get a
//! volume there that is free, or have one made there: what has to be written for that is done before the pod is bound.

use std::borrow::Cow;

use api::storage::{self, Seeker};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};

use super::{Filter, Plugin, PreFilter, Rejection};
use crate::{
    node::Node,
    pod::Pod,
    snapshot::{Event, NodeState, Snapshot},
    storage::{ClaimUse, Step, Storage, is_going},
};

pub(super) struct VolumeBinding;

const NAME: &str = "VolumeBinding";
const ELSEWHERE: &str = "node(s) didn't match PersistentVolume's node affinity";
const NONE: &str = "node(s) didn't find available persistent volumes to bind";
const LOST: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> PreFilter<'a> {
        if pod.claims.is_empty() {
            return PreFilter::Skip;
        }
        match Needs::of(pod, &snapshot.storage) {
            Ok(needs) => PreFilter::Filter(Box::new(needs)),
            Err(message) => PreFilter::Reject {
                condition: "Unschedulable",
                message,
            },
        }
    }

    fn reserve(&self, pod: &Pod, snapshot: &Snapshot, node: &NodeState) -> Vec<Step> {
        if pod.claims.is_empty() {
            return Vec::new();
        }
        let needs = Needs::of(pod, &snapshot.storage).ok();
        let steps = needs.and_then(|needs| needs.choose(&node.node));
        steps.unwrap_or_default()
    }

    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::Claim(claim) => pod.uses(claim),
            Event::Volume(volume) => storage::claim_of(volume).is_none_or(|of| {
                let is = |named: &ClaimUse| {
                    of.namespace.as_ref() == Some(&named.claim.namespace)
                        && of.name.as_ref() == Some(&named.claim.name)
                };
                pod.claims.iter().any(is)
            }),
            Event::Class | Event::Node(_) => true,
            Event::NodeGone
            | Event::Freed(..)
            | Event::Placed(_)
            | Event::Namespace
            | Event::Unused(_) => false,
        }
    }
}

/// What a pod's claims demand of a node.
struct Needs<'a> {
    /// The volumes of those that are bound, or for which one was decided; none where it is not there.
    bound: Vec<Option<&'a PersistentVolume>>,
    /// Of claims whose volume is to be made on a node that was chosen before.
    selected: Vec<(&'a ClaimUse, &'a str, &'a StorageClass)>,
    /// Claims for which a volume was decided and has yet to be written.
    decided: Vec<(&'a ClaimUse, &'a PersistentVolume)>,
    /// Those that may get any volume that fits, the smallest first.
    open: Vec<Open<'a>>,
}

struct Open<'a> {
    named: &'a ClaimUse,
    claim: &'a PersistentVolumeClaim,
    class: &'a StorageClass,
    candidates: Vec<&'a PersistentVolume>,
}

impl<'a> Needs<'a> {
    /// # Errors
    /// Why no node will do.
    fn of(pod: &'a Pod, all: &'a Storage) -> Result<Self, String> {
        let mut needs = Needs {
            bound: Vec::new(),
            selected: Vec::new(),
            decided: Vec::new(),
            open: Vec::new(),
        };
        for named in &pod.claims {
            needs.add(pod, named, all)?;
        }
        needs.open.sort_by_key(|open| storage::asked(open.claim));
        Ok(needs)
    }

    fn add(&mut self, pod: &Pod, named: &'a ClaimUse, all: &'a Storage) -> Result<(), String> {
        let claim = usable(pod, named, all)?;
        if storage::is_bound(claim) {
            let name = storage::volume_of(claim).unwrap_or_default();
            self.bound.push(all.volume(name).map(AsRef::as_ref));
            return Ok(());
        }
        let class = all.class(storage::class_of_claim(claim));
        let class =
            class.filter(|class| storage::waits(class) && storage::volume_of(claim).is_none());
        let Some(class) = class else {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        };
        match all.assumed(&named.claim) {
            Some(Step::SetAside { volume, .. }) => {
                let volume = all.volume(volume).map(AsRef::as_ref);
                self.bound.push(volume);
                self.decided.extend(volume.map(|volume| (named, volume)));
            }
            Some(Step::Select { node, .. }) => self.selected.push((named, node, class)),
            None => match storage::annotation(&claim.metadata, storage::SELECTED_NODE) {
                Some(node) => self.selected.push((named, node, class)),
                None => self.open.push(Open {
                    named,
                    claim,
                    class,
                    candidates: all.candidates(&named.claim, claim),
                }),
            },
        }
        Ok(())
    }

    /// What has to be written for the pod to go to this node; none: it cannot.
    fn choose(&self, node: &Node) -> Option<Vec<Step>> {
        let select = |named: &ClaimUse| Step::Select {
            claim: named.claim.clone(),
            node: node.name.clone(),
        };
        let mut steps: Vec<Step> = Vec::new();
        for (named, on, class) in &self.selected {
            if *on != node.name || !can_be_made(class, node) {
                return None;
            }
            steps.push(select(named));
        }
        let set_aside = |named: &ClaimUse, volume: &PersistentVolume| Step::SetAside {
            volume: volume.metadata.name.clone().unwrap_or_default(),
            claim: named.claim.clone(),
        };
        let decided = self.decided.iter();
        steps.extend(decided.map(|(named, volume)| set_aside(named, volume)));
        let seeker = Seeker::Node {
            name: &node.name,
            labels: &node.labels,
        };
        let mut chosen: Vec<&PersistentVolume> = Vec::new();
        for open in &self.open {
            let taken = |volume: &PersistentVolume| chosen.iter().any(|c| std::ptr::eq(*c, volume));
            let volumes = open.candidates.iter().copied();
            match storage::best(open.claim, volumes, seeker, taken) {
                Some(volume) => {
                    steps.push(set_aside(open.named, volume));
                    chosen.push(volume);
                }
                None if can_be_made(open.class, node) => steps.push(select(open.named)),
                None => return None,
            }
        }
        Some(steps)
    }
}

/// The claim, if the pod may use it.
fn usable<'a>(
    pod: &Pod,
    named: &ClaimUse,
    all: &'a Storage,
) -> Result<&'a PersistentVolumeClaim, String> {
    let name = &named.claim.name;
    let Some(claim) = all.claim(&named.claim) else {
        return Err(match named.is_own {
            true => format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
            ),
            false => format!("persistentvolumeclaim \"{name}\" not found"),
        });
    };
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    if phase == Some("Lost") {
        let volume = storage::volume_of(claim).unwrap_or_default();
        return Err(format!(
            "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
        ));
    }
    if is_going(claim) {
        return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
    }
    let foreign = storage::foreign(claim, &pod.namespace, &pod.name, &pod.uid);
    match foreign.filter(|_| named.is_own) {
        Some(why) => Err(why),
        None => Ok(claim),
    }
}

/// Whether somebody makes volumes of the class that may lie on the node.
fn can_be_made(class: &StorageClass, node: &Node) -> bool {
    class.provisioner != storage::NO_PROVISIONER && storage::is_for_node(class, &node.labels)
}

impl Filter for Needs<'_> {
    fn check(&self, node: &NodeState) -> Result<(), Rejection> {
        let node = &node.node;
        let mut reasons = Vec::new();
        if self.bound.iter().any(Option::is_none) {
            reasons.push(Cow::Borrowed(LOST));
        }
        let mut bound = self.bound.iter().flatten();
        if bound.any(|volume| !storage::is_near(volume, &node.name, &node.labels)) {
            reasons.push(Cow::Borrowed(ELSEWHERE));
        }
        if self.choose(node).is_none() {
            reasons.push(Cow::Borrowed(NONE));
        }
        if reasons.is_empty() {
            return Ok(());
        }
        Err(Rejection {
            plugin: NAME,
            reasons,
            unresolvable: true,
        })
    }
}
