//! The record of who set a workload's number of replicas, as it looks through its `Scale`.

use serde_json::Value;

use super::entry::Entry;
use super::managers::{self, Managers};
use super::set::{FieldSet, Step};
use super::target::Target;
use crate::resource::Resource;

/// `spec.replicas`, the same in every workload and in its scale.
fn replicas() -> [Step; 2] {
    ["spec", "replicas"].map(|field| Step::Field(field.to_owned()))
}

fn only_replicas() -> FieldSet {
    let mut set = FieldSet::default();
    set.insert(&replicas());
    set
}

/// Gives the scale of `workload` the entries of those who own its number of replicas.
pub(crate) fn entries_to_scale(resource: &Resource, workload: &Value, scale: &mut Value) {
    let mut entries = Managers::default();
    for entry in Managers::of(workload).iter() {
        if entry.api_version == resource.api_version && entry.set.has(&replicas()) {
            let mut owner = entry.clone();
            owner.api_version = Target::scale().api_version.to_owned();
            owner.set = only_replicas();
            entries.set(owner);
        }
    }
    entries.write(scale);
}

/// Gives `workload` back the entries of its scale after a write of that: who is no longer among them
/// has lost the number of replicas. Entries of versions that the resource does not have go.
pub(crate) fn entries_from_scale(resource: &Resource, workload: &mut Value, scale: &Value) {
    let path = replicas();
    let owners: Vec<Entry> = Managers::of(scale)
        .iter()
        .filter(|entry| entry.set.has(&path))
        .map(|entry| {
            let mut owner = entry.clone();
            owner.api_version = resource.api_version.to_owned();
            owner.set = only_replicas();
            // Kubernetes looks for it among the workload's, where there is none yet.
            owner.time = String::new();
            owner
        })
        .collect();
    let mut left = Managers::default();
    for entry in Managers::of(workload).iter() {
        if entry.api_version != resource.api_version {
            continue;
        }
        let mut entry = entry.clone();
        if !owners.iter().any(|owner| owner.is(&entry)) {
            entry.set.subtract(&only_replicas());
        }
        left.set(entry);
    }
    for owner in owners {
        if left.find(&owner).is_none_or(|entry| !entry.set.has(&path)) {
            left.set(owner);
        }
    }
    managers::put(workload, Vec::new());
    left.write(workload);
}
