//! A server that knows no leader: it says so at once, in the way that sends clients to another.

mod server;

use std::sync::Arc;

use apiserver::ca::{Ca, Profile};
use apiserver::{ApiServer, Config};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_nothing_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Arc::new(Ca::create().unwrap());
    let issued = ca
        .issue(&Profile::Server {
            name: "s1".to_owned(),
            addresses: vec![[127, 0, 0, 1].into()],
        })
        .unwrap();
    let identity = client::tls::Identity {
        cert_pem: issued.certificate,
        key_pem: issued.key,
        ca_pem: ca.certificate().to_owned(),
    };
    // Never bootstrapped, never taken into a group.
    let store = server::open_store(dir.path(), 1, "s1", &identity).await;
    let server = ApiServer::new(
        store,
        Config {
            name: "s1".to_owned(),
            url: "https://127.0.0.1:6443".to_owned(),
            ca,
            identity,
            mounts: Vec::new(),
        },
    );
    let admin = server.transport("admin", ["system:masters"]);
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"metadata": {"name": "m"}});
    for (method, path, body) in [
        ("GET", maps, Value::Null),
        ("POST", maps, map),
        ("GET", "/apis", Value::Null),
        ("POST", "/carob/v1/join", Value::Null),
    ] {
        let answer = server::call(&admin, method, path, "application/json", body).await;
        assert_eq!(answer.headers["retry-after"], "1", "{method} {path}");
        let status = answer.expect(503);
        assert_eq!(status["reason"], "ServiceUnavailable");
        assert_eq!(status["details"]["retryAfterSeconds"], 1);
    }
    for (path, code) in [
        ("/livez", 200),
        ("/readyz", 500),
        ("/version", 200),
        ("/metrics", 200),
    ] {
        let answer = server::call(&admin, "GET", path, "", Value::Null).await;
        assert_eq!(answer.code, code, "{path}");
    }
}
