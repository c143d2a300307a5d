//! What is wrong with a patch, in Kubernetes' words.

mod server;

use bytes::Bytes;
use serde_json::json;
use server::{Answer, Server};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/d";

async fn patch(server: &Server, query: &str, kind: &str, body: &str) -> Answer {
    let request = http::Request::patch(format!("{DEPLOYMENT}?{query}"))
        .header("content-type", kind)
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .expect("a request");
    server.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_patches() {
    let server = Server::start().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let body = json!({"metadata": {"name": "d", "finalizers": ["example.com/a", "example.com/b"]},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let deployments = DEPLOYMENT.strip_suffix("/d").expect("a path");
    server.post(deployments, body).await.expect(201);

    // Nothing of this takes effect: each row starts from the same object.
    let table = [
        (
            "",
            STRATEGIC,
            r#"{"spec":{"replicas":"x"}}"#,
            422,
            r#" "" is invalid: patch: Invalid value: "map[spec:map[replicas:x]]": json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#,
        ),
        (
            "",
            MERGE,
            r#"{"spec":{"replicas":"x"}}"#,
            422,
            r#" "" is invalid: patch: Invalid value: "{"#,
        ),
        (
            "",
            MERGE,
            r#"{"spec":"#,
            400,
            "error decoding patch: unexpected end of JSON input",
        ),
        (
            "fieldValidation=Strict",
            MERGE,
            r#"{"spec":{"paused":true,"paused":true}}"#,
            422,
            r#"strict decoding error: duplicate field \"spec.paused\""#,
        ),
        (
            "fieldValidation=Strict",
            STRATEGIC,
            r#"{"spec":{"nope":1}}"#,
            422,
            r#""map[spec:map[nope:1]]": strict decoding error: unknown field "spec.nope""#,
        ),
        (
            "fieldValidation=Strict",
            JSON,
            r#"[{"op":"test","path":"/metadata/name","value":"d","zz":1}]"#,
            422,
            r#"json patch unknown field "[0].zz""#,
        ),
        (
            "",
            JSON,
            r#"[{"op":"frob","path":"/metadata/name"}]"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            "fieldManager=m&fieldValidation=Strict",
            APPLY,
            "apiVersion: apps/v1\nkind: Deployment\nspec: {paused: true, paused: true}",
            400,
            "error strict decoding YAML: ",
        ),
        (
            "fieldManager=m",
            APPLY,
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: default}\nnope: 1",
            500,
            "failed to create typed patch object (default/d; apps/v1, Kind=Deployment): .nope: field not declared in schema",
        ),
    ];
    let before = server.get(DEPLOYMENT).await.expect(200);
    for (query, kind, body, code, message) in table {
        let refused = patch(&server, query, kind, body).await;
        assert_eq!(refused.code, code, "{query} {body}");
        let said = refused.json()["message"]
            .as_str()
            .expect("a message")
            .replace("\\\"", "\"");
        assert!(
            said.contains(&message.replace("\\\"", "\"")),
            "{body}: {said}"
        );
    }
    assert_eq!(server.get(DEPLOYMENT).await.expect(200), before);

    // What only warrants a warning warns.
    let repeated = patch(
        &server,
        "dryRun=All",
        MERGE,
        r#"{"spec":{"paused":true,"paused":true}}"#,
    )
    .await;
    assert_eq!(repeated.code, 200);
    assert_eq!(
        repeated.headers["warning"],
        r#"299 - "duplicate field \"spec.paused\"""#
    );
    let applied = "apiVersion: apps/v1\nkind: Deployment\nspec: {paused: true, paused: true}";
    let applied = patch(&server, "dryRun=All&fieldManager=m", APPLY, applied).await;
    assert_eq!(applied.code, 200);
    assert!(applied.headers.contains_key("warning"));

    // Places are counted from a list's end, too.
    let last = r#"[{"op":"remove","path":"/metadata/finalizers/-1"}]"#;
    let left = patch(&server, "dryRun=All", JSON, last).await.expect(200);
    assert_eq!(left["metadata"]["finalizers"], json!(["example.com/a"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_deleted_without_their_pods_unless_asked() {
    let server = Server::start().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let template =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    for (name, query, held) in [
        ("plain", "", true),
        ("whole", "?propagationPolicy=Background", false),
    ] {
        let job = json!({"metadata": {"name": name}, "spec": {"template": template}});
        server.post(jobs, job).await.expect(201);
        let path = format!("{jobs}/{name}{query}");
        let deleted = server.call("DELETE", &path, "", json!(null)).await;
        assert_eq!(deleted.code, 200);
        assert_eq!(deleted.headers.contains_key("warning"), held, "{name}");
        let there = server.get(&format!("{jobs}/{name}")).await;
        assert_eq!(there.code, if held { 200 } else { 404 }, "{name}");
        if held {
            assert_eq!(there.json()["metadata"]["finalizers"], json!(["orphan"]));
        }
    }
}
