//! Pods that a node has from files of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use carob_tests::{Case, Cluster, Outcome, check, guest, until};
use libtest_mimic::Failed;
use serde_json::{Value, json};

const CASES: &[Case] = &[
    ("a_file_is_a_pod_from_its_coming_to_its_going", whole_life),
    ("a_deleted_mirror_is_made_again", mirror),
    ("a_broken_file_changes_nothing_and_is_told_of", broken),
    ("it_outlives_its_agent", agent),
    ("a_static_pod_is_not_resized", resized),
    ("kubectl_sees_it_and_drains_around_it", kubectl),
    ("it_starts_where_no_majority_of_servers_is", alone),
];

fn main() {
    carob_tests::run(CASES);
}

/// A p1 module that says a word, and then does nothing.
fn says(word: &str) -> String {
    let length = word.len() + 1;
    format!(
        r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 256) "{word}\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 256))
        (i32.store (i32.const 4) (i32.const {length}))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (loop $ever
            (memory.fill (i32.const 0) (i32.const 0) (i32.const 48))
            (i32.store (i32.const 16) (i32.const 1))
            (i64.store (i32.const 24) (i64.const 1_000_000_000))
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
            (br $ever))))"#
    )
}

/// The first node's file of a pod with that name.
fn file(cluster: &Cluster, name: &str) -> PathBuf {
    let node = format!("{}-1", cluster.name);
    let manifests = cluster.path().join(node).join("manifests");
    manifests.join(format!("{name}.yaml"))
}

/// What the API calls it.
fn mirror_of(cluster: &Cluster, name: &str) -> String {
    format!("{name}-{}-1", cluster.name)
}

/// Has the first node run a pod that says a word.
fn put(cluster: &Cluster, name: &str, word: &str) -> Outcome {
    let module = guest(cluster, &format!("{name}-{word}"), &says(word))?;
    let image = format!("file://{}", module.display());
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    });
    Ok(fs::write(file(cluster, name), pod.to_string())?)
}

fn has_said(cluster: &Cluster, name: &str, word: &str) -> Outcome {
    let pod = mirror_of(cluster, name);
    until(
        &format!("{pod} says {word}"),
        Duration::from_secs(20),
        || {
            let said = cluster.carob(&format!("logs {pod}"));
            Ok(said.is_ok_and(|said| said.trim() == word))
        },
    )
}

fn running(cluster: &Cluster, name: &str) -> Result<Value, Failed> {
    let pod = mirror_of(cluster, name);
    cluster.wait_for(&format!("pods/{pod}"), "/status/phase", "Running")
}

fn remove(cluster: &Cluster, name: &str) -> Outcome {
    let pod = mirror_of(cluster, name);
    fs::remove_file(file(cluster, name))?;
    until(&format!("{pod} is gone"), Duration::from_secs(20), || {
        Ok(cluster.get(&format!("pods/{pod}")).is_err())
    })
}

fn whole_life(cluster: &Cluster) -> Outcome {
    let pod = mirror_of(cluster, "life");
    put(cluster, "life", "one")?;
    let first = running(cluster, "life")?;
    has_said(cluster, "life", "one")?;
    let node = cluster.get(&format!("nodes/{}-1", cluster.name))?;
    let owner = &first["metadata"]["ownerReferences"][0];
    check(owner["uid"] == node["metadata"]["uid"], owner)?;
    let spec = &first["spec"];
    check(spec["nodeName"] == node["metadata"]["name"], spec)?;
    check(spec["serviceAccountName"].is_null(), spec)?;
    check(spec["volumes"].is_null(), spec)?;
    // Whoever sees it may run commands in it, by the name and uid of the mirror.
    let listed = cluster.carob(&format!("exec {pod} -- ls /"))?;
    check(listed.contains("tmp"), &listed)?;

    let edited = Instant::now();
    put(cluster, "life", "two")?;
    until("another one runs", Duration::from_secs(20), || {
        let now = cluster.get(&format!("pods/{pod}")).unwrap_or(Value::Null);
        let hash = "/metadata/annotations/kubernetes.io~1config.hash";
        let is_other = now.pointer(hash).is_some() && now.pointer(hash) != first.pointer(hash);
        Ok(is_other && now["status"]["phase"] == "Running")
    })?;
    // A second for the file; compiling and telling of it may take theirs on a busy machine.
    let took = edited.elapsed();
    check(took < Duration::from_secs(5), format!("{took:?}"))?;
    has_said(cluster, "life", "two")?;
    remove(cluster, "life")
}

fn mirror(cluster: &Cluster) -> Outcome {
    let pod = mirror_of(cluster, "kept");
    put(cluster, "kept", "here")?;
    let first = running(cluster, "kept")?;
    cluster.carob(&format!("delete pod/{pod}"))?;
    until("it is made again", Duration::from_secs(20), || {
        let now = cluster.get(&format!("pods/{pod}")).unwrap_or(Value::Null);
        let is_other = now["metadata"]["uid"].is_string();
        let is_other = is_other && now["metadata"]["uid"] != first["metadata"]["uid"];
        Ok(is_other && now["status"]["phase"] == "Running")
    })?;
    let again = cluster.get(&format!("pods/{pod}"))?;
    let id = "/status/containerStatuses/0/containerID";
    check(again.pointer(id) == first.pointer(id), &again["status"])?;
    has_said(cluster, "kept", "here")?;
    remove(cluster, "kept")
}

fn broken(cluster: &Cluster) -> Outcome {
    put(cluster, "fine", "fine")?;
    let first = running(cluster, "fine")?;
    fs::write(file(cluster, "fine"), "kind: Pod\nspec:\n  containers: [\n")?;
    until("it is told", Duration::from_secs(20), || {
        let events = cluster.get("events")?;
        let items = events["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().any(|event| {
            let message = event["message"].as_str().unwrap_or_default();
            event["reason"] == "FailedValidation"
                && message.contains("fine.yaml")
                && message.contains("line ")
        }))
    })?;
    let now = running(cluster, "fine")?;
    let id = "/status/containerStatuses/0/containerID";
    check(now.pointer(id) == first.pointer(id), &now["status"])?;
    put(cluster, "fine", "better")?;
    has_said(cluster, "fine", "better")?;
    remove(cluster, "fine")
}

fn agent(cluster: &Cluster) -> Outcome {
    let pod = mirror_of(cluster, "stays");
    put(cluster, "stays", "up")?;
    let first = running(cluster, "stays")?;
    cluster.kill("nodes", 0)?;
    let restarts = "/status/containerStatuses/0/restartCount";
    let again = cluster.wait_for(&format!("pods/{pod}"), restarts, "1")?;
    check(
        again["metadata"]["uid"] == first["metadata"]["uid"],
        &again["metadata"],
    )?;
    let address = "/status/podIP";
    check(
        again.pointer(address) == first.pointer(address),
        &again["status"],
    )?;
    remove(cluster, "stays")
}

fn resized(cluster: &Cluster) -> Outcome {
    let pod = mirror_of(cluster, "fixed");
    put(cluster, "fixed", "fixed")?;
    running(cluster, "fixed")?;
    if carob_tests::has_kubectl() {
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1m"}}}]}});
        let mut command = cluster.kubectl_command(&format!("patch pod {pod} --subresource resize"));
        command.args(["--patch", &patch.to_string()]);
        let refused = carob_tests::fail(&mut command)?;
        check(refused.contains("static pods cannot be resized"), &refused)?;
    }
    remove(cluster, "fixed")
}

fn kubectl(cluster: &Cluster) -> Outcome {
    if !carob_tests::has_kubectl() {
        return Ok(());
    }
    let pod = mirror_of(cluster, "seen");
    put(cluster, "seen", "seen")?;
    running(cluster, "seen")?;
    let listed = cluster.kubectl(&format!("get pod {pod}"))?;
    check(
        listed.contains("1/1") && listed.contains("Running"),
        &listed,
    )?;
    let described = cluster.kubectl(&format!("describe pod {pod}"))?;
    let owner = format!("Node/{}-1", cluster.name);
    check(described.contains(&owner), &described)?;
    check(described.contains("Started container c"), &described)?;
    let node = format!("{}-1", cluster.name);
    cluster.kubectl(&format!(
        "drain {node} --ignore-daemonsets --force --delete-emptydir-data --timeout 20s"
    ))?;
    let after = running(cluster, "seen")?;
    let restarts = "/status/containerStatuses/0/restartCount";
    check(after.pointer(restarts) == Some(&json!(0)), &after["status"])?;
    cluster.kubectl(&format!("uncordon {node}"))?;
    remove(cluster, "seen")
}

/// Of a cluster that has fallen as a whole one machine comes back, and after a while the others.
fn alone(cluster: &Cluster) -> Outcome {
    put(cluster, "alone", "alone")?;
    let pod = running(cluster, "alone")?;
    has_said(cluster, "alone", "alone")?;
    let hash = &pod["metadata"]["annotations"]["kubernetes.io/config.hash"];
    let hash = hash.as_str().ok_or("it has no hash")?;
    let node = cluster.path().join(format!("{}-1", cluster.name));
    let log = node.join("agent/pods").join(hash).join("logs/c/1.0.log");
    let status = cluster.status()?;
    // The servers first, or they would start the agents again.
    let all = [&status["servers"], &status["nodes"]];
    let all = all.into_iter().filter_map(Value::as_array).flatten();
    let pids: Vec<String> = all
        .filter_map(|one| one["pid"].as_i64())
        .map(|pid| pid.to_string())
        .collect();
    let first = pids.first().ok_or("there is no server")?;
    let line = fs::read_to_string(format!("/proc/{first}/cmdline"))?;
    // The program calls itself by its name alone.
    let program = fs::read_link(format!("/proc/{first}/exe"))?;
    let words = line.split_terminator('\0').skip(1);
    carob_tests::succeed(Command::new("kill").arg("-9").args(&pids))?;
    // What they held is free once they have ended, which is a little later.
    until("all have ended", Duration::from_secs(20), || {
        Ok(pids.iter().all(|pid| carob_tests::has_ended(pid)))
    })?;
    // What it prints is shown with its log.
    let mut start = Command::new("sh");
    start.args(["-c", r#"exec >> "$0" 2>&1; "$@" &"#]);
    start.arg(node.join("server/log/stderr.log"));
    carob_tests::succeed(start.arg(program).args(words))?;
    until("it runs again", Duration::from_secs(20), || {
        Ok(fs::read_to_string(&log).is_ok_and(|text| text.contains("alone")))
    })?;
    cluster.up_again()?;
    let restarts = "/status/containerStatuses/0/restartCount";
    let mirror = format!("pods/{}", mirror_of(cluster, "alone"));
    cluster.wait_for(&mirror, restarts, "1")?;
    remove(cluster, "alone")
}
