//! From informers to the view, and from what changed to the keys that must be looked at.

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
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::controller::Controller;
use crate::view::{Table, View};
use crate::writer::{Mark, Writer};
use crate::{
    cluster_role, endpoint_slice, ingress_status, job, node_lifecycle, owner, pods, service_status,
    storage_protection,
};

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
        // After the pods, so that no claim ever looks as if nobody used it.
        feed.follow::<PersistentVolumeClaim>(
            client,
            everything(),
            |v| &mut v.claims,
            |c| c.each(|claim| vec![(Controller::ClaimProtection, owner::key_of(claim))]),
            queue,
            &mut tasks,
        )
        .await;
        feed.follow::<PersistentVolume>(
            client,
            everything(),
            |v| &mut v.volumes,
            |c| c.each(|volume| vec![(Controller::VolumeProtection, owner::key_of(volume))]),
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

/// A role itself, and all that gather: which of them chose or choose it, they say themselves.
fn on_cluster_role(change: Change<'_, ClusterRole>) -> Vec<Work> {
    let gathering = change.view.cluster_roles.iter();
    let gathering = gathering.filter(|(_, role)| cluster_role::gathers(role));
    gathering
        .map(|(key, _)| (Controller::ClusterRole, key.clone()))
        .collect()
}

fn on_namespace(change: Change<'_, Namespace>) -> Vec<Work> {
    change.each(|namespace| vec![(Controller::Namespace, owner::key_of(namespace))])
}

/// The default account or the root CA of a namespace may have been taken away.
fn on_birth_gift<T: Kind>(change: Change<'_, T>) -> Vec<Work> {
    change.each(|object| {
        vec![(
            Controller::Namespace,
            Key::new("", owner::key_of(object).namespace),
        )]
    })
}

fn on_service(change: Change<'_, Service>) -> Vec<Work> {
    change.each(|service| {
        let key = owner::key_of(service);
        let mut work = both(&key);
        work.push((Controller::ServiceStatus, key));
        work
    })
}

/// Both kinds of endpoints of the Service at `key`.
fn both(key: &Key) -> Vec<Work> {
    [Controller::EndpointSlice, Controller::Endpoints]
        .map(|controller| (controller, key.clone()))
        .to_vec()
}

/// The Service that a slice says it is of: what is balanced may depend on where its endpoints are.
fn on_slice(change: Change<'_, EndpointSlice>) -> Vec<Work> {
    let service_of = |slice: &EndpointSlice| {
        let labels = slice.metadata.labels.as_ref()?;
        let name = labels.get(endpoint_slice::SERVICE_NAME)?;
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        Some(Key::new(namespace, name))
    };
    change.each(|slice| {
        let Some(key) = service_of(slice) else {
            return Vec::new();
        };
        let mut work = vec![(Controller::EndpointSlice, key.clone())];
        let service = change.view.services.get(&key);
        if service.is_some_and(|service| service_status::is_balanced(service)) {
            work.push((Controller::ServiceStatus, key));
        }
        work
    })
}

/// The endpoints of all Services that select a pod.
fn services_of(pod: &Pod, view: &View) -> Vec<Work> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let services = view.services.in_namespace(namespace);
    services
        .filter(|service| endpoint_slice::selects(service, pod))
        .flat_map(|service| both(&owner::key_of(&**service)))
        .collect()
}

fn on_node(change: Change<'_, Node>) -> Vec<Work> {
    let mut work = vec![(Controller::NodeIpam, Key::new("", ""))];
    work.extend(change.each(|node| vec![(Controller::NodeLifecycle, owner::key_of(node))]));
    if service_status::differs(change.old, change.new) {
        let services = change.view.services.iter();
        let balanced = services.filter(|(_, service)| service_status::is_balanced(service));
        work.extend(balanced.map(|(key, _)| (Controller::ServiceStatus, key.clone())));
    }
    if ingress_status::differs(change.old, change.new) {
        work.extend(all_ingresses(change.view));
    }
    if change.new.is_none_or(|new| {
        change.old.is_none_or(|old| {
            endpoint_slice::endpoint::zone(old) != endpoint_slice::endpoint::zone(new)
        })
    }) {
        // Endpoints say where they are, and those of a node that is gone are none.
        let name = change
            .old
            .or(change.new)
            .and_then(|n| n.metadata.name.clone());
        let there = change.view.pods.iter().map(|(_, pod)| pod);
        let there =
            there.filter(|p| p.spec.as_ref().and_then(|s| s.node_name.as_ref()) == name.as_ref());
        work.extend(there.flat_map(|pod| services_of(pod, change.view)));
    }
    if let (Some(gone), None) = (change.old, change.new) {
        let name = gone.metadata.name.as_deref();
        let left = change
            .view
            .pods
            .iter()
            .filter(|(_, p)| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == name);
        work.extend(left.map(|(key, _)| (Controller::PodGarbage, key.clone())));
    }
    work
}

fn on_ingress(change: Change<'_, Ingress>) -> Vec<Work> {
    change.each(|ingress| vec![(Controller::IngressStatus, owner::key_of(ingress))])
}

/// Whose the Ingresses are that name a class, or none, may be another now.
fn on_ingress_class(change: Change<'_, IngressClass>) -> Vec<Work> {
    all_ingresses(change.view).collect()
}

fn all_ingresses(view: &View) -> impl Iterator<Item = Work> {
    let all = view.ingresses.iter();
    all.map(|(key, _)| (Controller::IngressStatus, key.clone()))
}

fn on_pod(change: Change<'_, Pod>) -> Vec<Work> {
    let mut work = change.each(|pod| {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let mut work = Vec::new();
        let within = |name: &str| Key::new(namespace.clone(), name);
        work.extend(services_of(pod, change.view));
        let claims = storage_protection::claims(pod);
        work.extend(claims.map(|claim| (Controller::ClaimProtection, claim)));
        // Whoever controls it now.
        let job = job::counted_for(&pod.metadata);
        work.extend(job.map(|name| (Controller::Job, within(name))));
        match owner::controller_of(&pod.metadata) {
            Some(o) if o.kind == "ReplicaSet" => {
                work.push((Controller::ReplicaSet, within(&o.name)));
            }
            Some(o) if o.kind == "Job" => work.push((Controller::Job, within(&o.name))),
            Some(_) => {}
            None => {
                let matching = change
                    .view
                    .replica_sets
                    .in_namespace(&namespace)
                    .filter(|set| {
                        set.spec.as_ref().is_some_and(|s| {
                            owner::selects(&s.selector, pod.metadata.labels.as_ref())
                        })
                    });
                work.extend(matching.map(|set| (Controller::ReplicaSet, owner::key_of(&**set))));
            }
        }
        work
    });
    // A deployment that recreates waits for the last old pod, of whose end no replica set tells.
    if let Some(gone) = change.old
        && change.new.is_none_or(pods::is_finished)
        && let Some(o) = owner::controller_of(&gone.metadata).filter(|o| o.kind == "ReplicaSet")
    {
        let namespace = gone.metadata.namespace.clone().unwrap_or_default();
        let set = change
            .view
            .replica_sets
            .get(&Key::new(namespace, o.name.clone()));
        work.extend(set.and_then(|set| deployment_of(set)));
    }
    if let Some(pod) = change.new
        && let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.as_deref())
        && change.view.nodes.get(&Key::new("", node)).is_none()
    {
        work.push((Controller::PodGarbage, owner::key_of(pod)));
    }
    work
}

fn on_replica_set(change: Change<'_, ReplicaSet>) -> Vec<Work> {
    change.each(|set| {
        let key = owner::key_of(set);
        let deployment = deployment_of(set);
        let orphan = owner::controller_of(&set.metadata).is_none();
        let claimants = change
            .view
            .deployments
            .in_namespace(&key.namespace)
            .filter(|d| {
                let labels = set.metadata.labels.as_ref();
                orphan
                    && d.spec
                        .as_ref()
                        .is_some_and(|s| owner::selects(&s.selector, labels))
            })
            .map(|d| (Controller::Deployment, owner::key_of(&**d)));
        let claimants: Vec<Work> = claimants.collect();
        std::iter::once((Controller::ReplicaSet, key))
            .chain(deployment)
            .chain(claimants)
            .collect()
    })
}

fn deployment_of(set: &ReplicaSet) -> Option<Work> {
    let owner = owner::controller_of(&set.metadata).filter(|o| o.kind == "Deployment")?;
    let namespace = set.metadata.namespace.clone().unwrap_or_default();
    Some((
        Controller::Deployment,
        Key::new(namespace, owner.name.clone()),
    ))
}
