//! Which keys must be looked at when a claim, a volume or a class of them has changed.

use api::storage;
use client::Key;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{Change, Work};
use crate::controller::Controller;
use crate::{ephemeral_volume, owner, storage_protection};

/// The claim itself, the volumes that it names or that name it, and the pod that wants it back when it is gone.
pub(super) fn on_claim(change: Change<'_, PersistentVolumeClaim>) -> Vec<Work> {
    let mut work = change.each(|claim| {
        let key = owner::key_of(claim);
        let named = storage::volume_of(claim).map(|name| Key::new("", name));
        let naming = change.view.volumes.set_aside_for(&key);
        let volumes = named
            .into_iter()
            .chain(naming.map(|volume| owner::key_of(&**volume)));
        let of_volume = [Controller::VolumeBinding, Controller::VolumeProtection];
        let mut work: Vec<Work> = volumes
            .flat_map(|key| of_volume.map(|controller| (controller, key.clone())))
            .collect();
        work.extend(of_claim(&key));
        work.push((Controller::ClaimProtection, key));
        work
    });
    if let (Some(gone), None) = (change.old, change.new) {
        let key = owner::key_of(gone);
        let pods = change.view.pods.in_namespace(&key.namespace);
        let wanting = pods.filter(|pod| {
            ephemeral_volume::has(pod) && storage_protection::claims(pod).any(|claim| claim == key)
        });
        work.extend(wanting.map(|pod| (Controller::EphemeralVolume, owner::key_of(&**pod))));
    }
    work
}

fn of_claim(key: &Key) -> [Work; 2] {
    [Controller::ClaimBinding, Controller::LocalPath].map(|controller| (controller, key.clone()))
}

/// The volume itself and the claim that it names. For one that names none any claim that has no volume may be.
pub(super) fn on_volume(change: Change<'_, PersistentVolume>) -> Vec<Work> {
    let mut work = change.each(|volume| {
        let key = owner::key_of(volume);
        let mut work = [
            Controller::VolumeProtection,
            Controller::VolumeBinding,
            Controller::LocalVolume,
        ]
        .map(|controller| (controller, key.clone()))
        .to_vec();
        if let Some(of) = storage::claim_of(volume) {
            let namespace = of.namespace.as_deref().unwrap_or_default();
            let name = of.name.as_deref().unwrap_or_default();
            work.extend(of_claim(&Key::new(namespace, name)));
        }
        work
    });
    let is_free = |volume: &&PersistentVolume| storage::claim_of(volume).is_none();
    if let Some(free) = change.new.filter(is_free) {
        let (name, class) = (owner::named(free).name, storage::class_of_volume(free));
        let claims = &change.view.claims;
        let may_want = claims.naming(name).chain(claims.waiting_of_class(class));
        work.extend(may_want.map(|(key, _)| (Controller::ClaimBinding, key.clone())));
    }
    work
}

/// The claims of a class that have no volume, and of the default those, too, that ask for none.
pub(super) fn on_storage_class(change: Change<'_, StorageClass>) -> Vec<Work> {
    change.each(|class| {
        let name = owner::named(class).name;
        let claims = &change.view.claims;
        let is_default = storage::is_default(&class.metadata, storage::DEFAULT_MARKS);
        let of_none = is_default.then(|| claims.waiting_of_class(""));
        let of_none = of_none.into_iter().flatten();
        let of_none = of_none.filter(|(_, claim)| !storage::asks_for_class(claim));
        let waiting = claims.waiting_of_class(name).chain(of_none);
        waiting.flat_map(|(key, _)| of_claim(key)).collect()
    })
}

/// The claims of a pod's own making.
pub(super) fn on_pod(pod: &Pod) -> Option<Work> {
    ephemeral_volume::has(pod).then(|| (Controller::EphemeralVolume, owner::key_of(pod)))
}

/// What lies on the disk of a node that has come or gone, or was to.
pub(super) fn on_node(change: &Change<'_, Node>) -> Vec<Work> {
    let Some(node) = change.old.xor(change.new) else {
        return Vec::new();
    };
    let name = owner::named(node).name;
    let volumes = change.view.volumes.iter().filter(|(_, volume)| {
        let labels = volume.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(storage::NODE))
            .is_some_and(|on| on == name)
    });
    let claims = change.view.claims.iter().filter(|(_, claim)| {
        storage::volume_of(claim).is_none()
            && storage::annotation(&claim.metadata, storage::SELECTED_NODE) == Some(name)
    });
    let volumes = volumes.map(|(key, _)| (Controller::LocalVolume, key.clone()));
    let claims = claims.map(|(key, _)| (Controller::LocalPath, key.clone()));
    volumes.chain(claims).collect()
}
