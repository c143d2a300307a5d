//! Server-side apply as the server wires it; what it makes of an object is the api crate's to test.

mod server;

use serde_json::{Value, json};
use server::{Answer, Server};

const DEFAULT: &str = "/api/v1/namespaces/default";

async fn apply(server: &Server, path: &str, query: &str, body: Value) -> Answer {
    let path = format!("{path}?fieldManager={query}");
    let kind = "application/apply-patch+yaml";
    server.call("PATCH", &path, kind, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_makes_what_is_not_there() {
    let server = Server::start().await;
    let web = format!("{DEFAULT}/services/web");
    let service = json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}});
    let dry = apply(&server, &web, "one&dryRun=All", service.clone()).await;
    dry.expect(201);
    assert_eq!(server.get(&web).await.code, 404, "a dry run writes nothing");
    let made = apply(&server, &web, "one", service.clone())
        .await
        .expect(201);
    assert_eq!(made["metadata"]["name"], "web");
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "one");
    assert!(
        made["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .starts_with("10.")
    );
    let again = apply(&server, &web, "one", service).await.expect(200);
    assert_eq!(again, made, "what is so already is not written");

    let absent = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let elsewhere = "/api/v1/namespaces/none/configmaps/m";
    let refused = apply(&server, elsewhere, "one", absent).await.expect(404);
    assert_eq!(refused["message"], "namespaces \"none\" not found");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Running"}});
    let status = format!("{DEFAULT}/pods/none/status");
    apply(&server, &status, "one", pod).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_belong_to_who_applied_them() {
    let server = Server::start().await;
    let map = format!("{DEFAULT}/configmaps/m");
    let body = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data});
    apply(&server, &map, "one", body(json!({"a": "1", "b": "1"})))
        .await
        .expect(201);
    let two = body(json!({"a": "2"}));
    let conflict = apply(&server, &map, "two", two.clone()).await.expect(409);
    assert_eq!(
        conflict["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.a"}])
    );
    apply(&server, &map, "two&force=true", two.clone())
        .await
        .expect(200);
    let left = apply(&server, &map, "one", body(json!({})))
        .await
        .expect(200);
    assert_eq!(left["data"], json!({"a": "2"}));
    // Another kind of patch is somebody's too, and knows no force.
    let merge = "application/merge-patch+json";
    let change = json!({"data": {"a": "3"}});
    let path = format!("{map}?fieldManager=three");
    server
        .call("PATCH", &path, merge, change.clone())
        .await
        .expect(200);
    apply(&server, &map, "two", two).await.expect(409);
    let forced = server
        .call("PATCH", &format!("{path}&force=true"), merge, change)
        .await
        .expect(422);
    assert_eq!(forced["details"]["causes"][0]["field"], "force");
    let old =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "1"}});
    apply(&server, &map, "one", old).await.expect(409);
    for body in [json!({}), json!({"apiVersion": "apps/v1"})] {
        let refused = apply(&server, &map, "one", body).await.expect(400);
        let why = refused["message"].as_str().unwrap();
        assert!(why.starts_with("Incorrect version"), "{why}");
    }
    let typo = json!({"apiVersion": "v1", "kind": "ConfigMap", "dta": {}});
    apply(&server, &map, "one", typo).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_applied_through_its_subresource() {
    let server = Server::start().await;
    let pods = format!("{DEFAULT}/pods");
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    server.post(&pods, pod).await.expect(201);
    let status = json!({"apiVersion": "v1", "kind": "Pod",
        "status": {"message": "by apply"}});
    let path = format!("{pods}/p/status");
    let applied = apply(&server, &path, "one", status).await.expect(200);
    assert_eq!(applied["status"]["message"], "by apply");
    assert_eq!(applied["status"]["phase"], "Pending");
    let entries = applied["metadata"]["managedFields"].as_array().unwrap();
    assert!(
        entries
            .iter()
            .any(|e| e["manager"] == "one" && e["subresource"] == "status"),
        "{entries:?}"
    );
}
