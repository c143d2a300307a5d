//! Keeps the graph and carries out what it calls for.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use api::resource::{self, Resource};
use client::{Client, Error, Informer, Key, ListOptions, PartialObject, Untyped};
use imbl::ordmap::DiffItem;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::graph::Graph;
use crate::driver::surviving;
use crate::plan::Write;
use crate::writer::Writer;

/// Objects that are worked on at once.
const WORKERS: usize = 8;
/// How long a deleted namespace may take before its status says what it waits for: most are gone by then.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// What a worker looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// The object with this uid.
    Object(String),
    /// The deleted namespace of this name.
    Namespace(String),
    /// What holds up the deleted namespace of this name, if it is still there.
    Remains(String),
}

struct Collector {
    client: Client,
    writer: Writer,
    graph: Mutex<Graph>,
    queue: client::WorkQueue<Work>,
    namespaces: Informer<Namespace>,
}

/// Collects garbage until it is dropped.
pub(crate) async fn run(client: Client) {
    let collector = Arc::new(Collector {
        writer: Writer::new(client.clone()),
        graph: Mutex::default(),
        queue: client::WorkQueue::new(),
        namespaces: Informer::start(client.of::<Namespace>(), ListOptions::default()),
        client,
    });
    let mut tasks = JoinSet::new();
    let (known, mut unknown) = mpsc::channel::<()>(1);
    for resource in collected() {
        tasks.spawn(Arc::clone(&collector).follow(resource, known.clone()));
    }
    tasks.spawn(Arc::clone(&collector).follow_namespaces());
    drop(known);
    // An owner must not go, or be taken for one without dependents, before all kinds are known:
    // the channel ends when the last of them is.
    unknown.recv().await;
    for _ in 0..WORKERS {
        let collector = Arc::clone(&collector);
        tasks.spawn(async move {
            while let Some(item) = collector.queue.next().await {
                match surviving(collector.once(&item)).await {
                    Some(Ok(())) => collector.queue.forget(&item),
                    None => collector.queue.retry((*item).clone()),
                    Some(Err(error)) => {
                        if !error.is_conflict() {
                            tracing::warn!(%error, work = ?*item, "garbage was not collected");
                        }
                        collector.queue.retry((*item).clone());
                    }
                }
            }
        });
    }
    // None of them ends by itself: what one that panicked has missed, nobody would ever learn.
    if let Some(Err(error)) = tasks.join_next().await {
        tracing::error!(%error, "a task of the garbage collector ended");
    }
}

/// Every kind that can be listed and deleted, once: events and autoscalers are stored under one
/// version and served under two. Events end by their own age and own nothing.
fn collected() -> impl Iterator<Item = &'static Resource> {
    resource::all().iter().filter(|r| {
        let verbs = ["list", "watch", "delete"]
            .iter()
            .all(|v| r.verbs.contains(v));
        let again = r.plural == "events" || (r.group == "autoscaling" && r.version == "v1");
        verbs && !again
    })
}

impl Collector {
    async fn follow(self: Arc<Self>, resource: &'static Resource, known: mpsc::Sender<()>) {
        let informer = Informer::start(
            self.client.resource::<PartialObject>(resource),
            ListOptions::default(),
        );
        let mut changes = informer.subscribe();
        let mut seen = client::View::<PartialObject>::default();
        let api_version = resource.api_version();
        let mut known = Some(known);
        informer.synced().await;
        loop {
            // What is there at first is taken in without waiting for a change.
            if known.is_none() {
                changes.next().await;
            }
            let fresh = informer.view();
            let mut concerned = Vec::new();
            {
                let mut graph = self.graph.lock();
                for change in seen.diff(&fresh) {
                    let (old, new) = match change {
                        DiffItem::Add(_, new) => (None, Some(new)),
                        DiffItem::Remove(_, old) => (Some(old), None),
                        DiffItem::Update {
                            old: (_, old),
                            new: (_, new),
                        } => (Some(old), Some(new)),
                    };
                    // A namesake that came in between is another object.
                    if let Some(old) =
                        old.filter(|o| new.is_none_or(|n| n.metadata.uid != o.metadata.uid))
                    {
                        concerned
                            .extend(graph.remove(old.metadata.uid.as_deref().unwrap_or_default()));
                    }
                    if let Some(new) = new {
                        concerned.extend(graph.put(api_version, resource.kind, new));
                    }
                    let namespace = old
                        .or(new)
                        .and_then(|o| o.metadata.namespace.clone())
                        .unwrap_or_default();
                    if self.is_terminating(&namespace) {
                        self.queue.add(Work::Namespace(namespace));
                    }
                }
            }
            seen = fresh;
            known = None;
            for uid in concerned {
                self.queue.add(Work::Object(uid));
            }
        }
    }

    async fn follow_namespaces(self: Arc<Self>) {
        let mut changes = self.namespaces.subscribe();
        loop {
            for key in changes.next().await {
                if self.is_terminating(&key.name) {
                    self.queue.add(Work::Namespace(key.name));
                }
            }
        }
    }

    fn is_terminating(&self, namespace: &str) -> bool {
        let found = self.namespaces.get(&Key::new("", namespace));
        found.is_some_and(|n| n.metadata.deletion_timestamp.is_some())
    }

    async fn once(&self, work: &Work) -> Result<(), Error> {
        match work {
            Work::Object(uid) => {
                let plan = self.graph.lock().reconcile(uid);
                for write in &plan.writes {
                    self.writer.write(write).await?;
                }
                Ok(())
            }
            Work::Namespace(name) => self.empty(name).await,
            Work::Remains(name) => self.tell_remains(name).await,
        }
    }

    /// Deletes what is in a namespace and, once nothing is, lets the namespace go.
    async fn empty(&self, name: &str) -> Result<(), Error> {
        let (left, pending): (Vec<_>, Vec<_>) = {
            let graph = self.graph.lock();
            graph
                .inhabitants(name)
                .map(|(t, deleting)| (t.clone(), deleting))
                .partition(|(_, deleting)| !deleting)
        };
        for (target, _) in &left {
            self.writer.write(&Write::delete(target.clone())).await?;
        }
        if !left.is_empty() || !pending.is_empty() {
            // Each of them that goes brings this namespace up again.
            self.queue
                .add_after(Work::Remains(name.to_owned()), TOLD_AFTER);
            return Ok(());
        }
        // The graph may lag behind a write that came just before the deletion: ask.
        for resource in collected().filter(|r| r.namespaced) {
            let access = self.client.resource::<PartialObject>(resource);
            let found = access.list(&ListOptions::namespace(name)).await?;
            for object in &found.items {
                let uid = object.metadata.uid.clone().unwrap_or_default();
                let target = crate::plan::Target {
                    api_version: resource.api_version().to_owned(),
                    kind: resource.kind.to_owned(),
                    key: Key::of(object),
                    uid,
                };
                self.writer.write(&Write::delete(target)).await?;
            }
            if !found.items.is_empty() {
                return Ok(());
            }
        }
        self.delete_events(name).await?;
        self.finalize(name).await
    }

    /// Says in a deleted namespace's status what it waits for.
    async fn tell_remains(&self, name: &str) -> Result<(), Error> {
        let remains = self.graph.lock().remains(name);
        let found = self.namespaces.get(&Key::new("", name));
        let Some(namespace) = found.filter(|_| self.is_terminating(name) && !remains.is_none())
        else {
            return Ok(());
        };
        let old = namespace.status.clone().unwrap_or_default();
        let held = old.conditions.clone().unwrap_or_default();
        let new = NamespaceStatus {
            conditions: Some(remains.conditions(&held, jiff::Timestamp::now())),
            ..old.clone()
        };
        if new == old {
            return Ok(());
        }
        self.writer
            .write(&Write::status(&*namespace, Some(&old), &new))
            .await
            .map(drop)
    }

    /// Events are in no graph, and there may be many: one request takes all of a namespace.
    async fn delete_events(&self, namespace: &str) -> Result<(), Error> {
        let uri = format!("/api/v1/namespaces/{namespace}/events");
        let request = http::Request::delete(uri)
            .body(String::new().into())
            .map_err(|e| Error::Invalid(e.to_string()))?;
        self.client.raw(request).await.map(drop)
    }

    /// Takes the namespace's own finalizer away, which removes it.
    async fn finalize(&self, name: &str) -> Result<(), Error> {
        // Untyped, for it is written back whole.
        let namespaces = self.client.untyped(resource::of::<Namespace>());
        let Some(Untyped(mut object)) = namespaces.find("", name).await? else {
            return Ok(());
        };
        if object["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        if let Some(finalizers) = object["spec"]["finalizers"].as_array_mut() {
            finalizers.retain(|finalizer| finalizer != "kubernetes");
        }
        let uri = format!("/api/v1/namespaces/{name}/finalize");
        let request = http::Request::put(uri)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(object.to_string().into())
            .map_err(|e| Error::Invalid(e.to_string()))?;
        let answer = self.client.raw(request).await.map(drop);
        match answer {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}
