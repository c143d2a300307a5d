//! `downwardAPI` and `projected`: what their files hold, and how long.

use std::collections::{BTreeMap, BTreeSet};

use super::super::renew;
use super::*;

fn read(made: &Made) -> BTreeMap<String, String> {
    let all = names(&made.path).into_iter();
    all.map(|name| {
        let text = fs::read_to_string(made.path.join(&name)).unwrap();
        (name, text)
    })
    .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// As admission adds it to every pod, with objects that are there.
fn api_access() -> Value {
    json!({"name": "v", "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_may_know_of_itself() {
    let b = Bench::new();
    let field = |path: &str, of: &str| json!({"path": path, "fieldRef": {"fieldPath": of}});
    let limit = |path: &str, of: &str, divisor: &str| json!({"path": path, "resourceFieldRef": {"containerName": "main", "resource": of, "divisor": divisor}});
    let mut items = vec![
        field("name", "metadata.name"),
        field("uid", "metadata.uid"),
        field("labels", "metadata.labels"),
        field("annotations", "metadata.annotations"),
        field("app", "metadata.labels['app']"),
        field("none", "metadata.annotations['none']"),
        limit("cpu", "limits.cpu", "1m"),
        limit("memory", "limits.memory", "1Mi"),
        limit("disk", "limits.ephemeral-storage", "1Gi"),
    ];
    items[0]["mode"] = json!(0o600);
    let volume = json!({"name": "v", "downwardAPI": {"defaultMode": 0o440, "items": items}});
    let made = b.make(&volume).await.unwrap();
    let want = [
        ("annotations", "why=\"a \\\"b\\\"\\nc\""),
        ("app", "web"),
        ("cpu", "1500"),
        ("disk", "1024"),
        ("labels", "app=\"web\"\ntier=\"front\""),
        ("memory", "64"),
        ("name", "web"),
        ("none", ""),
        ("uid", "u"),
    ];
    let want = want.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(read(&made), BTreeMap::from(want));
    assert_eq!(mode(&made.path.join("name")), 0o600);
    assert_eq!(mode(&made.path.join("uid")), 0o440);
    assert!(made.read_only && made.renew_at.is_none());
}

#[tokio::test(start_paused = true)]
async fn several_sources_are_one_volume() {
    let b = Bench::new();
    let began = tokio::time::Instant::now();
    let made = b.make(&api_access()).await.unwrap();
    assert_eq!(began.elapsed(), ANSWER, "all are asked at the same time");
    let want = [("ca.crt", "1"), ("namespace", "shop"), ("token", "t-0")];
    let want = want.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(read(&made), BTreeMap::from(want));
    assert_eq!(mode(&made.path.join("token")), 0o600);
    assert_eq!(mode(&made.path.join("ca.crt")), 0o644);

    let sources = json!([
        {"configMap": {"name": "c"}},
        {"secret": {"name": "s", "items": [{"key": "password", "path": "./a", "mode": 0o400}, {"key": "password", "path": "d//e"}]}},
        {"secret": {"name": "none", "optional": true}}, {},
    ]);
    let made = b
        .make(&json!({"name": "v", "projected": {"sources": sources}}))
        .await
        .unwrap();
    assert_eq!(names(&made.path), ["a", "b", "bin", "d"]);
    let text = |name: &str| fs::read_to_string(made.path.join(name)).unwrap();
    assert_eq!(text("a"), "hunter2", "the later source has it");
    assert_eq!(text("d/e"), "hunter2");
    assert_eq!(mode(&made.path.join("a")), 0o400);
    assert!(made.renew_at.is_none(), "nothing of it ends");
}

#[tokio::test(start_paused = true)]
async fn the_request_for_a_token_says_for_whom_and_for_what() {
    let b = Bench::new();
    let token = |extra: Value| {
        let mut token = json!({"path": "token"});
        let fields = extra.as_object().unwrap().clone();
        token.as_object_mut().unwrap().extend(fields);
        json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": token}]}})
    };
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u"});
    let table = [
        (json!({}), json!([]), 3600),
        (json!({"audience": ""}), json!([]), 3600),
        (
            json!({"audience": "vault", "expirationSeconds": 600}),
            json!(["vault"]),
            600,
        ),
    ];
    for (extra, audiences, seconds) in table {
        b.make(&token(extra)).await.unwrap();
        let asked = b.server.asked.lock().pop().unwrap();
        assert_eq!(asked["apiVersion"], "authentication.k8s.io/v1");
        assert_eq!(asked["kind"], "TokenRequest");
        let spec =
            json!({"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": pod});
        assert_eq!(asked["spec"], spec);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_sources_is_said_in_the_kubelets_words() {
    let b = Bench::new();
    let of = |sources: Value| json!({"name": "v", "projected": {"sources": sources}});
    let key = |key: &str| json!([{"key": key, "path": "x"}]);
    let field = |path: &str| json!({"path": "x", "fieldRef": {"fieldPath": path}});
    let table = [
        (
            of(json!([{"configMap": {"name": "no"}}])),
            "configmap \"no\" not found",
        ),
        (
            of(
                json!([{"secret": {"name": "no"}}, {"configMap": {"name": "c"}}, {"configMap": {"name": "c", "items": key("no")}}, {"secret": {"name": "no"}}]),
            ),
            "[secret \"no\" not found, configmap references non-existent config key: no]",
        ),
        (
            of(json!([{"secret": {"name": "s", "items": key("no")}}])),
            "references non-existent secret key: no",
        ),
        (
            of(
                json!([{"downwardAPI": {"items": [field("spec.nope"), field("metadata.nope")]}}, {"secret": {"name": "no"}}]),
            ),
            "[unsupported fieldPath: spec.nope, unsupported fieldPath: metadata.nope, secret \"no\" not found]",
        ),
        (
            json!({"name": "v", "downwardAPI": {"items": [{"path": "x", "resourceFieldRef": {"resource": "limits.cpu", "containerName": "no"}}]}}),
            "container no not found",
        ),
        (
            of(
                json!([{"configMap": {"name": "c"}}, {"secret": {"name": "s", "items": [{"key": "password", "path": "a/b"}]}}]),
            ),
            "writing its files: invalid path \"a/b\": \"a\" is a file",
        ),
    ];
    for (volume, why) in table {
        assert_eq!(
            b.make(&volume).await.unwrap_err(),
            format!("MountVolume.SetUp failed for volume \"v\" : {why}")
        );
    }
    let mut pod = pod(&api_access());
    pod.spec.as_mut().unwrap().service_account_name = Some("none".to_owned());
    let failure = b.with(&pod, set_up).await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "MountVolume.SetUp failed for volume \"v\" : failed to fetch token: not found"
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_and_stays_where_that_fails() {
    let b = Bench::new();
    let pod = pod(&api_access());
    let made = b.with(&pod, set_up).await.unwrap();
    let token = || fs::read_to_string(made["v"].path.join("token")).unwrap();
    let due = made["v"].renew_at.unwrap();
    let seconds = due.duration_since(b.clock.now()).as_secs();
    assert!((2740..=2885).contains(&seconds), "{seconds}");

    let early = b
        .with(&pod, async |cx| renew(cx, &made, &BTreeSet::new()).await)
        .await;
    let none = early.made.is_empty() && early.unmade.is_empty();
    assert!(none, "nothing is due yet");
    tokio::time::advance(b.clock.until(due)).await;
    b.server.down.store(true, Ordering::Relaxed);
    let failed = b
        .with(&pod, async |cx| renew(cx, &made, &BTreeSet::new()).await)
        .await;
    assert!(failed.made.is_empty() && !failed.unmade[0].lacks);
    let failure = failed.unmade[0].why.to_string();
    assert!(
        failure.contains("[failed to fetch token: not now, not now]"),
        "{failure}"
    );
    assert_eq!(token(), "t-0");
    b.server.down.store(false, Ordering::Relaxed);
    let renewed = b
        .with(&pod, async |cx| renew(cx, &made, &BTreeSet::new()).await)
        .await;
    assert!(renewed.unmade.is_empty());
    assert_eq!(token(), "t-2");
    assert!(renewed.made["v"].renew_at.unwrap() > due);
    assert_eq!(
        names(&renewed.made["v"].path),
        ["ca.crt", "namespace", "token"]
    );
}

#[tokio::test(start_paused = true)]
async fn only_so_many_tokens_are_asked_for_at_a_time() {
    let b = Bench::new();
    let token = |number: u32| json!({"serviceAccountToken": {"path": number.to_string()}});
    let sources: Vec<Value> = (0..100).map(token).collect();
    let volume = json!({"name": "v", "projected": {"sources": sources}});
    let began = tokio::time::Instant::now();
    let made = b.make(&volume).await.unwrap();
    assert_eq!(names(&made.path).len(), 100);
    let took = began.elapsed();
    assert!(took >= ANSWER * 4, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn labels_are_followed() {
    let b = Bench::new();
    let field = json!({"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}});
    let volumes = [
        json!({"name": "v", "downwardAPI": {"items": [field]}}),
        json!({"name": "v", "projected": {"sources": [{"downwardAPI": {"items": [field]}}]}}),
    ];
    for volume in volumes {
        let mut pod = pod(&volume);
        let made = b.with(&pod, set_up).await.unwrap();
        pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "new".to_owned())]));
        let followed = b
            .with(&pod, async |cx| renew(cx, &made, &BTreeSet::new()).await)
            .await;
        assert!(followed.unmade.is_empty());
        assert_eq!(read(&made["v"])["l"], "app=\"new\"");
        tear_down(&b.volumes()).unwrap();
    }
}
