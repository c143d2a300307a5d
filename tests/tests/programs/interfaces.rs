//! What WASI's functions answer inside pods: those of files on every kind of mount, of clocks, random numbers, words and
//! streams.
//!
//! Guests call one after the other and print a line for each. What they are to print lies beside the sources of those in C, in
//! `tests/guests`.

use std::path::Path;
use std::time::Duration;

use carob_tests::{Cluster, Outcome, check, left_out, succeed, target, until};
use libtest_mimic::Failed;
use serde_json::Value;

/// What the guests print to standard error, which comes into the log whenever it does.
const TO_STANDARD_ERROR: &str = "this is standard error";

/// Mounts that may be written to.
const WRITABLE: [&str; 3] = ["/", "/disk", "/memory"];
const VOLUMES: &str =
    "volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}]";
const WRITES: &str =
    "volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]";
const READS: &str = "volumeMounts: [{name: disk, mountPath: /disk, readOnly: true}, {name: memory, mountPath: /memory, readOnly: true}]";
/// Makes what is read from what may not be written to.
const PREPARED: &str =
    "initContainers: [{name: prepares, image: caller, args: [prepares, /disk, /memory],
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]}]";
const GREETING: &str = "env: [{name: GREETING, value: hello}]";

pub(crate) fn components(cluster: &Cluster) -> Outcome {
    push_caller(cluster)?;
    let started = format!("image: caller, args: [one, '', two words], {GREETING}");
    let ended = run(cluster, "caller", &started, "")?;
    let expected = include_str!("../../guests/caller.txt");
    ended.has_succeeded_with(expected)?;
    check(
        ended.said_to_standard_error,
        "nothing was said to standard error",
    )?;

    let writes = format!("image: caller, args: [writes, /, /disk, /memory], {WRITES}");
    let ended = run(cluster, "caller-writes", &writes, VOLUMES)?;
    let expected = include_str!("../../guests/caller-writes.txt");
    ended.has_succeeded_with(&in_each(&WRITABLE, expected))?;

    let reads = format!("image: caller, args: [reads, /disk, /memory], {READS}");
    let pod = format!("{PREPARED}, {VOLUMES}");
    let ended = run(cluster, "caller-reads", &reads, &pod)?;
    let expected = include_str!("../../guests/caller-reads.txt");
    ended.has_succeeded_with(&in_each(&WRITABLE[1..], expected))?;

    let closed =
        "image: caller, args: [closed, /], securityContext: {readOnlyRootFilesystem: true}";
    let ended = run(cluster, "caller-closed", closed, "")?;
    let expected = include_str!("../../guests/caller-closed.txt");
    ended.has_succeeded_with(&in_each(&["/"], expected))?;

    let terminal = "image: caller, args: [terminals], stdin: true, tty: true";
    let ended = run(cluster, "caller-terminals", terminal, "")?;
    let is_one = |stream: &str| format!("standard {stream} is a terminal: true\n");
    ended.has_succeeded_with(&["input", "output", "error"].map(is_one).concat())?;

    for (name, args, code) in [
        ("caller-exits", "[exits, '204']", 204),
        ("caller-fails", "[fails]", 1),
    ] {
        let container = format!("image: caller, args: {args}");
        run(cluster, name, &container, "")?.has_ended_with(code, "")?;
    }
    Ok(())
}

/// By either kind of module: with wasmtime-wasi's descriptors, and with carob's.
pub(crate) fn preview_1(cluster: &Cluster) -> Outcome {
    push_caller(cluster)?;
    for (image, not_open) in [
        ("preview1", "badf"),
        ("preview1-extended", "12 of type 1, badf"),
    ] {
        if !push_c(cluster, image)? {
            return Ok(());
        }
        let started = format!("image: {image}, args: [one, '', two words], {GREETING}");
        let ended = run(cluster, image, &started, "")?;
        let expected = include_str!("../../guests/preview1.txt");
        ended.has_succeeded_with(&expected.replace("NOT OPEN", not_open))?;

        let writes = format!("image: {image}, args: [writes, /, /disk, /memory], {WRITES}");
        let ended = run(cluster, &format!("{image}-writes"), &writes, VOLUMES)?;
        let expected = include_str!("../../guests/preview1-writes.txt");
        ended.has_succeeded_with(&in_each(&WRITABLE, expected))?;

        let reads = format!("image: {image}, args: [reads, /disk, /memory], {READS}");
        let pod = format!("{PREPARED}, {VOLUMES}");
        let ended = run(cluster, &format!("{image}-reads"), &reads, &pod)?;
        let expected = include_str!("../../guests/preview1-reads.txt");
        ended.has_succeeded_with(&in_each(&WRITABLE[1..], expected))?;

        let exits = format!("image: {image}, args: [exits, '255']");
        let ended = run(cluster, &format!("{image}-exits"), &exits, "")?;
        ended.has_ended_with(255, "")?;
    }
    Ok(())
}

pub(crate) fn c_library(cluster: &Cluster) -> Outcome {
    if !push_c(cluster, "libc")? {
        return Ok(());
    }
    for (name, directory) in [
        ("libc-root", "/"),
        ("libc-disk", "/disk"),
        ("libc-memory", "/memory"),
    ] {
        let container =
            format!("image: libc, args: [{directory}, one, '', two words], {GREETING}, {WRITES}");
        let ended = run(cluster, name, &container, VOLUMES)?;
        ended.has_succeeded_with(include_str!("../../guests/libc.txt"))?;
        check(
            ended.said_to_standard_error,
            "nothing was said to standard error",
        )?;
    }
    for (name, how, code, said) in [
        ("libc-exit", "exit", 3, "atexit\n"),
        ("libc-exit-at-once", "_Exit", 204, ""),
        ("libc-return", "return", 7, ""),
        ("libc-abort", "abort", 134, ""),
    ] {
        let container = format!("image: libc, args: [/, {how}]");
        run(cluster, name, &container, "")?.has_ended_with(code, said)?;
    }
    Ok(())
}

/// Pushes the component, which is built with the examples' guests.
fn push_caller(cluster: &Cluster) -> Outcome {
    let module = target().join("guests/wasm32-wasip2/release/caller.wasm");
    push(cluster, &module, "caller")
}

/// Pushes a guest in C, if its compiler could be had where the guests were built.
fn push_c(cluster: &Cluster, name: &str) -> Result<bool, Failed> {
    let module = target().join(format!("guests/c/{name}.wasm"));
    if !module.exists() {
        let why = format!(
            "there is no {}; `cargo xtask packages` builds it by Debian's clang for x86-64",
            module.display()
        );
        return match cfg!(target_arch = "x86_64") {
            true => left_out(why).map(|()| false),
            // Nowhere else can it be built.
            false => {
                println!("left out: {why}");
                Ok(false)
            }
        };
    }
    push(cluster, &module, name).map(|()| true)
}

fn push(cluster: &Cluster, module: &Path, name: &str) -> Outcome {
    succeed(cluster.carob_command(&["push"]).arg(module).arg(name)).map(drop)
}

/// A container that has ended.
struct Ended {
    pod: String,
    state: Value,
    printed: String,
    said_to_standard_error: bool,
}

/// Runs a container to its end, in a pod that has `more`.
fn run(cluster: &Cluster, name: &str, container: &str, more: &str) -> Result<Ended, Failed> {
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec:
            {{restartPolicy: Never, containers: [{{name: c, {container}}}], {more}}}}}"
    ))?;
    let mut status = Value::Null;
    until(&format!("{name} ends"), Duration::from_secs(60), || {
        status = cluster.get(&format!("pods/{name}"))?["status"].clone();
        let phase = status["phase"].as_str().unwrap_or_default();
        Ok(["Succeeded", "Failed"].contains(&phase))
    })?;
    let log = cluster.carob(&format!("logs {name} -c c"))?;
    let printed = log.lines().filter(|line| *line != TO_STANDARD_ERROR);
    Ok(Ended {
        pod: name.to_owned(),
        state: status["containerStatuses"][0]["state"]["terminated"].clone(),
        printed: printed.map(|line| format!("{line}\n")).collect(),
        said_to_standard_error: log.lines().any(|line| line == TO_STANDARD_ERROR),
    })
}

impl Ended {
    fn has_succeeded_with(&self, expected: &str) -> Outcome {
        self.has_ended_with(0, expected)
    }

    /// Compares what was printed line by line, for each line is a case.
    fn has_ended_with(&self, code: i64, expected: &str) -> Outcome {
        let (mut printed, mut expected) = (self.printed.lines(), expected.lines());
        let mut wrong = Vec::new();
        loop {
            match (printed.next(), expected.next()) {
                (None, None) => break,
                (one, other) if one == other => {}
                (one, other) => wrong.push(format!("{one:?}, where {other:?} is expected")),
            }
        }
        let pod = &self.pod;
        check(wrong.is_empty(), format!("{pod}:\n{}", wrong.join("\n")))?;
        let state = &self.state;
        check(state["exitCode"] == code, format!("{pod}: {state}"))
    }
}

/// What is printed of each mount.
fn in_each(mounts: &[&str], expected: &str) -> String {
    let of = |mount: &&str| format!("-- {mount}\n{expected}");
    mounts.iter().map(of).collect()
}
