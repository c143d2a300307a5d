//! What a node is shown of all ConfigMaps and Secrets at once: those that its own pods refer to.

use api::Resource;
use client::{Client, Event, ListOptions, Object, Untyped, Watch};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use crate::server::{Server, call};
use crate::{JSON, User};

const DEFAULT: &str = "/api/v1/namespaces/default";
const MERGE: &str = "application/merge-patch+json";

fn of_node(node: &str) -> ListOptions {
    ListOptions::default().fields(format!("spec.nodeName={node}"))
}

/// A pod that mounts the ConfigMap and the Secret of one name.
async fn pod(server: &Server, name: &str, node: &str, mounts: &str) {
    let pod = json!({"metadata": {"name": name}, "spec": {
        "nodeName": node, "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [
            {"name": "m", "configMap": {"name": mounts, "optional": true}},
            {"name": "s", "projected": {"sources": [{"secret": {"name": mounts}}]}}]}});
    let path = format!("{DEFAULT}/pods");
    server.post(&path, pod).await.expect(201);
}

async fn objects(server: &Server, name: &str) {
    for (plural, field) in [("configmaps", "data"), ("secrets", "stringData")] {
        let object = json!({"metadata": {"name": name}, field: {"k": "one"}});
        let path = format!("{DEFAULT}/{plural}");
        server.post(&path, object).await.expect(201);
    }
}

async fn change(server: &Server, name: &str) {
    let label = json!({"metadata": {"labels": {"changed": "yes"}}});
    for plural in ["configmaps", "secrets"] {
        let path = format!("{DEFAULT}/{plural}/{name}");
        let answer = server.call("PATCH", &path, MERGE, label.clone()).await;
        answer.expect(200);
    }
}

async fn remove(server: &Server, plural: &str, name: &str) {
    let path = format!("{DEFAULT}/{plural}/{name}");
    let at_once = json!({"gracePeriodSeconds": 0});
    let answer = server.call("DELETE", &path, JSON, at_once).await;
    answer.expect(200);
}

/// The next event that is about an object, as `TYPE name`.
async fn next<T: Object>(watch: &mut Watch<T>) -> String {
    loop {
        let (what, object) = match watch.next().await.unwrap().unwrap() {
            Event::Added(object) => ("ADDED", object),
            Event::Modified(object) => ("MODIFIED", object),
            Event::Deleted(object) => ("DELETED", object),
            Event::Bookmark(_) => continue,
        };
        return format!("{what} {}", object.name());
    }
}

fn names<T: Object>(items: &[T]) -> Vec<&str> {
    items.iter().map(Object::name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_what_its_pods_refer_to_and_nothing_else() {
    let server = Server::start().await;
    for name in ["mine", "theirs", "later"] {
        objects(&server, name).await;
    }
    pod(&server, "mine", "n1", "mine").await;
    pod(&server, "theirs", "n2", "theirs").await;
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    let client = Client::new(node.0.clone(), "test");
    let (maps, secrets) = (client.of::<ConfigMap>(), client.of::<Secret>());

    let shown = maps.list(&of_node("n1")).await.unwrap();
    assert_eq!(names(&shown.items), ["mine"]);
    let shown = secrets.list(&of_node("n1")).await.unwrap();
    assert_eq!(names(&shown.items), ["mine"]);
    let none = of_node("n1").labels("changed");
    assert!(secrets.list(&none).await.unwrap().items.is_empty());

    let mut map_watch = maps.watch(&of_node("n1"), shown.revision).await.unwrap();
    let mut secret_watch = secrets.watch(&of_node("n1"), shown.revision).await.unwrap();
    change(&server, "theirs").await;
    // Of a pod that comes later what changed before is not shown, which it reads; what changes then is.
    change(&server, "later").await;
    pod(&server, "later", "n1", "later").await;
    let values = json!({"metadata": {"labels": {"changed": "again"}}});
    for plural in ["configmaps", "secrets"] {
        let path = format!("{DEFAULT}/{plural}/later");
        let answer = server.call("PATCH", &path, MERGE, values.clone()).await;
        answer.expect(200);
        remove(&server, plural, "theirs").await;
        remove(&server, plural, "mine").await;
    }
    remove(&server, "pods", "later").await;
    change(&server, "later").await;
    objects(&server, "mine").await;
    let first = loop {
        // The watch may have begun to be read after the pod came, so that what was before is shown, too.
        let event = next(&mut map_watch).await;
        if event != "MODIFIED later" {
            break event;
        }
    };
    assert_eq!(first, "DELETED mine");
    assert_eq!(next(&mut map_watch).await, "ADDED mine");
    let first = loop {
        let event = next(&mut secret_watch).await;
        if event != "MODIFIED later" {
            break event;
        }
    };
    assert_eq!(first, "DELETED mine");
    assert_eq!(next(&mut secret_watch).await, "ADDED mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_after_a_pod_was_bound_is_always_shown() {
    let server = Server::start().await;
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    let client = Client::new(node.0.clone(), "test");
    let maps = client.of::<ConfigMap>();
    let from = maps.revision(&of_node("n1")).await.unwrap();
    let mut watch = maps.watch(&of_node("n1"), from).await.unwrap();
    for number in 0..50 {
        let name = format!("m{number}");
        pod(&server, &name, "n1", &name).await;
        objects(&server, &name).await;
        assert_eq!(next(&mut watch).await, format!("ADDED {name}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_follows_comes_page_by_page_in_the_order_of_keys() {
    let server = Server::start().await;
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    let client = Client::new(node.0.clone(), "test");
    // What nobody refers to lies between them.
    for name in ["a", "b", "c", "d", "e", "f"] {
        objects(&server, name).await;
    }
    for name in ["e", "a", "c", "gone"] {
        pod(&server, name, "n1", name).await;
    }
    let all = client.of::<ConfigMap>().list(&of_node("n1")).await;
    assert_eq!(names(&all.unwrap().items), ["a", "c", "e"]);
    let selector = "fieldSelector=spec.nodeName%3Dn1";
    let mut path = format!("/api/v1/configmaps?{selector}&limit=2");
    let mut pages = Vec::new();
    loop {
        let page = call(&node.0, "GET", &path, "", Value::Null).await;
        let page = page.expect(200);
        let items = page["items"].as_array().unwrap().iter();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        pages.push(items.map(name).collect::<Vec<_>>().join(" "));
        match page["metadata"]["continue"].as_str() {
            Some(next) => path = format!("/api/v1/configmaps?{selector}&limit=2&continue={next}"),
            None => break,
        }
    }
    assert_eq!(pages, ["a c", "e"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_will_do_to_follow() {
    let server = Server::start().await;
    objects(&server, "mine").await;
    pod(&server, "mine", "n1", "mine").await;
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    let client = Client::new(node.0.clone(), "test");
    for resource in [Resource::of::<ConfigMap>(), Resource::of::<Secret>()] {
        let access = client.untyped(resource);
        let options = of_node("n1").metadata_only();
        let shown = access.list(&options).await.unwrap();
        let from = access.revision(&options).await.unwrap();
        assert!(from >= shown.revision);
        let mut watch = access.watch(&options, from).await.unwrap();
        let path = format!("{DEFAULT}/{}/mine", resource.plural);
        let label = json!({"metadata": {"labels": {"changed": "yes"}}});
        server.call("PATCH", &path, MERGE, label).await.expect(200);
        remove(&server, resource.plural, "mine").await;
        let mut events = shown.items;
        while events.len() < 3 {
            match watch.next().await.unwrap().unwrap() {
                Event::Modified(object) | Event::Deleted(object) => events.push(object),
                Event::Bookmark(_) => {}
                other => panic!("{other:?}"),
            }
        }
        for (number, Untyped(object)) in events.iter().enumerate() {
            assert_eq!(object["kind"], "PartialObjectMetadata", "{object}");
            assert_eq!(object["metadata"]["name"], "mine");
            assert!(object.get("data").is_none(), "{object}");
            let changed = &object["metadata"]["labels"]["changed"];
            assert_eq!(changed == "yes", number > 0, "{object}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_selector_is_the_nodes_own() {
    let server = Server::start().await;
    objects(&server, "mine").await;
    pod(&server, "mine", "n1", "mine").await;
    let node = User::new(&server, "system:node:n1", &["system:nodes"]);
    for plural in ["configmaps", "secrets"] {
        let all = format!("/api/v1/{plural}");
        for (path, code) in [
            (format!("{all}?fieldSelector=spec.nodeName%3Dn1"), 200),
            (format!("{all}?fieldSelector=spec.nodeName%3Dn2"), 403),
            (format!("{all}?fieldSelector=spec.nodeName%3D"), 403),
            (
                format!("{all}?watch=1&fieldSelector=spec.nodeName%3Dn2"),
                403,
            ),
            (format!("{all}?fieldSelector=spec.nodeName%3D%3Dn1"), 403),
            (format!("{all}?fieldSelector=spec.nodeName!%3Dn2"), 403),
            (all.clone(), 403),
            (
                format!("{DEFAULT}/{plural}?fieldSelector=spec.nodeName%3Dn1"),
                403,
            ),
        ] {
            assert_eq!(node.get(&path).await, code, "{path}");
        }
        // Whoever may read them all asks by a field that they do not have.
        let path = format!("{all}?fieldSelector=spec.nodeName%3Dn1");
        let refused = server.get(&path).await.expect(400);
        let message = refused["message"].as_str().unwrap_or_default();
        assert!(message.contains("field label not supported"), "{message}");
        let deleted = server.call("DELETE", &path, "", Value::Null).await;
        assert_ne!(deleted.code, 200);
    }
}
