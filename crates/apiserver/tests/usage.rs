//! `metrics.k8s.io`: what pods and nodes use, from agents that speak the node protocol.

mod agent;
mod server;

use std::time::Duration;

use agent::{Agent, PODS};
use bytes::Bytes;
use client::node::{ContainerStats, CpuRate, NodeStats, PodStats, StatsResponse};
use http::Request;
use serde_json::{Value, json};
use server::{Answer, Server, call};
use tokio::net::TcpListener;
use tokio::time::Instant;

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn rate(nano_cores: u64) -> Option<CpuRate> {
    Some(CpuRate {
        nano_cores,
        window_nanos: 15_000_000_000,
    })
}

/// What an agent says of pods with these uids, each with one container that runs.
fn stats(uids: &[String]) -> StatsResponse {
    let pod = |uid: &String| PodStats {
        namespace: "default".to_owned(),
        uid: uid.clone(),
        containers: vec![ContainerStats {
            name: "c".to_owned(),
            memory_bytes: 65_536,
            cpu_rate: rate(1_500_000),
            ..ContainerStats::default()
        }],
        ..PodStats::default()
    };
    StatsResponse {
        time: 1_800_000_000_000_000_000,
        node: Some(NodeStats {
            memory_bytes: 1 << 30,
            cpu_rate: rate(250_000_000),
            ..NodeStats::default()
        }),
        pods: uids.iter().map(pod).collect(),
    }
}

/// An agent that runs the pod `p`, and to which there is a connection: a slow machine may take its second for that alone.
async fn connected(server: &Server) -> Agent {
    let agent = agent::pod(server).await;
    assert_eq!(server.get(&format!("{PODS}/p/log")).await.code, 200);
    agent
}

async fn uid(server: &Server, pod: &str) -> String {
    let pod = server.get(&format!("{PODS}/{pod}")).await.expect(200);
    pod["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

/// Makes a pod on a node; its uid.
async fn pod(server: &Server, name: &str, node: &str) -> String {
    let pod = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {
        "nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
    server.post(PODS, pod).await.expect(201);
    uid(server, name).await
}

#[track_caller]
fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().expect("a name"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_and_nodes_use() {
    let server = Server::start().await;
    let agent = connected(&server).await;
    let (p, web) = (uid(&server, "p").await, pod(&server, "web", "n1").await);
    pod(&server, "idle", "n1").await;
    *agent.stats.lock() = Some(stats(&[p, web]));

    let all = server.get(&format!("{METRICS}/pods")).await.expect(200);
    assert_eq!(all["kind"], "PodMetricsList");
    assert_eq!(all["metadata"], json!({}));
    assert_eq!(names(&all), ["p", "web"]);
    let web = json!({
        "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"},
            "creationTimestamp": "2027-01-15T08:00:00Z"},
        "timestamp": "2027-01-15T08:00:00Z", "window": "15s",
        "containers": [{"name": "c", "usage": {"cpu": "1500u", "memory": "64Ki"}}],
    });
    assert_eq!(all["items"][1], web);
    let pods = format!("{METRICS}/namespaces/default/pods");
    for (path, found) in [
        (pods.clone(), &["p", "web"][..]),
        (format!("{pods}?labelSelector=app%3Dweb"), &["web"]),
        (format!("{pods}?labelSelector=!app"), &["p"]),
        (format!("{pods}?fieldSelector=metadata.name%3Dp"), &["p"]),
        (format!("{METRICS}/namespaces/kube-system/pods"), &[]),
    ] {
        assert_eq!(names(&server.get(&path).await.expect(200)), found, "{path}");
    }
    let one = server.get(&format!("{pods}/web")).await;
    assert_eq!(one.expect(200), web);
    let message = async |path: &str| server.get(path).await.expect(404)["message"].clone();
    assert_eq!(
        message(&format!("{pods}/idle")).await,
        "podmetrics.metrics.k8s.io \"default/idle\" not found"
    );
    assert_eq!(
        message(&format!("{pods}/none")).await,
        "pods \"none\" not found"
    );

    let node = server.get(&format!("{METRICS}/nodes/n1")).await.expect(200);
    assert_eq!(node["usage"], json!({"cpu": "250m", "memory": "1Gi"}));
    let nodes = server.get(&format!("{METRICS}/nodes")).await.expect(200);
    assert_eq!(
        (names(&nodes), &nodes["items"][0]),
        (vec!["n1"], &node),
        "{nodes}"
    );
    let others = format!("{METRICS}/nodes?labelSelector=app");
    assert!(names(&server.get(&others).await.expect(200)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_read_in_every_form_and_only_read() {
    let server = Server::start().await;
    let agent = connected(&server).await;
    *agent.stats.lock() = Some(stats(&[uid(&server, "p").await]));
    let pods = format!("{METRICS}/namespaces/default/pods");
    let accept = async |path: &str, accept: &str| -> Answer {
        let request = Request::get(path).header("accept", accept);
        server.send(request.body(Bytes::new()).unwrap()).await
    };
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (path, cells) in [
        (pods.clone(), json!(["p", "1500u", "64Ki", "15s"])),
        (
            format!("{METRICS}/nodes/n1"),
            json!(["n1", "250m", "1Gi", "15s"]),
        ),
    ] {
        let table = accept(&path, table).await.expect(200);
        assert_eq!(table["rows"][0]["cells"], cells, "{table}");
        assert_eq!(table["metadata"], json!({}), "{table}");
        let binary = accept(&path, "application/vnd.kubernetes.protobuf").await;
        assert!(binary.body.starts_with(b"k8s\0"), "{:?}", binary.body);
    }
    for (method, path, code) in [
        ("GET", format!("{pods}?watch=true"), 405),
        ("GET", format!("{pods}?continue=x"), 400),
        ("GET", format!("{pods}?labelSelector=a%3D%3D%3Db"), 400),
        ("DELETE", pods.clone(), 405),
        ("DELETE", format!("{pods}/p"), 405),
        ("POST", pods.clone(), 405),
        ("GET", format!("{METRICS}/namespaces/default/nodes"), 404),
        ("GET", format!("{METRICS}/containers"), 404),
    ] {
        let answer = server.call(method, &path, "", Value::Null);
        assert_eq!(answer.await.code, code, "{method} {path}");
    }
    let schema = server.get("/openapi/v3/apis/metrics.k8s.io/v1beta1").await;
    let schema = schema.expect(200);
    let paths = schema["paths"].as_object().expect("paths");
    assert!(paths.contains_key(&format!("{METRICS}/namespaces/{{namespace}}/pods/{{name}}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_answer_are_left_out() {
    let server = Server::start().await;
    let agent = connected(&server).await;
    let lost = pod(&server, "lost", "silent").await;
    // Of a pod on another node it has nothing to say.
    *agent.stats.lock() = Some(stats(&[uid(&server, "p").await, lost]));
    // Its connections are made, and nobody accepts them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap().port();
    for (name, port) in [("silent", silent), ("refusing", 1), ("unheard", 0)] {
        let node = json!({
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            },
        });
        server.post("/api/v1/nodes", node).await.expect(201);
    }
    let start = Instant::now();
    let nodes = server.get(&format!("{METRICS}/nodes")).await.expect(200);
    assert_eq!(names(&nodes), ["n1"]);
    let pods = server.get(&format!("{METRICS}/pods")).await.expect(200);
    assert_eq!(names(&pods), ["p"]);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let silent = server.get(&format!("{METRICS}/nodes/silent")).await;
    assert_eq!(
        silent.expect(404)["message"],
        "nodemetrics.metrics.k8s.io \"silent\" not found"
    );
    let none = server.get(&format!("{METRICS}/nodes/none")).await;
    assert_eq!(none.expect(404)["message"], "nodes \"none\" not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_ask_at_once_wait_for_one_answer() {
    let server = Server::start().await;
    let agent = connected(&server).await;
    let path = format!("{METRICS}/nodes");
    let lists = futures::future::join_all((0..8).map(|_| server.get(&path))).await;
    for list in lists {
        assert!(names(&list.expect(200)).is_empty());
    }
    // It never answers: with a question each it would have been asked so often.
    let asked = agent.measured.load(std::sync::atomic::Ordering::Relaxed);
    assert!((1..8).contains(&asked), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_what_pods_use_where_it_may_see_them() {
    let server = Server::start().await;
    let agent = connected(&server).await;
    *agent.stats.lock() = Some(stats(&[uid(&server, "p").await]));
    let jane = server.server.transport("jane", ["people"]);
    let code = async |path: &str| {
        let path = format!("{METRICS}/{path}");
        call(&jane, "GET", &path, "", Value::Null).await.code
    };
    let own = ["namespaces/default/pods", "namespaces/default/pods/p"];
    let others = ["pods", "namespaces/kube-system/pods", "nodes", "nodes/n1"];
    for path in own.iter().chain(&others) {
        assert_eq!(code(path).await, 403, "{path}");
    }
    let binding = |kind: &str| {
        json!({"kind": kind, "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "v"},
            "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "User", "name": "jane"}]})
    };
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let made = server.post(&bindings, binding("RoleBinding")).await;
    made.expect(201);
    for (paths, expected) in [(&own[..], 200), (&others, 403)] {
        for path in paths {
            assert_eq!(code(path).await, expected, "{path}");
        }
    }
    let bindings = format!("{RBAC}/clusterrolebindings");
    let made = server.post(&bindings, binding("ClusterRoleBinding")).await;
    made.expect(201);
    for path in others {
        assert_eq!(code(path).await, 200, "{path}");
    }
}
