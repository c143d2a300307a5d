//! Every path and verb of the API, asked by somebody who may not: always a `Status`, never a word more.

mod server;

use std::sync::Arc;

use bytes::Bytes;
use client::Transport;
use client::https::HttpsTransport;
use server::{Server, send};

/// What everybody who is known may do: ask about themselves.
const ABOUT_ONESELF: [&str; 3] = [
    "selfsubjectreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
];
const OTHERS: [(&str, &str); 8] = [
    ("GET", "/metrics"),
    ("GET", "/debug/pprof"),
    ("GET", "/nonsense"),
    ("POST", "/version"),
    ("GET", "/carob/v1/members"),
    ("POST", "/carob/v1/members"),
    ("GET", "/carob/v1/users"),
    ("DELETE", "/carob/v1/users/jane"),
];

/// Method and path of every verb of every resource and subresource.
fn requests() -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for resource in api::resource::all() {
        let group = match resource.group {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let namespace = if resource.namespaced {
            "/namespaces/kube-system"
        } else {
            ""
        };
        let collection = format!("{group}{namespace}/{}", resource.plural);
        let object = format!("{collection}/x");
        for verb in resource.verbs {
            all.push(match *verb {
                "get" => ("GET", object.clone()),
                "list" => ("GET", collection.clone()),
                "watch" => ("GET", format!("{collection}?watch=true")),
                "create" => ("POST", collection.clone()),
                "update" => ("PUT", object.clone()),
                "patch" => ("PATCH", object.clone()),
                "delete" => ("DELETE", object.clone()),
                "deletecollection" => ("DELETE", collection.clone()),
                other => panic!("what is {other}?"),
            });
        }
        for sub in resource.subresources {
            for (method, verb) in [
                ("GET", "get"),
                ("POST", "create"),
                ("PUT", "update"),
                ("PATCH", "patch"),
            ] {
                if sub.verbs.contains(&verb) {
                    all.push((method, format!("{object}/{}", sub.name)));
                }
            }
        }
    }
    assert!(all.len() > 500, "{}", all.len());
    all
}

async fn expect(
    who: &Arc<dyn Transport>,
    bearer: Option<&str>,
    (method, path): (&str, &str),
    code: u16,
) {
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json");
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    // A body that nobody may come to read.
    let request = request.body(Bytes::from_static(b"{\"kind\":")).unwrap();
    let answer = send(who, request).await;
    let status = answer.json();
    let reason = if code == 401 {
        "Unauthorized"
    } else {
        "Forbidden"
    };
    assert_eq!(
        (
            answer.code,
            status["kind"].as_str(),
            status["reason"].as_str()
        ),
        (code, Some("Status"), Some(reason)),
        "{method} {path}: {status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_is_told_so_on_every_path() {
    let server = Server::start().await;
    let (url, stop) = server.listen().await;
    let tls = client::tls::anonymous_config(server.ca.certificate()).unwrap();
    let nobody: Arc<dyn Transport> = Arc::new(HttpsTransport::new([url.as_str()], tls).unwrap());
    let jane = server.server.transport("jane", ["dev"]);
    for (method, path) in &requests() {
        let asked = (*method, path.as_str());
        expect(&nobody, None, asked, 403).await;
        expect(&nobody, Some("a.b.c"), asked, 401).await;
        if !ABOUT_ONESELF.iter().any(|own| path.ends_with(own)) {
            expect(&jane, None, asked, 403).await;
        }
    }
    for asked in OTHERS {
        expect(&nobody, None, asked, 403).await;
        expect(&jane, None, asked, 403).await;
        expect(
            &nobody,
            Some("a.b.c"),
            asked,
            if asked.1.contains("members") {
                403
            } else {
                401
            },
        )
        .await;
    }
    stop.cancel();
}
