//! How machines become part of a cluster, over HTTPS and with the client's own half.

mod server;

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use client::Client;
use client::https::HttpsTransport;
use client::join::{self, NewMember, Request, Role};
use client::tls::Identity;
use client::token::Token;
use serde_json::{Value, json};
use server::Server;
use tokio::net::TcpListener;

const SECRET: &str = "0123456789abcdef";

async fn token(server: &Server, id: &str, role: &str, expiration: &str) -> Token {
    let data = |text: &str| BASE64_STANDARD.encode(text);
    let secret = json!({
        "metadata": {"name": format!("bootstrap-token-{id}")},
        "type": "bootstrap.kubernetes.io/token",
        "data": {
            "token-id": data(id), "token-secret": data(SECRET),
            "expiration": data(expiration), "usage-carob-role": data(role),
        },
    });
    let path = "/api/v1/namespaces/kube-system/secrets";
    server.post(path, secret).await.expect(201);
    let ca = client::tls::certificates(server.ca.certificate()).unwrap();
    Token::new(id, SECRET, &ca[0]).unwrap()
}

fn machine(role: Role, name: &str) -> (Request, String) {
    let addresses = vec![[127, 0, 0, 5].into()];
    let made = client::tls::request("whoever", "system:masters", &addresses).unwrap();
    let request = Request {
        role,
        node_name: name.to_owned(),
        addresses,
        csr: made.csr_pem,
        raft_address: None,
    };
    (request, made.key_pem)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_joins_by_its_token_and_is_then_a_node() {
    let server = Server::start().await;
    let (url, stop) = server.listen().await;
    let far = "2999-01-01T00:00:00Z";
    let good = token(&server, "agent1", "agent", far).await;
    let old = token(&server, "agent2", "agent", "2020-01-01T00:00:00Z").await;
    let pinned = client::tls::pinned_config(*good.ca_digest()).unwrap();
    let unknown = Client::new(
        Arc::new(HttpsTransport::new([url.as_str()], pinned).unwrap()),
        "carob",
    );
    let (request, key) = machine(Role::Agent, "n5");
    let late = join::join(&unknown, &old, &request).await.unwrap_err();
    assert_eq!(late.code(), Some(401), "{late}");
    let (greedy, _) = machine(Role::Server, "s5");
    let refused = join::join(&unknown, &good, &greedy).await.unwrap_err();
    assert_eq!(refused.code(), Some(403), "{refused}");
    let joined = join::join(&unknown, &good, &request).await.unwrap();
    for (name, address, why) in [
        ("s1", [127, 0, 0, 5], "the name of a server"),
        ("n6", [127, 0, 0, 1], "the address of a server"),
    ] {
        let (mut posing, _) = machine(Role::Agent, name);
        posing.addresses = vec![address.into()];
        let refused = join::join(&unknown, &good, &posing).await.unwrap_err();
        assert_eq!(refused.code(), Some(403), "{refused}");
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert!(joined.ca_key.is_none() && joined.member_id.is_none());
    assert_eq!(joined.servers, ["https://127.0.0.1:6443"]);
    let identity = Identity {
        cert_pem: joined.certificate,
        key_pem: key,
        ca_pem: joined.ca,
    };
    let transport = HttpsTransport::new([url.as_str()], identity.client_config().unwrap()).unwrap();
    let node = Client::new(Arc::new(transport), "carob-agent");
    let raw = |path: &str| {
        let request = http::Request::get(path).body(bytes::Bytes::new()).unwrap();
        let node = node.clone();
        async move { node.raw(request).await }
    };
    assert!(raw("/api/v1/services").await.is_ok());
    assert!(raw("/api/v1/secrets").await.unwrap_err().is_forbidden());
    let servers = raw("/carob/v1/servers").await.unwrap();
    let servers = client::collect(servers.into_body(), 10_000).await.unwrap();
    let servers: Value = serde_json::from_slice(&servers).unwrap();
    assert_eq!(servers["servers"][0], "https://127.0.0.1:6443");
    assert!(join::members(&node).await.unwrap_err().is_forbidden());
    // Once the node lives, nobody else becomes it; when it is gone, its machine may come back.
    let own = json!({"metadata": {"name": "n5"}});
    server.post("/api/v1/nodes", own).await.expect(201);
    join::join(&unknown, &good, &request).await.unwrap();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = json!({"metadata": {"name": "n5"}, "spec": {
        "renewTime": "2999-01-01T00:00:00.000000Z", "leaseDurationSeconds": 40}});
    server.post(leases, lease).await.expect(201);
    let refused = join::join(&unknown, &good, &request).await.unwrap_err();
    assert!(refused.to_string().contains("is alive"), "{refused}");
    let gone = server.call("DELETE", "/api/v1/nodes/n5", "", Value::Null);
    gone.await.expect(200);
    join::join(&unknown, &good, &request).await.unwrap();
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_the_key_and_an_id_of_its_own() {
    let server = Server::start().await;
    let (url, stop) = server.listen().await;
    let token = token(&server, "server", "server", "2999-01-01T00:00:00Z").await;
    let pinned = client::tls::pinned_config(*token.ca_digest()).unwrap();
    let transport = Arc::new(HttpsTransport::new([url.as_str()], pinned).unwrap());
    let unknown = Client::new(transport.clone(), "carob");
    let (request, key) = machine(Role::Server, "s2");
    let first = join::join(&unknown, &token, &request).await.unwrap();
    assert!(first.ca_key.unwrap().contains("PRIVATE KEY"));
    assert_eq!(first.members.len(), 1);
    let second = join::join(&unknown, &token, &request).await.unwrap();
    assert_eq!(first.member_id, Some(2));
    assert_eq!(second.member_id, Some(3), "no id is given twice");
    let identity = Identity {
        cert_pem: second.certificate,
        key_pem: key,
        ca_pem: second.ca,
    };
    let transport = HttpsTransport::new([url.as_str()], identity.client_config().unwrap()).unwrap();
    let joined = Client::new(Arc::new(transport), "carob");
    assert_eq!(join::members(&joined).await.unwrap().members.len(), 1);
    let other = NewMember {
        id: 3,
        name: "s3".to_owned(),
        address: "127.0.0.1:1".parse().unwrap(),
    };
    // A server may add itself, not another.
    assert!(
        join::add_member(&joined, &other)
            .await
            .unwrap_err()
            .is_forbidden()
    );
    let newer = Client::new(transport_of(&url, &token), "carob/9.9.9 as");
    let refused = join::join(&newer, &token, &machine(Role::Agent, "n").0)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("9.9.9"), "{refused}");
    stop.cancel();
}

fn transport_of(url: &str, token: &Token) -> Arc<HttpsTransport> {
    let pinned = client::tls::pinned_config(*token.ca_digest()).unwrap();
    Arc::new(HttpsTransport::new([url], pinned).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_answers_like_the_first() {
    let first = Server::start().await;
    let (url, stop) = first.listen().await;
    let token = token(&first, "server", "server", "2999-01-01T00:00:00Z").await;
    let unknown = Client::new(transport_of(&url, &token), "carob");
    let (request, key) = machine(Role::Server, "s2");
    let joined = join::join(&unknown, &token, &request).await.unwrap();
    let identity = Identity {
        cert_pem: joined.certificate,
        key_pem: key,
        ca_pem: joined.ca.clone(),
    };
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let id = joined.member_id.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let store = server::open_store_at(dir.path(), id, "s2", &identity, address).await;
    let transport = HttpsTransport::new([url.as_str()], identity.client_config().unwrap()).unwrap();
    let itself = Client::new(Arc::new(transport), "carob");
    let member = NewMember {
        id,
        name: "s2".to_owned(),
        address,
    };
    let members = join::add_member(&itself, &member).await.unwrap();
    assert!(
        members.members.iter().any(|m| m.id == id && m.voter),
        "{members:?}"
    );
    let ca = apiserver::ca::Ca::load(&joined.ca, &joined.ca_key.unwrap()).unwrap();
    let second = Server::over(store, Arc::new(ca), identity, dir).await;
    // Each sees the other's writes at once, in reads, lists and creations that depend on them.
    for i in 0..10 {
        let (here, there) = if i % 2 == 0 {
            (&first, &second)
        } else {
            (&second, &first)
        };
        let name = format!("n{i}");
        let namespace = json!({"metadata": {"name": name}});
        here.post("/api/v1/namespaces", namespace).await.expect(201);
        let maps = format!("/api/v1/namespaces/{name}/configmaps");
        there
            .post(&maps, json!({"metadata": {"name": "m"}}))
            .await
            .expect(201);
        let patch = json!({"data": {"k": "v"}});
        let merge = "application/merge-patch+json";
        here.call("PATCH", &format!("{maps}/m"), merge, patch)
            .await
            .expect(200);
        let list = there.get(&maps).await.expect(200);
        assert_eq!(list["items"][0]["data"]["k"], "v");
        here.call("DELETE", &format!("{maps}/m"), "", Value::Null)
            .await
            .expect(200);
        assert_eq!(there.get(&format!("{maps}/m")).await.code, 404);
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_there_is_little_to_see() {
    let server = Server::start().await;
    let (url, stop) = server.listen().await;
    let config = client::tls::anonymous_config(server.ca.certificate()).unwrap();
    let nobody = Client::new(
        Arc::new(HttpsTransport::new([url.as_str()], config).unwrap()),
        "curl",
    );
    for (path, code) in [
        ("/version", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/api", 403),
        ("/metrics", 403),
        ("/api/v1/pods", 403),
        ("/carob/v1/servers", 403),
        ("/nothing", 403),
    ] {
        let request = http::Request::get(path).body(bytes::Bytes::new()).unwrap();
        let got = match nobody.raw(request).await {
            Ok(response) => response.status().as_u16(),
            Err(error) => error.code().unwrap_or_else(|| panic!("{path}: {error}")),
        };
        assert_eq!(got, code, "{path}");
    }
    // A body is for who is known; a machine that joins sends little.
    for (path, code) in [("/carob/v1/join", 413), ("/api/v1/namespaces", 403)] {
        let large = bytes::Bytes::from(vec![b' '; 100 * 1024]);
        let request = http::Request::post(path).body(large).unwrap();
        let refused = nobody.raw(request).await.unwrap_err();
        assert_eq!(refused.code(), Some(code), "{path}: {refused}");
    }
    let request = http::Request::get("/api/v1/pods")
        .header("authorization", "Bearer nonsense")
        .body(bytes::Bytes::new())
        .unwrap();
    assert_eq!(nobody.raw(request).await.unwrap_err().code(), Some(401));
    stop.cancel();
}
