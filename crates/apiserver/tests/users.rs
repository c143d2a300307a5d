//! Users with certificates of their own: made, known by their groups, and nobody once they are revoked.

mod agent;
mod server;

use std::sync::Arc;
use std::time::Duration;

use agent::PODS;
use bytes::Bytes;
use client::channels::{self, Channels};
use client::https::HttpsTransport;
use client::kubeconfig::{Context, Credentials};
use client::tls::Identity;
use client::users::{self, NewUser};
use client::{Client, ListOptions, Transport};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use server::{Server, call};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// A new user, as the administrator makes one.
async fn add(server: &Server, name: &str, groups: &[&str]) -> Result<Identity, client::Error> {
    let made = client::tls::request("whoever", "system:masters", &[]).unwrap();
    let user = NewUser {
        name: name.to_owned(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        csr: made.csr_pem,
    };
    let admin = Client::new(server.server.transport("admin", ["system:masters"]), "test");
    Ok(Identity {
        cert_pem: users::add(&admin, &user).await?.certificate,
        key_pem: made.key_pem,
        ca_pem: server.ca.certificate().to_owned(),
    })
}

fn over_https(url: &str, identity: &Identity) -> Arc<dyn Transport> {
    Arc::new(HttpsTransport::new([url], identity.client_config().unwrap()).unwrap())
}

/// Who the server says that one is.
async fn whoami(transport: &Arc<dyn Transport>) -> server::Answer {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    call(transport, "POST", path, "application/json", json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_known_by_the_groups_that_were_given() {
    let server = Server::start().await;
    let (url, stop) = server.listen().await;
    let jane = add(&server, "jane", &["dev", "qa"]).await.unwrap();
    let chain = client::tls::certificates(&jane.cert_pem).unwrap();
    let id = format!("X509SHA256={}", hex::encode(Sha256::digest(&chain[0])));
    let jane = over_https(&url, &jane);
    let seen = whoami(&jane).await.expect(201);
    assert_eq!(
        seen["status"]["userInfo"],
        json!({
            "username": "jane",
            "groups": ["dev", "qa", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": [id]},
        })
    );
    let taken = add(&server, "jane", &["system:masters"]).await.unwrap_err();
    assert_eq!(taken.code(), Some(409), "{taken}");
    assert_eq!(taken.to_string(), "users \"jane\" already exists");
    let node = add(&server, "joe", &["system:nodes"]).await.unwrap_err();
    assert_eq!(node.code(), Some(400), "{node}");
    // Users are an administrator's affair.
    for method in ["GET", "POST"] {
        let refused = call(
            &jane,
            method,
            "/carob/v1/users",
            "application/json",
            json!({}),
        )
        .await;
        assert_eq!(refused.code, 403, "{method}");
    }
    let listed = server.get("/carob/v1/users").await.expect(200);
    assert_eq!(listed["users"][0]["name"], "jane");
    assert_eq!(listed["users"][0]["groups"], json!(["dev", "qa"]));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_ends_what_is_open_and_outlives_the_name() {
    let server = Server::start().await;
    let (url, stop) = server.listen().await;
    let first = add(&server, "root", &["system:masters"]).await.unwrap();
    let other = add(&server, "other", &["system:masters"]).await.unwrap();
    let root = over_https(&url, &first);
    let client = Client::new(Arc::clone(&root), "test");
    let maps = client.of::<ConfigMap>();
    let listed = maps.list(&ListOptions::default()).await.unwrap();
    let request = || watch_request(listed.revision);
    let mut watching = root.send(request()).await.unwrap().into_body();
    let others = over_https(&url, &other);
    let mut unharmed = others.send(request()).await.unwrap().into_body();

    let path = "/carob/v1/users/root";
    server
        .call("DELETE", path, "", Value::Null)
        .await
        .expect(200);
    let end = tokio::time::timeout(Duration::from_secs(10), async {
        while let Some(Ok(_)) = watching.frame().await {}
    });
    end.await.expect("the watch of a revoked user ends");
    assert_eq!(whoami(&over_https(&url, &first)).await.code, 401);
    let gone = server.call("DELETE", path, "", Value::Null).await;
    assert_eq!(gone.code, 404);

    // Another of the same name is another.
    let second = add(&server, "root", &[]).await.unwrap();
    assert_eq!(whoami(&over_https(&url, &first)).await.code, 401);
    assert_eq!(whoami(&over_https(&url, &second)).await.code, 201);
    server
        .post(
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "seen"}}),
        )
        .await
        .expect(201);
    let frame = unharmed.frame().await.expect("a frame").expect("an event");
    let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
    assert!(text.contains("\"seen\""), "{text}");
    stop.cancel();
}

/// What goes through the streams of a user's own certificate.
fn context(url: &str, identity: &Identity) -> Context {
    Context {
        name: "t".to_owned(),
        server: url.to_owned(),
        ca_pem: identity.ca_pem.clone(),
        credentials: Credentials::Certificate {
            cert_pem: identity.cert_pem.clone(),
            key_pem: identity.key_pem.clone(),
        },
        namespace: "default".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_ends_connections_that_left_http() {
    let server = Server::start().await;
    let (url, stop) = server.listen().await;
    let agent = agent::pod(&server).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    agent
        .ports
        .lock()
        .insert(80, listener.local_addr().unwrap());
    let identity = add(&server, "jane", &["system:masters"]).await.unwrap();
    let jane = context(&url, &identity);
    let path = format!("{PODS}/p/portforward?ports=80");
    let forward = async |context: &Context| {
        let opened = Channels::open_as(context, &path, "v4.channel.k8s.io").await;
        let (pod, _) = listener.accept().await.unwrap();
        (opened.unwrap(), pod)
    };
    let (mut forwarded, mut pod) = forward(&jane).await;
    let other = add(&server, "other", &["system:masters"]).await.unwrap();
    let (mut unharmed, mut others_pod) = forward(&context(&url, &other)).await;
    let path = format!("{PODS}/p/attach?stdin=true&stderr=true");
    let mut attached = Channels::open(&jane, &path).await.unwrap();
    attached.send(channels::STDIN, b"typed").await.unwrap();
    let echoed = attached.next().await.unwrap().unwrap();
    assert_eq!(echoed, (channels::STDERR, "typed".into()));
    let path = format!("{PODS}/p/exec?command=cat&stdin=true&stdout=true");
    let mut running = Channels::open(&jane, &path).await.unwrap();
    running.send(channels::STDIN, b"typed").await.unwrap();
    let echoed = running.next().await.unwrap().unwrap();
    assert_eq!(echoed, (channels::STDOUT, "typed".into()));

    let path = "/carob/v1/users/jane";
    server
        .call("DELETE", path, "", Value::Null)
        .await
        .expect(200);
    let end = tokio::time::timeout(Duration::from_secs(10), async {
        for open in [&mut forwarded, &mut attached, &mut running] {
            while let Ok(Some(_)) = open.next().await {}
        }
        // The pod hears of it too.
        while !matches!(pod.read(&mut [0; 64]).await, Ok(0) | Err(_)) {}
    });
    end.await.expect("what a revoked user has open ends");
    unharmed.send(0, b"still here").await.unwrap();
    let mut text = [0; 10];
    others_pod.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"still here");
    stop.cancel();
}

fn watch_request(revision: impl std::fmt::Display) -> http::Request<Bytes> {
    let path =
        format!("/api/v1/namespaces/default/configmaps?watch=true&resourceVersion={revision}");
    http::Request::get(path).body(Bytes::new()).unwrap()
}
