//! From informers to the view, and from what changed to the keys that must be looked at.

mod keys;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Informer, Key, Kind, ListOptions};
use imbl::ordmap::DiffItem;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::StorageClass;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::controller::Controller;
use crate::view::{Table, View};
use crate::writer::{Mark, Writer};
use crate::{node_lifecycle, owner};
use keys::{
    both, on_birth_gift, on_cluster_role, on_ingress, on_ingress_class, on_namespace, on_node,
    on_pod, on_replica_set, on_service, on_slice,
};
use storage::{on_claim, on_storage_class, on_volume};

/// What a worker takes from the queue.
pub(crate) type Work = (Controller, Key);
/// The queue that every change feeds.
pub(crate) type Queue = client::WorkQueue<Work>;

/// The view, kept up to date by one task a kind.
pub(crate) struct Feed {
    view: RwLock<View>,
    /// For each kind: up to which revision the view shows it.
    progress: BTreeMap<&'static str, Progress>,
}

struct Progress {
    shown: watch::Sender<u64>,
    /// What the view shows of an object of this kind.
    find: Box<Find>,
}

type Find = dyn Fn(&View, &Key) -> Option<Seen> + Send + Sync;

/// As much of an object in view as tells which state of it that is.
struct Seen {
    uid: String,
    revision: u64,
    deleting: bool,
}

/// How long a worker waits for the view to show what was written; mostly it takes a millisecond.
const PATIENCE: Duration = Duration::from_millis(500);

impl Feed {
    /// Starts the informers and returns once everything that is there has been queued.
    pub(crate) async fn start(
        client: &Client,
        root_ca: &str,
        queue: &Queue,
    ) -> (Arc<Feed>, tokio::task::JoinSet<()>) {
        let feed = Arc::new(Feed {
            view: RwLock::new(View {
                root_ca: root_ca.into(),
                ..View::default()
            }),
            progress: BTreeMap::from([
                followed::<ClusterRole>(|v| &v.cluster_roles),
                followed::<ConfigMap>(|v| &v.config_maps),
                followed::<Deployment>(|v| &v.deployments),
                followed::<EndpointSlice>(|v| &v.endpoint_slices),
                followed::<Endpoints>(|v| &v.endpoints),
                followed::<Ingress>(|v| &v.ingresses),
                followed::<IngressClass>(|v| &v.ingress_classes),
                followed::<Job>(|v| &v.jobs),
                followed::<Lease>(|v| &v.leases),
                followed::<Namespace>(|v| &v.namespaces),
                followed::<Node>(|v| &v.nodes),
                followed::<PersistentVolume>(|v| &v.volumes),
                followed::<PersistentVolumeClaim>(|v| &v.claims),
                followed::<Pod>(|v| &v.pods),
                followed::<ReplicaSet>(|v| &v.replica_sets),
                followed::<Service>(|v| &v.services),
                followed::<ServiceAccount>(|v| &v.service_accounts),
                followed::<StorageClass>(|v| &v.storage_classes),
            ]),
        });
        let mut tasks = tokio::task::JoinSet::new();
        let everything = ListOptions::default;
        let root_ca_only =
            ListOptions::default().fields(format!("metadata.name={}", crate::namespace::ROOT_CA));
        // Namespaces and nodes come first, so that pods never look as if theirs were gone.
        feed.follow::<Node>(
            client,
            everything(),
            |v| &mut v.nodes,
            on_node,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<Namespace>(
            client,
            everything(),
            |v| &mut v.namespaces,
            on_namespace,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<Lease>(
            client,
            ListOptions::namespace(node_lifecycle::LEASES),
            |v| &mut v.leases,
            |c| {
                c.each(|lease| {
                    vec![(
                        Controller::NodeLifecycle,
                        Key::new("", owner::key_of(lease).name),
                    )]
                })
            },
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<ServiceAccount>(
            client,
            everything(),
            |v| &mut v.service_accounts,
            on_birth_gift,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<ConfigMap>(
            client,
            root_ca_only,
            |v| &mut v.config_maps,
            on_birth_gift,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<Pod>(
            client,
            everything(),
            |v| &mut v.pods,
            on_pod,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<StorageClass>(
            client,
            everything(),
            |v| &mut v.storage_classes,
            on_storage_class,
            queue,
            &mut tasks,
        )
        .await;
        // After the pods, so that no claim ever looks as if nobody used it.
        feed.follow::<PersistentVolumeClaim>(
            client,
            everything(),
            |v| &mut v.claims,
            on_claim,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<PersistentVolume>(
            client,
            everything(),
            |v| &mut v.volumes,
            on_volume,
            queue,
            &mut tasks,
        )
        .await;
        // After nodes and pods, so that no Service ever looks as if nothing were behind it.
        feed.follow::<EndpointSlice>(
            client,
            everything(),
            |v| &mut v.endpoint_slices,
            on_slice,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<Endpoints>(
            client,
            everything(),
            |v| &mut v.endpoints,
            |c| c.each(|endpoints| both(&owner::key_of(endpoints))),
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<Service>(
            client,
            everything(),
            |v| &mut v.services,
            on_service,
            queue,
            &mut tasks,
        )
        .await;
        // Before the Ingresses, so that none ever looks as if it were nobody's.
        feed.follow::<IngressClass>(
            client,
            everything(),
            |v| &mut v.ingress_classes,
            on_ingress_class,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<Ingress>(
            client,
            everything(),
            |v| &mut v.ingresses,
            on_ingress,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<ReplicaSet>(
            client,
            everything(),
            |v| &mut v.replica_sets,
            on_replica_set,
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<Job>(
            client,
            everything(),
            |v| &mut v.jobs,
            |c| c.each(|job| vec![(Controller::Job, owner::key_of(job))]),
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<Deployment>(
            client,
            everything(),
            |v| &mut v.deployments,
            |c| c.each(|d| vec![(Controller::Deployment, owner::key_of(d))]),
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<ClusterRole>(
            client,
            everything(),
            |v| &mut v.cluster_roles,
            on_cluster_role,
            queue,
            &mut tasks,
        )
        .await;
        (feed, tasks)
    }

    /// The view as it is now.
    pub(crate) fn view(&self) -> View {
        self.view.read().clone()
    }

    /// Waits a moment for the view to show what was written; returns what it does not show.
    ///
    /// Kinds that are not followed are not waited for. An object of which no event comes any more
    /// (it was gone again before a new list, say) is asked for, so that nobody waits for ever:
    /// either the view shows what the API has, or what the API has is yet to be shown.
    pub(crate) async fn unseen(&self, written: Vec<Mark>, writer: &Writer) -> Vec<Mark> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut left = Vec::new();
        for mark in written {
            let Some(progress) = self.progress.get(mark.kind.as_str()) else {
                continue;
            };
            let mut shown = progress.shown.subscribe();
            let seen = shown.wait_for(|at| self.shows(progress, &mark, *at));
            // The sender lives in `self`, so that waiting can only end in time or too late.
            if tokio::time::timeout_at(deadline, seen).await.is_err() {
                left.push(mark);
            }
        }
        let mut unseen = Vec::new();
        for mark in left {
            if !self.agrees(&mark, writer).await {
                unseen.push(mark);
            }
        }
        unseen
    }

    /// Whether the view, which is at revision `at`, shows `mark` or what came after it.
    fn shows(&self, progress: &Progress, mark: &Mark, at: u64) -> bool {
        if mark.revision > 0 && at >= mark.revision {
            return true;
        }
        match (progress.find)(&self.view(), &mark.key) {
            // Gone: that is what a deletion waits for, and what was made has not come yet.
            None => mark.revision == 0,
            Some(seen) if mark.revision == 0 => seen.deleting || seen.uid != mark.uid,
            Some(seen) => seen.revision >= mark.revision,
        }
    }

    /// Whether the view shows this object as the API has it now.
    async fn agrees(&self, mark: &Mark, writer: &Writer) -> bool {
        let Some(progress) = self.progress.get(mark.kind.as_str()) else {
            return true;
        };
        // Asked before the view is read: what the view then shows may only be newer.
        let Ok(there) = writer.version(mark).await else {
            return false;
        };
        let seen = (progress.find)(&self.view(), &mark.key).map(|s| (s.uid, s.revision));
        seen == there
    }

    async fn follow<T: Kind + PartialEq>(
        self: &Arc<Self>,
        client: &Client,
        options: ListOptions,
        table: fn(&mut View) -> &mut Table<T>,
        keys: fn(Change<'_, T>) -> Vec<Work>,
        queue: &Queue,
        tasks: &mut tokio::task::JoinSet<()>,
    ) {
        let informer = Informer::start(client.of::<T>(), options);
        informer.synced().await;
        let mut changes = informer.subscribe();
        let mut shown = informer.revision();
        let mut seen = client::View::<T>::default();
        self.take_in(&informer, &mut seen, table, keys, queue);
        let (feed, queue) = (Arc::clone(self), queue.clone());
        tasks.spawn(async move {
            loop {
                // Also a bookmark, or a new list with nothing new, says how far the view is.
                tokio::select! {
                    _ = changes.next() => {}
                    () = informer.reached(shown + 1) => {}
                }
                shown = informer.revision();
                feed.take_in(&informer, &mut seen, table, keys, &queue);
            }
        });
    }

    /// Brings one kind's table up to the informer's view and queues what that concerns.
    fn take_in<T: Kind + PartialEq>(
        &self,
        informer: &Informer<T>,
        seen: &mut client::View<T>,
        table: fn(&mut View) -> &mut Table<T>,
        keys: fn(Change<'_, T>) -> Vec<Work>,
        queue: &Queue,
    ) {
        // Read before the view: what the view then shows is at least this.
        let revision = informer.revision();
        let fresh = informer.view();
        let mut work = Vec::new();
        {
            let mut view = self.view.write();
            for change in seen.diff(&fresh) {
                let (key, old, new) = match change {
                    DiffItem::Add(key, new) => (key, None, Some(new)),
                    DiffItem::Remove(key, old) => (key, Some(old), None),
                    DiffItem::Update {
                        old: (key, old),
                        new: (_, new),
                    } => (key, Some(old), Some(new)),
                };
                table(&mut view).set(key, new.cloned());
                let change = Change {
                    old: old.map(|o| &**o),
                    new: new.map(|n| &**n),
                    view: &view,
                };
                work.extend(keys(change));
            }
        }
        *seen = fresh;
        if let Some(progress) = self.progress.get(T::KIND) {
            progress.shown.send_replace(revision);
        }
        for item in work {
            queue.add(item);
        }
    }
}

/// A kind that is followed, and how its objects are found in a view.
fn followed<T: Kind>(table: fn(&View) -> &Table<T>) -> (&'static str, Progress) {
    let find = move |view: &View, key: &Key| {
        let meta = table(view).get(key)?.metadata();
        let version = meta.resource_version.as_deref();
        Some(Seen {
            uid: meta.uid.clone().unwrap_or_default(),
            revision: version.and_then(|v| v.parse().ok()).unwrap_or(0),
            deleting: meta.deletion_timestamp.is_some(),
        })
    };
    let progress = Progress {
        shown: watch::Sender::new(0),
        find: Box::new(find),
    };
    (T::KIND, progress)
}

/// One object that changed, came or went.
pub(crate) struct Change<'a, T> {
    old: Option<&'a T>,
    new: Option<&'a T>,
    view: &'a View,
}

impl<T: Kind> Change<'_, T> {
    /// The work for what was and for what is.
    fn each(&self, work: impl Fn(&T) -> Vec<Work>) -> Vec<Work> {
        self.old
            .into_iter()
            .chain(self.new)
            .flat_map(work)
            .collect()
    }
}
