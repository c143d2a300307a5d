//! What becomes of volumes when objects that they show change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Failure, Outcome, renew};
use super::{Bench, pod, set_up};

const MAP: &str = "/api/v1/namespaces/shop/configmaps/c";
const SECRET: &str = "/api/v1/namespaces/shop/secrets/s";

fn map(data: &Value) -> Option<Value> {
    let metadata = json!({"name": "c", "namespace": "shop"});
    Some(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))
}

fn secret(data: &Value) -> Option<Value> {
    let metadata = json!({"name": "s", "namespace": "shop"});
    Some(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}))
}

impl Bench {
    fn change(&self, path: &str, to: Option<Value>) {
        self.server.changed.lock().insert(path.to_owned(), to);
    }

    /// Makes anew the volume `v`, where it is stale; what it says if that fails.
    async fn renewed(&self, volume: &Value, is_stale: bool) -> Option<String> {
        let stale: BTreeSet<String> = is_stale.then(|| "v".to_owned()).into_iter().collect();
        let renewed = async |cx: &super::Context<'_>| renew(cx, &BTreeMap::new(), &stale).await;
        let Outcome { made, mut unmade } = self.with(&pod(volume), renewed).await;
        assert_eq!(made.len() + unmade.len(), stale.len());
        let unmade = unmade.pop()?;
        assert!(unmade.volume == "v" && unmade.lacks, "{unmade:?}");
        Some(match unmade.why {
            Failure::Mount(message) => message,
            other => format!("{other:?}"),
        })
    }
}

/// The files as users see them.
fn files(dir: &Path) -> Vec<String> {
    let names = super::names(dir).into_iter();
    let file = |name: String| {
        let text = fs::read_to_string(dir.join(&name));
        format!("{name}={}", text.unwrap_or_else(|_| "(binary)".to_owned()))
    };
    names.map(file).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_is_made_anew_and_nothing_else() {
    let two = json!([{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]);
    let table = [
        (
            json!({"name": "v", "configMap": {"name": "c"}}),
            vec!["a=3", "n=4"],
        ),
        (
            json!({"name": "v", "secret": {"secretName": "s"}}),
            vec!["password=new"],
        ),
        (
            json!({"name": "v", "projected": {"sources": two}}),
            vec!["a=3", "n=4", "password=new"],
        ),
    ];
    for (volume, want) in table {
        let b = Bench::new();
        let dir = b.make(&volume).await.unwrap().path;
        let (before, link) = (files(&dir), fs::read_link(dir.join("..data")).unwrap());
        b.change(MAP, map(&json!({"a": "3", "n": "4"})));
        b.change(SECRET, secret(&json!({"password": "bmV3"})));
        assert_eq!(b.renewed(&volume, false).await, None);
        assert_eq!(files(&dir), before, "{volume}");
        assert_eq!(b.renewed(&volume, true).await, None);
        assert_eq!(files(&dir), want, "{volume}");
        let new = fs::read_link(dir.join("..data")).unwrap();
        assert_ne!(new, link, "the files were replaced together: {volume}");
        assert!(!dir.join(link).exists(), "the old ones are gone: {volume}");
        // Where nothing has changed after all, nothing moves.
        assert_eq!(b.renewed(&volume, true).await, None);
        assert_eq!(fs::read_link(dir.join("..data")).unwrap(), new, "{volume}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_stays_where_it_has_to_be_there() {
    let item = json!([{"key": "a", "path": "x"}]);
    let source = |optional: bool| json!({"name": "c", "items": item, "optional": optional});
    let failed = |why: &str| Some(format!("MountVolume.SetUp failed for volume \"v\" : {why}"));
    let table = [
        (
            None,
            false,
            failed("configmap \"c\" not found"),
            vec!["x=1"],
        ),
        (
            map(&json!({"b": "2"})),
            false,
            failed("configmap references non-existent config key: a"),
            vec!["x=1"],
        ),
        (None, true, None, vec![]),
        (map(&json!({"b": "2"})), true, None, vec![]),
    ];
    for (changed, optional, why, want) in table {
        for projected in [false, true] {
            let b = Bench::new();
            let volume = match projected {
                false => json!({"name": "v", "configMap": source(optional)}),
                true => {
                    json!({"name": "v", "projected": {"sources": [{"configMap": source(optional)}]}})
                }
            };
            let dir = b.make(&volume).await.unwrap().path;
            assert_eq!(files(&dir), ["x=1"]);
            b.change(MAP, changed.clone());
            assert_eq!(b.renewed(&volume, true).await, why, "{volume}");
            assert_eq!(files(&dir), want, "{volume}");
            b.change(MAP, map(&json!({"a": "5"})));
            assert_eq!(b.renewed(&volume, true).await, None, "{volume}");
            assert_eq!(files(&dir), ["x=5"], "{volume}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_optional_is_shown_when_it_comes() {
    let b = Bench::new();
    b.change(SECRET, None);
    let volume = json!({"name": "v", "secret": {"secretName": "s", "optional": true}});
    let dir = b.make(&volume).await.unwrap().path;
    assert!(files(&dir).is_empty());
    b.change(SECRET, secret(&json!({"password": "bmV3"})));
    assert_eq!(b.renewed(&volume, true).await, None);
    assert_eq!(files(&dir), ["password=new"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_stays_until_it_is_due() {
    let b = Bench::new();
    let sources =
        json!([{"serviceAccountToken": {"path": "deep/token"}}, {"configMap": {"name": "c"}}]);
    let volume = json!({"name": "v", "projected": {"sources": sources}});
    let first = b.make(&volume).await.unwrap();
    let token = || fs::read_to_string(first.path.join("deep/token")).ok();
    let asked = || b.server.asked.lock().len();
    assert_eq!((token().as_deref(), asked()), (Some("t-0"), 1));
    let made = BTreeMap::from([("v".to_owned(), first.clone())]);
    let again = async || {
        let stale = BTreeSet::from(["v".to_owned()]);
        let renewed = async |cx: &super::Context<'_>| renew(cx, &made, &stale).await;
        let Outcome { mut made, unmade } = b.with(&pod(&volume), renewed).await;
        assert!(unmade.is_empty(), "{unmade:?}");
        made.remove("v").unwrap()
    };

    b.change(MAP, map(&json!({"a": "3"})));
    assert_eq!(again().await, first, "it is due when it was");
    assert_eq!((token().as_deref(), asked()), (Some("t-0"), 1));
    assert_eq!(fs::read(first.path.join("a")).unwrap(), b"3");
    let mode = fs::metadata(first.path.join("deep/token")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);

    tokio::time::sleep(Duration::from_secs(3600)).await;
    let second = again().await;
    assert_eq!((token().as_deref(), asked()), (Some("t-1"), 2));
    assert!(second.renew_at > first.renew_at);
}

#[tokio::test(start_paused = true)]
async fn only_the_volumes_that_are_named_are_read_again() {
    let b = Bench::new();
    let mut pod = pod(&json!({"name": "v", "configMap": {"name": "c"}}));
    let other = json!({"name": "w", "configMap": {"name": "c"}});
    let volumes = pod.spec.as_mut().unwrap().volumes.as_mut().unwrap();
    volumes.push(serde_json::from_value(other).unwrap());
    let made = b.with(&pod, set_up).await.unwrap();
    b.change(MAP, map(&json!({"a": "3"})));
    let stale = BTreeSet::from(["w".to_owned(), "none".to_owned()]);
    let renewed = async |cx: &super::Context<'_>| renew(cx, &made, &stale).await;
    let again = b.with(&pod, renewed).await;
    assert!(again.unmade.is_empty());
    assert_eq!(again.made.keys().collect::<Vec<_>>(), ["w"]);
    assert_eq!(files(&made["w"].path), ["a=3"]);
    assert_eq!(files(&made["v"].path), ["a=1", "b=2", "bin=(binary)"]);
}
