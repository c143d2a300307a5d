//! The driver that all controllers share: takes keys, asks their reconciler, performs its plan.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, EventType, Key, Recorder};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::controller::{Controller, Memory, Refusal};
use crate::feed::{Feed, Queue, Work};
use crate::node_lifecycle::Heartbeats;
use crate::plan::{Plan, Write};
use crate::view::View;
use crate::volume_binding::Promises;
use crate::writer::{Mark, Outcome, Writer};
use crate::{garbage, pod_garbage};

/// Keys that are worked on at once. The work is waiting for the API, so this bounds requests.
const WORKERS: usize = 16;
/// Writes of one plan that are under way at once.
const PARALLEL_WRITES: usize = 32;
/// Pauses before a plan that failed is made anew: from the first, doubling, to the last.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// When a key comes back whose own writes are not in view yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long to wait before all controllers start anew because a task of theirs has ended.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Runs all controllers until `shutdown`. At most one process of a cluster may do so at a time.
///
/// `root_ca` is the cluster's CA certificate in PEM, which every namespace gets.
pub fn run(client: Client, root_ca: String, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
    // Boxed here, so that all of it is compiled with this crate.
    Box::pin(reconcile_until(client, root_ca, shutdown))
}

async fn reconcile_until(client: Client, root_ca: String, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        run_until_a_task_ends(&client, &root_ca, &shutdown).await;
        shutdown
            .run_until_cancelled(tokio::time::sleep(RESTART_AFTER))
            .await;
    }
    tracing::info!("controllers stopped");
}

/// No task ends by itself but by a panic, after which nothing it kept can be trusted.
async fn run_until_a_task_ends(client: &Client, root_ca: &str, shutdown: &CancellationToken) {
    let queue = Queue::with_backoff(FIRST_RETRY, LAST_RETRY);
    let (feed, mut tasks) = tokio::select! {
        started = Feed::start(client, root_ca, &queue) => started,
        () = shutdown.cancelled() => return,
    };
    let driver = Arc::new(Driver {
        recorders: Mutex::default(),
        writer: Writer::new(client.clone()),
        client: client.clone(),
        feed,
        queue: queue.clone(),
        wrote: Mutex::default(),
        refused: Mutex::default(),
        heartbeats: Mutex::default(),
        promises: Mutex::default(),
    });
    queue.add((Controller::PodGarbage, pod_garbage::all()));
    for _ in 0..WORKERS {
        let driver = Arc::clone(&driver);
        tasks.spawn(async move { driver.work().await });
    }
    tasks.spawn(garbage::run(client.clone()));
    tracing::info!("controllers run");
    tokio::select! {
        () = shutdown.cancelled() => {}
        Some(ended) = tasks.join_next() => {
            tracing::error!(error = ended.err().map(tracing::field::display), "a task ended; the controllers start anew");
        }
    }
    queue.close();
    tasks.shutdown().await;
}

/// Does one piece of work; `None` when it panicked. Then the next piece can be done all the same:
/// one object that nobody expected must not stop the work on all others.
pub(crate) async fn surviving<T>(work: impl Future<Output = T>) -> Option<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    if done.is_err() {
        tracing::error!("a piece of work panicked");
    }
    done.ok()
}

struct Driver {
    client: Client,
    writer: Writer,
    feed: Arc<Feed>,
    queue: Queue,
    /// For each key: what its last plan wrote, which the view must show before the key is looked
    /// at again.
    wrote: Mutex<BTreeMap<Work, Vec<Mark>>>,
    /// What the last plan of a key met with.
    refused: Mutex<BTreeMap<Work, Refusal>>,
    heartbeats: Mutex<Heartbeats>,
    promises: Mutex<Promises>,
    /// One a component, so that events name who speaks.
    recorders: Mutex<BTreeMap<&'static str, Recorder>>,
}

/// What performing a plan left behind.
#[derive(Default)]
struct Traces {
    written: Vec<Mark>,
    refused: Option<Refusal>,
}

/// What the API refuses is the user's to mend; anything else passes.
fn refusal(write: &Write, error: &client::Error) -> Option<Refusal> {
    let (reason, doing) = match write {
        Write::Create { .. } => ("FailedCreate", "creating"),
        Write::Delete { .. } => ("FailedDelete", "deleting"),
        Write::Status { .. }
        | Write::Patch { .. }
        | Write::LetGo { .. }
        | Write::Release { .. } => return None,
    };
    let code = error.status()?.code;
    (code < 500 && code != 409).then(|| Refusal {
        reason,
        message: format!("Error {doing}: {error}"),
    })
}

impl Driver {
    async fn work(self: Arc<Self>) {
        while let Some(item) = self.queue.next().await {
            let (controller, key) = (*item).clone();
            let span = tracing::debug_span!("reconcile", controller = ?controller, namespace = key.namespace, name = key.name);
            let done = surviving(self.once(controller, &key))
                .instrument(span)
                .await;
            if done.is_none() {
                self.queue.retry((*item).clone());
            }
        }
    }

    async fn once(&self, controller: Controller, key: &Key) {
        let work = (controller, key.clone());
        let written = self.wrote.lock().remove(&work).unwrap_or_default();
        if !written.is_empty() {
            let unseen = self.feed.unseen(written, &self.writer).await;
            if !unseen.is_empty() {
                // The view is behind. The worker is free meanwhile, the key comes back soon.
                tracing::debug!(count = unseen.len(), "own writes are not in view yet");
                self.wrote.lock().insert(work.clone(), unseen);
                self.queue.add_after(work, LOOK_AGAIN);
                return;
            }
        }
        let (view, plan) = self.decide(&work);
        if let Some(delay) = plan.again_after {
            self.queue.add_after(work.clone(), delay);
        }
        if plan.is_empty() {
            self.queue.forget(&work);
            return;
        }
        let about = self.reference(controller, key, &view);
        let mut traces = Traces::default();
        let performed = self.perform(&plan, controller, &about, &mut traces).await;
        // Also what was written before a failure must be seen before the next look.
        if !traces.written.is_empty() {
            self.wrote.lock().insert(work.clone(), traces.written);
        }
        if let Some(refused) = traces.refused {
            self.refused.lock().insert(work.clone(), refused);
        }
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
                if !error.is_conflict() && !error.is_already_exists() {
                    tracing::warn!(%error, "a plan was not carried out");
                }
                self.queue.retry(work);
            }
        }
    }

    /// The picture of now, and what is to be done about a key by it.
    ///
    /// Claims are decided on one after the other, each with what those before it were promised: until a view shows it.
    fn decide(&self, work: &Work) -> (View, Plan) {
        let (controller, key) = work;
        let is_claim = *controller == Controller::ClaimBinding;
        let mut promises = is_claim.then(|| self.promises.lock());
        if let Some(promises) = &mut promises {
            promises.take_back(key);
        }
        let (view, now) = (self.feed.view(), Timestamp::now());
        let memory = Memory {
            heartbeat: self.heartbeat(*controller, key, &view, now),
            refused: self.refused.lock().remove(work),
            promised: promises.as_deref().cloned().unwrap_or_default(),
        };
        let plan = controller.reconcile(key, &view, &memory, now);
        if let Some(promises) = &mut promises {
            promises.give(key, &plan);
        }
        (view, plan)
    }

    /// Performs `plan`; `traces` takes what was written, also before a failure.
    async fn perform(
        &self,
        plan: &Plan,
        controller: Controller,
        about: &ObjectReference,
        traces: &mut Traces,
    ) -> Result<(), client::Error> {
        let mut failed = None;
        for batch in plan.writes.chunk_by(Write::goes_beside) {
            for batch in batch.chunks(PARALLEL_WRITES) {
                // A status says what was seen, which is true whatever failed before it.
                if failed.is_some() && !matches!(batch[0], Write::Status { .. }) {
                    continue;
                }
                let mut running: FuturesUnordered<_> = batch
                    .iter()
                    .map(async |write| (write, self.writer.write(write).await))
                    .collect();
                while let Some((write, result)) = running.next().await {
                    let refused = result.as_ref().err().and_then(|e| refusal(write, e));
                    self.tell(controller, about, &result, refused.as_ref());
                    traces.refused = refused.or(traces.refused.take());
                    match result {
                        Ok(
                            Outcome::Created(mark)
                            | Outcome::Written(mark)
                            | Outcome::Deleted(mark),
                        ) => traces.written.push(mark),
                        Ok(Outcome::Nothing) => {}
                        Err(error) => failed = Some(error),
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Tells the owner of pods what became of them, and a pod that a claim could not be made for it, as Kubernetes words it.
    fn tell(
        &self,
        controller: Controller,
        about: &ObjectReference,
        result: &Result<Outcome, client::Error>,
        refused: Option<&Refusal>,
    ) {
        match controller {
            Controller::Job | Controller::ReplicaSet => {}
            Controller::EphemeralVolume => {
                if let Some(refused) = refused {
                    let why = format!("ephemeral volume: {}", refused.message);
                    self.recorder(controller).event(
                        about,
                        EventType::Warning,
                        "FailedBinding",
                        why,
                    );
                }
                return;
            }
            _ => return,
        }
        let (kind, reason, message) = match (result, refused) {
            (Ok(Outcome::Created(mark)), _) if mark.kind == "Pod" => (
                EventType::Normal,
                "SuccessfulCreate",
                format!("Created pod: {}", mark.key.name),
            ),
            (Ok(Outcome::Deleted(mark)), _) if mark.kind == "Pod" => (
                EventType::Normal,
                "SuccessfulDelete",
                format!("Deleted pod: {}", mark.key.name),
            ),
            (Err(_), Some(refused)) => {
                (EventType::Warning, refused.reason, refused.message.clone())
            }
            _ => return,
        };
        self.recorder(controller)
            .event(about, kind, reason, message);
    }

    fn heartbeat(
        &self,
        controller: Controller,
        key: &Key,
        view: &View,
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

    fn reference(&self, controller: Controller, key: &Key, view: &View) -> ObjectReference {
        let (api_version, kind) = controller.kind();
        let uid = match controller {
            Controller::ClaimBinding | Controller::ClaimProtection | Controller::LocalPath => {
                view.claims.get(key).and_then(|o| o.metadata.uid.clone())
            }
            Controller::LocalVolume | Controller::VolumeBinding | Controller::VolumeProtection => {
                view.volumes.get(key).and_then(|o| o.metadata.uid.clone())
            }
            Controller::ClusterRole => view
                .cluster_roles
                .get(key)
                .and_then(|o| o.metadata.uid.clone()),
            Controller::Deployment => view
                .deployments
                .get(key)
                .and_then(|o| o.metadata.uid.clone()),
            Controller::EndpointSlice | Controller::Endpoints | Controller::ServiceStatus => {
                view.services.get(key).and_then(|o| o.metadata.uid.clone())
            }
            Controller::IngressStatus => {
                view.ingresses.get(key).and_then(|o| o.metadata.uid.clone())
            }
            Controller::Job => view.jobs.get(key).and_then(|o| o.metadata.uid.clone()),
            Controller::ReplicaSet => view
                .replica_sets
                .get(key)
                .and_then(|o| o.metadata.uid.clone()),
            Controller::Namespace => view
                .namespaces
                .get(key)
                .and_then(|o| o.metadata.uid.clone()),
            Controller::EphemeralVolume | Controller::PodGarbage => {
                view.pods.get(key).and_then(|o| o.metadata.uid.clone())
            }
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
