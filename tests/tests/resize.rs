//! Pods whose CPU and memory change while they run.

use std::time::{Duration, Instant};

use carob_tests::{Case, Cluster, Outcome, check, until};
use serde_json::Value;

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

/// Sends a patch of the pod's only container, named `c`, to the subresource, as kubectl does.
fn resize(cluster: &Cluster, name: &str, resources: &str) -> Result<String, libtest_mimic::Failed> {
    let patch = format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#);
    let path = format!("/api/v1/namespaces/default/pods/{name}/resize");
    patched(cluster, &path, &patch)
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
