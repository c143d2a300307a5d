//! Writes and what the server adds to them: admission, allocation, leases, deletion, limits.

mod server;

use std::collections::BTreeSet;

use apiserver::tls;
use client::https::HttpsTransport;
use client::{Client, Informer, ListOptions};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use server::{Server, call};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const DEFAULT: &str = "/api/v1/namespaces/default";

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_services_have_one_address() {
    let server = Server::start().await;
    let path = format!("{DEFAULT}/services");
    let made = (0..40).map(|i| {
        let transport = server.server.transport("admin", ["system:masters"]);
        let path = &path;
        async move {
            let spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
            let body = service(&format!("s{i}"), spec);
            call(&transport, "POST", path, "application/json", body)
                .await
                .expect(201)
        }
    });
    let made = futures::future::join_all(made).await;
    let distinct = |pointer: &str| -> BTreeSet<String> {
        made.iter()
            .map(|s| s.pointer(pointer).unwrap().to_string())
            .collect()
    };
    assert_eq!(distinct("/spec/clusterIP").len(), 40);
    assert_eq!(distinct("/spec/ports/0/nodePort").len(), 40);
    let address = made[0]["spec"]["clusterIP"].clone();
    let again = service(
        "again",
        json!({"clusterIP": address, "ports": [{"port": 80}]}),
    );
    let refused = server.post(&path, again.clone()).await.expect(422);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("already allocated"),
        "{refused}"
    );
    // What a Service held is free once it is gone.
    server
        .call("DELETE", &format!("{path}/s0"), "", Value::Null)
        .await
        .expect(200);
    server.post(&path, again).await.expect(201);
    let kubernetes = server.get(&format!("{path}/kubernetes")).await.expect(200);
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_the_api_comes_back() {
    let server = Server::start().await;
    let services =
        Client::new(server.server.transport("admin", ["system:masters"]), "test").of::<Service>();
    let seen = Informer::start(services, ListOptions::default());
    let mut changes = seen.subscribe();
    let path = format!("{DEFAULT}/services");
    let own = server.get(&format!("{path}/kubernetes")).await.expect(200);
    server
        .call("DELETE", &format!("{path}/kubernetes"), "", Value::Null)
        .await
        .expect(200);
    // Nobody else gets its address meanwhile.
    let spec = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    server.post(&path, service("thief", spec)).await.expect(422);
    let back = async {
        loop {
            changes.next().await;
            let view = seen.view();
            let found = view
                .values()
                .find(|s| s.metadata.name.as_deref() == Some("kubernetes"));
            if found.is_some_and(|s| s.metadata.uid.as_deref() != own["metadata"]["uid"].as_str()) {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), back)
        .await
        .expect("the Service is back");
    let again = server.get(&format!("{path}/kubernetes")).await.expect(200);
    assert_eq!(again["spec"], own["spec"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_goes_takes_nothing_new() {
    let server = Server::start().await;
    let namespaces = "/api/v1/namespaces";
    server
        .post(namespaces, json!({"metadata": {"name": "n"}}))
        .await
        .expect(201);
    let maps = format!("{namespaces}/n/configmaps");
    server
        .post(&maps, json!({"metadata": {"name": "m"}}))
        .await
        .expect(201);
    let one = format!("{namespaces}/n");
    let going = server
        .call("DELETE", &one, "", Value::Null)
        .await
        .expect(200);
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = server
        .post(&maps, json!({"metadata": {"name": "x"}}))
        .await
        .expect(403);
    assert_eq!(
        refused["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    let mut empty = going;
    empty["spec"] = json!({});
    server
        .call("PUT", &format!("{one}/finalize"), "application/json", empty)
        .await
        .expect(200);
    assert_eq!(server.get(&one).await.code, 404);
    let immortal = format!("{namespaces}/kube-system");
    server
        .call("DELETE", &immortal, "", Value::Null)
        .await
        .expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_hang_on_a_lease_and_have_two_views() {
    let server = Server::start().await;
    let event = json!({
        "metadata": {"name": "e"}, "type": "Normal", "reason": "R", "message": "hello",
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "A",
        "reportingComponent": "example.com/c", "reportingInstance": "i",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    server
        .post(&format!("{DEFAULT}/events"), event)
        .await
        .expect(201);
    let state = server.store.state();
    let entry = state.get(b"/registry/core/events/default/e").unwrap();
    let lease = state.lease(entry.lease.unwrap()).unwrap();
    assert!(lease.ttl_ms >= 3_600_000);
    let path = "/apis/events.k8s.io/v1/namespaces/default/events/e";
    let viewed = server.get(path).await.expect(200);
    assert_eq!(
        (&viewed["note"], &viewed["regarding"]["name"]),
        (&json!("hello"), &json!("p"))
    );
    assert_eq!(viewed["apiVersion"], "events.k8s.io/v1");
    let patch = json!({"deprecatedCount": 3});
    server
        .call("PATCH", path, "application/merge-patch+json", patch)
        .await
        .expect(200);
    let core = server.get(&format!("{DEFAULT}/events/e")).await.expect(200);
    assert_eq!(
        (&core["count"], &core["message"]),
        (&json!(3), &json!("hello"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_and_evictions() {
    let server = Server::start().await;
    let pods = format!("{DEFAULT}/pods");
    for name in ["a", "b", "c"] {
        let pod = json!({"metadata": {"name": name, "labels": {"n": name}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        server.post(&pods, pod).await.expect(201);
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "c"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"n": "c"}}}});
    server.post(budgets, budget).await.expect(201);
    let running = json!({"status": {"phase": "Running"}});
    let merge = "application/merge-patch+json";
    for name in ["a", "c"] {
        let path = format!("{pods}/{name}/status");
        let patched = server.call("PATCH", &path, merge, running.clone()).await;
        patched.expect(200);
    }
    let protected = json!({"metadata": {"name": "c"}});
    let refused = server.post(&format!("{pods}/c/eviction"), protected).await;
    let refused = refused.expect(429);
    assert_eq!(
        refused["details"]["causes"][0]["reason"],
        "DisruptionBudget"
    );
    let eviction = json!({"metadata": {"name": "a"}});
    server
        .post(&format!("{pods}/a/eviction"), eviction)
        .await
        .expect(201);
    assert_eq!(server.get(&format!("{pods}/a")).await.code, 404);
    let some = format!("{pods}?labelSelector=n%3Db");
    let gone = server
        .call("DELETE", &some, "", Value::Null)
        .await
        .expect(200);
    assert_eq!(gone["items"].as_array().unwrap().len(), 1);
    let left = server.get(&pods).await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    let secrets = format!("{DEFAULT}/secrets");
    for name in ["a", "b", "c"] {
        let secret = json!({"metadata": {"name": name}});
        server.post(&secrets, secret).await.expect(201);
    }
    let two = format!("{secrets}?limit=2");
    let gone = server.call("DELETE", &two, "", Value::Null).await;
    assert_eq!(gone.expect(200)["items"].as_array().unwrap().len(), 2);
    let left = server.get(&secrets).await.expect(200);
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_answer_for_their_user() {
    let server = Server::start().await;
    let ask = |user: &'static str, group: &'static str| {
        let transport = server.server.transport(user, [group]);
        async move {
            let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
            let spec = json!({"resourceAttributes": {"verb": "delete", "resource": "nodes"}});
            let body = json!({"spec": spec});
            let answer = call(&transport, "POST", path, "application/json", body).await;
            answer.expect(201)["status"]["allowed"].clone()
        }
    };
    assert_eq!(ask("admin", "system:masters").await, true);
    assert_eq!(ask("jane", "dev").await, false);
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for nothing in [json!({}), json!({"spec": null}), json!({"spec": {}})] {
        let refused = server.post(path, nothing).await.expect(422);
        assert_eq!(refused["reason"], "Invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_limit_are_refused_over_https() {
    let server = Server::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let (serving, tls) = (
        server.server.clone(),
        tls::server_config(&server.identity).unwrap(),
    );
    let token = stop.clone();
    let served =
        tokio::spawn(async move { serving.serve(listener, tls, token.clone(), token).await });
    let config = server.identity.client_config().unwrap();
    let client = Client::new(
        Arc::new(HttpsTransport::new([url.as_str()], config).unwrap()),
        "t",
    );
    let big = json!({"metadata": {"name": "big"}, "data": {"x": "y".repeat(4 << 20)}});
    let post = |body: String| {
        http::Request::post(format!("{DEFAULT}/configmaps"))
            .header("content-type", "application/json")
            .body(bytes::Bytes::from(body))
            .unwrap()
    };
    let refused = client.raw(post(big.to_string())).await.unwrap_err();
    assert_eq!(refused.code(), Some(413), "{refused}");
    let medium = json!({"metadata": {"name": "big"}, "data": {"x": "y".repeat(1 << 20)}});
    assert!(client.raw(post(medium.to_string())).await.is_ok());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(client.raw(post(deep)).await.unwrap_err().code(), Some(400));
    // A server that stops ends its watches and returns.
    let watch = http::Request::get(format!("{DEFAULT}/configmaps?watch=1"))
        .body(bytes::Bytes::new())
        .unwrap();
    let watch = client.raw(watch).await.unwrap();
    stop.cancel();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), served);
    ended.await.expect("the server returns").unwrap();
    assert!(
        client::collect(watch.into_body(), 8 << 20).await.is_ok(),
        "the watch ends in order"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_writes_its_own_pods_and_learns_that_one_is_gone() {
    let server = Server::start().await;
    let pods = format!("{DEFAULT}/pods");
    for (name, node) in [("mine", "n1"), ("other", "n2")] {
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node,
            "volumes": [{"name": "v", "configMap": {"name": name}}],
            "containers": [{"name": "c", "image": "i"}]}});
        server.post(&pods, pod).await.expect(201);
        let map = json!({"metadata": {"name": name}});
        server
            .post(&format!("{DEFAULT}/configmaps"), map)
            .await
            .expect(201);
    }
    let node = server.server.transport("system:node:n1", ["system:nodes"]);
    let merge = "application/merge-patch+json";
    let running = json!({"status": {"phase": "Running"}});
    let patch = |name: &str| {
        let (node, path, running) = (
            node.clone(),
            format!("{pods}/{name}/status"),
            running.clone(),
        );
        async move { call(&node, "PATCH", &path, merge, running).await }
    };
    patch("mine").await.expect(200);
    patch("other").await.expect(403);
    let grabbed = json!({"metadata": {"labels": {"app": "bank"}}, "status": {"phase": "Running"}});
    let status = format!("{pods}/mine/status");
    call(&node, "PATCH", &status, merge, grabbed)
        .await
        .expect(403);
    let read = |path: String| {
        let node = node.clone();
        async move { call(&node, "GET", &path, "", Value::Null).await.code }
    };
    assert_eq!(read(format!("{DEFAULT}/configmaps/mine")).await, 200);
    assert_eq!(read(format!("{DEFAULT}/configmaps/other")).await, 403);
    assert_eq!(
        read(format!("{pods}?fieldSelector=spec.nodeName%3Dn1")).await,
        200
    );
    // Its pods' network has to know everybody, by lists and watches alone.
    assert_eq!(read(pods.clone()).await, 200);
    assert_eq!(read(format!("{pods}/other")).await, 403);
    let own = format!("{pods}/mine?watch=1&timeoutSeconds=1&fieldSelector=spec.nodeName%3Dn1");
    assert_eq!(read(own).await, 200);
    let now = json!({"gracePeriodSeconds": 0});
    let mine = format!("{pods}/mine");
    call(&node, "DELETE", &mine, "application/json", now)
        .await
        .expect(200);
    patch("mine").await.expect(404);
    // A list waits until the server has seen the deletion; what a node may read follows from that.
    server.get(&pods).await.expect(200);
    assert_eq!(read(format!("{DEFAULT}/configmaps/mine")).await, 403);
    let lease = json!({"metadata": {"name": "n2"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    call(&node, "POST", leases, "application/json", lease)
        .await
        .expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_itself_and_then_says_how_it_is() {
    let server = Server::start().await;
    let node = server.server.transport("system:node:n1", ["system:nodes"]);
    let nodes = "/api/v1/nodes";
    let own = format!("{nodes}/n1");
    let json = "application/json";
    let merge = "application/merge-patch+json";
    let taints = json!([{"key": "k", "effect": "NoSchedule"}]);
    let new =
        json!({"metadata": {"name": "n1", "labels": {"disk": "ssd"}}, "spec": {"taints": taints}});
    let mut greedy = new.clone();
    greedy["spec"]["podCIDR"] = "10.0.0.0/8".into();
    call(&node, "POST", nodes, json, greedy).await.expect(403);
    call(&node, "POST", nodes, json, new).await.expect(201);
    let cordon = json!({"spec": {"unschedulable": true}});
    server.call("PATCH", &own, merge, cordon).await.expect(200);
    for (path, patch, code) in [
        (
            own.clone(),
            json!({"metadata": {"labels": {"disk": "hdd"}}}),
            200,
        ),
        (
            format!("{own}/status"),
            json!({"status": {"phase": "x"}}),
            200,
        ),
        (own.clone(), json!({"spec": {"unschedulable": null}}), 403),
        (own.clone(), json!({"spec": {"taints": null}}), 403),
        (
            own.clone(),
            json!({"metadata": {"labels": {"node-role.kubernetes.io/x": ""}}}),
            403,
        ),
    ] {
        let answer = call(&node, "PATCH", &path, merge, patch.clone()).await;
        assert_eq!(answer.code, code, "{path} {patch}");
    }
    let mut whole = server.get(&own).await.expect(200);
    assert_eq!(whole["spec"]["unschedulable"], true);
    assert_eq!(whole["spec"]["taints"][0]["key"], "k");
    whole["spec"]["taints"] = json!([]);
    let refused = call(&node, "PUT", &own, json, whole).await.expect(403);
    assert_eq!(
        refused["message"],
        "nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify spec.taints"
    );
    let apply = format!("{own}?fieldManager=n1&force=true");
    let wanted = json!({"apiVersion": "v1", "kind": "Node", "spec": {"taints": []}, "metadata": {"labels": {}}});
    call(
        &node,
        "PATCH",
        &apply,
        "application/apply-patch+yaml",
        wanted,
    )
    .await
    .expect(403);
    let after = server.get(&own).await.expect(200);
    assert_eq!(after["spec"]["taints"][0]["key"], "k");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_the_priority_of_its_class() {
    let server = Server::start().await;
    let pods = format!("{DEFAULT}/pods");
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let pod = |name: &str, class: &str| {
        json!({"metadata": {"name": name}, "spec": {"priorityClassName": class,
            "containers": [{"name": "c", "image": "i"}]}})
    };
    let refused = server.post(&pods, pod("a", "high")).await.expect(403);
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("no PriorityClass with name high was found"),
        "{message}"
    );
    let high = json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"});
    server.post(classes, high).await.expect(201);
    let made = server.post(&pods, pod("a", "high")).await.expect(201);
    assert_eq!(made["spec"]["priority"], 1000);
    assert_eq!(made["spec"]["preemptionPolicy"], "Never");
    let system = server.post(&pods, pod("b", "system-node-critical")).await;
    assert_eq!(system.expect(201)["spec"]["priority"], 2_000_001_000);
    let usual = json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true});
    server.post(classes, usual).await.expect(201);
    server.get(classes).await.expect(200);
    let made = server.post(&pods, pod("c", "")).await.expect(201);
    assert_eq!(made["spec"]["priorityClassName"], "usual");
    assert_eq!(made["spec"]["priority"], 7);
}
