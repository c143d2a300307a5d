//! kube-rs as it comes, over TLS: what programs for Kubernetes are written with in Rust.

mod server;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::Action;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{Controller, WatchStreamExt};
use kube::{Client, Config, Resource, ResourceExt};
use serde_json::json;
use server::Server;

/// A client that reads a kubeconfig of the administrator's.
async fn client(server: &Server, url: &str) -> Client {
    let admin = server.ca.issue(&apiserver::ca::Profile::Admin).unwrap();
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {
            "server": url,
            "certificate-authority-data": STANDARD.encode(server.ca.certificate()),
        }}],
        "users": [{"name": "u", "user": {
            "client-certificate-data": STANDARD.encode(&admin.certificate),
            "client-key-data": STANDARD.encode(&admin.key),
        }}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

fn map(name: &str, data: &[(&str, &str)]) -> ConfigMap {
    ConfigMap {
        metadata: kube::api::ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
            ..Default::default()
        },
        data: Some(entries(data)),
        ..Default::default()
    }
}

fn entries(data: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    data.iter().map(own).collect()
}

/// The next item, within ten seconds.
async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    let next = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
    next.expect("within ten seconds").expect("an item")
}

#[tokio::test]
async fn objects_are_written_and_read() {
    let server = Server::start().await;
    let (url, _stop) = server.listen().await;
    let client = client(&server, &url).await;
    assert_eq!(client.apiserver_version().await.unwrap().major, "1");
    let maps: Api<ConfigMap> = Api::default_namespaced(client);

    let made = maps
        .create(&PostParams::default(), &map("one", &[("a", "1")]))
        .await
        .unwrap();
    assert!(made.uid().is_some() && made.resource_version().is_some());
    let again = maps.create(&PostParams::default(), &map("one", &[])).await;
    assert!(matches!(again, Err(kube::Error::Api(status)) if status.is_already_exists()));
    assert!(maps.get_opt("none").await.unwrap().is_none());

    let merge = Patch::Merge(json!({"data": {"b": "2"}}));
    let merged = maps
        .patch("one", &PatchParams::default(), &merge)
        .await
        .unwrap();
    assert_eq!(merged.data, Some(entries(&[("a", "1"), ("b", "2")])));
    let operations = json!([{"op": "remove", "path": "/data/a"}]);
    let patch = Patch::Json::<()>(serde_json::from_value(operations).unwrap());
    let patched = maps
        .patch("one", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(patched.data, Some(entries(&[("b", "2")])));

    let mut stale = made.clone();
    stale.data = None;
    let refused = maps.replace("one", &PostParams::default(), &stale).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.is_conflict()));
    let mut fresh = maps.get("one").await.unwrap();
    fresh.data = Some(entries(&[("c", "3")]));
    let replaced = maps
        .replace("one", &PostParams::default(), &fresh)
        .await
        .unwrap();
    assert_eq!(replaced.data, fresh.data);

    let listed = maps
        .list(&ListParams::default().labels("app=web"))
        .await
        .unwrap();
    assert_eq!(listed.items, [replaced]);
    assert!(listed.metadata.resource_version.is_some());
    let none = maps
        .list(&ListParams::default().labels("app!=web,app"))
        .await
        .unwrap();
    assert_eq!(none.items, []);
    let deleted = maps.delete("one", &DeleteParams::default()).await.unwrap();
    assert!(deleted.right().is_some_and(|status| status.is_success()));
    let gone = maps.get("one").await;
    assert!(matches!(gone, Err(kube::Error::Api(status)) if status.is_not_found()));
}

#[tokio::test]
async fn fields_are_applied_and_merged_by_key() {
    let server = Server::start().await;
    let (url, _stop) = server.listen().await;
    let client = client(&server, &url).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let apply = |data| {
        Patch::Apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}),
        )
    };
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    maps.patch("m", &one, &apply(json!({"a": "1"})))
        .await
        .unwrap();
    let conflict = maps.patch("m", &two, &apply(json!({"a": "2"}))).await;
    let Err(kube::Error::Api(status)) = conflict else {
        panic!("{conflict:?}");
    };
    assert!(status.is_conflict() && status.message.contains("conflict with \"one\": .data.a"));
    let forced = maps
        .patch("m", &two.force(), &apply(json!({"a": "2"})))
        .await
        .unwrap();
    let managers: Vec<_> = forced
        .managed_fields()
        .iter()
        .map(|m| m.manager.clone())
        .collect();
    assert_eq!(managers, [Some("two".to_owned())]);

    let containers = json!([{"name": "a", "image": "a"}, {"name": "b", "image": "b"}]);
    let deployment = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}},
    }));
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    deployments
        .create(&PostParams::default(), &deployment.unwrap())
        .await
        .unwrap();
    let patch = Patch::Strategic(
        json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "c"}]}}}}),
    );
    let patched = deployments
        .patch("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let containers = patched.spec.unwrap().template.spec.unwrap().containers;
    let images: Vec<_> = containers
        .iter()
        .filter_map(|c| c.image.as_deref())
        .collect();
    assert_eq!(images, ["a", "c"]);
    let scale = deployments.get_scale("web").await.unwrap();
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(1));
}

#[tokio::test]
async fn a_watch_sees_each_change() {
    let server = Server::start().await;
    let (url, _stop) = server.listen().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server, &url).await);
    let before = maps.list(&ListParams::default()).await.unwrap();
    let version = before.metadata.resource_version.unwrap();
    let params = WatchParams::default().fields("metadata.name=seen");
    let mut events = pin!(maps.watch(&params, &version).await.unwrap());
    maps.create(&PostParams::default(), &map("other", &[]))
        .await
        .unwrap();
    maps.create(&PostParams::default(), &map("seen", &[]))
        .await
        .unwrap();
    let merge = Patch::Merge(json!({"data": {"a": "1"}}));
    maps.patch("seen", &PatchParams::default(), &merge)
        .await
        .unwrap();
    maps.delete("seen", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(match next(&mut events).await.unwrap() {
            WatchEvent::Added(map) => format!("added {}", map.name_any()),
            WatchEvent::Modified(map) => format!("modified {}", map.name_any()),
            WatchEvent::Deleted(map) => format!("deleted {}", map.name_any()),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => panic!("{status:?}"),
        });
    }
    assert_eq!(seen, ["added seen", "modified seen", "deleted seen"]);
}

/// A watcher's events as words.
fn word(event: Event<ConfigMap>) -> String {
    match event {
        Event::Init => "init".to_owned(),
        Event::InitApply(map) => format!("init {}", map.name_any()),
        Event::InitDone => "done".to_owned(),
        Event::Apply(map) => format!("apply {}", map.name_any()),
        Event::Delete(map) => format!("delete {}", map.name_any()),
    }
}

#[tokio::test]
async fn watchers_list_and_stream_alike() {
    let server = Server::start().await;
    let (url, _stop) = server.listen().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server, &url).await);
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &map(name, &[]))
            .await
            .unwrap();
    }
    for config in [
        watcher::Config::default().page_size(2),
        watcher::Config::default().streaming_lists(),
    ] {
        let config = config.labels("app=web");
        let mut events = pin!(watcher::watcher(maps.clone(), config));
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "done") {
            seen.push(word(next(&mut events).await.unwrap()));
        }
        assert_eq!(seen, ["init", "init a", "init b", "init c", "done"]);
        maps.create(&PostParams::default(), &map("new", &[]))
            .await
            .unwrap();
        assert_eq!(word(next(&mut events).await.unwrap()), "apply new");
        maps.delete("new", &DeleteParams::default()).await.unwrap();
        assert_eq!(word(next(&mut events).await.unwrap()), "delete new");
    }
}

#[tokio::test]
async fn a_reflector_keeps_what_is_there() {
    let server = Server::start().await;
    let (url, _stop) = server.listen().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server, &url).await);
    maps.create(&PostParams::default(), &map("a", &[("k", "1")]))
        .await
        .unwrap();
    let (store, writer) = reflector::store();
    let config = watcher::Config::default()
        .labels("app=web")
        .streaming_lists();
    let changes = watcher::watcher(maps.clone(), config).default_backoff();
    let mut changes = pin!(changes.reflect(writer).applied_objects());
    assert_eq!(next(&mut changes).await.unwrap().name_any(), "a");
    maps.create(&PostParams::default(), &map("b", &[]))
        .await
        .unwrap();
    assert_eq!(next(&mut changes).await.unwrap().name_any(), "b");
    store.wait_until_ready().await.unwrap();
    let one = store.get(&ObjectRef::new("a").within("default")).unwrap();
    assert_eq!(one.data, Some(entries(&[("k", "1")])));
    assert_eq!(store.state().len(), 2);
}

/// What the controller below may fail with.
type Fault = kube::Error;

/// Makes a Secret of each labelled ConfigMap, owned by it.
async fn reconcile(map: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, Fault> {
    let secrets: Api<Secret> =
        Api::namespaced((*client).clone(), &map.namespace().unwrap_or_default());
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": map.name_any(), "ownerReferences": [map.controller_owner_ref(&())]},
        "stringData": map.data,
    });
    let params = PatchParams::apply("mirror").force();
    secrets
        .patch(&map.name_any(), &params, &Patch::Apply(secret))
        .await?;
    Ok(Action::await_change())
}

#[tokio::test]
async fn a_controller_reconciles() {
    let server = Server::start().await;
    let (url, _stop) = server.listen().await;
    let client = client(&server, &url).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let controller = Controller::new(maps.clone(), watcher::Config::default().labels("app=web"))
        .owns(
            secrets.clone(),
            watcher::Config::default().streaming_lists(),
        );
    let retry =
        |_: Arc<ConfigMap>, _: &Fault, _: Arc<Client>| Action::requeue(Duration::from_millis(100));
    let mut done = pin!(controller.run(reconcile, retry, Arc::new(client)));

    maps.create(&PostParams::default(), &map("m", &[("k", "v")]))
        .await
        .unwrap();
    let value = |secret: Secret| {
        secret
            .data
            .and_then(|mut data| data.remove("k"))
            .map(|v| v.0)
    };
    let (reconciled, _) = next(&mut done).await.unwrap();
    assert_eq!(reconciled.name, "m");
    let made = secrets.get("m").await.unwrap();
    assert!(made.owner_references()[0].controller.unwrap_or(false));
    assert_eq!(value(made), Some(b"v".to_vec()));

    // Another's change of the Secret is seen, and undone.
    secrets.delete("m", &DeleteParams::default()).await.unwrap();
    let again = async {
        loop {
            next(&mut done).await.unwrap();
            if let Some(secret) = secrets.get_opt("m").await.unwrap() {
                break secret;
            }
        }
    };
    assert_eq!(value(again.await), Some(b"v".to_vec()));
}

#[tokio::test]
async fn pages_are_followed_to_the_end() {
    let server = Server::start().await;
    let (url, _stop) = server.listen().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server, &url).await);
    let names: Vec<String> = (0..7).map(|n| format!("m{n}")).collect();
    let make = futures::stream::iter(&names).map(Ok::<_, kube::Error>);
    let make = make.try_for_each(|name| async {
        maps.create(&PostParams::default(), &map(name, &[]))
            .await
            .map(drop)
    });
    make.await.unwrap();
    let (mut found, mut params) = (Vec::new(), ListParams::default().labels("app=web").limit(3));
    loop {
        let page = maps.list(&params).await.unwrap();
        found.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(found, names);
}
