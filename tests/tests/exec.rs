//! Commands in containers, by kubectl.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use carob_tests::{Case, Cluster, Outcome, check, succeed, until, with_input};

const CASES: &[Case] = &[
    ("exit_codes_are_those_of_the_command", codes),
    ("streams_are_those_of_the_command", streams),
    ("modules_among_the_files_are_run", files),
    ("files_are_copied_both_ways", copies),
    ("commands_end_with_their_container", ends),
    ("probes_and_hooks_are_commands", probes),
];

fn main() {
    carob_tests::run_with_kubectl(CASES);
}

/// A p1 module that copies its input to its output, and then ends with ten times the number of its arguments, if it has
/// more than its name.
const COPIES: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func $copy
        (loop $more
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 1024))
            (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (return)))
            (if (i32.eqz (i32.load (i32.const 8))) (then (return)))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (br $more)))
    (func (export "_start")
        (call $copy)
        (drop (call $args (i32.const 16) (i32.const 20)))
        (if (i32.gt_u (i32.load (i32.const 16)) (i32.const 1))
            (then (call $exit (i32.mul (i32.load (i32.const 16)) (i32.const 10)))))))"#;

/// A p1 module that traps.
const TRAPS: &str = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;

/// A pod whose one container waits for an input that never ends, with these further fields.
fn host(cluster: &Cluster, name: &str, more: &str) -> Outcome {
    let file = carob_tests::guest(cluster, "copies", COPIES)?;
    succeed(cluster.carob_command(&["push"]).arg(file).arg("copies"))?;
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 5,
            containers: [{{name: main, image: copies, stdin: true, env: [{{name: A, value: b}}]{more}}}]}}}}"
    ))?;
    cluster
        .wait_for(&format!("pods/{name}"), "/status/phase", "Running")
        .map(drop)
}

/// Runs a command in a pod, which has to end with this code and to say this among its errors.
fn ends_with(cluster: &Cluster, pod: &str, words: &str, code: i32, why: &str) -> Outcome {
    let mut command = cluster.kubectl_command(&format!("exec {pod} -- {words}"));
    let output = command.stdin(Stdio::null()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    check(
        output.status.code() == Some(code) && errors.contains(why),
        format!("{words}: {} instead of {code}: {errors}", output.status),
    )
}

fn codes(cluster: &Cluster) -> Outcome {
    host(cluster, "codes", "")?;
    for (words, code, why) in [
        ("x y", 20, "exit code 20"),
        ("/any/thing a b", 30, "exit code 30"),
        ("x", 0, ""),
        ("true", 0, ""),
        ("/bin/false", 1, "exit code 1"),
        ("/none.wasm", 127, "/none.wasm: No such file or directory"),
        ("/etc/hosts/none.wasm", 127, "Not a directory"),
    ] {
        ends_with(cluster, "codes", words, code, why)?;
    }
    cluster
        .kubectl("delete pod codes --grace-period=1")
        .map(drop)
}

fn streams(cluster: &Cluster) -> Outcome {
    host(cluster, "streams", "")?;
    let long = "some words\n".repeat(50_000);
    for words in ["x", "cat"] {
        let exec = cluster.kubectl_command(&format!("exec -i streams -- {words}"));
        let copied = with_input(exec, &long)?;
        check(copied == long, format!("{words}: {} bytes", copied.len()))?;
    }
    // Nothing is read where nothing is passed on.
    let copied = with_input(cluster.kubectl_command("exec streams -- x"), "words")?;
    check(copied.is_empty(), copied)?;
    let env = cluster.kubectl("exec streams -c main -- env")?;
    check(env.lines().any(|line| line == "A=b"), env)?;
    let name = cluster.kubectl("exec streams -- cat /etc/hostname")?;
    check(name == "streams\n", name)?;
    let refused = cluster.kubectl_fails("exec streams -c other -- x")?;
    check(
        refused.contains("container other is not valid for pod streams"),
        refused,
    )?;
    cluster
        .kubectl("delete pod streams --grace-period=1")
        .map(drop)
}

fn files(cluster: &Cluster) -> Outcome {
    host(cluster, "files", "")?;
    let (tool, traps) = (
        carob_tests::guest(cluster, "tool", COPIES)?,
        carob_tests::guest(cluster, "traps", TRAPS)?,
    );
    let notes = cluster.scratch("notes.wasm");
    fs::write(&notes, "no module")?;
    for file in [&tool, &traps, &notes] {
        let copy = format!("cp {} files:/tmp/", file.display());
        cluster.kubectl(&copy)?;
    }
    let exec = cluster.kubectl_command("exec -i files -- /tmp/tool.wasm");
    let copied = with_input(exec, "words")?;
    check(copied == "words", copied)?;
    for (words, code, why) in [
        ("tmp/tool.wasm a b", 30, "exit code 30"),
        ("/tmp/traps.wasm", 134, "unreachable"),
        ("/tmp/notes.wasm", 126, "not a WebAssembly module"),
        ("/tmp.wasm", 127, "No such file or directory"),
    ] {
        ends_with(cluster, "files", words, code, why)?;
    }
    cluster
        .kubectl("delete pod files --grace-period=1")
        .map(drop)
}

fn copies(cluster: &Cluster) -> Outcome {
    host(cluster, "copied", "")?;
    let (here, back) = (cluster.scratch("here"), cluster.scratch("back"));
    fs::create_dir_all(here.join("deep/er"))?;
    let long: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    fs::write(here.join("long"), &long)?;
    fs::write(here.join("deep/er/empty"), "")?;
    fs::write(here.join("deep/text"), "words\n")?;
    cluster.kubectl(&format!("cp {} copied:/tmp/there", here.display()))?;
    let text = cluster.kubectl("exec copied -- cat /tmp/there/deep/text")?;
    check(text == "words\n", text)?;
    cluster.kubectl(&format!("cp copied:/tmp/there {}", back.display()))?;
    check(fs::read(back.join("long"))? == long, "another long file")?;
    check(
        fs::read(back.join("deep/er/empty"))?.is_empty(),
        "not empty",
    )?;
    check(
        fs::read_to_string(back.join("deep/text"))? == "words\n",
        "other words",
    )?;
    let fails = cluster.kubectl_fails(&format!("cp copied:/nofile {}", back.display()))?;
    check(fails.contains("exit code 2"), fails)?;
    cluster
        .kubectl("delete pod copied --grace-period=1")
        .map(drop)
}

fn ends(cluster: &Cluster) -> Outcome {
    host(cluster, "short", "")?;
    let mut all = Vec::new();
    for words in ["cat", "x y"] {
        let mut command = cluster.kubectl_command(&format!("exec -i short -- {words}"));
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut command = command.stderr(Stdio::null()).spawn()?;
        let mut typed = command.stdin.take().ok_or("no input")?;
        let mut shown = command.stdout.take().ok_or("no output")?;
        typed.write_all(b"hi")?;
        shown.read_exact(&mut [0; 2])?;
        all.push((command, typed));
    }
    // What runs in the container is seen there.
    let processes = cluster.kubectl("exec short -- ps")?;
    check(processes.contains("copies"), processes)?;
    cluster.kubectl("delete pod short --grace-period=1")?;
    for (mut command, _typed) in all {
        until(
            "the command ends with its container",
            Duration::from_secs(20),
            || Ok(command.try_wait()?.is_some()),
        )?;
        let ended = command.wait()?;
        // As the container itself.
        check(ended.code() == Some(143), format!("it ended with {ended}"))?;
    }
    Ok(())
}

fn probes(cluster: &Cluster) -> Outcome {
    let more = ", lifecycle: {postStart: {exec: {command: [mkdir, /tmp/begun]}}},
        readinessProbe: {periodSeconds: 1, exec: {command: [test, -d, /tmp/ready]}}";
    host(cluster, "probed", more)?;
    let listed = cluster.kubectl("exec probed -- ls /tmp")?;
    check(listed.trim() == "begun", listed)?;
    let ready = "/status/containerStatuses/0/ready";
    cluster.wait_for("pods/probed", ready, "false")?;
    cluster.kubectl("exec probed -- mkdir /tmp/ready")?;
    cluster.wait_for("pods/probed", ready, "true")?;
    cluster
        .kubectl("delete pod probed --grace-period=1")
        .map(drop)
}
