//! Volumes that were chosen for claims, until a view shows what became of that.

use client::Key;
use imbl::{OrdMap, OrdSet};

use crate::plan::{Plan, Write};

/// Which claim was promised which volume. Cloning copies pointers only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises {
    volumes: OrdMap<Key, String>,
    claims: OrdSet<(String, Key)>,
}

impl Promises {
    /// Whether anybody was promised this volume.
    pub(super) fn has(&self, volume: &str) -> bool {
        let first = (volume.to_owned(), Key::new("", ""));
        let next = self.claims.range(first..).next();
        next.is_some_and(|(promised, _)| promised == volume)
    }

    /// Forgets what a claim was promised.
    pub(crate) fn take_back(&mut self, claim: &Key) {
        if let Some(volume) = self.volumes.remove(claim) {
            self.claims.remove(&(volume, claim.clone()));
        }
    }

    /// Promises a claim the volume that its plan sets aside for it, if it does.
    pub(crate) fn give(&mut self, claim: &Key, plan: &Plan) {
        let volume = plan.writes.iter().find_map(|write| match write {
            Write::Patch { target, .. } if target.kind == "PersistentVolume" => Some(&target.key),
            _ => None,
        });
        if let Some(volume) = volume {
            self.volumes.insert(claim.clone(), volume.name.clone());
            self.claims.insert((volume.name.clone(), claim.clone()));
        }
    }
}
