//! What every [`Transport`](crate::Transport), with the API server behind it, must do.
//!
//! Whoever makes a transport runs [`suite`] over it. It works on ConfigMaps of one namespace,
//! which should be empty of them, and leaves none behind.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;

use crate::{
    Access, Client, DeleteOptions, Error, Event, Informer, Key, ListOptions, Object, Patch, Watch,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was not as it must be.
#[derive(Debug, thiserror::Error)]
#[error("{check}: {what}")]
pub struct Violation {
    /// Which check failed.
    pub check: &'static str,
    /// What was seen.
    pub what: String,
}

type Check = Result<(), String>;

/// Runs every check in `namespace`, one after the other.
///
/// # Errors
/// The first violation.
pub async fn suite(client: &Client, namespace: &str) -> Result<(), Violation> {
    let maps = Maps {
        access: client.of::<ConfigMap>(),
        namespace,
    };
    named("write_and_read", maps.write_and_read()).await?;
    named("conflicts", maps.conflicts()).await?;
    named("errors_are_statuses", maps.errors_are_statuses()).await?;
    named("lists_come_in_pages", maps.lists_come_in_pages()).await?;
    named("large_objects", maps.large_objects()).await?;
    named("watches_stream", maps.watches_stream()).await?;
    named("selected_watches", maps.selected_watches()).await?;
    named("requests_beside_watches", maps.requests_beside_watches()).await?;
    named("informers_converge", Box::pin(maps.informers_converge())).await?;
    Ok(())
}

async fn named(check: &'static str, run: impl Future<Output = Check>) -> Result<(), Violation> {
    let outcome = tokio::time::timeout(PATIENCE, run)
        .await
        .unwrap_or_else(|_| Err(format!("not done within {PATIENCE:?}")));
    outcome.map_err(|what| Violation { check, what })
}

struct Maps<'a> {
    access: Access<ConfigMap>,
    namespace: &'a str,
}

fn text(error: Error) -> String {
    error.to_string()
}

fn ensure(condition: bool, what: impl FnOnce() -> String) -> Check {
    if condition { Ok(()) } else { Err(what()) }
}

impl Maps<'_> {
    fn map(&self, name: &str, value: &str) -> ConfigMap {
        let mut map = ConfigMap {
            data: Some(BTreeMap::from([("value".to_owned(), value.to_owned())])),
            ..ConfigMap::default()
        };
        map.metadata.name = Some(name.to_owned());
        map.metadata.namespace = Some(self.namespace.to_owned());
        map
    }

    async fn create(&self, name: &str, value: &str) -> Result<ConfigMap, String> {
        self.access
            .create(&self.map(name, value))
            .await
            .map_err(text)
    }

    async fn delete(&self, name: &str) -> Check {
        let options = DeleteOptions::default();
        let deleted = self.access.delete(self.namespace, name, &options).await;
        deleted.map_err(text)
    }

    async fn write_and_read(&self) -> Check {
        let created = self.create("read", "1").await?;
        ensure(created.revision() > 0 && !created.uid().is_empty(), || {
            format!("a created object has neither version nor uid: {created:?}")
        })?;
        let mut read = self
            .access
            .get(self.namespace, "read")
            .await
            .map_err(text)?;
        ensure(read == created, || format!("{read:?} is not {created:?}"))?;
        read.data = Some(BTreeMap::from([("value".to_owned(), "2".to_owned())]));
        let updated = self.access.update(&read).await.map_err(text)?;
        ensure(updated.revision() > created.revision(), || {
            "an update gives no later version".to_owned()
        })?;
        let patch = Patch::Merge(serde_json::json!({ "data": { "value": null, "more": "3" } }));
        let patched = self
            .access
            .patch(self.namespace, "read", &patch, None)
            .await
            .map_err(text)?;
        let expected = BTreeMap::from([("more".to_owned(), "3".to_owned())]);
        ensure(patched.data == Some(expected), || {
            format!("a merge patch gives {:?}", patched.data)
        })?;
        self.delete("read").await?;
        let found = self.access.find(self.namespace, "read").await;
        ensure(matches!(found, Ok(None)), || {
            format!("after its deletion: {found:?}")
        })
    }

    async fn conflicts(&self) -> Check {
        let created = self.create("conflict", "1").await?;
        let again = self.access.create(&created_anew(&created)).await;
        ensure(again.as_ref().is_err_and(Error::is_already_exists), || {
            format!("a second creation: {again:?}")
        })?;
        let mut newer = created.clone();
        newer.data = Some(BTreeMap::new());
        self.access.update(&newer).await.map_err(text)?;
        let mut stale = created.clone();
        stale.data = None;
        let late = self.access.update(&stale).await;
        ensure(late.as_ref().is_err_and(Error::is_conflict), || {
            format!("an update of an old version: {late:?}")
        })?;
        let other = DeleteOptions::uid("another");
        let deleted = self.access.delete(self.namespace, "conflict", &other).await;
        ensure(deleted.as_ref().is_err_and(Error::is_conflict), || {
            format!("a deletion by another uid: {deleted:?}")
        })?;
        self.delete("conflict").await
    }

    async fn errors_are_statuses(&self) -> Check {
        let missing = self.access.get(self.namespace, "missing").await;
        let status = match &missing {
            Err(error) => error.status(),
            Ok(_) => None,
        };
        ensure(
            status.is_some_and(|status| status.code == 404 && status.reason == "NotFound"),
            || format!("a missing object: {missing:?}"),
        )
    }

    async fn lists_come_in_pages(&self) -> Check {
        const COUNT: usize = 1100;
        // More than one page of the client's.
        for chunk in 0..COUNT / 100 {
            let names: Vec<String> = (0..100)
                .map(|at| format!("page-{chunk:02}{at:02}"))
                .collect();
            let created = names.iter().map(|name| self.create(name, "x"));
            futures::future::try_join_all(created).await?;
        }
        let options = ListOptions::namespace(self.namespace);
        let list = self.access.list(&options).await.map_err(text)?;
        let names: Vec<&str> = list
            .items
            .iter()
            .map(Object::name)
            .filter(|name| name.starts_with("page-"))
            .collect();
        ensure(names.len() == COUNT && names.is_sorted(), || {
            format!("{} of {COUNT} objects are listed", names.len())
        })?;
        for chunk in names.chunks(100) {
            futures::future::try_join_all(chunk.iter().map(|name| self.delete(name))).await?;
        }
        Ok(())
    }

    async fn large_objects(&self) -> Check {
        let value = "é".repeat(400_000);
        let created = self.create("large", &value).await?;
        let read = self
            .access
            .get(self.namespace, "large")
            .await
            .map_err(text)?;
        ensure(read == created, || {
            "a large object is changed on its way".to_owned()
        })?;
        self.delete("large").await
    }

    async fn watch(&self, options: &ListOptions) -> Result<Watch<ConfigMap>, String> {
        let list = self.access.list(options).await.map_err(text)?;
        self.access
            .watch(options, list.revision)
            .await
            .map_err(text)
    }

    async fn watches_stream(&self) -> Check {
        let options = ListOptions::namespace(self.namespace);
        let mut watch = self.watch(&options).await?;
        let created = self.create("watched", "1").await?;
        let event = next_change(&mut watch).await?;
        ensure(event == Event::Added(created), || format!("{event:?}"))?;
        let mut changed = self.map("watched", "2");
        changed = self.access.update(&changed).await.map_err(text)?;
        let event = next_change(&mut watch).await?;
        ensure(event == Event::Modified(changed.clone()), || {
            format!("{event:?}")
        })?;
        self.delete("watched").await?;
        let event = next_change(&mut watch).await?;
        let last = matches!(&event, Event::Deleted(last) if last.data == changed.data
            && last.revision() > changed.revision());
        ensure(last, || format!("{event:?}"))
    }

    async fn selected_watches(&self) -> Check {
        let options = ListOptions::namespace(self.namespace).labels("pick=yes");
        let mut watch = self.watch(&options).await?;
        self.create("selected", "1").await?;
        for (labels, entering) in [("yes", true), ("no", false)] {
            let patch = serde_json::json!({ "metadata": { "labels": { "pick": labels } } });
            self.access
                .patch(self.namespace, "selected", &Patch::Merge(patch), None)
                .await
                .map_err(text)?;
            let event = next_change(&mut watch).await?;
            let right = match &event {
                Event::Added(map) => entering && map.name() == "selected",
                Event::Deleted(map) => !entering && map.name() == "selected",
                _ => false,
            };
            ensure(right, || format!("pick={labels}: {event:?}"))?;
        }
        self.delete("selected").await
    }

    /// Running watches don't hold up requests, and go away when they are dropped.
    async fn requests_beside_watches(&self) -> Check {
        let options = ListOptions::namespace(self.namespace);
        let mut watches = Vec::new();
        for _ in 0..20 {
            watches.push(self.watch(&options).await?);
        }
        self.create("beside", "1").await?;
        for watch in &mut watches {
            let event = next_change(watch).await?;
            ensure(
                matches!(&event, Event::Added(map) if map.name() == "beside"),
                || format!("{event:?}"),
            )?;
        }
        drop(watches);
        self.delete("beside").await
    }

    async fn informers_converge(&self) -> Check {
        let options = ListOptions::namespace(self.namespace);
        let informer = Informer::start(self.access.clone(), options);
        informer.synced().await;
        let mut changes = informer.subscribe();
        self.create("informed", "1").await?;
        let last = self
            .access
            .update(&self.map("informed", "2"))
            .await
            .map_err(text)?;
        informer.reached(last.revision()).await;
        let key = Key::of(&last);
        let seen = informer.get(&key);
        ensure(seen.as_deref() == Some(&last), || format!("{seen:?}"))?;
        self.delete("informed").await?;
        let mut told = false;
        loop {
            told |= changes.next().await.contains(&key);
            if informer.get(&key).is_none() {
                return ensure(told, || "the key was never among the changes".to_owned());
            }
        }
    }
}

/// The next event that is not a bookmark.
async fn next_change(watch: &mut Watch<ConfigMap>) -> Result<Event<ConfigMap>, String> {
    loop {
        match watch.next().await {
            None => return Err("the watch ended".to_owned()),
            Some(Err(error)) => return Err(text(error)),
            Some(Ok(Event::Bookmark(_))) => {}
            Some(Ok(event)) => return Ok(event),
        }
    }
}

/// The same object without what the server gave it.
fn created_anew(object: &ConfigMap) -> ConfigMap {
    let mut object = object.clone();
    object.metadata.resource_version = None;
    object.metadata.uid = None;
    object
}
