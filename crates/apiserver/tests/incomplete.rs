//! Bodies that leave something out, or say what nobody reads.

mod server;

use serde_json::json;
use server::Server;

const DEFAULT: &str = "/api/v1/namespaces/default";

/// What an old version has no fields for is there still after a write by it.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_loses_nothing() {
    let server = Server::start().await;
    let all = |version| {
        format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers")
    };
    let scaler = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 7}},
        "metrics": [{"type": "Resource", "resource": {"name": "memory",
            "target": {"type": "Utilization", "averageUtilization": 60}}}]}});
    let made = server.post(&all("v2"), scaler).await.expect(201);
    let (old, new) = (format!("{}/h", all("v1")), format!("{}/h", all("v2")));
    let shown = server.get(&old).await.expect(200);
    assert_eq!(shown["spec"]["behavior"], json!(null));
    let put = server.call("PUT", &old, "application/json", shown).await;
    assert_eq!((put.code, put.headers.get("warning")), (200, None));
    let label = json!({"metadata": {"labels": {"c": "d"}}});
    let merge = "application/merge-patch+json";
    server.call("PATCH", &old, merge, label).await.expect(200);
    let kept = server.get(&new).await.expect(200);
    assert_eq!(kept["spec"], made["spec"]);
    assert_eq!(kept["metadata"]["annotations"], json!(null));
    // What stands for fields is held to their types.
    let hostile =
        json!({"metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/behavior": "7"}}});
    server.call("PATCH", &old, merge, hostile).await.expect(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_leaves_out_or_nobody_reads() {
    let server = Server::start().await;
    let maps = format!("{DEFAULT}/configmaps");
    let map = json!({"metadata": {"name": "m"}});
    server.post(&maps, map.clone()).await.expect(201);
    let one = format!("{maps}/m");
    for (method, kind, body) in [
        ("PUT", "application/json", json!({"data": {"a": "1"}})),
        (
            "PATCH",
            "application/merge-patch+json",
            json!({"metadata": {"name": null}}),
        ),
        (
            "PATCH",
            "application/json-patch+json",
            json!([{"op": "remove", "path": "/metadata/name"}]),
        ),
    ] {
        let refused = server.call(method, &one, kind, body).await.expect(400);
        assert_eq!(
            refused["message"],
            "the name of the object (m based on URL) was undeterminable: name must be provided"
        );
    }
    // That nobody reads a field is said of what is refused, too.
    let misspelt = json!({"metadata": {"name": "m"}, "dara": {}});
    let refused = server.post(&maps, misspelt).await;
    assert_eq!(refused.code, 409);
    assert_eq!(
        refused.headers[http::header::WARNING],
        "299 - \"unknown field \\\"dara\\\"\""
    );
    let apply = format!("{maps}/new?fieldManager=a");
    let named =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new", "uid": "x"}});
    let kind = "application/apply-patch+yaml";
    let refused = server.call("PATCH", &apply, kind, named).await.expect(409);
    assert_eq!(
        refused["message"],
        "Operation cannot be fulfilled on configmaps \"new\": uid mismatch: the provided object specified uid x, and no existing object was found"
    );
    let future = format!("{one}?resourceVersion=999999999");
    assert_eq!(
        server.get(&future).await.expect(504)["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
}
