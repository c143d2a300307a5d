//! What pods have left behind, and what they need.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use images::Wanted;

use super::Driver;
use super::cell::{Cell, copies_in};
use crate::blocking::blocking;
use crate::garbage::Kind;
use crate::pod::{PodView as _, Sandbox};
use crate::remove::list;
use crate::{image, logs, volumes};

impl Driver {
    /// Waits until what earlier runs of the agent left has its pods again, and what has none is removed.
    pub(crate) async fn taken_up(&self) {
        let mut taken_up = self.0.taken_up.subscribe();
        // Its other end is as old as this driver.
        let _ = taken_up.wait_for(|is| *is).await;
    }

    /// Something that nobody needs could not be removed.
    pub(crate) fn left_untidy(&self) {
        self.0.untidy.store(true, Ordering::Relaxed);
    }

    /// Whether something could not be removed since this was last asked.
    pub(crate) fn take_untidy(&self) -> bool {
        self.0.untidy.swap(false, Ordering::Relaxed)
    }

    /// What images the pods here name that may start something yet, as [`image::key`] has them.
    pub(crate) fn images_named(&self) -> BTreeSet<String> {
        let cells: Vec<_> = self.0.cells.read().by_uid.values().cloned().collect();
        let mut named = BTreeSet::new();
        for cell in cells {
            let state = cell.state.lock();
            // Nothing of a pod that has given everything back starts again.
            if matches!(state.observed.sandbox, Sandbox::Released(_)) {
                continue;
            }
            let containers = state.pod.all_containers();
            let images = containers.filter_map(|(_, c)| c.image.as_deref());
            named.extend(images.map(|name| image::key(name, Wanted::Module)));
            let trees = state.pod.volumes().iter().filter_map(volumes::image);
            named.extend(trees.map(|name| image::key(name, Wanted::Tree)));
        }
        named
    }

    /// Directories and files that nobody needs: of pods that are not here, and of instances that have ended.
    ///
    /// A pod has its cell here before it has a directory. So what is found to have no cell after it was listed is nobody's,
    /// unless its pod comes back under the same uid, as one from a file may: [`Driver::remove_orphan`] asks again. A pod whose own
    /// directories cannot be read keeps nobody from finding what others have left.
    ///
    /// # Errors
    /// When the directory of all pods cannot be read.
    pub(crate) async fn leftovers(&self) -> io::Result<Vec<(Kind, PathBuf)>> {
        let this = self.clone();
        blocking(move || {
            let mut all = Vec::new();
            for entry in fs::read_dir(&this.0.tools.dir)? {
                let entry = entry?;
                let uid = entry.file_name();
                let cells = this.0.cells.read();
                let cell = uid.to_str().and_then(|uid| cells.by_uid.get(uid)).cloned();
                drop(cells);
                match cell {
                    None => all.push((Kind::Orphan, entry.path())),
                    Some(cell) => {
                        let dead = cell.leftovers(this.memory_dir(&cell.uid)).unwrap_or_else(|error| {
                            tracing::warn!(pod = %cell.key, uid = %cell.uid, %error, "what a pod has left cannot be looked through");
                            this.left_untidy();
                            Vec::new()
                        });
                        all.extend(dead.into_iter().map(|path| (Kind::Dead, path)));
                    }
                }
            }
            if let Some(memory) = &this.0.tools.host.memory {
                let orphans = this.orphans_in(memory)?;
                all.extend(orphans.into_iter().map(|path| (Kind::Orphan, path)));
            }
            Ok(all)
        })
        .await
    }
}

impl Cell {
    /// What is left of what was to be removed. Logs are, as long as the pod is here, only where those of two later
    /// instances are.
    fn leftovers(&self, memory: Option<PathBuf>) -> io::Result<Vec<PathBuf>> {
        let containers = self.dir.join("containers");
        let (is_released, ended) = {
            let state = self.state.lock();
            let ended: Vec<_> = state
                .observed
                .containers
                .iter()
                .filter_map(|(name, c)| {
                    let ended = c.ended.as_ref()?;
                    Some((name.clone(), ended.attempt, ended.removed))
                })
                .collect();
            (
                matches!(state.observed.sandbox, Sandbox::Released(_)),
                ended,
            )
        };
        let mut all = Vec::new();
        if is_released {
            let given_back = [self.volumes_dir(), containers.clone()];
            let given_back = given_back.into_iter().chain(memory.clone());
            all.extend(given_back.filter(|path| path.exists()));
        }
        for (name, attempt, removed) in ended {
            all.extend(logs::before(
                &self.log_dir(&name),
                attempt.saturating_sub(1),
            )?);
            if !is_released {
                // Those that come later have higher numbers.
                let first_kept = attempt.saturating_add(u32::from(removed));
                let is_before = |name: Option<&str>| {
                    let attempt: Option<u32> = name.and_then(|name| name.parse().ok());
                    attempt.is_some_and(|attempt| attempt < first_kept)
                };
                let copies = memory.iter().map(|memory| copies_in(memory, &name));
                for instances in copies.chain([containers.join(&name)]) {
                    all.extend(list(&instances, is_before)?);
                }
            }
        }
        Ok(all)
    }
}
