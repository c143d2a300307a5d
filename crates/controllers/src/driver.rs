//! The driver that all controllers share: takes keys, asks their reconciler, performs its plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Client, EventType, Key, Recorder};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::controller::Controller;
use crate::feed::{Feed, Queue, Work};
use crate::garbage;
use crate::node_lifecycle::Heartbeats;
use crate::plan::Plan;
use crate::writer::{Outcome, Writer};

/// Keys that are worked on at once. The work is waiting for the API, so this bounds requests.
const WORKERS: usize = 16;
/// Writes of one plan that are under way at once.
const PARALLEL_WRITES: usize = 32;

/// Runs all controllers until `shutdown`. At most one process of a cluster may do so at a time.
///
/// `root_ca` is the cluster's CA certificate in PEM, which every namespace gets.
pub async fn run(client: Client, root_ca: String, shutdown: CancellationToken) {
    let queue = Queue::new();
    let (feed, mut tasks) = tokio::select! {
        started = Feed::start(&client, &root_ca, &queue) => started,
        () = shutdown.cancelled() => return,
    };
    let driver = Arc::new(Driver {
        recorders: Mutex::default(),
        writer: Writer::new(client.clone()),
        client: client.clone(),
        feed,
        queue: queue.clone(),
        wrote: Mutex::default(),
        heartbeats: Mutex::default(),
    });
    for _ in 0..WORKERS {
        let driver = Arc::clone(&driver);
        tasks.spawn(async move { driver.work().await });
    }
    tasks.spawn(garbage::run(client));
    tracing::info!("controllers run");
    shutdown.cancelled().await;
    queue.close();
    tasks.shutdown().await;
    tracing::info!("controllers stopped");
}

struct Driver {
    client: Client,
    writer: Writer,
    feed: Arc<Feed>,
    queue: Queue,
    /// For each key: the kinds and revisions of its last plan's writes, which its view must show
    /// before it is looked at again.
    wrote: Mutex<BTreeMap<Work, Vec<(String, u64)>>>,
    heartbeats: Mutex<Heartbeats>,
    /// One a component, so that events name who speaks.
    recorders: Mutex<BTreeMap<&'static str, Recorder>>,
}

impl Driver {
    async fn work(self: Arc<Self>) {
        while let Some(item) = self.queue.next().await {
            let (controller, key) = (*item).clone();
            let span = tracing::debug_span!("reconcile", controller = ?controller, namespace = key.namespace, name = key.name);
            self.once(controller, &key).instrument(span).await;
        }
    }

    async fn once(&self, controller: Controller, key: &Key) {
        let work = (controller, key.clone());
        let written = self.wrote.lock().remove(&work).unwrap_or_default();
        for (kind, revision) in written {
            self.feed.reached(&kind, revision).await;
        }
        let view = self.feed.view();
        let now = Timestamp::now();
        let heartbeat = self.heartbeat(controller, key, &view, now);
        let plan = controller.reconcile(key, &view, heartbeat, now);
        if let Some(delay) = plan.again_after {
            self.queue.add_after(work.clone(), delay);
        }
        if plan.is_empty() {
            self.queue.forget(&work);
            return;
        }
        let about = self.reference(controller, key, &view);
        let mut written = Vec::new();
        let performed = self.perform(&plan, controller, &about, &mut written).await;
        // Also what was written before a failure must be seen before the next look.
        self.wrote.lock().insert(work.clone(), written);
        match performed {
            Ok(()) => {
                self.queue.forget(&work);
                for notice in &plan.events {
                    let kind = if notice.warning {
                        EventType::Warning
                    } else {
                        EventType::Normal
                    };
                    self.recorder(controller).event(
                        &about,
                        kind,
                        notice.reason,
                        notice.message.clone(),
                    );
                }
            }
            Err(error) => {
                // A conflict says that the view was behind, which the next look repairs.
                if !error.is_conflict() {
                    tracing::warn!(%error, "a plan was not carried out");
                    if error.status().is_some_and(|s| s.code < 500) {
                        let message = format!("Error creating: {error}");
                        self.recorder(controller).event(
                            &about,
                            EventType::Warning,
                            "FailedCreate",
                            message,
                        );
                    }
                }
                self.queue.retry(work);
            }
        }
    }

    /// Performs `plan`; `written` takes the kinds and revisions that were written.
    async fn perform(
        &self,
        plan: &Plan,
        controller: Controller,
        about: &ObjectReference,
        written: &mut Vec<(String, u64)>,
    ) -> Result<(), client::Error> {
        let mut rest = plan.writes.as_slice();
        while !rest.is_empty() {
            let side_by_side = rest
                .iter()
                .take_while(|w| !w.is_barrier())
                .count()
                .clamp(1, PARALLEL_WRITES);
            let (batch, later) = rest.split_at(side_by_side);
            rest = later;
            let mut running: FuturesUnordered<_> =
                batch.iter().map(|w| self.writer.write(w)).collect();
            let mut failed = None;
            while let Some(result) = running.next().await {
                match result {
                    Ok(Outcome::Created {
                        kind,
                        name,
                        revision,
                    }) => {
                        if kind == "Pod" {
                            let message = format!("Created pod: {name}");
                            self.recorder(controller).event(
                                about,
                                EventType::Normal,
                                "SuccessfulCreate",
                                message,
                            );
                        }
                        written.push((kind, revision));
                    }
                    Ok(Outcome::Written { kind, revision }) => written.push((kind, revision)),
                    Ok(Outcome::Nothing) => {}
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    fn heartbeat(
        &self,
        controller: Controller,
        key: &Key,
        view: &crate::View,
        now: Timestamp,
    ) -> Timestamp {
        if controller != Controller::NodeLifecycle {
            return now;
        }
        let mut heartbeats = self.heartbeats.lock();
        if view.nodes.get(key).is_none() {
            heartbeats.forget(&key.name);
            return now;
        }
        heartbeats.observe(&key.name, view, now)
    }

    fn recorder(&self, controller: Controller) -> Recorder {
        let component = controller.component();
        self.recorders
            .lock()
            .entry(component)
            .or_insert_with(|| Recorder::start(self.client.clone(), component, ""))
            .clone()
    }

    fn reference(&self, controller: Controller, key: &Key, view: &crate::View) -> ObjectReference {
        let (api_version, kind) = controller.kind();
        let uid = match controller {
            Controller::Deployment => view
                .deployments
                .get(key)
                .and_then(|o| o.metadata.uid.clone()),
            Controller::Job => view.jobs.get(key).and_then(|o| o.metadata.uid.clone()),
            Controller::ReplicaSet => view
                .replica_sets
                .get(key)
                .and_then(|o| o.metadata.uid.clone()),
            Controller::Namespace => view
                .namespaces
                .get(key)
                .and_then(|o| o.metadata.uid.clone()),
            Controller::PodGarbage => view.pods.get(key).and_then(|o| o.metadata.uid.clone()),
            // Events about nodes carry the node's name as uid, as kubelets' do.
            Controller::NodeIpam | Controller::NodeLifecycle => Some(key.name.clone()),
        };
        ObjectReference {
            api_version: Some(api_version.into()),
            kind: Some(kind.into()),
            namespace: (!key.namespace.is_empty()).then(|| key.namespace.clone()),
            name: Some(key.name.clone()),
            uid,
            ..ObjectReference::default()
        }
    }
}
