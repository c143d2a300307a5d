//! Pods: what they run, how they end, and what is said about it.

mod carob_exec;
mod classes;
mod evicting;
mod refreshing;
mod sidecars;

use std::time::Duration;

use carob_tests::{Case, Cluster, Outcome, check, until};

const CASES: &[Case] = &[
    ("exit_codes_are_passed_on", exit_codes),
    ("env_volumes_and_config_reach_the_guest", environment),
    ("init_containers_run_in_order", init_containers),
    ("jobs_do_not_wait_for_sidecars", sidecars::job),
    ("sidecars_start_in_their_turn", sidecars::turns),
    ("containers_restart_by_their_own_rules", sidecars::rules),
    (
        "hooks_run_before_others_start_and_before_the_end",
        sidecars::hooks,
    ),
    ("carob_exec_runs_commands", carob_exec::runs),
    ("dense_pods_run_beside_others", classes::dense),
    ("memory_has_a_limit", oom),
    ("storage_has_limits", evicting::limits),
    (
        "a_root_that_is_read_only_takes_the_last_message",
        read_only_root,
    ),
    (
        "a_crash_loop_backs_off_and_keeps_the_previous_log",
        crash_loop,
    ),
    ("what_is_missing_is_named", missing),
    ("what_is_not_supported_is_named", unsupported),
    ("deletion_is_graceful_for_those_who_ask", drain),
    ("a_second_start_compiles_nothing", compile_cache),
    ("statuses_survive_the_agent", agent_restart),
    ("jobs_count_their_completions", jobs),
    ("logs_are_followed", follow),
    (
        "config_maps_change_in_running_pods",
        refreshing::config_maps,
    ),
    ("secrets_change_in_running_pods", refreshing::secrets),
];

fn main() {
    carob_tests::run(CASES);
}

/// Pushes the example guests, under their names.
fn guests(cluster: &Cluster) -> Outcome {
    for name in ["greeter", "counter", "reader", "writer", "drain"] {
        let file = carob_tests::root().join(format!("examples/demo/{name}.wasm"));
        carob_tests::succeed(cluster.carob_command(&["push"]).arg(file).arg(name))?;
    }
    Ok(())
}

/// A module in WebAssembly's text form, pushed under `name`.
fn push_wat(cluster: &Cluster, name: &str, text: &str) -> Outcome {
    let file = carob_tests::guest(cluster, name, text)?;
    carob_tests::succeed(cluster.carob_command(&["push"]).arg(file).arg(name)).map(drop)
}

/// A p1 module that ends with `code`.
fn exits(code: i32) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
           (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))"#
    )
}

/// A p1 module that asks for memory without end.
const HUNGRY: &str = r#"(module (memory (export "memory") 1)
    (func (export "_start") (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))"#;

/// A p1 module that imports what nobody offers.
const FLIES: &str = r#"(module (import "env" "fly" (func)) (func (export "_start")))"#;

/// A p1 module that traps.
const TRAPS: &str = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;

/// A p1 module that leaves a message in the file that it is shown after two directories: its root, which it must not write
/// into, and its token's.
const LEAVES_A_MESSAGE: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\20\00\00\00\03\00\00\00")
    (data (i32.const 32) "bye")
    (data (i32.const 64) ".")
    (func $create (param $directory i32) (param $name i32) (param $length i32) (result i32)
        (call $open (local.get $directory) (i32.const 0) (local.get $name) (local.get $length)
            (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))
    (func (export "_start")
        (if (i32.eqz (call $create (i32.const 3) (i32.const 32) (i32.const 3))) (then (call $exit (i32.const 7))))
        (if (call $create (i32.const 5) (i32.const 64) (i32.const 1)) (then (call $exit (i32.const 8))))
        (if (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 24))
            (then (call $exit (i32.const 9))))))"#;

fn pod(name: &str, spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {spec}}}")
}

fn exit_codes(cluster: &Cluster) -> Outcome {
    guests(cluster)?;
    push_wat(cluster, "seven", &exits(7))?;
    push_wat(cluster, "traps", TRAPS)?;
    for (image, code, reason) in [("seven", 7, "Error"), ("traps", 134, "Error")] {
        cluster.apply(&pod(
            image,
            &format!("{{restartPolicy: Never, containers: [{{name: c, image: {image}}}]}}"),
        ))?;
        let ended = cluster.wait_for(&format!("pods/{image}"), "/status/phase", "Failed")?;
        let state = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
        check(
            state["exitCode"] == code && state["reason"] == reason,
            state,
        )?;
    }
    let status = cluster.carob_command(&["run", "seven"]).status()?;
    check(
        status.code() == Some(7),
        format!("carob run gives {status}"),
    )?;
    let printed = cluster.carob("run --timeout 60s greeter -- --times 1 world")?;
    check(printed.contains("world"), printed)
}

fn read_only_root(cluster: &Cluster) -> Outcome {
    push_wat(cluster, "leaver", LEAVES_A_MESSAGE)?;
    let spec = "{restartPolicy: Never, containers: [{name: c, image: leaver, securityContext: {readOnlyRootFilesystem: true}}]}";
    cluster.apply(&pod("leaver", spec))?;
    let path = "/status/containerStatuses/0/state/terminated/message";
    cluster.wait_for("pods/leaver", path, "bye")?;
    cluster
        .wait_for("pods/leaver", "/status/phase", "Succeeded")
        .map(drop)
}

fn environment(cluster: &Cluster) -> Outcome {
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {greeting: Hello, file: 'Good morning'}}")?;
    let spec = "{restartPolicy: Never, containers: [{name: c, image: greeter, args: [--times, '1', you], env: [
        {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}},
        {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}},
        {name: GREETING_FILE, value: /etc/words/file}], volumeMounts: [{name: w, mountPath: /etc/words}]}],
        volumes: [{name: w, configMap: {name: words}}]}";
    cluster.apply(&pod("env", spec))?;
    let ended = cluster.wait_for("pods/env", "/status/phase", "Succeeded")?;
    let log = cluster.carob("logs env")?;
    let node = ended["spec"]["nodeName"].as_str().unwrap_or_default();
    check(
        log.contains("env on") && log.contains(node) && log.contains("Good morning"),
        log,
    )
}

fn init_containers(cluster: &Cluster) -> Outcome {
    let spec = "{restartPolicy: Never,
        initContainers: [{name: first, image: greeter, args: [--times, '1', first]}, {name: second, image: greeter, args: [--times, '1', second]}],
        containers: [{name: main, image: greeter, args: [--times, '1', last]}]}";
    cluster.apply(&pod("ordered", spec))?;
    let ended = cluster.wait_for("pods/ordered", "/status/phase", "Succeeded")?;
    let time = |list: &str, index: usize, what: &str| {
        ended["status"][list][index]["state"]["terminated"][what]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let first = time("initContainerStatuses", 0, "finishedAt");
    let second = time("initContainerStatuses", 1, "startedAt");
    let main = time("containerStatuses", 0, "startedAt");
    check(
        !first.is_empty() && first <= second && second <= main,
        format!("{first} {second} {main}"),
    )
}

fn oom(cluster: &Cluster) -> Outcome {
    push_wat(cluster, "hungry", HUNGRY)?;
    cluster.apply(&pod("hungry", "{restartPolicy: Never, containers: [{name: c, image: hungry, resources: {limits: {memory: 16Mi}}}]}"))?;
    let ended = cluster.wait_for("pods/hungry", "/status/phase", "Failed")?;
    let state = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    check(
        state["reason"] == "OOMKilled" && state["exitCode"] == 137,
        state,
    )
}

fn crash_loop(cluster: &Cluster) -> Outcome {
    cluster.apply(&pod("loops", "{containers: [{name: c, image: seven}]}"))?;
    let looping = cluster.wait_for(
        "pods/loops",
        "/status/containerStatuses/0/state/waiting/reason",
        "CrashLoopBackOff",
    )?;
    let status = &looping["status"]["containerStatuses"][0];
    let message = status["state"]["waiting"]["message"]
        .as_str()
        .unwrap_or_default();
    check(
        message.starts_with("back-off 10s restarting failed container=c pod=loops_default("),
        message,
    )?;
    check(status["lastState"]["terminated"]["exitCode"] == 7, status)?;
    check(looping["status"]["phase"] == "Running", &looping["status"])?;
    cluster.carob("logs loops --previous")?;
    cluster.carob("delete pod/loops").map(drop)
}

fn missing(cluster: &Cluster) -> Outcome {
    let waits = |name: &str, spec: &str, reasons: &[&str], says: &str| -> Outcome {
        cluster.apply(&pod(name, spec))?;
        until(
            &format!("{name} waits with {reasons:?} {says}"),
            Duration::from_secs(20),
            || {
                let pod = cluster.get(&format!("pods/{name}"))?;
                let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
                let reason = waiting["reason"].as_str().unwrap_or_default();
                Ok(reasons.contains(&reason)
                    && waiting["message"]
                        .as_str()
                        .unwrap_or_default()
                        .contains(says))
            },
        )?;
        cluster.carob(&format!("delete pod/{name}")).map(drop)
    };
    waits(
        "no-image",
        "{containers: [{name: c, image: nobody}]}",
        &["ErrImagePull", "ImagePullBackOff"],
        "nobody",
    )?;
    waits(
        "no-map",
        "{containers: [{name: c, image: greeter, envFrom: [{configMapRef: {name: nothing}}]}]}",
        &["CreateContainerConfigError"],
        "configmap \"nothing\" not found",
    )?;
    push_wat(cluster, "flies", FLIES)?;
    waits(
        "no-import",
        "{containers: [{name: c, image: flies}]}",
        &["CreateContainerError"],
        "the module imports env::fly, which carob does not offer",
    )?;
    let file = cluster.scratch("not.wasm");
    std::fs::write(&file, "this is no module")?;
    let said = carob_tests::fail(cluster.carob_command(&["push"]).arg(&file).arg("not"))?;
    check(said.contains("WebAssembly"), said)?;
    // What appears later is found.
    cluster.apply(&pod("late", "{restartPolicy: Never, containers: [{name: c, image: greeter, args: [--times, '1', x], envFrom: [{configMapRef: {name: later}}]}]}"))?;
    cluster.wait_for(
        "pods/late",
        "/status/containerStatuses/0/state/waiting/reason",
        "CreateContainerConfigError",
    )?;
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: later}, data: {A: b}}")?;
    cluster
        .wait_for("pods/late", "/status/phase", "Succeeded")
        .map(drop)
}

fn unsupported(cluster: &Cluster) -> Outcome {
    let cases = [
        (
            "processes",
            "{hostPID: true, containers: [{name: c, image: greeter}]}",
            "hostPID",
        ),
        (
            "privileged",
            "{containers: [{name: c, image: greeter, securityContext: {privileged: true}}]}",
            "securityContext.privileged",
        ),
        (
            "claim",
            "{containers: [{name: c, image: greeter}], volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {name: b, path: b}}]}}]}",
            "clusterTrustBundle",
        ),
        (
            "huge-pages",
            "{containers: [{name: c, image: greeter}], volumes: [{name: v, emptyDir: {medium: HugePages}}]}",
            "emptyDir: medium HugePages",
        ),
    ];
    for (name, spec, named) in cases {
        cluster.apply(&pod(name, spec))?;
        until(
            &format!("{name}: a message that names {named}"),
            Duration::from_secs(20),
            || {
                let pod = cluster.get(&format!("pods/{name}"))?;
                check(pod["status"]["phase"] == "Pending", format!("{name} runs"))?;
                Ok(pod["status"].to_string().contains(named))
            },
        )?;
        cluster.carob(&format!("delete pod/{name}"))?;
    }
    cluster.apply(&pod(
        "gated",
        "{schedulingGates: [{name: example.com/gate}], containers: [{name: c, image: greeter}]}",
    ))?;
    until("the gate is named", Duration::from_secs(20), || {
        Ok(cluster.get("pods/gated")?["status"]
            .to_string()
            .contains("gate"))
    })?;
    cluster.carob("delete pod/gated").map(drop)
}

fn drain(cluster: &Cluster) -> Outcome {
    let state = cluster.scratch("drained");
    let spec = format!(
        "{{terminationGracePeriodSeconds: 10, containers: [{{name: c, image: drain, args: [/state/done], volumeMounts: [{{name: s, mountPath: /state}}]}}],
          volumes: [{{name: s, hostPath: {{path: {}, type: DirectoryOrCreate}}}}]}}",
        state.display()
    );
    cluster.apply(&pod("drains", &spec))?;
    cluster.wait_for("pods/drains", "/status/phase", "Running")?;
    cluster.carob("delete pod/drains")?;
    until("it is gone", Duration::from_secs(10), || {
        Ok(cluster.get("pods/drains").is_err())
    })?;
    check(std::fs::read_dir(&state)?.count() > 0, "it saved nothing")
}

fn compile_cache(cluster: &Cluster) -> Outcome {
    let file = cluster.scratch("fresh.wasm");
    std::fs::write(&file, wat::parse_str(exits(0)).map_err(|e| e.to_string())?)?;
    let spec = format!(
        "{{restartPolicy: Never, nodeName: t-1, containers: [{{name: c, image: 'file://{}'}}]}}",
        file.display()
    );
    if !carob_tests::has_kubectl() {
        println!("left out: the counter is read with kubectl, which is missing");
        return Ok(());
    }
    let compilations = || -> Result<String, libtest_mimic::Failed> {
        let page = cluster.kubectl("get --raw /api/v1/nodes/t-1/proxy/metrics")?;
        let counter = page
            .lines()
            .find(|l| l.starts_with("carob_module_compilations_total"));
        counter
            .map(str::to_owned)
            .ok_or_else(|| "there is no counter of compilations".into())
    };
    cluster.apply(&pod("cold", &spec))?;
    cluster.wait_for("pods/cold", "/status/phase", "Succeeded")?;
    let after_first = compilations()?;
    cluster.apply(&pod("warm", &spec))?;
    cluster.wait_for("pods/warm", "/status/phase", "Succeeded")?;
    check(compilations()? == after_first, "it was compiled again")
}

fn agent_restart(cluster: &Cluster) -> Outcome {
    cluster.apply(&pod(
        "lasting",
        "{nodeName: t-2, containers: [{name: c, image: greeter, args: [--every, '5', you]}]}",
    ))?;
    cluster.apply(&pod(
        "ended",
        "{nodeName: t-2, restartPolicy: Never, containers: [{name: c, image: seven}]}",
    ))?;
    cluster.wait_for("pods/lasting", "/status/phase", "Running")?;
    cluster.wait_for("pods/ended", "/status/phase", "Failed")?;
    cluster.kill("nodes", 1)?;
    let again = cluster.wait_for(
        "pods/lasting",
        "/status/containerStatuses/0/restartCount",
        "1",
    )?;
    check(
        !again["status"]["containerStatuses"][0]["lastState"]["terminated"].is_null(),
        &again["status"],
    )?;
    cluster.wait_for("pods/lasting", "/status/containerStatuses/0/ready", "true")?;
    let ended = cluster.get("pods/ended")?;
    check(
        ended["status"]["phase"] == "Failed"
            && ended["status"]["containerStatuses"][0]["restartCount"] == 0,
        &ended["status"],
    )
}

fn jobs(cluster: &Cluster) -> Outcome {
    let job = |name: &str, image: &str, more: &str| {
        format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}}}, spec: {{{more}, template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: {image}, args: [--times, '1', x]}}]}}}}}}}}"
        )
    };
    cluster.apply(&job(
        "five",
        "greeter",
        "completions: 5, parallelism: 2, completionMode: Indexed",
    ))?;
    let done = cluster.wait_for("jobs/five", "/status/succeeded", "5")?;
    check(done["status"]["completedIndexes"] == "0-4", &done["status"])?;
    cluster.apply(&job("fails", "seven", "backoffLimit: 0"))?;
    let failed = cluster.wait_for("jobs/fails", "/status/failed", "1")?;
    check(failed["status"]["succeeded"].is_null(), &failed["status"])?;
    cluster
        .carob("run --timeout 60s --completions 3 greeter -- --times 1 many")
        .map(drop)
}

fn follow(cluster: &Cluster) -> Outcome {
    cluster.apply(&pod(
        "talks",
        "{containers: [{name: c, image: greeter, args: [--every, '1', you]}]}",
    ))?;
    cluster.wait_for("pods/talks", "/status/phase", "Running")?;
    let output = std::fs::File::create(cluster.scratch("followed"))?;
    let mut following = cluster
        .carob_command(&["logs", "-f", "talks"])
        .stdout(output)
        .spawn()?;
    let outcome = until("three lines", Duration::from_secs(15), || {
        Ok(std::fs::read_to_string(cluster.scratch("followed"))?
            .lines()
            .count()
            >= 3)
    });
    following.kill()?;
    following.wait()?;
    outcome
}
