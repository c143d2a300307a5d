//! ConfigMaps and Secrets that pods show in their volumes: read for all who want one, and followed, so that a change
//! reaches the files of pods that run.
//!
//! One watch a kind is all that a node holds, however many pods there are: the API server shows it what its pods refer
//! to, and of that no more than that it has changed. A change says which volumes are stale; their content is then read as
//! it was when they were made. So it does not matter in which order changes, reads and new pods come: a pod is known here
//! before anything is read for it, and what is read after a change has that change in it. Nor does it matter how fast
//! changes come: the watches are read without a pause, and what they say gathers until it is told.

mod reads;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use api::Resource;
use client::{Access, Client, Error, Event, Key, ListOptions, PartialObject, Sink};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use crate::pod::PodView as _;
use crate::volumes;
pub(crate) use reads::Reads;

/// How many objects are read, and tokens asked for, at the same time. Whoever wants more waits, so that a node whose pods
/// all have something to read leaves the servers time for others.
const AT_ONCE: usize = 32;
/// How long changes gather before they are told, at least: an object that changes without a pause costs each pod so many
/// renewals, not more.
const GATHER: Duration = Duration::from_millis(50);
/// How much longer that takes at most. Nodes differ in it, so that they do not all read at once what all of them show.
const SPREAD: Duration = Duration::from_millis(300);
/// How long pods wait at most, when the agent starts, until changes are heard of. A server of an older version refuses.
const BEGINNING: Duration = Duration::from_secs(2);

/// A kind of object that volumes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

/// How many kinds there are.
const KINDS: usize = 2;

/// Pods by their uids, and which of their volumes.
pub(crate) type Volumes = BTreeMap<String, BTreeSet<String>>;

/// The objects of all pods of this node. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Objects(Arc<Inner>);

struct Inner {
    config_maps: Reads<ConfigMap>,
    secrets: Reads<Secret>,
    room: Arc<Semaphore>,
    shown: Mutex<Shown>,
    /// What is stale and has not been told yet. As it is gathered by pods there is never more than they have.
    stale: Mutex<Volumes>,
    /// Something is.
    changed: Notify,
    /// The kinds whose changes are heard of.
    heard: watch::Sender<BTreeSet<Kind>>,
}

impl Objects {
    pub(crate) fn new(client: &Client) -> Self {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        Self(Arc::new(Inner {
            config_maps: Reads::new(client.of(), room.clone()),
            secrets: Reads::new(client.of(), room.clone()),
            room,
            shown: Mutex::default(),
            stale: Mutex::default(),
            changed: Notify::new(),
            heard: watch::Sender::default(),
        }))
    }

    pub(crate) fn config_maps(&self) -> &Reads<ConfigMap> {
        &self.0.config_maps
    }

    pub(crate) fn secrets(&self) -> &Reads<Secret> {
        &self.0.secrets
    }

    /// Room to ask a server for something else that volumes are made of, until it is dropped.
    pub(crate) async fn room(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.room.acquire().await.ok()
    }

    /// Waits until changes are heard of, but not for long. What is read for a pod before that is read once more then.
    pub(crate) async fn followed(&self) {
        let mut heard = self.0.heard.subscribe();
        let both = heard.wait_for(|kinds| kinds.len() == KINDS);
        if tokio::time::timeout(BEGINNING, both).await.is_err() {
            tracing::warn!("changes of ConfigMaps and Secrets are not heard of yet");
        }
    }

    /// Takes up a pod. To be called before anything is read for it.
    pub(crate) fn put(&self, pod: &Pod) {
        self.0.shown.lock().put(pod);
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, pod: &Pod) {
        self.0.shown.lock().remove(pod);
    }

    /// Follows what the node's pods show, for ever, and tells which volumes have become stale.
    pub(crate) async fn follow(self, client: Client, node: String, stale: impl Fn(Volumes) + Send) {
        let follow = |kind, resource: &Resource| {
            let access: Access<PartialObject> = client.resource(resource);
            let options = ListOptions::default().fields(format!("spec.nodeName={node}"));
            let options = options.metadata_only();
            let following = Following {
                access: access.clone(),
                options: options.clone(),
                objects: self.clone(),
                kind,
            };
            client::follow(access, options, following)
        };
        tokio::join!(
            follow(Kind::ConfigMap, Resource::of::<ConfigMap>()),
            follow(Kind::Secret, Resource::of::<Secret>()),
            self.tell(gather(&node), stale),
        );
    }

    /// Tells what is stale, for ever: each time what has gathered in a while.
    async fn tell(&self, gather: Duration, stale: impl Fn(Volumes)) {
        loop {
            self.0.changed.notified().await;
            tokio::time::sleep(gather).await;
            let volumes = std::mem::take(&mut *self.0.stale.lock());
            if !volumes.is_empty() {
                stale(volumes);
            }
        }
    }
}

/// How long changes gather on a node.
fn gather(node: &str) -> Duration {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
    GATHER + SPREAD * share / 1000
}

/// One kind, followed.
struct Following {
    access: Access<PartialObject>,
    options: ListOptions,
    objects: Objects,
    kind: Kind,
}

impl Sink<PartialObject> for Following {
    async fn begin(&mut self) -> Result<u64, Error> {
        let revision = self.access.revision(&self.options).await?;
        // Whatever changed until then is in what is read from now on, and nobody says any more what that was.
        let objects = &self.objects.0;
        objects
            .shown
            .lock()
            .add_all(self.kind, &mut objects.stale.lock());
        objects.changed.notify_one();
        objects
            .heard
            .send_if_modified(|heard| heard.insert(self.kind));
        Ok(revision)
    }

    async fn take(&mut self, events: Vec<Event<PartialObject>>, _: u64) {
        let objects = &self.objects.0;
        let (shown, mut stale) = (objects.shown.lock(), objects.stale.lock());
        for event in events {
            if let Event::Added(object) | Event::Modified(object) | Event::Deleted(object) = event {
                shown.add_of(self.kind, &Key::of(&object), &mut stale);
            }
        }
        if !stale.is_empty() {
            objects.changed.notify_one();
        }
    }
}

/// Which pods show which objects, in which of their volumes.
#[derive(Debug, Default)]
struct Shown(BTreeMap<(Kind, Key), Volumes>);

impl Shown {
    fn put(&mut self, pod: &Pod) {
        for (kind, name, volume) in volumes::shown(pod.volumes()) {
            let of = (kind, Key::new(pod.namespace(), name));
            let pods = self.0.entry(of).or_default();
            let volumes = pods.entry(pod.uid().to_owned()).or_default();
            volumes.insert(volume.to_owned());
        }
    }

    fn remove(&mut self, pod: &Pod) {
        for (kind, name, _) in volumes::shown(pod.volumes()) {
            let of = (kind, Key::new(pod.namespace(), name));
            if let Some(pods) = self.0.get_mut(&of) {
                pods.remove(pod.uid());
                if pods.is_empty() {
                    self.0.remove(&of);
                }
            }
        }
    }

    fn add_of(&self, kind: Kind, object: &Key, to: &mut Volumes) {
        let pods = self.0.get(&(kind, object.clone()));
        for (uid, volumes) in pods.into_iter().flatten() {
            to.entry(uid.clone())
                .or_default()
                .extend(volumes.iter().cloned());
        }
    }

    fn add_all(&self, kind: Kind, to: &mut Volumes) {
        let of_kind = self.0.keys().filter(|(of, _)| *of == kind);
        for (_, object) in of_kind {
            self.add_of(kind, object, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use client::Patch;
    use client::simulated::Simulated;
    use serde_json::json;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    fn pod(uid: &str) -> Pod {
        let token = json!({"serviceAccountToken": {"path": "t"}});
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "shop", "uid": uid},
            "spec": {"containers": [], "volumes": [
                {"name": "a", "configMap": {"name": "c"}},
                {"name": "b", "projected": {"sources": [
                    token, {"configMap": {"name": "c"}}, {"secret": {"name": "s"}}, {"configMap": {"name": "d"}}]}},
                {"name": "e", "secret": {"secretName": "s"}},
                {"name": "f", "emptyDir": {}},
            ]},
        }))
        .unwrap()
    }

    fn volumes<const N: usize>(of: [(&str, &str); N]) -> Volumes {
        let names = |names: &str| names.split(' ').map(str::to_owned).collect();
        of.map(|(uid, all)| (uid.to_owned(), names(all))).into()
    }

    #[test]
    fn an_object_has_the_volumes_that_show_it() {
        let mut shown = Shown::default();
        shown.put(&pod("u1"));
        shown.put(&pod("u2"));
        shown.put(&pod("u2"));
        let of = |shown: &Shown, kind, namespace, name| {
            let mut found = Volumes::new();
            shown.add_of(kind, &Key::new(namespace, name), &mut found);
            found
        };
        let both = volumes([("u1", "a b"), ("u2", "a b")]);
        assert_eq!(of(&shown, Kind::ConfigMap, "shop", "c"), both);
        let mut all = Volumes::new();
        shown.add_all(Kind::ConfigMap, &mut all);
        assert_eq!(all, both);
        let both = volumes([("u1", "b e"), ("u2", "b e")]);
        assert_eq!(of(&shown, Kind::Secret, "shop", "s"), both);
        assert!(of(&shown, Kind::Secret, "shop", "c").is_empty());
        assert!(of(&shown, Kind::ConfigMap, "other", "c").is_empty());
        shown.remove(&pod("u1"));
        let one = volumes([("u2", "b")]);
        assert_eq!(of(&shown, Kind::ConfigMap, "shop", "d"), one);
        shown.remove(&pod("u2"));
        shown.remove(&pod("u2"));
        assert!(shown.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_read_without_a_pause_and_told_together() {
        let server = Simulated::new();
        let client = server.client("test");
        let objects = Objects::new(&client);
        objects.put(&pod("u1"));
        let told = Arc::<Mutex<Vec<Volumes>>>::default();
        let tell = told.clone();
        let follow = objects.follow(client.clone(), "n1".to_owned(), move |volumes| {
            tell.lock().push(volumes);
        });
        let _follow = AbortOnDropHandle::new(tokio::spawn(follow));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let all = volumes([("u1", "a b e")]);
        assert_eq!(std::mem::take(&mut *told.lock()), [all], "all is at first");

        let map = json!({"metadata": {"name": "c", "namespace": "shop"}});
        let maps = client.of::<ConfigMap>();
        maps.create(&serde_json::from_value(map).unwrap())
            .await
            .unwrap();
        for number in 0..200 {
            let patch = Patch::Merge(json!({"data": {"k": number.to_string()}}));
            maps.patch("shop", "c", &patch, None).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(GATHER + SPREAD + Duration::from_millis(10)).await;
        let told_then = std::mem::take(&mut *told.lock());
        assert!((1..20).contains(&told_then.len()), "{}", told_then.len());
        let both = volumes([("u1", "a b")]);
        assert!(told_then.iter().all(|told| *told == both), "{told_then:?}");
        // Nothing lags behind.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(told.lock().is_empty());
    }

    #[test]
    fn nodes_read_what_all_of_them_show_at_times_of_their_own() {
        let all: Vec<Duration> = (0..100).map(|node| gather(&format!("n{node}"))).collect();
        let longest = GATHER + SPREAD;
        assert!(all.iter().all(|time| (GATHER..longest).contains(time)));
        let spread = *all.iter().max().unwrap() - *all.iter().min().unwrap();
        assert!(spread > SPREAD / 2, "{spread:?}");
    }
}
