//! A pod's volumes: made before its containers start, and made anew while they run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use super::Driver;
use super::cell::Cell;
use crate::image;
use crate::pod::{EventKind, Observation};
use crate::volumes::{self, Made, Outcome, Unmade};

/// For how many pods volumes are made anew at the same time. What all pods show may change at once.
pub(super) const RENEWALS: usize = 64;

fn context<'a>(
    driver: &'a Driver,
    pod: &'a Pod,
    (dir, memory): (&'a Path, Option<&'a Path>),
    ended: &'a CancellationToken,
) -> volumes::Context<'a> {
    let tools = &driver.0.tools;
    volumes::Context {
        pod,
        client: &tools.client,
        objects: &tools.objects,
        images: &tools.images,
        disks: &tools.disks,
        clock: tools.clock,
        machine: &tools.machine,
        dir,
        memory,
        ended,
        before: None,
    }
}

/// Makes all volumes of a pod.
pub(super) async fn set_up(driver: &Driver, cell: &Arc<Cell>, ended: &CancellationToken) {
    let (pod, dir) = (cell.state.lock().allocated_pod(), cell.volumes_dir());
    let memory = driver.memory_dir(&cell.uid);
    let dirs = (dir.as_path(), memory.as_deref());
    let made = volumes::set_up(&context(driver, &pod, dirs, ended)).await;
    let warn =
        |reason, message: String| driver.event(cell, None, EventKind::Warning, reason, message);
    let learned = match made {
        Ok(made) => {
            let have = have_volumes(cell, made);
            driver.follow_storage(cell);
            have
        }
        Err(volumes::Failure::Mount(message)) => {
            warn("FailedMount", message.clone());
            Observation::VolumesFailed(message)
        }
        Err(volumes::Failure::Image(image::Error { reason, message })) => {
            warn("Failed", message.clone());
            Observation::VolumeImageFailed(reason.to_owned(), message)
        }
        Err(volumes::Failure::Ended) => Observation::VolumesFailed("the pod has ended".to_owned()),
    };
    driver.learned(cell, learned).await;
}

/// Makes anew what of them is due or stale. The guests go on with what they have meanwhile. That a token is late is
/// nobody's business, as there is time for more tries; that the node has no room for it, or that what has changed cannot be
/// shown, is said as the kubelet says it.
pub(super) async fn renew(driver: &Driver, cell: &Arc<Cell>, ended: &CancellationToken) {
    // It is never closed. A pod that ends waits for nothing.
    let room = driver.0.renewals.acquire();
    let _room = ended.run_until_cancelled(room).await;
    let (pod, made, stale) = {
        let state = cell.state.lock();
        let stale = state.observed.renewal.behind().clone();
        (state.allocated_pod(), state.volumes.clone(), stale)
    };
    let (dir, memory) = (cell.volumes_dir(), driver.memory_dir(&cell.uid));
    let dirs = (dir.as_path(), memory.as_deref());
    let cx = context(driver, &pod, dirs, ended);
    let began = cx.clock.now();
    let Outcome { made, unmade } = volumes::renew(&cx, &made, &stale).await;
    for Unmade { why, .. } in &unmade {
        tracing::warn!(%why, "a volume cannot be renewed");
    }
    let is_told = |unmade: &&Unmade| unmade.is_unwritten || stale.contains(&unmade.volume);
    let told = unmade.iter().find(is_told);
    if let Some(volumes::Failure::Mount(message)) = told.map(|unmade| &unmade.why) {
        let kind = EventKind::Warning;
        driver.event(cell, None, kind, "FailedMount", message.clone());
    }
    // One that fails is no reason to ask again for what the others have now.
    let ready = have_volumes(cell, made);
    let learned = match unmade.is_empty() {
        true => ready,
        false => not_renewed(&cell.state.lock().volumes, &unmade, began),
    };
    driver.learned(cell, learned).await;
}

impl Driver {
    /// A pod here whose guests may have the directory of a volume.
    pub(crate) fn mounts(&self, dir: &Path) -> Option<Key> {
        let cells: Vec<_> = self.0.cells.read().by_uid.values().cloned().collect();
        let has = |cell: &&Arc<Cell>| {
            let state = cell.state.lock();
            state.volumes.values().any(|made| made.path == dir)
        };
        cells.iter().find(has).map(|cell| cell.key.clone())
    }
}

fn have_volumes(cell: &Cell, made: BTreeMap<String, Made>) -> Observation {
    let mut state = cell.state.lock();
    state.volumes.extend(made);
    let due = state.volumes.values().filter_map(|made| made.renew_at);
    Observation::VolumesReady(due.min())
}

/// What is to become of the `unmade`, tried at `now`, and when the next of all volumes is due.
fn not_renewed(volumes: &BTreeMap<String, Made>, unmade: &[Unmade], now: Timestamp) -> Observation {
    let due = |name: &str| volumes.get(name).and_then(|made| made.renew_at);
    let is_late = |unmade: &&Unmade| due(&unmade.volume).is_some_and(|due| due <= now);
    let late: BTreeSet<&str> = unmade
        .iter()
        .filter(is_late)
        .map(|u| u.volume.as_str())
        .collect();
    let others = volumes
        .iter()
        .filter(|(name, _)| !late.contains(name.as_str()));
    Observation::VolumesNotRenewed {
        unmade: unmade.iter().map(|unmade| unmade.volume.clone()).collect(),
        // A token ends, whatever lies beside it.
        retry: !late.is_empty() || unmade.iter().any(|unmade| !unmade.lacks),
        due: others.filter_map(|(_, made)| made.renew_at).min(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_holds_up_nothing_that_is_due() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let made = |renew_at| Made {
            renew_at,
            ..Made::new("/v", true)
        };
        let volumes = [
            ("late", at(90)),
            ("soon", at(110)),
            ("later", at(200)),
            ("never", None),
        ];
        let all: BTreeMap<String, Made> = volumes
            .map(|(name, due)| (name.to_owned(), made(due)))
            .into();
        let table = [
            // What is due is tried again, and what comes next is not put off.
            (vec![("late", false)], true, at(110)),
            (vec![("late", true)], true, at(110)),
            // What lacks something that will be heard of waits for it, or until it is due.
            (vec![("soon", true)], false, at(90)),
            (vec![("never", true)], false, at(90)),
            (vec![("never", false)], true, at(90)),
            (
                vec![("late", false), ("soon", true), ("never", true)],
                true,
                at(110),
            ),
        ];
        for (failed, retry, due) in table {
            let unmade: Vec<Unmade> = failed
                .iter()
                .map(|(volume, lacks)| Unmade {
                    volume: (*volume).to_owned(),
                    why: volumes::Failure::Ended,
                    lacks: *lacks,
                    is_unwritten: false,
                })
                .collect();
            let names = failed.iter().map(|(name, _)| (*name).to_owned()).collect();
            let want = Observation::VolumesNotRenewed {
                unmade: names,
                retry,
                due,
            };
            assert_eq!(
                not_renewed(&all, &unmade, at(100).unwrap()),
                want,
                "{failed:?}"
            );
        }
    }
}
