//! A cluster in memory, for tests: plans are applied to a view, strictly, and pods end by script.
//!
//! A write that could fail on a real server because the plan itself is wrong (a stale version, an
//! object written twice, a name that is taken) panics here.

use client::Key;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::controller::{Controller, Memory};
use crate::ephemeral_volume;
use crate::owner;
use crate::plan::{Plan, Target, Write};
use crate::storage_protection;
use crate::view::View;
use crate::volume_binding::Promises;

/// The time at which every simulation begins.
pub(crate) fn epoch() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a timestamp")
}

/// The cluster.
pub(crate) struct Simulation {
    pub(crate) view: View,
    pub(crate) now: Timestamp,
    counter: u64,
    seed: u64,
    /// `Reason message` of all events, in order.
    pub(crate) events: Vec<String>,
}

impl Simulation {
    pub(crate) fn new(seed: u64) -> Self {
        let view = View {
            root_ca: "CA".into(),
            ..View::default()
        };
        Simulation {
            view,
            now: epoch(),
            counter: 0,
            seed: seed.wrapping_mul(2).wrapping_add(1),
            events: Vec::new(),
        }
    }

    /// A number below `bound`, the same for the same seed.
    pub(crate) fn draw(&mut self, bound: usize) -> usize {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % bound.max(1)
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn tick(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Creates an object as a user or a plan does; returns its key.
    pub(crate) fn create(&mut self, mut object: Value) -> Key {
        let revision = self.tick();
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let prefix = meta["generateName"].as_str().expect("a name").to_owned();
            meta["name"] = format!("{prefix}{revision:05}").into();
        }
        meta["uid"] = format!("uid-{revision}").into();
        meta["creationTimestamp"] = json!(self.now);
        meta["generation"] = 1.into();
        let kind = text(&object, "/kind");
        let key = Key::new(
            text(&object, "/metadata/namespace"),
            text(&object, "/metadata/name"),
        );
        assert!(self.load(&kind, &key).is_none(), "{kind} {key} is taken");
        self.put(&kind, &key, object, revision);
        key
    }

    /// Changes an object as a user or an agent does.
    pub(crate) fn change(&mut self, kind: &str, key: &Key, change: impl FnOnce(&mut Value)) {
        let before = self
            .load(kind, key)
            .unwrap_or_else(|| panic!("no {kind} {key}"));
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return;
        }
        if after["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
            after["metadata"]["generation"] = (generation + 1).into();
        }
        let revision = self.tick();
        let meta = &after["metadata"];
        let finalizers = meta["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let ended = kind != "Pod" || meta["deletionGracePeriodSeconds"] == 0;
        if !meta["deletionTimestamp"].is_null() && !finalizers && ended {
            self.store(kind, key, None);
        } else {
            self.put(kind, key, after, revision);
        }
    }

    /// Begins a deletion; with `force` or where nobody runs it, that is its end.
    pub(crate) fn delete(&mut self, kind: &str, key: &Key, force: bool) {
        if self.load(kind, key).is_none() {
            return;
        }
        let now = self.now;
        self.change(kind, key, |object| {
            let placed = object["spec"]["nodeName"].is_string();
            let meta = &mut object["metadata"];
            if meta["deletionTimestamp"].is_null() {
                meta["deletionTimestamp"] = json!(now);
            }
            let grace = if placed && !force { 30 } else { 0 };
            meta["deletionGracePeriodSeconds"] = grace.into();
        });
    }

    /// The agent puts a pod into `phase`; it is ready if it runs.
    pub(crate) fn phase(&mut self, key: &Key, phase: &str) {
        let now = self.now;
        let ready = if phase == "Running" { "True" } else { "False" };
        self.change("Pod", key, |pod| {
            pod["spec"]["nodeName"] = "node".into();
            pod["status"]["phase"] = phase.into();
            pod["status"]["conditions"] =
                json!([{"type": "Ready", "status": ready, "lastTransitionTime": now}]);
        });
    }

    /// The agent has ended a pod that was being deleted.
    pub(crate) fn let_go(&mut self, key: &Key) {
        self.delete("Pod", key, true);
    }

    pub(crate) fn pods(&self) -> Vec<(Key, Pod)> {
        let pods = self.view.pods.iter();
        pods.map(|(key, pod)| (key.clone(), Pod::clone(pod)))
            .collect()
    }

    /// Performs a plan.
    pub(crate) fn apply(&mut self, plan: &Plan) {
        for event in &plan.events {
            self.events
                .push(format!("{} {}", event.reason, event.message));
        }
        for write in &plan.writes {
            self.write(write);
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::LetGo { claim, patch } => {
                let used = self
                    .pods()
                    .iter()
                    .any(|(_, pod)| storage_protection::uses(pod, claim));
                assert!(!used, "the view shows who uses it");
                let (target, patch) = (owner::target(&**claim), patch.clone());
                self.write(&Write::Patch { target, patch });
            }
            Write::Release {
                volume,
                claim,
                patch,
            } => {
                let there = self.load(&claim.kind, &claim.key);
                let is_it = |o: Value| o["metadata"]["uid"] == *claim.uid;
                assert!(!there.is_some_and(is_it), "the view shows the claim");
                let (target, patch) = (volume.clone(), patch.clone());
                self.write(&Write::Status { target, patch });
            }
            Write::Create { object, .. } => drop(self.create(object.clone())),
            Write::Status { target, patch } | Write::Patch { target, patch } => {
                let Target { kind, key, uid, .. } = target;
                self.change(kind, key, |there| {
                    assert_eq!(there["metadata"]["uid"], **uid, "{kind} {key}");
                    let version = &patch["metadata"]["resourceVersion"];
                    let status = matches!(write, Write::Status { .. });
                    assert!(!status || !version.is_null(), "{kind} {key}");
                    if !version.is_null() {
                        assert_eq!(
                            there["metadata"]["resourceVersion"], *version,
                            "{kind} {key}"
                        );
                    }
                    merge(there, patch);
                });
            }
            Write::Delete {
                target,
                force,
                unless,
                ..
            } => {
                let there = unless.iter().any(|t| self.load(&t.kind, &t.key).is_some());
                if !there {
                    self.delete(&target.kind, &target.key, *force);
                }
            }
        }
    }

    /// Every key that a controller may be asked about.
    pub(crate) fn work(&self) -> Vec<(Controller, Key)> {
        let keys = |c: Controller, keys: Vec<Key>| keys.into_iter().map(move |k| (c, k));
        let view = &self.view;
        let deployments = view.deployments.iter().map(|(k, _)| k.clone()).collect();
        let sets = view.replica_sets.iter().map(|(k, _)| k.clone()).collect();
        let roles = view.cluster_roles.iter().map(|(k, _)| k.clone()).collect();
        let jobs = view.jobs.iter().map(|(k, _)| k.clone()).collect();
        let claims: Vec<_> = view.claims.iter().map(|(k, _)| k.clone()).collect();
        let volumes: Vec<_> = view.volumes.iter().map(|(k, _)| k.clone()).collect();
        let pods = view.pods.iter().filter(|(_, p)| ephemeral_volume::has(p));
        let pods = pods.map(|(k, _)| k.clone()).collect();
        let services: Vec<_> = view.services.iter().map(|(k, _)| k.clone()).collect();
        keys(Controller::ClaimProtection, claims.clone())
            .chain(keys(Controller::ClaimBinding, claims.clone()))
            .chain(keys(Controller::LocalPath, claims))
            .chain(keys(Controller::VolumeBinding, volumes.clone()))
            .chain(keys(Controller::LocalVolume, volumes.clone()))
            .chain(keys(Controller::EphemeralVolume, pods))
            .chain(keys(Controller::EndpointSlice, services.clone()))
            .chain(keys(Controller::Endpoints, services))
            .chain(keys(Controller::VolumeProtection, volumes))
            .chain(keys(Controller::Deployment, deployments))
            .chain(keys(Controller::ReplicaSet, sets))
            .chain(keys(Controller::Job, jobs))
            .chain(keys(Controller::ClusterRole, roles))
            .collect()
    }

    /// Lets one controller look at one key; whether it wrote anything.
    pub(crate) fn look(&mut self, (controller, key): &(Controller, Key)) -> bool {
        let memory = Memory {
            heartbeat: self.now,
            refused: None,
            promised: Promises::default(),
        };
        let plan = controller.reconcile(key, &self.view, &memory, self.now);
        self.apply(&plan);
        !plan.writes.is_empty()
    }

    /// Lets one key, drawn by lot, be looked at.
    pub(crate) fn look_somewhere(&mut self) {
        let work = self.work();
        if !work.is_empty() {
            let at = self.draw(work.len());
            self.look(&work[at]);
        }
    }

    /// Lets all controllers work until none finds anything to write; panics if that never comes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100 {
            let mut wrote = false;
            for work in self.work() {
                wrote |= self.look(&work);
            }
            if !wrote {
                return;
            }
        }
        panic!("the plans reach no fixed point");
    }

    /// One object as JSON.
    pub(crate) fn load(&self, kind: &str, key: &Key) -> Option<Value> {
        let view = &self.view;
        match kind {
            "Pod" => view.pods.get(key).map(|o| owner::to_value(&**o)),
            "ReplicaSet" => view.replica_sets.get(key).map(|o| owner::to_value(&**o)),
            "Deployment" => view.deployments.get(key).map(|o| owner::to_value(&**o)),
            "Job" => view.jobs.get(key).map(|o| owner::to_value(&**o)),
            "ClusterRole" => view.cluster_roles.get(key).map(|o| owner::to_value(&**o)),
            "Node" => view.nodes.get(key).map(|o| owner::to_value(&**o)),
            "Namespace" => view.namespaces.get(key).map(|o| owner::to_value(&**o)),
            "ServiceAccount" => view
                .service_accounts
                .get(key)
                .map(|o| owner::to_value(&**o)),
            "ConfigMap" => view.config_maps.get(key).map(|o| owner::to_value(&**o)),
            "Service" => view.services.get(key).map(|o| owner::to_value(&**o)),
            "Endpoints" => view.endpoints.get(key).map(|o| owner::to_value(&**o)),
            "EndpointSlice" => view.endpoint_slices.get(key).map(|o| owner::to_value(&**o)),
            "Ingress" => view.ingresses.get(key).map(|o| owner::to_value(&**o)),
            "IngressClass" => view.ingress_classes.get(key).map(|o| owner::to_value(&**o)),
            "StorageClass" => view.storage_classes.get(key).map(|o| owner::to_value(&**o)),
            "PersistentVolume" => view.volumes.get(key).map(|o| owner::to_value(&**o)),
            "PersistentVolumeClaim" => view.claims.get(key).map(|o| owner::to_value(&**o)),
            other => panic!("no table of {other}"),
        }
    }

    fn put(&mut self, kind: &str, key: &Key, mut object: Value, revision: u64) {
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        self.store(kind, key, Some(object));
    }

    fn store(&mut self, kind: &str, key: &Key, object: Option<Value>) {
        fn typed<T: serde::de::DeserializeOwned>(
            object: Option<Value>,
        ) -> Option<std::sync::Arc<T>> {
            let read = |o| serde_json::from_value(o).expect("an object of its kind");
            object.map(read).map(std::sync::Arc::new)
        }
        let view = &mut self.view;
        match kind {
            "Pod" => view.pods.set(key, typed(object)),
            "ReplicaSet" => view.replica_sets.set(key, typed(object)),
            "Deployment" => view.deployments.set(key, typed(object)),
            "Job" => view.jobs.set(key, typed(object)),
            "ClusterRole" => view.cluster_roles.set(key, typed(object)),
            "Node" => view.nodes.set(key, typed(object)),
            "Namespace" => view.namespaces.set(key, typed(object)),
            "ServiceAccount" => view.service_accounts.set(key, typed(object)),
            "ConfigMap" => view.config_maps.set(key, typed(object)),
            "Service" => view.services.set(key, typed(object)),
            "Endpoints" => view.endpoints.set(key, typed(object)),
            "EndpointSlice" => view.endpoint_slices.set(key, typed(object)),
            "Ingress" => view.ingresses.set(key, typed(object)),
            "IngressClass" => view.ingress_classes.set(key, typed(object)),
            "StorageClass" => view.storage_classes.set(key, typed(object)),
            "PersistentVolume" => view.volumes.set(key, typed(object)),
            "PersistentVolumeClaim" => view.claims.set(key, typed(object)),
            other => panic!("no table of {other}"),
        }
    }
}

fn text(object: &Value, pointer: &str) -> String {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

/// JSON merge patch; the version is a condition, not a value.
fn merge(there: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *there = patch.clone();
        return;
    };
    if !there.is_object() {
        *there = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => drop(there.as_object_mut().map(|o| o.remove(name))),
            _ if name == "resourceVersion" => {}
            value => merge(&mut there[name.as_str()], value),
        }
    }
}
