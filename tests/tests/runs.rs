//! `carob run`: modules as if they ran here.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use carob_tests::{CAT, Case, Cluster, Outcome, check, fail, guest, succeed, until, with_input};
use libtest_mimic::Failed;

const CASES: &[Case] = &[
    ("files_are_passed", files),
    ("exit_codes_are_passed_on", exit_codes),
    ("standard_input_is_passed", input),
    ("every_one_of_many_runs_is_made_once", many),
    ("a_timeout_ends_the_job", timeout),
    ("a_signal_ends_the_job", signal),
    ("a_reader_that_has_enough_ends_the_job", unread),
    ("a_kept_job_is_stopped_and_stays", kept),
];

fn main() {
    carob_tests::run(CASES);
}

/// A p1 module that ends with code 7.
const SEVEN: &str = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 7))))"#;

/// `carob run` of the example that greets once a second without end.
fn endless(cluster: &Cluster, name: &str, more: &[&str]) -> Command {
    let greeter = carob_tests::root().join("examples/demo/greeter.wasm");
    let mut command = cluster.carob_command(&["run", "--name", name]);
    command.args(more).arg(greeter);
    command.args(["--", "--every", "1", "you"]);
    command
}

/// Waits for a process that is to end soon.
fn end_of(process: &mut Child) -> Result<ExitStatus, Failed> {
    let mut status = None;
    until("carob run has ended", Duration::from_secs(10), || {
        status = process.try_wait()?;
        Ok(status.is_some())
    })?;
    status.ok_or_else(|| "it has not ended".into())
}

fn is_gone(cluster: &Cluster, job: &str) -> Outcome {
    until(
        &format!("the Job {job} is gone"),
        Duration::from_secs(10),
        || Ok(cluster.get(&format!("jobs/{job}")).is_err()),
    )
}

fn files(cluster: &Cluster) -> Outcome {
    let reader = carob_tests::root().join("examples/demo/reader.wasm");
    let dir = cluster.scratch("given");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("note-1"), "from outside\n")?;
    let mount = format!("{}:/notes:ro", dir.display());
    let printed = succeed(
        cluster
            .carob_command(&["run", "--mount", &mount])
            .arg(reader)
            .args(["--", "/notes/note-1"]),
    )?;
    check(printed == "from outside\n", printed)
}

fn exit_codes(cluster: &Cluster) -> Outcome {
    let seven = guest(cluster, "seven", SEVEN)?;
    let status = cluster.carob_command(&["run"]).arg(seven).status()?;
    check(status.code() == Some(7), status)?;
    let said = fail(
        cluster
            .carob_command(&["run", "nothing.wasm"])
            .current_dir("/"),
    )?;
    check(said.matches("nothing.wasm").count() == 1, said)
}

fn input(cluster: &Cluster) -> Outcome {
    let cat = guest(cluster, "cat", CAT)?;
    let mut run = cluster.carob_command(&["run", "-i"]);
    run.arg(&cat);
    let text = "one\ntwo\n\nand the last\n";
    let printed = with_input(run, text)?;
    check(printed == text, printed)?;
    // More than any buffer on the way holds.
    let mut run = cluster.carob_command(&["run", "-i"]);
    run.arg(&cat);
    let lines = "0123456789abcdef\n".repeat(100_000);
    let printed = with_input(run, &lines)?;
    check(
        printed == lines,
        format!("{} of {} bytes came back", printed.len(), lines.len()),
    )?;
    let nothing = succeed(cluster.carob_command(&["run"]).arg(&cat))?;
    check(nothing.is_empty(), nothing)
}

fn many(cluster: &Cluster) -> Outcome {
    let seven = guest(cluster, "seven", SEVEN)?;
    let mut run = cluster.carob_command(&["run", "--name", "many", "--completions", "3", "--keep"]);
    let status = run.arg(seven).status()?;
    check(status.code() == Some(7), status)?;
    let status = || Ok::<_, Failed>(cluster.get("jobs/many")?["status"].clone());
    until("the Job's end", Duration::from_secs(10), || {
        Ok(status()?["failedIndexes"] == "0-2")
    })?;
    let status = status()?;
    check(status["failed"] == 3, &status)
}

fn timeout(cluster: &Cluster) -> Outcome {
    let said = fail(&mut endless(cluster, "late", &["--timeout", "2s"]))?;
    check(said.contains("not ended in time"), said)?;
    is_gone(cluster, "late")
}

fn signal(cluster: &Cluster) -> Outcome {
    let mut running = endless(cluster, "told", &[])
        .stdout(Stdio::null())
        .spawn()?;
    cluster.wait_for("jobs/told", "/status/ready", "1")?;
    succeed(Command::new("kill").arg(running.id().to_string()))?;
    let status = end_of(&mut running)?;
    // By SIGTERM, that is.
    check(status.code() == Some(143), status)?;
    is_gone(cluster, "told")
}

fn unread(cluster: &Cluster) -> Outcome {
    let mut running = endless(cluster, "unread", &[])
        .stdout(Stdio::piped())
        .spawn()?;
    cluster.wait_for("jobs/unread", "/status/ready", "1")?;
    drop(running.stdout.take());
    let status = end_of(&mut running)?;
    check(status.code() == Some(141), status)?;
    is_gone(cluster, "unread")
}

fn kept(cluster: &Cluster) -> Outcome {
    let mut running = endless(cluster, "kept", &["--keep"])
        .stdout(Stdio::null())
        .spawn()?;
    cluster.wait_for("jobs/kept", "/status/ready", "1")?;
    succeed(Command::new("kill").arg(running.id().to_string()))?;
    end_of(&mut running)?;
    until("nothing runs", Duration::from_secs(10), || {
        Ok(cluster.get("jobs/kept")?["status"]["active"].is_null())
    })
}
