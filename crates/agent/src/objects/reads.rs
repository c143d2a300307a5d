//! Reads that many share: of an object that a thousand pods want at the same moment it takes two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use client::{Access, Key, Object};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// What a read gave; nothing, where there is no such object.
pub(crate) type Found<T> = Result<Option<Arc<T>>, Arc<client::Error>>;

/// The last read of one object, and when it began. Held while the next one is under way.
type Slot<T> = Arc<tokio::sync::Mutex<Option<(u64, Found<T>)>>>;

/// The objects of a kind, read as they are.
pub(crate) struct Reads<T> {
    access: Access<T>,
    /// Room for reads, of this kind and others.
    room: Arc<Semaphore>,
    /// Counts what happens here: a time that goes neither back nor two events share.
    now: AtomicU64,
    /// Those that somebody waits for, and how many do. What a read gave is forgotten with the last of them.
    slots: Mutex<BTreeMap<Key, (usize, Slot<T>)>>,
}

impl<T: Object> Reads<T> {
    pub(super) fn new(access: Access<T>, room: Arc<Semaphore>) -> Self {
        Self {
            access,
            room,
            now: AtomicU64::new(0),
            slots: Mutex::default(),
        }
    }

    /// Reads an object. All that was written before this call is seen.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub(crate) async fn read(&self, key: &Key) -> Found<T> {
        let asked = self.tick();
        let (_place, slot) = self.wait_for(key);
        // One at a time: those who wait here share the next.
        let mut last = slot.lock().await;
        // Begun after this call, it is as good as one of its own.
        if let Some((begun, found)) = &*last
            && *begun > asked
        {
            return found.clone();
        }
        // It is never closed.
        let _room = self.room.acquire().await;
        let begun = self.tick();
        let found = self.access.find(&key.namespace, &key.name).await;
        let found = found.map(|object| object.map(Arc::new)).map_err(Arc::new);
        *last = Some((begun, found.clone()));
        found
    }

    fn wait_for<'a>(&'a self, key: &'a Key) -> (Place<'a, T>, Slot<T>) {
        let mut slots = self.slots.lock();
        let (waiting, slot) = slots.entry(key.clone()).or_default();
        *waiting += 1;
        (Place { reads: self, key }, slot.clone())
    }

    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }
}

/// A place among those who wait for an object, until it is dropped.
struct Place<'a, T> {
    reads: &'a Reads<T>,
    key: &'a Key,
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        let mut slots = self.reads.slots.lock();
        if let Some((waiting, _)) = slots.get_mut(self.key) {
            *waiting -= 1;
            if *waiting == 0 {
                slots.remove(self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use client::simulated::Simulated;
    use futures::future::join_all;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn map(name: &str, value: &str) -> ConfigMap {
        let map = serde_json::json!({"metadata": {"name": name, "namespace": "shop"}, "data": {"k": value}});
        serde_json::from_value(map).unwrap()
    }

    fn value(found: Found<ConfigMap>) -> String {
        let data = found.unwrap().unwrap().data.clone();
        data.unwrap()["k"].clone()
    }

    fn gets(server: &Simulated) -> usize {
        let requests = server.requests();
        requests.iter().filter(|r| r.starts_with("GET")).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_shared_by_those_who_asked_before_it_began() {
        let server = Simulated::new();
        let client = server.client("test");
        client.of().create(&map("c", "one")).await.unwrap();
        server.set_latency(Duration::from_millis(10));
        let reads = Reads::new(client.of::<ConfigMap>(), Arc::new(Semaphore::new(4)));
        let key = Key::new("shop", "c");

        let all = join_all((0..1000).map(|_| reads.read(&key))).await;
        assert!(all.into_iter().all(|found| value(found) == "one"));
        assert_eq!(gets(&server), 2);
        assert!(reads.slots.lock().is_empty());

        // Who asks while it is under way may have to see what was written since it began.
        let late = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            reads.read(&key).await
        };
        let (_, late) = tokio::join!(reads.read(&key), late);
        assert_eq!(value(late), "one");
        assert_eq!(gets(&server), 4);

        assert!(matches!(
            reads.read(&Key::new("shop", "none")).await,
            Ok(None)
        ));
        server.refuse(&http::Method::GET, "/configmaps/c", 503);
        let two = tokio::join!(reads.read(&key), reads.read(&key));
        assert!(
            two.0.is_err() && two.1.is_ok(),
            "a failure is that read's own"
        );
        assert!(reads.slots.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_under_way_and_nobody_who_left_is_waited_for() {
        let server = Simulated::new();
        let client = server.client("test");
        server.set_latency(Duration::from_millis(10));
        let reads = Reads::new(client.of::<ConfigMap>(), Arc::new(Semaphore::new(2)));
        let keys: Vec<Key> = (0..6).map(|i| Key::new("shop", i.to_string())).collect();
        let began = tokio::time::Instant::now();
        join_all(keys.iter().map(|key| reads.read(key))).await;
        assert!(began.elapsed() >= Duration::from_millis(30));

        let left = reads.read(&keys[0]);
        let left = tokio::time::timeout(Duration::from_millis(5), left).await;
        assert!(left.is_err());
        assert!(reads.slots.lock().is_empty());
        assert!(reads.read(&keys[0]).await.unwrap().is_none());
        assert_eq!(gets(&server), 8);
    }
}
