//! From informers to the view, and from what changed to the keys that must be looked at.

use std::sync::Arc;

use client::{Client, Informer, Key, Kind, ListOptions};
use imbl::ordmap::DiffItem;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::controller::Controller;
use crate::view::{Table, View};
use crate::{job, node_lifecycle, owner};

/// What a worker takes from the queue.
pub(crate) type Work = (Controller, Key);
/// The queue that every change feeds.
pub(crate) type Queue = client::WorkQueue<Work>;

/// The view, kept up to date by one task a kind.
pub(crate) struct Feed {
    view: RwLock<View>,
    /// For each kind: up to which revision the view shows it.
    progress: Vec<(&'static str, watch::Sender<u64>)>,
}

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
            progress: [
                "ConfigMap",
                "Deployment",
                "Job",
                "Lease",
                "Namespace",
                "Node",
                "Pod",
                "ReplicaSet",
                "ServiceAccount",
            ]
            .map(|kind| (kind, watch::Sender::new(0)))
            .into(),
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
        (feed, tasks)
    }

    /// The view as it is now.
    pub(crate) fn view(&self) -> View {
        self.view.read().clone()
    }

    /// Waits until the view shows everything up to `revision` of `kind`; kinds that are not
    /// followed are not waited for.
    pub(crate) async fn reached(&self, kind: &str, revision: u64) {
        if let Some((_, progress)) = self.progress.iter().find(|(name, _)| *name == kind) {
            // The sender lives in `self`, so that waiting can't fail.
            let _ = progress.subscribe().wait_for(|at| *at >= revision).await;
        }
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
        let mut seen = client::View::<T>::default();
        self.take_in(&informer, &mut seen, table, keys, queue);
        let (feed, queue) = (Arc::clone(self), queue.clone());
        tasks.spawn(async move {
            loop {
                changes.next().await;
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
        if let Some((_, progress)) = self.progress.iter().find(|(name, _)| *name == T::KIND) {
            progress.send_replace(revision);
        }
        for item in work {
            queue.add(item);
        }
    }
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

fn on_node(change: Change<'_, Node>) -> Vec<Work> {
    let mut work = vec![(Controller::NodeIpam, Key::new("", ""))];
    work.extend(change.each(|node| vec![(Controller::NodeLifecycle, owner::key_of(node))]));
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

fn on_pod(change: Change<'_, Pod>) -> Vec<Work> {
    let mut work = change.each(|pod| {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let mut work = Vec::new();
        match owner::controller_of(&pod.metadata) {
            Some(o) if o.kind == "ReplicaSet" => {
                work.push((Controller::ReplicaSet, Key::new(namespace, o.name.clone())))
            }
            Some(_) => work.extend(job::job_of(pod).map(|key| (Controller::Job, key))),
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
        let deployment = owner::controller_of(&set.metadata)
            .filter(|o| o.kind == "Deployment")
            .map(|o| {
                (
                    Controller::Deployment,
                    Key::new(key.namespace.clone(), o.name.clone()),
                )
            });
        std::iter::once((Controller::ReplicaSet, key))
            .chain(deployment)
            .collect()
    })
}
