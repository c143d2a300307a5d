//! What is seen of nodes, namespaces and pods.

use std::sync::Arc;

use client::Key;
use tokio::time::Instant;

use super::Driver;
use crate::{Pod, snapshot::Event};

impl Driver {
    pub(super) fn nodes_changed(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            let Some(node) = self.nodes.get(&key) else {
                self.snapshot.remove_node(&key.name);
                let plugins = self.scheduler.plugins();
                self.queue.tell(&Event::NodeGone, plugins, Instant::now());
                continue;
            };
            if self.snapshot.set_node(node)
                && let Some(state) = self.snapshot.node(&key.name)
            {
                let event = Event::Node(state);
                self.queue
                    .tell(&event, self.scheduler.plugins(), Instant::now());
            }
        }
    }

    pub(super) fn namespaces_changed(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            let namespace = self.namespaces.get(&key);
            let labels = namespace.map(|namespace| namespace.metadata.labels.clone());
            if self
                .snapshot
                .set_namespace(&key.name, labels.map(Option::unwrap_or_default))
            {
                let plugins = self.scheduler.plugins();
                self.queue.tell(&Event::Namespace, plugins, Instant::now());
            }
        }
    }

    pub(super) fn pods_changed(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            match self.pods.get(&key) {
                Some(pod) if pod.is_placed() => self.seen_on_node(&key, pod),
                Some(pod) if pod.is_waiting() => self.seen_waiting(&key, pod),
                _ => self.seen_gone(&key),
            }
        }
    }

    pub(super) fn seen_on_node(&mut self, key: &Key, mut pod: Arc<Pod>) {
        self.queue.remove(key);
        self.assumed.remove(key);
        self.stop_waiting(key);
        self.unnominate(key);
        let node = pod.node_name.clone();
        let before = self.counted(key);
        let is_leaving = |(_, was): &(String, Arc<Pod>)| was.uid == pod.uid && was.deleting;
        if before.as_ref().is_some_and(is_leaving) && !pod.deleting {
            // It was told to go, and what is seen is older than that: nobody comes back from there.
            Arc::make_mut(&mut pod).deleting = true;
        }
        self.snapshot.place(Arc::clone(&pod), &node);
        // What it had may be another's if it was resized, relabelled, or turned out to be elsewhere than assumed.
        let is_other = |(was_on, was): &(String, Arc<Pod>)| {
            *was_on != node || was.requests != pod.requests || was.labels != pod.labels
        };
        if before.as_ref().is_none_or(is_other) {
            if let Some((was_on, before)) = &before {
                self.freed(was_on, before);
            }
            self.placed(&pod);
        }
    }

    pub(super) fn seen_waiting(&mut self, key: &Key, pod: Arc<Pod>) {
        match self.assumed.get(key) {
            // What is seen is older than what has been decided.
            Some(uid) if *uid == pod.uid => return,
            // Its namesake is gone, and with it what was decided for it.
            Some(_) => self.forget(key),
            None => {}
        }
        if self.snapshot.placement(key).is_some() {
            self.forget(key);
        }
        // What one before this scheduler decided is known from the pod alone; what this one did is newer than what it sees.
        match self.snapshot.nomination(&pod).map(str::to_owned) {
            Some(node) => self.snapshot.nominate(&pod, &node),
            None if self.queue.contains(&pod) || pod.nominated.is_empty() => {}
            None => self.snapshot.nominate(&pod, &pod.nominated),
        }
        self.queue.set(pod);
    }

    pub(super) fn seen_gone(&mut self, key: &Key) {
        self.queue.remove(key);
        self.unnominate(key);
        self.forget(key);
    }

    /// Stops counting a pod where it was or was assumed to be.
    pub(super) fn forget(&mut self, key: &Key) {
        self.assumed.remove(key);
        self.stop_waiting(key);
        let node = self.snapshot.placement(key).map(str::to_owned);
        let claims = self.snapshot.claims_of(key);
        let pod = self.snapshot.remove_pod(key);
        for claim in &claims {
            let event = Event::Unused(claim);
            self.queue
                .tell(&event, self.scheduler.plugins(), Instant::now());
        }
        if let (Some(node), Some(pod)) = (node, pod) {
            self.freed(&node, &pod);
        }
    }

    /// Tells those that wait that this pod is not on a node any more, or needs less of it; none if the node is gone.
    pub(super) fn freed(&mut self, node: &str, pod: &Pod) {
        if let Some(state) = self.snapshot.node(node) {
            let event = Event::Freed(state, pod);
            self.queue
                .tell(&event, self.scheduler.plugins(), Instant::now());
            self.seek_more_room(node);
        }
    }

    /// Sets nothing aside for a pod any more.
    pub(super) fn unnominate(&mut self, key: &Key) {
        if let Some((pod, node)) = self.snapshot.unnominate(key) {
            self.freed(&node, &pod);
        }
    }

    /// Tells those that wait that this pod counts on a node now.
    pub(super) fn placed(&mut self, pod: &Pod) {
        let event = Event::Placed(pod);
        self.queue
            .tell(&event, self.scheduler.plugins(), Instant::now());
    }
}
