//! Watches and lists over the watch cache.

mod server;

use std::time::Duration;

use bytes::Bytes;
use client::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use server::{Server, call};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MERGE: &str = "application/merge-patch+json";

/// An open watch, read line by line.
struct Watch {
    body: Body,
    buffer: Vec<u8>,
}

impl Watch {
    async fn open(server: &Server, path: &str) -> Watch {
        Watch::open_as(server, path, "application/json").await
    }

    async fn open_as(server: &Server, path: &str, accept: &str) -> Watch {
        let request = http::Request::get(path)
            .header("accept", accept)
            .body(Bytes::new())
            .unwrap();
        let transport = server.server.transport("admin", ["system:masters"]);
        let response = transport.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Watch {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }

    /// The next event; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame())
                .await
                .expect("an event within ten seconds")?;
            self.buffer
                .extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    /// The next event as `TYPE name`.
    async fn short(&mut self) -> String {
        match self.next().await {
            None => "end".to_owned(),
            Some(event) => format!(
                "{} {}",
                event["type"].as_str().unwrap(),
                event["object"]["metadata"]["name"].as_str().unwrap_or("-")
            ),
        }
    }
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"n": name}}, "data": {"a": "1"}})
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_order_and_selectors_are_entered_and_left() {
    let server = Server::start().await;
    let start = version(&server.get(MAPS).await.expect(200));
    let from = format!("watch=true&resourceVersion={start}");
    let mut all = Watch::open(&server, &format!("{MAPS}?{from}")).await;
    let mut some = Watch::open(&server, &format!("{MAPS}?{from}&labelSelector=on")).await;
    let elsewhere = "/api/v1/namespaces/kube-system/configmaps";
    let mut other = Watch::open(&server, &format!("{elsewhere}?{from}&timeoutSeconds=1")).await;
    let made = server.post(MAPS, map("a")).await.expect(201);
    let one = format!("{MAPS}/a");
    for labels in [json!({"on": "1"}), json!({"on": "2"}), json!({"on": null})] {
        let patch = json!({"metadata": {"labels": labels}});
        server.call("PATCH", &one, MERGE, patch).await.expect(200);
    }
    server
        .call("DELETE", &one, "", Value::Null)
        .await
        .expect(200);
    let first = all.next().await.unwrap();
    assert_eq!(
        first["object"], made,
        "the event shows what the create answered"
    );
    for want in ["MODIFIED a", "MODIFIED a", "MODIFIED a"] {
        assert_eq!(all.short().await, want);
    }
    let gone = all.next().await.unwrap();
    assert_eq!(
        (&gone["type"], &gone["object"]["data"]["a"]),
        (&json!("DELETED"), &json!("1"))
    );
    assert!(version(&gone["object"]) > version(&made));
    for want in ["ADDED a", "MODIFIED a"] {
        assert_eq!(some.short().await, want);
    }
    let left = some.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(
        left["object"]["metadata"]["labels"]["on"], "2",
        "as it was before it left"
    );
    assert_eq!(other.short().await, "end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_list_ends_its_initial_events_with_a_bookmark() {
    let server = Server::start().await;
    server.post(MAPS, map("a")).await.expect(201);
    server.post(MAPS, map("b")).await.expect(201);
    let query =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Watch::open(&server, &format!("{MAPS}?{query}")).await;
    assert_eq!(watch.short().await, "ADDED a");
    assert_eq!(watch.short().await, "ADDED b");
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    // One that ends soon gets a last one before.
    let short = format!(
        "{MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds=3",
        version(&mark["object"])
    );
    let mut ending = Watch::open(&server, &short).await;
    assert_eq!(ending.short().await, "BOOKMARK -");
    let later = server.post(MAPS, map("c")).await.expect(201);
    assert!(version(&later) > version(&mark["object"]));
    assert_eq!(watch.short().await, "ADDED c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_known_is_refused() {
    let server = Server::start().await;
    // The cache of a server that starts knows no history: what was before is gone.
    let again = server.restarted().await;
    // A watch that was understood is refused by its first event.
    let mut watch = Watch::open(&again, &format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let refused = watch.next().await.expect("an event");
    assert_eq!(
        (&refused["type"], &refused["object"]["reason"]),
        (&json!("ERROR"), &json!("Expired"))
    );
    assert_eq!(refused["object"]["code"], 410);
    assert_eq!(watch.short().await, "end");
    let future = "resourceVersion=999999&resourceVersionMatch=NotOlderThan";
    let ahead = again.get(&format!("{MAPS}?{future}")).await;
    assert_eq!(
        (ahead.code, &ahead.json()["reason"]),
        (504, &json!("Timeout"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_metadata_are_watched_too() {
    let server = Server::start().await;
    server.post(MAPS, map("a")).await.expect(201);
    let query = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut watch = Watch::open_as(&server, &query, table).await;
    server.post(MAPS, map("b")).await.expect(201);
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert!(
        !first["object"]["columnDefinitions"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    let metadata = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut watch = Watch::open_as(&server, &query, metadata).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "PartialObjectMetadata");
    assert!(first["object"]["data"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_one_revision() {
    let server = Server::start().await;
    for name in ["a", "b", "c", "d"] {
        server.post(MAPS, map(name)).await.expect(201);
    }
    let first = server.get(&format!("{MAPS}?limit=3")).await.expect(200);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = first["metadata"]["continue"].as_str().unwrap();
    // What happens between the pages does not show.
    server
        .call("DELETE", &format!("{MAPS}/d"), "", Value::Null)
        .await
        .expect(200);
    server.post(MAPS, map("e")).await.expect(201);
    let second = server
        .get(&format!("{MAPS}?limit=3&continue={token}"))
        .await
        .expect(200);
    assert_eq!(version(&first), version(&second));
    assert!(second["metadata"]["continue"].is_null());
    let names: Vec<&str> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["d"]);
    let exact = format!(
        "{MAPS}?resourceVersion={}&resourceVersionMatch=Exact",
        version(&first)
    );
    assert_eq!(
        server.get(&exact).await.expect(200)["items"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    let cached = server
        .get(&format!("{MAPS}?resourceVersion=0"))
        .await
        .expect(200);
    assert!(!cached["items"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_one_object_all_get_through() {
    let server = std::sync::Arc::new(Server::start().await);
    server.post(MAPS, map("a")).await.expect(201);
    let writers = (0..16).map(|i| {
        let transport = server.server.transport("admin", ["system:masters"]);
        async move {
            let patch = json!({"data": {format!("k{i}"): "v"}});
            call(&transport, "PATCH", &format!("{MAPS}/a"), MERGE, patch)
                .await
                .expect(200);
        }
    });
    futures::future::join_all(writers).await;
    let map = server.get(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(map["data"].as_object().unwrap().len(), 17);
}
