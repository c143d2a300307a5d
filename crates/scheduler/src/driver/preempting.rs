//! Takes less important pods away for one that fits nowhere else.

use std::sync::Arc;

use client::{Client, DeleteOptions, EventType, Key, Patch};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::json;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::{Done, Driver, reference};
use crate::{Budget, Pod, Preemption, decide::is_awaited};

impl Driver {
    pub(super) fn budgets_changed(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            let budget = self.budgets.get(&key);
            let budget = budget.map(|budget| Budget::from(budget.as_ref()));
            self.snapshot.set_budget(key, budget);
        }
    }

    /// Sets the room aside, and has those go that are in the way. They have their grace: the pod comes when they are gone.
    pub(super) fn make_room(&mut self, pod: &Arc<Pod>, preemption: Preemption, span: &Span) {
        let node = preemption.node;
        self.snapshot.nominate(pod, &node);
        // What was set aside there for less important ones may be taken now: they look for another place.
        for other in self.snapshot.less_important(pod, &node) {
            self.unnominate(&other.key());
            let write = unnominate(self.client.clone(), other);
            self.writes.spawn(write.instrument(span.clone()));
        }
        // Those that are on their way out already are waited for.
        for victim in preemption
            .victims
            .into_iter()
            .filter(|victim| !victim.deleting)
        {
            // From here on, so that nobody else is sought for this pod until the deletion is seen.
            let leaving = Pod {
                deleting: true,
                ..Pod::clone(&victim)
            };
            self.snapshot.place(Arc::new(leaving), &node);
            let message = format!("Preempted by pod {} on node {node}", pod.uid);
            let about = reference(&victim);
            self.recorder
                .event(&about, EventType::Normal, "Preempted", message);
            let end = end(self.client.clone(), victim);
            self.writes.spawn(end.instrument(span.clone()));
        }
    }

    /// Those for whom room is set aside on a node decide anew when nobody is on the way out there any more: it may not
    /// suffice, as not everybody who was to go has gone.
    pub(super) fn seek_more_room(&mut self, node: &str) {
        let there = self.snapshot.nominated().filter(|(_, at)| *at == node);
        let unsettled = there.filter(|(pod, _)| !is_awaited(pod, &self.snapshot));
        let keys: Vec<Key> = unsettled.map(|(pod, _)| pod.key()).collect();
        for key in keys {
            self.queue.again(&key, Instant::now());
        }
    }
}

/// Says why a pod goes, and deletes it.
async fn end(client: Client, victim: Arc<Pod>) -> Done {
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "default-scheduler: preempting to accommodate a higher priority pod",
        "lastTransitionTime": Time(Timestamp::now()),
    });
    let patch = Patch::Strategic(json!({
        "metadata": { "uid": victim.uid },
        "status": { "conditions": [condition] },
    }));
    let pods = client.of::<core::Pod>();
    let told = pods
        .patch(&victim.namespace, &victim.name, &patch, Some("status"))
        .await;
    let deleted = match told {
        Ok(_) => {
            let options = DeleteOptions::uid(victim.uid.clone());
            pods.delete(&victim.namespace, &victim.name, &options)
                .await
                .map(drop)
        }
        Err(error) => Err(error),
    };
    match deleted {
        Err(error) if !error.is_not_found() => {
            tracing::warn!(pod = %victim.key(), %error, "a pod was not preempted");
            Done::Spared(victim.key())
        }
        _ => Done::Told,
    }
}

async fn unnominate(client: Client, pod: Arc<Pod>) -> Done {
    let patch = Patch::Merge(json!({
        "metadata": { "uid": pod.uid },
        "status": { "nominatedNodeName": null },
    }));
    let pods = client.of::<core::Pod>();
    let told = pods
        .patch(&pod.namespace, &pod.name, &patch, Some("status"))
        .await;
    if let Err(error) = told.map(drop)
        && !error.is_not_found()
    {
        tracing::warn!(pod = %pod.key(), %error, "its nomination was not taken back");
    }
    Done::Told
}
