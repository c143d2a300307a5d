//! Pods whose claims have to be bound before they are themselves: what is written for that, and the wait for it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::storage;
use client::{Client, Error, EventType, Key, Object as _, Patch};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{Done, Driver, bind, reference};
use crate::{
    Failure, Pod,
    snapshot::{Event, Snapshot},
    storage::{Readiness, Step, key_of_claim},
};

/// How long the claims of a pod may take to be bound. Then another node is looked for.
const PATIENCE: Duration = Duration::from_secs(600);

/// A pod that waits for its claims, with what was decided for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pod: Arc<Pod>,
    node: String,
    steps: Vec<Step>,
    /// When it has waited long enough.
    until: Instant,
    /// What was written of its claims, once all has been.
    written: Option<BTreeMap<Key, u64>>,
    span: Span,
}

/// What came of the writes for a pod.
#[derive(Debug)]
pub(super) struct Prepared {
    pod: Arc<Pod>,
    written: Result<BTreeMap<Key, u64>, Error>,
}

impl Driver {
    /// Has written what the pod's claims need.
    pub(super) fn prepare(&mut self, pod: Arc<Pod>, node: String, steps: Vec<Step>, span: Span) {
        let key = pod.key();
        let writes = writes(&steps, &self.snapshot);
        let seen = selected(&steps, &self.snapshot);
        self.snapshot.storage.assume(&key, &steps);
        let until = Instant::now() + PATIENCE;
        self.patience.push_back((until, key.clone()));
        let client = self.client.clone();
        let of = Arc::clone(&pod);
        let write = async move {
            let written = write_all(&client, writes, seen).await;
            Done::Prepared(Prepared { pod: of, written })
        };
        self.writes.spawn(write.instrument(span.clone()));
        let waiting = Waiting {
            pod,
            node,
            steps,
            until,
            written: None,
            span,
        };
        self.waiting.insert(key, waiting);
    }

    pub(super) fn prepared(&mut self, done: Prepared) {
        let Prepared { pod, written } = done;
        let key = pod.key();
        let waiting = self.waiting.get_mut(&key);
        let Some(waiting) = waiting.filter(|waiting| waiting.pod.uid == pod.uid) else {
            return;
        };
        match written {
            Ok(written) => {
                waiting.written = Some(written);
                self.go_on(&key);
            }
            // Somebody else has changed the claim or the volume: the next decision sees how.
            Err(error) => self.give_up(&key, &error.to_string()),
        }
    }

    pub(super) fn claims_changed(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            self.snapshot.storage.set_claim(&key, self.claims.get(&key));
            self.tell(&Event::Claim(&key));
            self.go_on_with(&key);
        }
    }

    pub(super) fn volumes_changed(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            let volume = self.volumes.get(&key);
            self.snapshot.storage.set_volume(&key.name, volume.clone());
            let Some(volume) = volume else {
                continue;
            };
            self.tell(&Event::Volume(&volume));
            if let Some(claim) = key_of_claim(&volume) {
                self.go_on_with(&claim);
            }
        }
    }

    pub(super) fn classes_changed(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            let class = self.classes.get(&key);
            self.snapshot.storage.set_class(&key.name, class);
            self.tell(&Event::Class);
        }
    }

    fn tell(&mut self, event: &Event<'_>) {
        self.queue
            .tell(event, self.scheduler.plugins(), Instant::now());
    }

    /// Binds the pods that use a claim, if their claims are bound by now.
    fn go_on_with(&mut self, claim: &Key) {
        let users: Vec<Key> = self.queue.users(claim).cloned().collect();
        for pod in users {
            self.go_on(&pod);
        }
    }

    /// Binds a pod if its claims are bound by now.
    fn go_on(&mut self, key: &Key) {
        let Some(waiting) = self.waiting.get(key) else {
            return;
        };
        let Some(written) = &waiting.written else {
            return;
        };
        let readiness = match self.snapshot.node(&waiting.node) {
            Some(state) => {
                let claims = &waiting.pod.claims;
                self.snapshot
                    .storage
                    .readiness(claims, &state.node, written)
            }
            None => Readiness::Broken(format!("node \"{}\" not found", waiting.node)),
        };
        match readiness {
            Readiness::NotYet => {}
            Readiness::Broken(why) => self.give_up(key, &why),
            Readiness::Ready => {
                if let Some(Waiting {
                    pod, node, span, ..
                }) = self.stop_waiting(key)
                {
                    let bind = bind(self.client.clone(), pod, node);
                    self.writes.spawn(bind.instrument(span));
                }
            }
        }
    }

    /// Looks for another node, or for the same one anew.
    fn give_up(&mut self, key: &Key, why: &str) {
        let Some(waiting) = self.waiting.get(key) else {
            return;
        };
        let pod = Arc::clone(&waiting.pod);
        tracing::warn!(pod = %key, uid = pod.uid, node = waiting.node, why, "its claims were not bound");
        let message = format!("running PreBind plugin \"VolumeBinding\": {why}");
        let about = reference(&pod);
        self.recorder
            .event(&about, EventType::Warning, "FailedScheduling", message);
        self.queue.put_back(&pod, Failure::Error, Instant::now());
        self.forget(key);
        self.look_again(key);
    }

    /// Forgets what was decided about a pod's claims, if the pod waits for them.
    pub(super) fn stop_waiting(&mut self, key: &Key) -> Option<Waiting> {
        let waiting = self.waiting.remove(key)?;
        self.snapshot.storage.release(key, &waiting.steps);
        // Volumes that were to be its claims' may be others' again.
        for step in &waiting.steps {
            if let Step::SetAside { volume, .. } = step
                && let Some(volume) = self.snapshot.storage.volume(volume).cloned()
            {
                self.tell(&Event::Volume(&volume));
            }
        }
        Some(waiting)
    }

    /// When the first of those that wait has waited long enough.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        self.patience.front().map(|(at, ..)| *at)
    }

    /// Gives up those that have.
    pub(super) fn lose_patience(&mut self, now: Instant) {
        while self.patience_ends().is_some_and(|at| at <= now)
            && let Some((_, key)) = self.patience.pop_front()
        {
            let still = self.waiting.get(&key);
            // Since it was given up once it may have begun anew.
            if still.is_some_and(|waiting| waiting.until <= now) {
                self.give_up(&key, "binding volumes: context deadline exceeded");
            }
        }
    }
}

/// A patch of a claim or a volume, on the condition that it is as it was seen.
enum Write {
    Claim(Key, Patch),
    Volume(String, Patch),
}

fn is_selected(claim: &PersistentVolumeClaim, node: &str) -> bool {
    storage::annotation(&claim.metadata, storage::SELECTED_NODE) == Some(node)
}

/// The revisions of claims for which the node was selected before: that it is not any more is seen by a later one.
fn selected(steps: &[Step], snapshot: &Snapshot) -> BTreeMap<Key, u64> {
    let seen = steps.iter().filter_map(|step| match step {
        Step::Select { claim: key, node } => {
            let claim = snapshot.storage.claim(key)?;
            is_selected(claim, node).then(|| (key.clone(), claim.revision()))
        }
        Step::SetAside { .. } => None,
    });
    seen.collect()
}

/// What is not yet as it has to be.
fn writes(steps: &[Step], snapshot: &Snapshot) -> Vec<Write> {
    let all = &snapshot.storage;
    let write = |step: &Step| match step {
        Step::Select { claim: key, node } => {
            let claim = all.claim(key)?;
            (!is_selected(claim, node)).then(|| {
                let meta = &claim.metadata;
                let mut patch = json!({"metadata": {
                    "uid": meta.uid,
                    "annotations": {storage::SELECTED_NODE: node},
                }});
                // For another pod the same is being written just now: then the claim is not as it was seen.
                if all.assumed(key).is_none() {
                    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
                }
                Write::Claim(key.clone(), Patch::Merge(patch))
            })
        }
        Step::SetAside {
            volume: name,
            claim,
        } => {
            let (volume, claim) = (all.volume(name)?, all.claim(claim)?);
            let of = storage::claim_of(volume);
            let is_so = of.is_some_and(|of| of.uid == claim.metadata.uid);
            (!is_so).then(|| Write::Volume(name.clone(), set_aside(volume, claim)))
        }
    };
    steps.iter().filter_map(write).collect()
}

fn set_aside(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Patch {
    let (meta, of) = (&volume.metadata, &claim.metadata);
    let mut patch = json!({
        "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
        "spec": {"claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": of.namespace,
            "name": of.name,
            "uid": of.uid,
            "resourceVersion": of.resource_version,
        }},
    });
    if storage::claim_of(volume).is_none() {
        patch["metadata"]["annotations"] = json!({storage::BOUND_BY_CONTROLLER: "yes"});
    }
    Patch::Merge(patch)
}

/// The revisions of the claims that were written, with those of others that need not be.
async fn write_all(
    client: &Client,
    writes: Vec<Write>,
    mut written: BTreeMap<Key, u64>,
) -> Result<BTreeMap<Key, u64>, Error> {
    let claims = client.of::<PersistentVolumeClaim>();
    let volumes = client.of::<PersistentVolume>();
    for write in writes {
        match write {
            Write::Claim(key, patch) => {
                let claim = claims
                    .patch(&key.namespace, &key.name, &patch, None)
                    .await?;
                written.insert(key, claim.revision());
            }
            Write::Volume(name, patch) => {
                volumes.patch("", &name, &patch, None).await?;
            }
        }
    }
    Ok(written)
}
