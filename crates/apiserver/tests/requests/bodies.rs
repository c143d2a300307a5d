//! Bodies: of every kind and every form of a write, right, bent and damaged, with types right and wrong, sent by
//! who may do everything and by who may do nothing.

use bytes::Bytes;
use http::Request;

use crate::drawn::{Corpus, Sent};
use crate::harness::{Random, prove};
use crate::judge::{of_resource, refusal};
use crate::world::{Who, World};

/// What everybody who is known may ask: about themselves.
const ABOUT_ONESELF: &str = "/self";

/// Sends it, and holds the answer to what a refusal is and to what a body may cost.
fn answered(world: &World, who: Who, sent: &Sent) -> Result<u16, String> {
    let Some(request) = sent.request() else {
        return Ok(0);
    };
    let answer = world.ask_bounded(who, request)?;
    refusal(&answer, sent.method, &sent.path)?;
    Ok(answer.code)
}

#[test]
fn any_body_is_answered() {
    let world = World::start();
    let corpus = Corpus::new();
    let make = |random: &mut Random| Sent::draw(&corpus, random);
    prove("any_body_is_answered", make, |sent| {
        answered(&world, Who::Admin, sent).map(drop)
    });
}

#[test]
fn bodies_of_who_has_no_rights_change_nothing() {
    let world = World::start();
    let corpus = Corpus::new();
    let make = |random: &mut Random| Sent::draw(&corpus, random);
    let name = "bodies_of_who_has_no_rights_change_nothing";
    prove(name, make, |sent| {
        for who in [Who::Nobody, Who::Anonymous] {
            let before = world.revision();
            let code = answered(&world, who, sent)?;
            if world.revision() != before {
                return Err(format!("{who:?}: {code}, and something was written"));
            }
            let oneself = who == Who::Nobody && sent.path.contains(ABOUT_ONESELF);
            if !oneself && of_resource(&sent.path) && ![0, 403].contains(&code) {
                return Err(format!("{who:?}: {code}"));
            }
        }
        Ok(())
    });
}

/// What is worth an attack by its size alone: right below the limit of bodies.
#[test]
fn large_bodies() {
    let world = World::start();
    let limit = 3 << 20;
    let path = "/api/v1/namespaces/default/configmaps";
    let object = |inner: &str| format!(r#"{{"metadata":{{"name":"b"}},"data":{{{inner}}}}}"#);
    let name = |length: usize| format!(r#"{{"metadata":{{"name":"{}"}}}}"#, "a".repeat(length));
    let many = |item: &str, bytes: usize| item.repeat(bytes / item.len());
    for (what, method, path, media, body, code) in [
        (
            "blanks",
            "POST",
            path,
            "application/json",
            " ".repeat(limit),
            400,
        ),
        (
            "a huge name",
            "POST",
            path,
            "application/json",
            name(1 << 20),
            422,
        ),
        (
            "lists in lists",
            "POST",
            path,
            "application/json",
            many("[", limit),
            400,
        ),
        (
            "objects in objects",
            "POST",
            path,
            "application/yaml",
            many("{a: ", 1 << 20),
            400,
        ),
        (
            "one key, often",
            "POST",
            path,
            "application/json",
            object(&format!("{}\"z\":\"\"", many("\"a\":\"\",", 1 << 20))),
            201,
        ),
        (
            "a huge patch of nothing",
            "PATCH",
            "/api/v1/namespaces/default/configmaps/a",
            "application/json-patch+json",
            format!("[{}1]", many("1,", 1 << 20)),
            413,
        ),
        (
            "many tests",
            "PATCH",
            "/api/v1/namespaces/default/configmaps/a",
            "application/json-patch+json",
            format!(
                "[{}{{}}]",
                many(r#"{"op":"test","path":"/kind","value":1},"#, 1 << 20)
            ),
            413,
        ),
        (
            "many controllers",
            "POST",
            path,
            "application/json",
            format!(
                r#"{{"metadata":{{"name":"c","ownerReferences":[{}{{}}]}}}}"#,
                many(
                    r#"{"apiVersion":"v1","kind":"Pod","name":"x","uid":"u","controller":true},"#,
                    1 << 20
                )
            ),
            422,
        ),
        (
            "faults below a huge name",
            "PATCH",
            "/api/v1/namespaces/default/configmaps/a",
            "application/merge-patch+json",
            format!(
                r#"{{"{}":{{{}"a":0}}}}"#,
                "k".repeat(2 << 20),
                many("\"a\":0,", 1 << 10)
            ),
            200,
        ),
        (
            "a kind nobody knows",
            "POST",
            "/apis/example.com/v1/namespaces/default/things",
            "application/json",
            "{}".to_owned(),
            404,
        ),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
            .body(Bytes::from(body))
            .unwrap();
        let answer = world.ask_bounded(Who::Admin, request);
        let answer = answer.unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(answer.code, code, "{what}: {}", answer.text());
        refusal(&answer, method, path).unwrap_or_else(|why| panic!("{what}: {why}"));
    }
}
