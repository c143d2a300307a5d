//! Pods from files of this node, and their mirrors in the API.
//!
//! What came from a file is a pod like others, but that nobody asks the API about it: its object is the file's, and when
//! that is gone or another the pod is deleted as a user would delete it. Its name is taken until nothing of it is left;
//! then comes what the name stands for by now. Mirrors follow from what is here, never the other way about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Resource;
use client::{DeleteOptions, Informer, Key};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Driver;
use super::cell::Cell;
use super::class::costing;
use super::perform::spawn;
use crate::node::allocation::Part;
use crate::pod::{EventKind, Observed, PodView as _};
use crate::statics::{StaticPod, mirror_of, mirrored};

/// The pods from files.
#[derive(Default)]
pub(super) struct Statics {
    /// What the files say.
    wanted: BTreeMap<Key, Arc<StaticPod>>,
    /// Who has each name, until everything of it is gone.
    present: BTreeMap<Key, Arc<StaticPod>>,
}

impl Driver {
    /// Has these pods from files from now on, and no others.
    pub(crate) fn statics(&self, wanted: BTreeMap<Key, Arc<StaticPod>>) {
        let mut statics = self.0.statics.lock();
        let before = std::mem::replace(&mut statics.wanted, wanted);
        let present = statics.present.keys();
        let keys: BTreeSet<Key> = before.keys().chain(present).cloned().collect();
        let keys: BTreeSet<Key> = keys
            .into_iter()
            .chain(statics.wanted.keys().cloned())
            .collect();
        // Who was here before has what it has, before others are given any.
        let mut keys: Vec<Key> = keys.into_iter().collect();
        keys.sort_by_cached_key(|key| {
            let wanted = statics.wanted.get(key);
            !wanted.is_some_and(|found| self.0.left.lock().records.contains_key(found.uid()))
        });
        for key in keys {
            self.settle(&mut statics, &key);
        }
    }

    /// The pods from files that earlier runs of the agent had.
    pub(crate) async fn statics_left(&self) -> Vec<StaticPod> {
        let uids: Vec<String> = self.0.left.lock().records.keys().cloned().collect();
        self.static_records(uids).await
    }

    /// Of these pods that earlier runs of the agent had from files nobody wants those that are not here: what they had of
    /// the node is free, whether a server answers or not.
    pub(crate) fn statics_gone(&self, uids: &BTreeSet<String>) {
        // None of them comes in between.
        let _statics = self.0.statics.lock();
        for uid in uids {
            if !self.0.cells.read().by_uid.contains_key(uid) {
                self.has(uid, Part::default());
            }
        }
    }

    /// The uid of the pod from a file that has this name.
    pub(super) fn static_uid(&self, key: &Key) -> Option<String> {
        let statics = self.0.statics.lock();
        statics.present.get(key).map(|found| found.uid().to_owned())
    }

    /// Nothing is left of a pod from a file: its name is free.
    pub(super) fn static_left(&self, cell: &Cell) {
        let mut statics = self.0.statics.lock();
        let present = statics.present.get(&cell.key);
        if present.is_some_and(|found| found.uid() == cell.uid) {
            statics.present.remove(&cell.key);
            self.settle(&mut statics, &cell.key);
        }
    }

    /// Begins the pod that a name stands for, or ends the one that it stood for.
    fn settle(&self, statics: &mut Statics, key: &Key) {
        match (statics.wanted.get(key), statics.present.get(key)) {
            (Some(wanted), None) => {
                let wanted = wanted.clone();
                statics.present.insert(key.clone(), wanted.clone());
                self.begin_static(wanted);
            }
            // Where it ends it is begun again then.
            (Some(wanted), Some(present)) if wanted.uid() == present.uid() => {}
            (_, Some(present)) => self.retire(present.uid()),
            (None, None) => {}
        }
        self.0.mirrors.add(key.clone());
    }

    fn begin_static(&self, found: Arc<StaticPod>) {
        let mut record = self.record_of(found.uid());
        if let Some(record) = &mut record {
            // Its file may have been away for a while.
            record.deletion = None;
        }
        let key = Key::of(found.pod.as_ref());
        let pod = match &record {
            Some(record) => costing(&found.pod, &record.overhead),
            None => found.pod.clone(),
        };
        let cell = self.add((key, true), &pod, record);
        if let Some(what) = found.unknown_priority() {
            self.event(
                &cell,
                None,
                EventKind::Warning,
                "UnknownPriorityClass",
                what,
            );
        }
        spawn(self, &cell, |driver, cell| async move {
            driver.save_static(&cell, &found).await;
        });
    }

    /// Deletes a pod from a file, which is gone or says something else.
    fn retire(&self, uid: &str) {
        let Some(cell) = self.0.cells.read().by_uid.get(uid).cloned() else {
            return;
        };
        let mut state = cell.state.lock();
        if state.pod.deletion_grace().is_some() {
            return;
        }
        let (now, grace) = (self.0.tools.clock.now(), state.pod.grace());
        let mut pod = Pod::clone(&state.pod);
        let at = now.checked_add(grace).unwrap_or(Timestamp::MAX);
        pod.metadata.deletion_timestamp = Some(Time(at));
        pod.metadata.deletion_grace_period_seconds = Some(grace.as_secs());
        state.pod = Arc::new(pod);
        state.untold = true;
        self.count(&cell, &state);
        let waits = !state.is_admitted;
        drop(state);
        if waits {
            self.ask_room(&cell);
        }
        self.0.queue.add(uid.to_owned());
    }

    /// Takes up what the API says of a name: a pod, or the mirror of one that is here from a file, which changes nothing of
    /// that.
    pub(super) fn heard(&self, key: &Key, pod: Option<&Arc<Pod>>, record: Option<Observed>) {
        let is_mirror = pod.is_some_and(|pod| mirrored(pod).is_some());
        match pod.filter(|_| !is_mirror) {
            Some(pod) => self.desired(pod, record),
            None => self.gone(key),
        }
        if is_mirror || self.static_uid(key).is_some() {
            self.0.mirrors.add(key.clone());
        }
    }

    /// Has the API hold a mirror of each pod from a file, for ever.
    pub(super) async fn keep_mirrors(self, pods: Informer<Pod>) {
        while let Some(key) = self.0.mirrors.next().await {
            match self.mirror(&key, &pods).await {
                Ok(()) => self.0.mirrors.forget(&key),
                Err(why) => {
                    // At first it may be here and not be heard of yet.
                    match self.0.mirrors.failures(&key) {
                        0 => tracing::debug!(pod = %*key, %why, "no mirror was made"),
                        _ => tracing::warn!(pod = %*key, %why, "a static pod has no mirror"),
                    }
                    self.0.mirrors.retry(key.clone());
                }
            }
        }
    }

    /// Does the next thing for one name. What comes of it is heard of.
    async fn mirror(&self, key: &Key, pods: &Informer<Pod>) -> Result<(), String> {
        let held = pods.get(key).filter(|pod| mirrored(pod).is_some());
        let present = self.0.statics.lock().present.get(key).cloned();
        let cell = present.as_ref().and_then(|found| {
            let cells = self.0.cells.read();
            cells.by_uid.get(found.uid()).cloned()
        });
        let access = self.0.tools.client.of::<Pod>();
        if let Some(held) = held {
            let is_going = held.metadata.deletion_timestamp.is_some();
            let stands = cell.filter(|cell| !is_going && mirrored(&held) == Some(&cell.uid));
            if let Some(cell) = stands {
                self.stands(&cell, &held);
                return Ok(());
            }
            let options = DeleteOptions::uid(held.uid()).grace_period_seconds(0);
            let deleted = access.delete(&key.namespace, &key.name, &options).await;
            return match deleted {
                Err(error) if !error.is_not_found() && !error.is_conflict() => {
                    Err(error.to_string())
                }
                _ => Ok(()),
            };
        }
        let Some((found, cell)) = present.zip(cell) else {
            return Ok(());
        };
        let is_ending = {
            let mut state = cell.state.lock();
            state.mirror = None;
            state.pod.deletion_grace().is_some()
        };
        match is_ending {
            true => Ok(()),
            false => self.make_mirror(key, &found).await,
        }
    }

    async fn make_mirror(&self, key: &Key, found: &StaticPod) -> Result<(), String> {
        let tools = &self.0.tools;
        let node = tools.nodes.get(&tools.node);
        let node = node.ok_or("the node is not registered")?;
        let uid = node.metadata.uid.as_deref().unwrap_or_default();
        let mirror = mirror_of(found, &tools.node.name, uid);
        let access = tools.client.untyped(Resource::of::<Pod>());
        let made = access.create(&client::Untyped(mirror)).await;
        made.map_err(|error| error.to_string())?;
        tracing::debug!(pod = %key, "a mirror was made");
        Ok(())
    }

    /// The API holds this mirror of a pod.
    fn stands(&self, cell: &Arc<Cell>, mirror: &Pod) {
        let mut state = cell.state.lock();
        if state.mirror.as_deref() != Some(mirror.uid()) {
            state.mirror = Some(mirror.uid().to_owned());
            // Of the one before.
            state.reported_in = 0;
        }
        state.holds(mirror);
        state.untold = true;
        drop(state);
        self.0.queue.add(cell.uid.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use client::simulated::Simulated;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Clock;
    use crate::driver::resize::tests::driver;
    use crate::statics::Directory;

    /// A pod's object that asks for so much CPU.
    fn object(name: &str, uid: &str, cpu: &str) -> Value {
        let resources = json!({"requests": {"cpu": cpu}});
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": uid},
            "spec": {"containers": [{"name": "c", "image": "i:1", "resources": resources}]},
        })
    }

    #[tokio::test]
    async fn one_that_nobody_wants_any_more_takes_nobodys_room() {
        let dir = tempfile::tempdir().unwrap();
        let client = Simulated::new().client("agent");
        let driver = driver(dir.path(), &client, Clock::Wall, 1_000);
        let pods = dir.path().join("pods");
        // The API's, which may be there still; one from a file as it was before; one whose removal had begun.
        for (uid, milli_cpu) in [("plain", 300), ("before", 600), (".gone-long", 600)] {
            fs::create_dir_all(pods.join(uid)).unwrap();
            let mut record = serde_json::to_value(Observed::default()).unwrap();
            record["held"] = json!({"milli_cpu": milli_cpu, "memory": 0, "ephemeral": 0});
            fs::write(pods.join(uid).join("record.json"), record.to_string()).unwrap();
        }
        let kept = json!({"file": "web.yaml", "object": object("web-n1", "before", "600m")});
        fs::write(pods.join("before/static.json"), kept.to_string()).unwrap();
        let manifests = dir.path().join("manifests");
        fs::create_dir(&manifests).unwrap();
        let mut now = object("web", "", "700m");
        now["metadata"].as_object_mut().unwrap().remove("uid");
        fs::write(manifests.join("web.yaml"), now.to_string()).unwrap();

        let _begun = driver.begin().await;
        let tools = &driver.0.tools;
        let directory = Directory {
            dir: manifests,
            node: "n1".to_owned(),
            clock: Clock::Wall,
            driver: driver.clone(),
            recorder: tools.recorder.clone(),
            nodes: tools.nodes.clone(),
        };
        let _statics = directory.begin().await;
        driver.share();
        let cell = driver.find("default", "web-n1", "").unwrap();
        assert!(cell.state.lock().is_admitted);
        assert_eq!(cell.state.lock().observed.verdict, None);
        // Nobody knows yet that the API's is gone.
        let more = Part {
            milli_cpu: 1,
            ..Part::default()
        };
        let refused = driver.0.ledger.lock().admit("new", more, &tools.machine);
        assert_eq!(refused.unwrap_err().0, "OutOfcpu");
    }
}
