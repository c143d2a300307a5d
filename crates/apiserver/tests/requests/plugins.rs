//! Admission's plugins over objects that nobody should make: pods, claims, accounts and ranges with hostile amounts.

use std::time::Duration;

use api::Resource;
use bytes::Bytes;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::harness::{Random, now, prove};
use crate::judge::refusal;
use crate::mutate::bend;
use crate::objects::{self, Taste};
use crate::world::{Who, World};

/// How long one answer may take.
const LONGEST: Duration = Duration::from_secs(2);
const CORE: &str = "/api/v1/namespaces/default";

/// Amounts, and what looks like one.
const AMOUNTS: &[&str] = &[
    "0",
    "1",
    "100m",
    "1Gi",
    "-1",
    "-0",
    "+5",
    "1e3",
    "1E3",
    "1E",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "9223372036854775807E",
    "1e9223372036854775807",
    "1e-9223372036854775808",
    "1e400",
    "0.0000000001n",
    "999999999999999999999999Ei",
    "Ki",
    "",
    ".",
    "-",
    "1.",
    ".5",
    "1.5.5",
    "NaN",
    "inf",
    "0x1f",
    "1 ",
    "１",
    "1µ",
    "1u",
];
const NAMES: &[&str] = &[
    "cpu",
    "memory",
    "storage",
    "ephemeral-storage",
    "example.com/gpu",
    "",
    "a/b/c",
    "é",
];

fn amounts(random: &mut Random) -> Value {
    let entry = |random: &mut Random| {
        let amount = match random.below(12) {
            0 => json!(i64::MAX),
            1 => json!(1e300),
            2 => "9".repeat(random.below(3_000)).into(),
            _ => random.pick(AMOUNTS).into(),
        };
        (random.pick(NAMES).to_owned(), amount)
    };
    Value::Object((0..random.below(4)).map(|_| entry(random)).collect())
}

/// The range, the account, and what is asked of them: a pod and a claim.
type Case = ((Value, Value), (Value, Value));

fn range(random: &mut Random) -> Value {
    let item = |random: &mut Random| {
        let kind = random.pick(&[
            "Container",
            "Pod",
            "PersistentVolumeClaim",
            "",
            "example.com/x",
        ]);
        let mut item = json!({"type": kind});
        for list in [
            "min",
            "max",
            "default",
            "defaultRequest",
            "maxLimitRequestRatio",
        ] {
            if random.percent(50) {
                item[list] = amounts(random);
            }
        }
        item
    };
    let limits: Vec<Value> = (0..random.below(4)).map(|_| item(random)).collect();
    json!({"metadata": {"name": "l"}, "spec": {"limits": limits}})
}

fn account(random: &mut Random) -> Value {
    let references = |random: &mut Random| -> Value {
        (0..random.below(3))
            .map(|_| json!({"name": random.pick(&["a", "", "../b", "é"])}))
            .collect()
    };
    let enforced = random.pick(&["true", "false", "", "TRUE"]);
    json!({
        "metadata": {"name": "a", "annotations": {"kubernetes.io/enforce-mountable-secrets": enforced}},
        "secrets": references(random), "imagePullSecrets": references(random),
        "automountServiceAccountToken": random.percent(50),
    })
}

fn pod(random: &mut Random) -> Value {
    let mut pod = match random.percent(50) {
        true => objects::draw(Resource::of::<Pod>(), Taste::SPARSE, random),
        false => json!({"spec": {"containers": [{"name": "a", "image": "a"}]}}),
    };
    pod["metadata"] = json!({"name": "p"});
    let account = random.pick(&["a", "a", "default", "none", "../a", ""]);
    pod["spec"]["serviceAccountName"] = account.into();
    for list in ["containers", "initContainers"] {
        let containers = pod["spec"][list].as_array_mut();
        for container in containers.into_iter().flatten() {
            container["resources"] =
                json!({"requests": amounts(random), "limits": amounts(random)});
        }
    }
    if random.percent(30) {
        pod["spec"]["resources"] = json!({"requests": amounts(random), "limits": amounts(random)});
    }
    if random.percent(50) {
        pod["spec"]["tolerations"] = json!([
            {"key": "node.kubernetes.io/not-ready", "effect": random.pick(&["NoExecute", "", "Never"])},
            {"tolerationSeconds": i64::MIN},
        ]);
    }
    pod
}

fn draw(random: &mut Random) -> Case {
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": amounts(random), "limits": amounts(random)}}});
    let mut case = ((range(random), account(random)), (pod(random), claim));
    if random.percent(50) {
        let others = [case.0.0.clone(), case.0.1.clone(), case.1.0.clone()];
        let ((range, account), (pod, claim)) = &mut case;
        for value in [range, account, pod, claim] {
            if random.percent(40) {
                bend(value, &others, random);
            }
        }
    }
    case
}

/// Sends a body, and holds the answer to its bounds.
fn sent(world: &World, method: &str, path: &str, body: &Value) -> Result<u16, String> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()));
    let begin = now();
    let answer = world.ask_bounded(Who::Admin, request.unwrap())?;
    let took = begin.elapsed();
    if took > LONGEST {
        return Err(format!("{method} {path}: {} after {took:?}", answer.code));
    }
    refusal(&answer, method, path)?;
    Ok(answer.code)
}

#[test]
fn plugins_bear_any_object() {
    let world = World::start();
    let empty = json!({"metadata": {"name": "l"}, "spec": {"limits": []}});
    assert_eq!(
        sent(&world, "POST", &format!("{CORE}/limitranges"), &empty),
        Ok(201)
    );
    prove(
        "plugins_bear_any_object",
        draw,
        |((range, account), (pod, claim))| {
            for (method, path, body) in [
                ("PUT", "limitranges/l", range),
                ("PUT", "serviceaccounts/a", account),
                ("POST", "pods?dryRun=All", pod),
                ("PATCH", "pods/a/resize?dryRun=All", pod),
                ("POST", "persistentvolumeclaims?dryRun=All", claim),
            ] {
                sent(&world, method, &format!("{CORE}/{path}"), body)?;
            }
            Ok(())
        },
    );
}

/// The most that a plugin may have to do: as many things as bodies hold, against each other.
#[test]
fn plugins_bear_many_things() {
    let world = World::start();
    let names = |count: usize| (0..count).map(|at| format!("example.com/r{at}"));
    let amounts = |count: usize| -> Value {
        names(count)
            .map(|name| (name, json!("1")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let limits: Vec<Value> = (0..100)
        .map(|_| json!({"type": "Container", "max": amounts(100), "min": amounts(100)}))
        .collect();
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": limits}});
    let made = sent(&world, "POST", &format!("{CORE}/limitranges"), &range).unwrap();
    assert_eq!(made, 422, "a type twice");
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "max": amounts(10_000), "default": amounts(10_000)},
        {"type": "Pod", "max": amounts(10_000)}]}});
    let made = sent(&world, "POST", &format!("{CORE}/limitranges"), &range).unwrap();
    assert_eq!(made, 201);
    // One is looked at, and has limits without requests; twenty are too many things.
    for (count, code) in [(1, 422), (20, 403)] {
        let containers: Vec<Value> = (0..count)
            .map(|at| json!({"name": format!("c{at}"), "image": "a"}))
            .collect();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
        let made = sent(&world, "POST", &format!("{CORE}/pods?dryRun=All"), &pod);
        assert_eq!(made, Ok(code), "{count}");
    }
}
