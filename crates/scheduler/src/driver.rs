//! Carries decisions out.

mod changes;
mod claims;
mod preempting;

use std::{
    collections::{BTreeMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use api::resource;
use client::{Changes, Client, Error, EventType, Informer, Key, ListOptions, Patch, Recorder};
use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{
            self as core, Namespace, ObjectReference, PersistentVolume, PersistentVolumeClaim,
        },
        policy::v1::PodDisruptionBudget,
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::{Decision, Failure, Node, Pod, Queue, Scheduler, Snapshot, Unschedulable};
use claims::{Prepared, Waiting};

/// How many bindings and condition writes may be under way at once.
const UNDER_WAY: usize = 256;
/// How long to wait before starting anew after a panic.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Places pods until it is told to stop; then it waits for the bindings under way.
///
/// It handles the pods whose `schedulerName` is `default-scheduler`, and must be the only one to
/// do so. Should there be two for a moment, a pod is still never placed twice: the API server
/// binds it once.
pub fn run(client: Client, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
    // Boxed here, so that all of it is compiled with this crate.
    Box::pin(place_until(client, shutdown))
}

async fn place_until(client: Client, shutdown: CancellationToken) {
    loop {
        let placing = AssertUnwindSafe(place_pods(client.clone(), &shutdown));
        if placing.catch_unwind().await.is_ok() {
            return;
        }
        // What it kept can't be trusted any more; all of it can be read again.
        tracing::error!("the scheduler panicked; it starts anew");
        shutdown
            .run_until_cancelled(tokio::time::sleep(RESTART_AFTER))
            .await;
    }
}

async fn place_pods(client: Client, shutdown: &CancellationToken) {
    let pods: Informer<Pod> = Informer::start(
        client.resource(resource::of::<core::Pod>()),
        ListOptions::default().fields("status.phase!=Succeeded,status.phase!=Failed"),
    );
    let nodes: Informer<Node> = Informer::start(
        client.resource(resource::of::<core::Node>()),
        ListOptions::default(),
    );
    let all = ListOptions::default;
    let claims: Informer<PersistentVolumeClaim> = Informer::start(client.of(), all());
    let volumes: Informer<PersistentVolume> = Informer::start(client.of(), all());
    let classes: Informer<StorageClass> = Informer::start(client.of(), all());
    let namespaces: Informer<Namespace> = Informer::start(client.of(), all());
    let budgets: Informer<PodDisruptionBudget> = Informer::start(client.of(), all());
    let synced = async {
        namespaces.synced().await;
        budgets.synced().await;
        nodes.synced().await;
        classes.synced().await;
        claims.synced().await;
        volumes.synced().await;
        pods.synced().await;
    };
    if shutdown.run_until_cancelled(synced).await.is_none() {
        return;
    }
    let recorder = Recorder::start(client.clone(), "default-scheduler", "");
    let mut driver = Driver {
        pod_changes: pods.subscribe(),
        node_changes: nodes.subscribe(),
        claim_changes: claims.subscribe(),
        volume_changes: volumes.subscribe(),
        class_changes: classes.subscribe(),
        namespace_changes: namespaces.subscribe(),
        budget_changes: budgets.subscribe(),
        pods,
        nodes,
        claims,
        volumes,
        classes,
        namespaces,
        budgets,
        client,
        recorder,
        snapshot: Snapshot::default(),
        scheduler: Scheduler::default(),
        queue: Queue::new(),
        assumed: BTreeMap::new(),
        waiting: BTreeMap::new(),
        patience: VecDeque::new(),
        writes: JoinSet::new(),
        rng: SmallRng::from_os_rng(),
    };
    driver.run(shutdown).await;
    while driver.writes.join_next().await.is_some() {}
}

struct Driver {
    client: Client,
    recorder: Recorder,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    namespaces: Informer<Namespace>,
    budgets: Informer<PodDisruptionBudget>,
    pod_changes: Changes,
    node_changes: Changes,
    claim_changes: Changes,
    volume_changes: Changes,
    class_changes: Changes,
    namespace_changes: Changes,
    budget_changes: Changes,
    snapshot: Snapshot,
    scheduler: Scheduler,
    queue: Queue,
    /// Pods whose binding is under way or not yet seen, by key, with their uid.
    assumed: BTreeMap<Key, String>,
    /// Those of them that wait for their claims.
    waiting: BTreeMap<Key, Waiting>,
    /// By when they have waited long enough, with their uids; in that order, as all wait alike.
    patience: VecDeque<(Instant, Key)>,
    writes: JoinSet<Done>,
    rng: SmallRng,
}

/// What a write came to.
enum Done {
    Bound(Bound),
    Prepared(Prepared),
    /// This pod was to go, and stays.
    Spared(Key),
    /// It said something that nobody waits for.
    Told,
}

/// What became of a binding.
struct Bound {
    pod: Arc<Pod>,
    node: String,
    result: Result<(), Error>,
}

impl Driver {
    async fn run(&mut self, shutdown: &CancellationToken) {
        loop {
            self.take_up_changes();
            let room = self.writes.len() < UNDER_WAY;
            if room && let Some(pod) = self.queue.pop(Instant::now()) {
                self.place(pod);
                // Lets the writes begin, and others have their turn.
                tokio::task::yield_now().await;
                if shutdown.is_cancelled() {
                    return;
                }
                continue;
            }
            // With no room the queue's deadlines don't matter: a finished write wakes us.
            let queued = self.queue.next_deadline().filter(|_| room);
            let deadline = queued.into_iter().chain(self.patience_ends()).min();
            let sleep = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                keys = self.node_changes.next() => self.nodes_changed(keys),
                keys = self.pod_changes.next() => self.pods_changed(keys),
                keys = self.claim_changes.next() => self.claims_changed(keys),
                keys = self.volume_changes.next() => self.volumes_changed(keys),
                keys = self.class_changes.next() => self.classes_changed(keys),
                keys = self.namespace_changes.next() => self.namespaces_changed(keys),
                keys = self.budget_changes.next() => self.budgets_changed(keys),
                Some(done) = self.writes.join_next() => self.written(done),
                () = sleep => {}
            }
        }
    }

    /// Takes up whatever is known by now, without waiting.
    fn take_up_changes(&mut self) {
        if let Some(keys) = self.node_changes.next().now_or_never() {
            self.nodes_changed(keys);
        }
        // Before the pods whose rules may speak of them.
        if let Some(keys) = self.namespace_changes.next().now_or_never() {
            self.namespaces_changed(keys);
        }
        if let Some(keys) = self.budget_changes.next().now_or_never() {
            self.budgets_changed(keys);
        }
        if let Some(keys) = self.pod_changes.next().now_or_never() {
            self.pods_changed(keys);
        }
        if let Some(keys) = self.class_changes.next().now_or_never() {
            self.classes_changed(keys);
        }
        if let Some(keys) = self.volume_changes.next().now_or_never() {
            self.volumes_changed(keys);
        }
        if let Some(keys) = self.claim_changes.next().now_or_never() {
            self.claims_changed(keys);
        }
        while let Some(done) = self.writes.try_join_next() {
            self.written(done);
        }
        self.lose_patience(Instant::now());
    }

    /// The pod as it is counted, and where.
    fn counted(&self, key: &Key) -> Option<(String, Arc<Pod>)> {
        let node = self.snapshot.placement(key)?;
        let pod = self.snapshot.node(node)?.pod(key)?;
        Some((node.to_owned(), pod))
    }

    fn place(&mut self, pod: Arc<Pod>) {
        let span = tracing::info_span!("schedule", pod = %pod.key(), uid = pod.uid);
        let entered = span.enter();
        let decision = decide(&mut self.scheduler, &pod, &mut self.snapshot, &mut self.rng);
        let Some(decision) = decision else {
            tracing::error!("no decision: a plugin panicked");
            self.queue.put_back(&pod, Failure::Error, Instant::now());
            return;
        };
        match decision {
            Decision::Bind { node, first } => {
                tracing::info!(node, "assigned");
                let key = pod.key();
                self.unnominate(&key);
                self.snapshot.place(Arc::clone(&pod), &node);
                self.placed(&pod);
                self.assumed.insert(key, pod.uid.clone());
                drop(entered);
                if !first.is_empty() {
                    return self.prepare(pod, node, first, span);
                }
                let bind = bind(self.client.clone(), pod, node);
                self.writes.spawn(bind.instrument(span));
            }
            Decision::Preempt { preemption, why } => {
                tracing::info!(
                    node = preemption.node,
                    victims = preemption.victims.len(),
                    "makes room"
                );
                drop(entered);
                self.make_room(&pod, preemption, &span);
                self.put_back(pod, why, span);
            }
            Decision::Wait(why) => {
                tracing::info!(message = why.message, "fits nowhere");
                drop(entered);
                // Of a gate nothing follows for the room.
                if !why.is_awaited && !why.is_gated() {
                    self.unnominate(&pod.key());
                }
                self.put_back(pod, why, span);
            }
        }
    }

    /// A pod that fits nowhere waits; its status says why, and where room is being made for it.
    fn put_back(&mut self, pod: Arc<Pod>, why: Unschedulable, span: Span) {
        let failure = Failure::Unschedulable(why.plugins.clone());
        self.queue.put_back(&pod, failure, Instant::now());
        self.tell_user(&pod, &why);
        let nominated = self.snapshot.nomination(&pod).map(str::to_owned);
        let is_elsewhere = nominated.as_deref().unwrap_or_default() != pod.nominated;
        if is_elsewhere || condition_differs(&pod, why.condition, &why.message) {
            let (reason, message) = (why.condition, why.message);
            let write = write_condition(self.client.clone(), pod, reason, message, nominated);
            self.writes.spawn(write.instrument(span));
        }
    }

    fn tell_user(&self, pod: &Pod, why: &Unschedulable) {
        // A gate is somebody's wish, and no failure.
        if !why.is_gated() {
            let about = reference(pod);
            let message = why.message.as_str();
            self.recorder
                .event(&about, EventType::Warning, "FailedScheduling", message);
        }
    }

    fn written(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Bound(bound)) => self.bound(bound),
            Ok(Done::Prepared(prepared)) => self.prepared(prepared),
            Ok(Done::Spared(victim)) => {
                // That it goes is not believed any more.
                self.snapshot.remove_pod(&victim);
                self.look_again(&victim);
                if let Some((node, _)) = self.counted(&victim) {
                    self.seek_more_room(&node);
                }
            }
            Ok(Done::Told) => {}
            // The task panicked: the pod stays assumed, and is seen to be bound or not when it
            // changes next.
            Err(error) => tracing::error!(%error, "a write did not come to its end"),
        }
    }

    fn bound(&mut self, bound: Bound) {
        let Bound { pod, node, result } = bound;
        let key = pod.key();
        match result {
            Ok(()) => {
                // A namesake may be waiting by now.
                if self.queue.contains(&pod) {
                    self.queue.remove(&key);
                }
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder
                    .event(&reference(&pod), EventType::Normal, "Scheduled", message);
            }
            Err(error) => {
                let uid = pod.uid.as_str();
                tracing::warn!(pod = %key, uid, node, %error, "binding failed");
                // Unless it has been seen on its node meanwhile, or is another by now.
                if self
                    .assumed
                    .get(&key)
                    .is_some_and(|assumed| *assumed == pod.uid)
                {
                    self.queue.put_back(&pod, Failure::Error, Instant::now());
                    self.forget(&key);
                    self.look_again(&key);
                }
            }
        }
    }

    /// While a pod was assumed, what was seen of it was passed over.
    fn look_again(&mut self, key: &Key) {
        match self.pods.get(key) {
            Some(pod) if pod.is_waiting() => self.queue.set(pod),
            Some(pod) if pod.is_placed() => self.seen_on_node(key, pod),
            _ => self.seen_gone(key),
        }
    }
}

/// A pod that makes a plugin panic is no reason not to place the others: `None`.
fn decide(
    scheduler: &mut Scheduler,
    pod: &Pod,
    snapshot: &mut Snapshot,
    rng: &mut SmallRng,
) -> Option<Decision> {
    let decided = AssertUnwindSafe(|| scheduler.schedule(pod, snapshot, rng));
    let decided = std::panic::catch_unwind(decided).ok();
    if decided.is_none() {
        // What it kept may be half of what it found.
        *scheduler = Scheduler::new(scheduler.plugins().clone());
    }
    decided
}

async fn bind(client: Client, pod: Arc<Pod>, node: String) -> Done {
    let result = client
        .bind(&pod.namespace, &pod.name, &pod.uid, &node)
        .await;
    Done::Bound(Bound { pod, node, result })
}

fn condition_differs(pod: &Pod, reason: &str, message: &str) -> bool {
    let written = pod.scheduled.as_ref();
    !written.is_some_and(|(status, old_reason, old_message)| {
        status == "False" && old_reason == reason && old_message == message
    })
}

async fn write_condition(
    client: Client,
    pod: Arc<Pod>,
    reason: &'static str,
    message: String,
    nominated: Option<String>,
) -> Done {
    let mut condition = json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastProbeTime": null,
    });
    // The time tells when the status changed, not when it was last looked at.
    if pod
        .scheduled
        .as_ref()
        .is_none_or(|(status, ..)| status != "False")
    {
        condition["lastTransitionTime"] = json!(Time(Timestamp::now()));
    }
    // With its uid, so that a namesake is not told.
    let status = json!({ "conditions": [condition], "nominatedNodeName": nominated });
    let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.uid }, "status": status }));
    let pods = client.of::<core::Pod>();
    let written = pods
        .patch(&pod.namespace, &pod.name, &patch, Some("status"))
        .await;
    match written {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        // The next attempt to place it writes it again.
        Err(error) => tracing::warn!(%error, "the pod's condition was not written"),
    }
    Done::Told
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        resource_version: Some(client::Object::revision(pod).to_string()),
        field_path: None,
    }
}

#[cfg(test)]
mod tests;
