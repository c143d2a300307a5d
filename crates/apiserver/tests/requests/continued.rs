//! `continue` tokens: whatever one says, a list shows objects of its own path alone.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use bytes::Bytes;
use http::Request;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::harness::{Random, prove};
use crate::judge::refusal;
use crate::mutate::damage;
use crate::world::{Answer, Who, World};

/// Lists, with what all their items must be: the kind, and the namespace where the path names one.
const LISTS: &[(&str, &str, Option<&str>)] = &[
    ("/api/v1/configmaps", "ConfigMap", None),
    (
        "/api/v1/namespaces/one/configmaps",
        "ConfigMap",
        Some("one"),
    ),
    (
        "/api/v1/namespaces/two/configmaps",
        "ConfigMap",
        Some("two"),
    ),
    ("/api/v1/namespaces/one/secrets", "Secret", Some("one")),
    ("/api/v1/namespaces/two/secrets", "Secret", Some("two")),
    ("/api/v1/namespaces", "Namespace", None),
];
/// What a key is made of, here and in keys of other kinds.
const KEYS: &[&str] = &[
    "/",
    "//",
    "..",
    "/../",
    "one",
    "two",
    "one/",
    "onf",
    "configmaps",
    "secrets",
    "namespaces",
    "carob",
    "service-accounts/key",
    "\u{0}",
    "\u{10ffff}",
    "a",
    "~",
];

/// Two namespaces with three objects of two kinds in each.
fn world() -> World {
    let world = World::start();
    world.block_on(async {
        let server = &world.server;
        for namespace in ["one", "two"] {
            let made = json!({"metadata": {"name": namespace}});
            server.post("/api/v1/namespaces", made).await.expect(201);
            for plural in ["configmaps", "secrets"] {
                let path = format!("/api/v1/namespaces/{namespace}/{plural}");
                for name in ["a", "b", "c"] {
                    let made = json!({"metadata": {"name": name}});
                    server.post(&path, made).await.expect(201);
                }
            }
        }
    });
    world
}

fn list(world: &World, path: &str, query: &str) -> Result<Answer, String> {
    let request = Request::get(format!("{path}?{query}"));
    world.read(Who::Admin, request.body(Bytes::new()).unwrap())
}

/// A page that a token gives.
fn continued(world: &World, path: &str, token: &[u8]) -> Result<Answer, String> {
    let token = String::from_utf8_lossy(token);
    let token = utf8_percent_encode(&token, NON_ALPHANUMERIC);
    list(world, path, &format!("limit=2&continue={token}"))
}

/// The token of a list's first page.
fn token(world: &World, path: &str) -> String {
    let page = list(world, path, "limit=1").unwrap().json().unwrap();
    page["metadata"]["continue"].as_str().unwrap().to_owned()
}

fn decoded(token: &str) -> Value {
    serde_json::from_slice(&BASE64_URL.decode(token).unwrap()).unwrap()
}

fn encoded(token: &Value) -> Vec<u8> {
    BASE64_URL.encode(token.to_string()).into_bytes()
}

/// Only what is of the path; or a `Status`.
fn judge(at: usize, answer: &Answer) -> Result<(), String> {
    let (path, kind, namespace) = LISTS[at];
    if answer.code != 200 {
        let known = [400, 410, 504].contains(&answer.code);
        return match known {
            true => refusal(answer, "GET", path),
            false => Err(format!("{}: {}", answer.code, answer.text())),
        };
    }
    let page = answer.json()?;
    let items = page["items"].as_array().ok_or("no items")?;
    let foreign = items.iter().find(|item| {
        let of = item["metadata"]["namespace"].as_str();
        item["kind"] != kind || namespace.is_some_and(|own| of != Some(own))
    });
    match foreign {
        Some(item) => Err(format!("{path} shows {item}")),
        None => Ok(()),
    }
}

/// A token that was given for some list, and then bent.
fn drawn(tokens: &[String], random: &mut Random) -> Vec<u8> {
    let token = &tokens[random.below(tokens.len())];
    let mut said = decoded(token);
    for _ in 0..random.below(3) {
        let key = said["start"].as_str().unwrap_or_default().to_owned();
        let chars: Vec<char> = key.chars().collect();
        let at = random.below(chars.len() + 1);
        let (begin, end) = chars.split_at(at);
        let [begin, end]: [String; 2] = [begin, end].map(|part| part.iter().collect());
        let piece = random.pick(KEYS);
        match random.below(9) {
            0 => said["v"] = random.pick(&["meta.k8s.io/v2", "", "v1"]).into(),
            1 => said["rv"] = json!(0),
            2 => said["rv"] = json!(-1),
            3 => said["rv"] = json!(1),
            4 => said["start"] = begin.into(),
            5 => said["start"] = format!("{begin}{piece}").into(),
            6 => said["start"] = format!("{}{begin}", piece.repeat(200)).into(),
            _ => said["start"] = format!("{begin}{piece}{end}").into(),
        }
    }
    let bytes = encoded(&said);
    match random.percent(20) {
        true => damage(bytes, random),
        false => bytes,
    }
}

/// The number of a list, as an input that does not get smaller.
type Asked = (Vec<u8>, Vec<u8>);

#[test]
fn any_token_shows_objects_of_its_own_path() {
    let world = world();
    let tokens: Vec<String> = LISTS.iter().map(|(path, ..)| token(&world, path)).collect();
    let make = |random: &mut Random| -> Asked {
        let at = random.below(LISTS.len());
        (vec![at as u8], drawn(&tokens, random))
    };
    prove(
        "any_token_shows_objects_of_its_own_path",
        make,
        |(at, token)| {
            let Some(at) = at.first().map(|at| usize::from(*at)) else {
                return Ok(());
            };
            judge(at, &continued(&world, LISTS[at].0, token)?)
        },
    );
}

#[test]
fn tokens_of_other_lists_and_other_times() {
    let world = world();
    let (path, ..) = LISTS[1];
    let own = decoded(&token(&world, path));
    let all = decoded(&token(&world, LISTS[0].0));
    let secrets = decoded(&token(&world, LISTS[3].0));
    let with = |field: &str, value: Value| {
        let mut said = own.clone();
        said[field] = value;
        said
    };
    let key = own["start"].as_str().unwrap();
    let other = key.replace("/one/", "/two/");
    let above = key.replace("one/a", "");
    for (what, said, code, names) in [
        ("its own", own.clone(), 200, "b c"),
        ("that of all namespaces", all, 200, "a b"),
        ("one of another kind", secrets, 400, ""),
        (
            "one of a namespace behind",
            with("start", other.into()),
            200,
            "",
        ),
        (
            "one of no namespace",
            with("start", above.into()),
            200,
            "a b",
        ),
        ("the store's begin", with("start", "".into()), 400, ""),
        ("no version", with("rv", json!(0)), 400, ""),
        ("a version that is none", with("rv", json!(-1)), 400, ""),
        (
            "a version that never comes",
            with("rv", json!(u64::MAX)),
            504,
            "",
        ),
        (
            "a version beyond numbers",
            with("rv", json!(1e300)),
            400,
            "",
        ),
        (
            "another token's version",
            with("v", "meta.k8s.io/v0".into()),
            400,
            "",
        ),
        ("a list", json!([own]), 400, ""),
    ] {
        let answer = continued(&world, path, &encoded(&said)).unwrap();
        assert_eq!(answer.code, code, "{what}: {}", answer.text());
        judge(1, &answer).unwrap_or_else(|why| panic!("{what}: {why}"));
        if code == 200 {
            let page = answer.json().unwrap();
            let items = page["items"].as_array().unwrap().iter();
            let shown: Vec<&str> = items
                .filter_map(|item| item["metadata"]["name"].as_str())
                .collect();
            assert_eq!(shown.join(" "), names, "{what}");
        }
    }
}

#[test]
fn a_token_from_before_what_the_server_keeps_is_expired() {
    let world = world();
    let (path, ..) = LISTS[1];
    let token = token(&world, path);
    world.block_on(async {
        let made = json!({"metadata": {"name": "later"}});
        let server = &world.server;
        server
            .post("/api/v1/namespaces/two/configmaps", made)
            .await
            .expect(201);
        let restarted = server.restarted().await;
        let gone = restarted
            .get(&format!("{path}?limit=2&continue={token}"))
            .await;
        let gone = gone.expect(410);
        assert_eq!(gone["reason"], "Expired");
    });
}
