//! The driver's own life: what earlier runs left, its workers, and the pods that the API tells of.

use std::sync::Arc;

use client::{Informer, Key};
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Driver, known};
use crate::node::allocation::Part;
use crate::pod::PodView as _;

/// How many pods are looked at at the same time. Looking does no I/O.
const WORKERS: usize = 4;

/// What works for all pods. Dropping it ends that.
pub(crate) struct Begun {
    workers: Vec<AbortOnDropHandle<()>>,
    _sharing: AbortOnDropHandle<()>,
}

impl Driver {
    /// Reads what earlier runs of the agent left, and begins to look at pods.
    pub(crate) async fn begin(&self) -> Begun {
        let left = self.left_behind().await;
        // Before anybody else gets one of their addresses.
        *self.0.left.lock() = left;
        let workers = (0..WORKERS).map(|_| tokio::spawn(self.clone().work()));
        Begun {
            workers: workers.map(AbortOnDropHandle::new).collect(),
            _sharing: AbortOnDropHandle::new(tokio::spawn(self.clone().share_room())),
        }
    }

    /// Ends the looking.
    pub(crate) async fn finish(&self, begun: Begun) {
        self.0.mirrors.close();
        self.0.queue.close();
        for worker in begun.workers {
            if let Err(error) = worker.await {
                tracing::error!(%error, "a worker of the pods' driver failed");
            }
        }
        // Each has this driver, as this driver has each.
        for cell in self.0.cells.read().by_uid.values() {
            cell.state.lock().following = None;
        }
    }

    /// Follows the pods of `informer` until `stop`. What earlier runs of the agent left is taken up first.
    pub(crate) async fn run(&self, informer: Informer<Pod>, stop: CancellationToken) {
        let mut changes = informer.subscribe();
        informer.synced().await;
        self.0.tools.objects.followed().await;
        let pods = informer.view().into_iter();
        let mut pods: Vec<_> = pods
            .map(|(key, pod)| (self.record_of(pod.uid()), key, pod))
            .collect();
        {
            // Held, since one from a file may be taken up at any time.
            let left = self.0.left.lock();
            for gone in left.records.keys() {
                self.has(gone, Part::default());
            }
        }
        // Who was here before has what it has, before others are given any.
        pods.sort_by_key(|(record, _, pod)| record.is_none() && known(pod).is_none());
        for (record, key, pod) in pods {
            self.heard(&key, Some(&pod), record);
        }
        let mirroring = self.clone().keep_mirrors(informer.clone());
        let _mirroring = AbortOnDropHandle::new(tokio::spawn(mirroring));
        self.remove_orphans().await;
        self.forget_memory().await;
        self.0.taken_up.send_replace(true);
        // Some may have waited for this.
        self.0.room.notify_one();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                keys = changes.next() => {
                    self.take_up(keys.into_iter().map(|key| (informer.get(&key), key)));
                }
            }
        }
    }

    /// Takes in what has changed, each with its present object. Who goes or was here already comes before who is new, since
    /// it may leave room; of those the oldest comes first, as the kubelet has it.
    pub(super) fn take_up(&self, changed: impl IntoIterator<Item = (Option<Arc<Pod>>, Key)>) {
        let mut new = Vec::new();
        for (pod, key) in changed {
            let is_here = |pod: &Arc<Pod>| self.0.cells.read().by_uid.contains_key(pod.uid());
            match pod {
                Some(pod) if !is_here(&pod) => new.push((pod, key)),
                other => self.heard(&key, other.as_ref(), None),
            }
        }
        let since = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
        new.sort_by_key(|(pod, _)| since(pod));
        for (pod, key) in &new {
            self.heard(key, Some(pod), None);
        }
    }
}
