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
    // Kubernetes has no better code for what its merging library says.
    apply(&server, &map, "one", typo).await.expect(500);
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

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
const MERGE: &str = "application/merge-patch+json";

fn manifest(replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

/// `manager operation subresource` of each entry.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let line = |entry: &Value| {
        ["manager", "operation", "subresource"]
            .map(|f| text(entry, f))
            .join(" ")
    };
    let lines = entries.into_iter().flatten().map(line);
    lines.map(|line| line.trim_end().to_owned()).collect()
}

/// The requests of `kubectl apply`, and then of `kubectl apply --server-side` with a changed file.
#[tokio::test(flavor = "multi_thread")]
async fn client_side_apply_becomes_server_side_apply() {
    let server = Server::start().await;
    let all = "/apis/apps/v1/namespaces/default/deployments";
    let web = format!("{all}/web");
    let mut first = manifest(1);
    first["metadata"]["annotations"][ANNOTATION] = manifest(1).to_string().into();
    let path = format!("{all}?fieldManager=kubectl-client-side-apply");
    let made = server.post(&path, first).await.expect(201);
    assert_eq!(managers(&made), ["kubectl-client-side-apply Update"]);

    apply(&server, &web, "other", manifest(2)).await.expect(409);
    let applied = apply(&server, &web, "kubectl&force=false", manifest(2))
        .await
        .expect(200);
    assert_eq!(applied["spec"]["replicas"], 2);
    let both = ["kubectl Apply", "kubectl-client-side-apply Update"];
    assert_eq!(managers(&applied), both);

    // kubectl puts the annotation into its own hands, then rewrites the entries by a JSON patch.
    let text = &applied["metadata"]["annotations"][ANNOTATION];
    let mut note =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    note["metadata"]["annotations"][ANNOTATION] = text.clone();
    let noted = apply(&server, &web, "kubectl-last-applied&force=true", note)
        .await
        .expect(200);
    assert_eq!(managers(&noted).len(), 3);
    let mut entries = noted["metadata"]["managedFields"].clone();
    let list = entries.as_array_mut().unwrap();
    list.retain(|entry| entry["manager"] != "kubectl-client-side-apply");
    let version = &noted["metadata"]["resourceVersion"];
    let upgrade = |entries: &Value| {
        json!([{"op": "replace", "path": "/metadata/managedFields", "value": entries},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version}])
    };
    let json_patch = "application/json-patch+json";
    let path = format!("{web}?fieldManager=kubectl");
    let upgraded = server
        .call("PATCH", &path, json_patch, upgrade(&entries))
        .await
        .expect(200);
    // An apply that changes nothing has no time, and comes first.
    assert_eq!(
        managers(&upgraded),
        ["kubectl-last-applied Apply", "kubectl Apply"]
    );
    let stale = server
        .call("PATCH", &path, json_patch, upgrade(&entries))
        .await;
    stale.expect(409);
    let three = apply(&server, &web, "kubectl", manifest(3))
        .await
        .expect(200);
    assert_eq!(three["spec"]["replicas"], 3);
    let last = three["metadata"]["annotations"][ANNOTATION]
        .as_str()
        .unwrap();
    assert!(last.contains("\"replicas\":3"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_is_recorded_and_none_that_changes_nothing() {
    let server = Server::start().await;
    let maps = format!("{DEFAULT}/configmaps");
    let body = |a: &str| json!({"metadata": {"name": "m"}, "data": {"a": a}});
    let request = http::Request::post(&maps)
        .header("content-type", "application/json")
        .header("user-agent", "tool/1.0 (linux)")
        .body(body("1").to_string().into())
        .unwrap();
    let made = server.send(request).await.expect(201);
    assert_eq!(managers(&made), ["tool Update"]);
    let path = format!("{maps}/m?fieldManager=editor");
    let put = |data: Value| server.call("PUT", &path, "application/json", data);
    assert_eq!(put(body("1")).await.expect(200), made);
    let patched = server.call("PATCH", &path, MERGE, json!({"data": {"a": "1"}}));
    assert_eq!(patched.await.expect(200), made);
    let edited = put(body("2")).await.expect(200);
    assert_eq!(managers(&edited), ["editor Update", "tool Update"]);
    // Emptying the list does nothing, an empty entry forgets everybody, and so it stays.
    let entries = |entries: Value| json!({"metadata": {"managedFields": entries}});
    let kept = server.call("PATCH", &path, MERGE, entries(json!([])));
    assert_eq!(kept.await.expect(200), edited);
    let reset = server.call("PATCH", &path, MERGE, entries(json!([{}])));
    let reset = reset.await.expect(200);
    assert_eq!(managers(&reset), [""; 0]);
    assert_ne!(
        reset["metadata"]["resourceVersion"],
        edited["metadata"]["resourceVersion"]
    );
    assert_eq!(managers(&put(body("3")).await.expect(200)), [""; 0]);
    let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "1"}});
    let applied = apply(&server, &format!("{maps}/m"), "one", wanted).await;
    assert_eq!(
        managers(&applied.expect(200)),
        ["one Apply", "before-first-apply Update"]
    );
    // A deletion knows no manager; other names are judged.
    for (manager, code) in [
        ("x".repeat(129), 422),
        ("a%09b".into(), 422),
        ("é".into(), 200),
    ] {
        let manager = manager.replace('é', "%C3%A9");
        let path = format!("{maps}/m?fieldManager={manager}");
        let answer = server.call("PATCH", &path, MERGE, json!({"data": {"a": "4"}}));
        let answer = answer.await.expect(code);
        if code == 422 {
            assert_eq!(answer["details"]["kind"], "PatchOptions");
            assert_eq!(answer["details"]["causes"][0]["field"], "fieldManager");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_is_applied_and_a_lease_renewed() {
    let server = Server::start().await;
    let all = "/apis/apps/v1/namespaces/default/deployments";
    server.post(all, manifest(1)).await.expect(201);
    let path = format!("{all}/web/scale");
    let wanted = |replicas: u32| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": replicas}});
    let refused = apply(&server, &path, "hpa", wanted(2)).await.expect(409);
    assert_eq!(refused["details"]["causes"][0]["field"], ".spec.replicas");
    let scale = apply(&server, &path, "hpa&force=true", wanted(2))
        .await
        .expect(200);
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(2))
    );
    assert!(scale["metadata"]["managedFields"].is_null());
    let web = server.get(&format!("{all}/web")).await.expect(200);
    assert_eq!(managers(&web), ["hpa Apply scale", "unknown Update"]);
    let kind = "application/apply-patch+yaml";
    server
        .call("PATCH", &path, kind, wanted(3))
        .await
        .expect(422);
    let odd = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    apply(&server, &path, "hpa", odd).await.expect(400);
    apply(&server, &format!("{all}/none/scale"), "hpa", wanted(2))
        .await
        .expect(404);

    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = |second: u8| {
        json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "l", "leaseDurationSeconds": 4,
            "renewTime": format!("2026-11-21T10:00:{second:02}.000000Z")}})
    };
    let query = "fieldManager=carob-agent";
    let mut last = server
        .post(&format!("{leases}?{query}"), lease(0))
        .await
        .expect(201);
    let size = last.to_string().len();
    let path = format!("{leases}/l?{query}");
    for second in 1..20 {
        last = server
            .call("PATCH", &path, MERGE, lease(second))
            .await
            .expect(200);
    }
    assert_eq!(managers(&last), ["carob-agent Update"]);
    // The version may have a digit more.
    assert!(last.to_string().len() <= size + 2, "{last}");
}
