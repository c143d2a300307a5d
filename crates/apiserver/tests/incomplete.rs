//! Bodies that leave something out, or say what nobody reads.

mod server;

use serde_json::json;
use server::Server;

const DEFAULT: &str = "/api/v1/namespaces/default";

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
