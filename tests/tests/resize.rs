//! Pods whose CPU and memory change while they run.

use std::time::Duration;

use carob_tests::{Case, Cluster, Outcome, check, until};
use client::Patch;
use client::kubeconfig::Sources;
use k8s_openapi::api::core::v1::Pod;
use libtest_mimic::Failed;
use serde_json::{Value, json};

const CASES: &[Case] = &[
    ("a_spinner_gets_more_without_a_restart", spinner),
    ("a_raised_limit_lets_a_guest_go_on", memory),
    ("what_a_node_cannot_have_is_said", infeasible),
    ("who_wants_it_is_started_anew", restarted),
    ("kubectl_resizes", kubectl),
];

fn main() {
    carob_tests::run(CASES);
}

/// A p1 module that computes for ever.
const SPINS: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;

/// A p1 module that asks for 1 MiB more again and again, about 40 times a second, until it has 48 MiB; then it goes on
/// doing nothing.
const GROWS: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func $rest (param $nanos i64)
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 48))
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (local.get $nanos))
        (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))
    (func (export "_start")
        (call $rest (i64.const 10_000_000_000))
        (loop $more
            (drop (memory.grow (i32.const 16)))
            (call $rest (i64.const 25_000_000))
            (br_if $more (i32.lt_u (memory.size) (i32.const 768))))
        (loop $ever
            (call $rest (i64.const 1_000_000_000))
            (br $ever))))"#;

fn push(cluster: &Cluster, name: &str, text: &str) -> Outcome {
    let file = carob_tests::guest(cluster, name, text)?;
    carob_tests::succeed(cluster.carob_command(&["push"]).arg(file).arg(name)).map(drop)
}

fn running(cluster: &Cluster, name: &str, container: &str) -> Outcome {
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{container}]}}}}"
    ))?;
    cluster
        .wait_for(&format!("pods/{name}"), "/status/phase", "Running")
        .map(drop)
}

/// Has the pod's only container, named `c`, get these resources.
fn resize(cluster: &Cluster, name: &str, resources: &Value) -> Outcome {
    let context = Sources::from_environment(Some(cluster.kubeconfig())).load(None)?;
    let client = context.client("tests")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let patch = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
    let patch = Patch::Strategic(patch);
    let pods = client.of::<Pod>();
    let patched = pods.patch("default", name, &patch, Some("resize"));
    runtime.block_on(patched)?;
    Ok(())
}

fn cpu(amount: &str) -> Value {
    json!({"requests": {"cpu": amount}, "limits": {"cpu": amount}})
}

/// The pod's only container, as its status has it.
fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn condition<'p>(pod: &'p Value, kind: &str) -> Option<&'p Value> {
    let conditions = pod["status"]["conditions"].as_array();
    let mut all = conditions.into_iter().flatten();
    all.find(|condition| condition["type"] == kind)
}

/// Waits until the pod's container has what it was to have, and nothing of that is under way.
fn has(cluster: &Cluster, name: &str, resources: &Value) -> Result<Value, Failed> {
    let mut last = Value::Null;
    let has = || {
        last = cluster.get(&format!("pods/{name}"))?;
        let open = ["PodResizePending", "PodResizeInProgress"];
        let settled = open
            .into_iter()
            .all(|kind| condition(&last, kind).is_none());
        Ok(settled && container(&last)["resources"] == *resources)
    };
    until("it has what was asked for", Duration::from_secs(30), has)?;
    Ok(last)
}

/// What the metrics say that the pod's container uses; nothing while they say nothing.
fn usage(cluster: &Cluster, name: &str) -> Option<Value> {
    let metrics = cluster.get(&format!("podmetrics/{name}")).ok()?;
    Some(metrics["containers"][0]["usage"].clone())
}

/// Thousandths of a core.
fn millicores(usage: &Value) -> Option<f64> {
    let text = usage["cpu"].as_str()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "n" => Some(number / 1e6),
        "u" => Some(number / 1e3),
        "m" => Some(number),
        "" => Some(number * 1e3),
        _ => None,
    }
}

fn delete(cluster: &Cluster, name: &str) -> Outcome {
    cluster.carob(&format!("delete pod/{name}")).map(drop)
}

fn spinner(cluster: &Cluster) -> Outcome {
    push(cluster, "spins", SPINS)?;
    let spins = format!("{{name: c, image: spins, resources: {}}}", cpu("100m"));
    running(cluster, "spinner", &spins)?;
    let share = || usage(cluster, "spinner").and_then(|usage| millicores(&usage));
    until("it is held to its quota", Duration::from_secs(40), || {
        Ok(share().is_some_and(|share| share > 0.0 && share < 150.0))
    })?;
    let before = cluster.get("pods/spinner")?;
    resize(cluster, "spinner", &cpu("500m"))?;
    let after = has(cluster, "spinner", &cpu("500m"))?;
    // Rates are of the last 15 to 30 seconds.
    until("it has more", Duration::from_secs(90), || {
        Ok(share().is_some_and(|share| share > 250.0))
    })?;
    let (old, new) = (container(&before), container(&after));
    check(new["restartCount"] == 0, new)?;
    check(new["state"] == old["state"], new)?;
    check(new["allocatedResources"]["cpu"] == "500m", new)?;
    let generation = |pod: &Value| pod["metadata"]["generation"].as_i64();
    let next = generation(&before).map(|generation| generation + 1);
    check(generation(&after) == next, &after["metadata"])?;
    check(
        after["status"]["observedGeneration"].as_i64() == next,
        &after["status"],
    )?;
    delete(cluster, "spinner")
}

fn memory(cluster: &Cluster) -> Outcome {
    push(cluster, "grows", GROWS)?;
    let limited = |limit: &str| json!({"requests": {"memory": "1Mi"}, "limits": {"memory": limit}});
    let grows = format!("{{name: c, image: grows, resources: {}}}", limited("32Mi"));
    // It has some time to be given more before it wants it; nothing else is awaited within that.
    running(cluster, "saved", &grows)?;
    resize(cluster, "saved", &limited("64Mi"))?;
    has(cluster, "saved", &limited("64Mi"))?;
    running(cluster, "doomed", &grows)?;
    until("the other one is killed", Duration::from_secs(60), || {
        let doomed = cluster.get("pods/doomed")?;
        let last = &container(&doomed)["lastState"]["terminated"]["reason"];
        let now = &container(&doomed)["state"]["terminated"]["reason"];
        Ok(last == "OOMKilled" || now == "OOMKilled")
    })?;
    until("it has all it wants", Duration::from_secs(60), || {
        let used = usage(cluster, "saved").and_then(|usage| {
            let text = usage["memory"].as_str()?.strip_suffix("Ki")?.to_owned();
            text.parse::<u64>().ok()
        });
        Ok(used.is_some_and(|kib| kib >= 48 << 10))
    })?;
    let saved = cluster.get("pods/saved")?;
    check(container(&saved)["restartCount"] == 0, &saved["status"])?;
    // What it has of memory it keeps: less than that cannot be its limit before it ends.
    resize(cluster, "saved", &limited("40Mi"))?;
    until("less is refused", Duration::from_secs(30), || {
        let pod = cluster.get("pods/saved")?;
        let condition = condition(&pod, "PodResizeInProgress");
        let message = condition.and_then(|c| c["message"].as_str());
        Ok(message.is_some_and(|m| m.contains("below current usage")))
    })?;
    for name in ["saved", "doomed"] {
        delete(cluster, name)?;
    }
    Ok(())
}

fn infeasible(cluster: &Cluster) -> Outcome {
    let rests = format!("{{name: c, image: grows, resources: {}}}", cpu("10m"));
    running(cluster, "greedy", &rests)?;
    resize(cluster, "greedy", &cpu("999"))?;
    let mut pod = Value::Null;
    until("it is said", Duration::from_secs(30), || {
        pod = cluster.get("pods/greedy")?;
        let pending = condition(&pod, "PodResizePending");
        Ok(pending.is_some_and(|pending| pending["reason"] == "Infeasible"))
    })?;
    let pending = condition(&pod, "PodResizePending").ok_or("it is there")?;
    let message = pending["message"].as_str().unwrap_or_default();
    let expected = "Node didn't have enough capacity: cpu, requested: 999000, capacity: ";
    check(message.starts_with(expected), message)?;
    let generation = &pod["metadata"]["generation"];
    check(pending["observedGeneration"] == *generation, pending)?;
    check(container(&pod)["resources"] == cpu("10m"), container(&pod))?;
    check(
        pod["spec"]["containers"][0]["resources"] == cpu("999"),
        &pod["spec"],
    )?;
    resize(cluster, "greedy", &cpu("20m"))?;
    has(cluster, "greedy", &cpu("20m"))?;
    delete(cluster, "greedy")
}

fn restarted(cluster: &Cluster) -> Outcome {
    let rests = format!(
        "{{name: c, image: grows, resizePolicy: [{{resourceName: cpu, restartPolicy: RestartContainer}}], resources: {}}}",
        cpu("10m")
    );
    running(cluster, "anew", &rests)?;
    resize(cluster, "anew", &cpu("20m"))?;
    let pod = has(cluster, "anew", &cpu("20m"))?;
    check(container(&pod)["restartCount"] == 1, container(&pod))?;
    check(
        !container(&pod)["state"]["running"].is_null(),
        container(&pod),
    )?;
    delete(cluster, "anew")
}

fn kubectl(cluster: &Cluster) -> Outcome {
    if !carob_tests::has_kubectl() {
        println!("left out: kubectl is missing");
        return Ok(());
    }
    let rests = format!("{{name: c, image: grows, resources: {}}}", cpu("10m"));
    running(cluster, "patched", &rests)?;
    let patch = |resources: &Value| {
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        format!("patch pod patched --subresource resize --as editor --patch '{patch}'")
    };
    // Who may edit may resize.
    cluster.kubectl("create rolebinding editor --clusterrole=edit --user=editor")?;
    cluster.kubectl(&patch(&cpu("20m")))?;
    has(cluster, "patched", &cpu("20m"))?;
    let mut all = cpu("20m");
    for list in ["requests", "limits"] {
        all[list]["memory"] = "64Mi".into();
    }
    let refused = cluster.kubectl_fails(&patch(&all))?;
    check(
        refused.contains("Pod QOS Class may not change as a result of resizing"),
        refused,
    )?;
    cluster.kubectl("delete rolebinding editor")?;
    delete(cluster, "patched")
}
