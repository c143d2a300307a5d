//! Service-account tokens: asked for, shown over HTTPS, reviewed, and worth nothing once what they belong to is gone.

mod server;

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use bytes::Bytes;
use client::Transport;
use client::https::HttpsTransport;
use serde_json::{Value, json};
use server::{Answer, Server, send};

const OWN: &str = "https://kubernetes.default.svc.cluster.local";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

async fn account(server: &Server, name: &str) -> Value {
    let account = json!({"metadata": {"name": name}});
    server.post(ACCOUNTS, account).await.expect(201)
}

/// Asks for a token by the spec.
async fn ask(server: &Server, account: &str, spec: Value) -> Answer {
    let path = format!("{ACCOUNTS}/{account}/token");
    server.post(&path, json!({"spec": spec})).await
}

async fn token(server: &Server, account: &str, spec: Value) -> String {
    let made = ask(server, account, spec).await.expect(201);
    made["status"]["token"].as_str().unwrap().to_owned()
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL.decode(part).unwrap()).unwrap()
}

async fn review(server: &Server, token: &str, audiences: Value) -> Value {
    let review = json!({"spec": {"token": token, "audiences": audiences}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    server.post(path, review).await.expect(201)["status"].take()
}

/// Who the server says that the bearer is.
async fn whoami(nobody: &Arc<dyn Transport>, token: &str) -> Answer {
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Bytes::from_static(b"{}"))
        .unwrap();
    send(nobody, request).await
}

/// A client without a certificate.
fn nobody(server: &Server, url: &str) -> Arc<dyn Transport> {
    let tls = client::tls::anonymous_config(server.ca.certificate()).unwrap();
    Arc::new(HttpsTransport::new([url], tls).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_speaks_for_its_account_until_the_account_is_gone() {
    let server = Server::start().await;
    let made = account(&server, "builder").await;
    let answer = ask(&server, "builder", json!({})).await.expect(201);
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["metadata"]["name"], "builder");
    assert_eq!(answer["spec"]["audiences"], json!([OWN]));
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    let token = answer["status"]["token"].as_str().unwrap();
    let said = claims(token);
    assert_eq!(said["sub"], "system:serviceaccount:default:builder");
    assert_eq!(said["iss"], OWN);
    assert_eq!(
        said["kubernetes.io"],
        json!({
            "namespace": "default",
            "serviceaccount": {"name": "builder", "uid": made["metadata"]["uid"]},
        })
    );
    assert_eq!(
        said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(),
        3600
    );

    let (url, stop) = server.listen().await;
    let nobody = nobody(&server, &url);
    let user = whoami(&nobody, token).await.expect(201)["status"]["userInfo"].take();
    assert_eq!(user["username"], "system:serviceaccount:default:builder");
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    // The same key after a restart.
    let again = server.restarted().await;
    assert_eq!(
        review(&again, token, json!([])).await["authenticated"],
        true
    );

    // In the middle of the signature: the last letter has bits that mean nothing.
    let (head, tail) = token.split_at(token.len() - 40);
    let other = if tail.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{head}{other}{}", &tail[1..]);
    for bad in ["nonsense", "a.b.c", &forged] {
        assert_eq!(whoami(&nobody, bad).await.code, 401, "{bad}");
    }
    server
        .call("DELETE", &format!("{ACCOUNTS}/builder"), "", Value::Null)
        .await
        .expect(200);
    account(&server, "builder").await;
    assert_eq!(whoami(&nobody, token).await.code, 401);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_says_whose_a_token_is_and_for_whom() {
    let server = Server::start().await;
    let made = account(&server, "web").await;
    let vault = token(&server, "web", json!({"audiences": ["vault", "bank"]})).await;
    let (url, stop) = server.listen().await;
    // Not for the API.
    assert_eq!(whoami(&nobody(&server, &url), &vault).await.code, 401);
    stop.cancel();
    let said = review(&server, &vault, json!(["bank", "x"])).await;
    assert_eq!(said["authenticated"], true);
    assert_eq!(said["audiences"], json!(["bank"]));
    assert_eq!(said["user"]["uid"], made["metadata"]["uid"]);
    let id = &said["user"]["extra"]["authentication.kubernetes.io/credential-id"][0];
    let jti = claims(&vault)["jti"].take();
    assert_eq!(
        id.as_str().unwrap(),
        format!("JTI={}", jti.as_str().unwrap())
    );
    let said = review(&server, &vault, json!([])).await;
    assert_eq!(
        said,
        json!({"user": {}, "error": format!(
            "[invalid bearer token, token audiences [\"vault\", \"bank\"] is invalid for the target audiences [{OWN:?}]]"
        )})
    );
    let said = review(&server, "nonsense", json!([])).await;
    assert_eq!(said, json!({"user": {}, "error": "invalid bearer token"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_bound_to_a_pod_and_ends_with_it() {
    let server = Server::start().await;
    account(&server, "web").await;
    account(&server, "other").await;
    let pods = "/api/v1/namespaces/default/pods";
    let node = json!({"metadata": {"name": "n1"}});
    let node = server.post("/api/v1/nodes", node).await.expect(201);
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"serviceAccountName": "web", "nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
    });
    let pod = server.post(pods, pod).await.expect(201);
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let to = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}});
    for (account, spec, code, message) in [
        ("web", to("Pod", "q", ""), 404, "pods \"q\" not found"),
        ("web", to("Secret", "s", ""), 404, "secrets \"s\" not found"),
        ("web", to("Node", "n2", ""), 404, "nodes \"n2\" not found"),
        (
            "web",
            to("ConfigMap", "c", ""),
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (
            "other",
            to("Pod", "p", uid),
            400,
            "cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name.",
        ),
        (
            "web",
            to("Pod", "p", "another"),
            409,
            "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (another) does not match the UID in record. The object might have been deleted and then recreated",
        ),
        ("gone", json!({}), 404, "serviceaccounts \"gone\" not found"),
        (
            "web",
            json!({"expirationSeconds": 1}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
        ),
        (
            "web",
            json!({"expirationSeconds": 1_i64 << 33}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 8589934592: may not specify a duration larger than 2^32 seconds",
        ),
    ] {
        let refused = ask(&server, account, spec).await.expect(code);
        assert_eq!(refused["message"], message);
    }
    let bound = token(&server, "web", to("Pod", "p", uid)).await;
    assert_eq!(
        claims(&bound)["kubernetes.io"]["pod"],
        json!({"name": "p", "uid": uid})
    );
    assert_eq!(
        claims(&bound)["kubernetes.io"]["node"],
        json!({"name": "n1", "uid": node["metadata"]["uid"]})
    );
    let said = review(&server, &bound, json!([])).await;
    let extra = &said["user"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-name"],
        json!(["p"]),
        "{said}"
    );
    let now = json!({"gracePeriodSeconds": 0});
    let path = format!("{pods}/p");
    server
        .call("DELETE", &path, "application/json", now)
        .await
        .expect(200);
    let said = review(&server, &bound, json!([])).await;
    assert_eq!(
        said["error"],
        "[invalid bearer token, service account token has been invalidated]"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn others_can_verify_tokens_by_the_published_keys() {
    let server = Server::start().await;
    let issuer = server
        .get("/.well-known/openid-configuration")
        .await
        .expect(200);
    assert_eq!(issuer["issuer"], OWN);
    assert_eq!(issuer["jwks_uri"], "https://127.0.0.1:6443/openid/v1/jwks");
    let keys = server.get("/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    account(&server, "web").await;
    let token = token(&server, "web", json!({})).await;
    let header = BASE64_URL.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["kid"], keys.json()["keys"][0]["kid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_bearers_token_says_who_somebody_is() {
    let server = Server::start().await;
    let (url, stop) = server.listen().await;
    let nobody = nobody(&server, &url);
    for (header, open, closed) in [
        ("Basic YTpi", 200, 403),
        ("Negotiate x", 200, 403),
        ("Bearer ", 200, 403),
        ("Bearer", 200, 403),
        ("Bearer nonsense", 401, 401),
    ] {
        for (path, code) in [
            ("/livez", open),
            ("/version", open),
            ("/api/v1/nodes", closed),
            ("/metrics", closed),
        ] {
            let request = http::Request::get(path).header("authorization", header);
            let answer = send(&nobody, request.body(Bytes::new()).unwrap()).await;
            assert_eq!(answer.code, code, "{header:?} {path}");
        }
    }
    stop.cancel();
}
