//! Programs that nobody here wrote, the bundles of the examples, and what WASI offers to programs in pods.

mod interfaces;

use std::process::Command;
use std::time::Duration;

use carob_tests::{Case, Cluster, Outcome, carob, check, fail, left_out, succeed, until};

const CASES: &[Case] = &[
    ("the_demo_bundle_is_deployed_and_again", demo),
    (
        "bundles_are_reproducible_and_damaged_ones_are_refused",
        bundles,
    ),
    ("yosys_synthesises_a_circuit", yosys),
    ("ruby_runs_a_script", ruby),
    (
        "components_call_what_wasi_offers_them",
        interfaces::components,
    ),
    ("modules_call_what_preview_1_offers", interfaces::preview_1),
    ("c_finds_what_its_library_offers", interfaces::c_library),
];

fn main() {
    carob_tests::run(CASES);
}

fn demo(cluster: &Cluster) -> Outcome {
    let demo = carob_tests::root().join("examples/demo");
    let deploy = || succeed(cluster.carob_command(&["deploy", "--wait"]).arg(&demo));
    let first = deploy()?;
    check(first.contains("Deployment/greeter created"), first)?;
    let again = deploy()?;
    check(again.contains("Deployment/greeter unchanged"), again)?;
    let job = cluster.get("jobs/primes")?;
    check(job["status"]["succeeded"] == 4, &job["status"])?;
    // The writer may have begun only just now.
    until("a note is read", Duration::from_secs(20), || {
        let notes = cluster.carob("logs notes -c reader")?;
        Ok(notes.contains("this is note 1"))
    })
}

fn bundles(cluster: &Cluster) -> Outcome {
    let demo = carob_tests::root().join("examples/demo");
    let build = |name: &str| -> Result<std::path::PathBuf, libtest_mimic::Failed> {
        let file = cluster.scratch(name);
        succeed(
            Command::new(carob())
                .args(["bundle", "build"])
                .arg(&demo)
                .arg("-o")
                .arg(&file),
        )?;
        Ok(file)
    };
    let (one, two) = (build("one.tar")?, build("two.tar")?);
    let bytes = std::fs::read(&one)?;
    check(bytes == std::fs::read(&two)?, "two builds differ")?;
    let summary = succeed(Command::new(carob()).args(["bundle", "inspect"]).arg(&one))?;
    check(
        summary.contains("greeter.wasm") && summary.contains("Deployment/greeter"),
        summary,
    )?;
    for (what, damaged) in [
        ("truncated", bytes[..bytes.len() / 2].to_vec()),
        ("altered", flipped(&bytes)),
    ] {
        let file = cluster.scratch(what);
        std::fs::write(&file, damaged)?;
        fail(Command::new(carob()).args(["bundle", "inspect"]).arg(&file))?;
        fail(
            cluster
                .carob_command(&["deploy", "-n", "kube-public"])
                .arg(&file),
        )?;
    }
    check(
        cluster
            .carob("get deployments -n kube-public -o name")?
            .is_empty(),
        "something of a damaged bundle was installed",
    )?;
    succeed(cluster.carob_command(&["deploy", "--dry-run"]).arg(&one)).map(drop)
}

/// The same with one bit changed in the middle.
fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

/// Deploys an example whose packages may be missing where no registry is reached.
fn example(cluster: &Cluster, name: &str, module: &str) -> Result<bool, libtest_mimic::Failed> {
    let dir = carob_tests::root().join("examples").join(name);
    if !dir.join(module).exists() {
        let why = format!("examples/{name} has no {module}; `cargo xtask packages` fetches it");
        return left_out(why).map(|()| false);
    }
    succeed(
        cluster
            .carob_command(&["deploy", "--wait", "--timeout", "15m"])
            .arg(dir),
    )?;
    Ok(true)
}

/// The log of the one pod with this label.
fn log_of(cluster: &Cluster, app: &str) -> Result<String, libtest_mimic::Failed> {
    let pods = cluster.carob(&format!("get pods -l app={app} -o name"))?;
    let pod = pods
        .lines()
        .next()
        .ok_or_else(|| format!("no pod of {app}"))?;
    cluster.carob(&format!("logs {}", pod.trim_start_matches("pod/")))
}

fn yosys(cluster: &Cluster) -> Outcome {
    if !example(cluster, "yosys", "yosys.wasm")? {
        return Ok(());
    }
    // What a flip-flop of an iCE40 is called stands in no source but Yosys' own.
    let report = log_of(cluster, "synthesis")?;
    check(
        report.contains("SB_DFF") && report.contains("SB_CARRY"),
        report,
    )
}

fn ruby(cluster: &Cluster) -> Outcome {
    if !example(cluster, "ruby", "ruby.wasm")? {
        return Ok(());
    }
    let said = log_of(cluster, "ruby")?;
    check(
        said.contains(r#"{"words":8,"distinct":3,"longest":"rose","args":["an","argument"]}"#),
        said,
    )
}
