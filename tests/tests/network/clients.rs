//! Programs that nobody here wrote, on both ends: hyper and JavaScript serve, curl, wrk and kube-rs ask.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use carob_tests::{Cluster, Outcome, check, left_out, root, succeed, target, until};
use libtest_mimic::Failed;

use crate::{nodes, ready};

/// Bytes of a large body: many times what any buffer on the way holds.
const LARGE: usize = 20 << 20;

/// curl, which gives up after a while.
fn curl() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "60"]);
    curl
}

/// What `format` says of each of these requests, whose answers' bodies are thrown away.
fn told(format: &str, more: &[&str], urls: &[String]) -> Result<String, Failed> {
    let mut curl = curl();
    curl.args(["--write-out", format]).args(more);
    for url in urls {
        curl.args(["--output", "/dev/null", url]);
    }
    succeed(&mut curl)
}

/// Whether the machine has a program; says what is left out where it has not.
fn has(program: &str, what: &str) -> Result<bool, Failed> {
    let there = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !there {
        left_out(format!("{what}; there is no {program}"))?;
    }
    Ok(there)
}

/// The URL of a node's port.
fn url(cluster: &Cluster, node: usize, port: u16) -> Result<String, Failed> {
    Ok(format!("http://{}:{port}", nodes(cluster)?[node].1))
}

/// Deploys an example and waits for its endpoint.
fn deploy(cluster: &Cluster, example: &str, service: &str) -> Outcome {
    let dir = root().join("examples").join(example);
    succeed(
        cluster
            .carob_command(&["deploy", "--wait", "--timeout", "5m"])
            .arg(dir),
    )?;
    until("it is an endpoint", Duration::from_secs(20), || {
        Ok(ready(cluster, service)? == 1)
    })
}

pub(crate) fn hyper(cluster: &Cluster) -> Outcome {
    deploy(cluster, "hyper", "board")?;
    if !has("curl", "hyper asked by curl")? {
        return Ok(());
    }
    for node in 0..3 {
        pins_and_reads(&url(cluster, node, 30_082)?, node)?;
    }
    let board = url(cluster, 1, 30_082)?;
    outlives_its_connections(&board)?;
    answers_many_at_a_time(&board)?;
    takes_large_bodies(cluster, &board)
}

/// Clients whose connection ends with the answer leave the server, and what it knows, to others.
fn outlives_its_connections(board: &str) -> Outcome {
    for ending in [
        &["--http1.0"][..],
        &["--header", "Connection: close"],
        &["--http1.0"],
    ] {
        let notes = succeed(curl().args(ending).arg(board))?;
        check(notes.ends_with("note 2\n"), notes)?;
    }
    Ok(())
}

/// One connection for two requests, a POST, and a HEAD.
fn pins_and_reads(board: &str, node: usize) -> Outcome {
    let twice = [board.to_owned(), board.to_owned()];
    let connects = told("%{http_code} %{num_connects}\n", &[], &twice)?;
    check(connects == "200 1\n200 0\n", connects)?;
    let pinned = succeed(curl().args(["--data", &format!("note {node}"), board]))?;
    check(pinned == format!("{}\n", node + 1), pinned)?;
    let notes = succeed(curl().arg(board))?;
    check(notes.ends_with(&format!("note {node}\n")), &notes)?;
    let head = succeed(curl().args(["--head", board]))?.to_lowercase();
    check(
        head.starts_with("http/1.1 200")
            && head.contains("server: board-")
            && head.contains(&format!("content-length: {}\r\n", notes.len())),
        head,
    )
}

/// Requests that each take a second, together.
fn answers_many_at_a_time(board: &str) -> Outcome {
    const REQUESTS: usize = 16;
    let started = Instant::now();
    let most = REQUESTS.to_string();
    let parallel = [
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        &most,
    ];
    let slow = vec![format!("{board}/slow"); REQUESTS];
    let codes = told("%{http_code}\n", &parallel, &slow)?;
    check(codes == "200\n".repeat(REQUESTS), codes)?;
    let took = started.elapsed();
    check(
        took < Duration::from_secs(REQUESTS as u64 / 2),
        format!("one after the other: {took:?}"),
    )
}

fn takes_large_bodies(cluster: &Cluster, board: &str) -> Outcome {
    let (sent, got) = (cluster.scratch("sent"), cluster.scratch("got"));
    // Bytes that show where some are missing or come twice.
    let mut word = 1_u32;
    let bytes = (0..LARGE).map(|_| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    });
    let bytes: Vec<u8> = bytes.collect();
    fs::write(&sent, &bytes)?;
    let file = format!("@{}", sent.display());
    let mut echo = curl();
    echo.args(["--data-binary", &file, "--output"]).arg(&got);
    succeed(echo.arg(format!("{board}/echo")))?;
    check(fs::read(&got)? == bytes, "what comes back is another")?;
    // Of a length that nobody says beforehand.
    let mut measure = curl();
    measure.args([
        "--request",
        "POST",
        "--header",
        "Transfer-Encoding: chunked",
    ]);
    measure.arg("--upload-file").arg(&sent);
    let length = succeed(measure.arg(format!("{board}/measure")))?;
    check(length == format!("{LARGE}\n"), length)
}

pub(crate) fn javascript(cluster: &Cluster) -> Outcome {
    if !root().join("examples/javascript/words.wasm").exists() {
        return left_out("examples/javascript is not made; `cargo xtask packages` makes it");
    }
    let started = Instant::now();
    deploy(cluster, "javascript", "words")?;
    println!(
        "JavaScript's engine was ready after {:.1?}",
        started.elapsed()
    );
    if !has("curl", "JavaScript asked by curl")? {
        return Ok(());
    }
    let words = url(cluster, 0, 30_083)?;
    for path in ["/", "/later", "/"] {
        let counted =
            succeed(curl().args(["--data", "a rose is a rose", &format!("{words}{path}")]))?;
        let due = r#"{"words":5,"distinct":3,"asked":1}"#;
        check(counted == due, format!("{path}: {counted}"))?;
    }
    let said = succeed(curl().arg(format!("{words}/there")))?;
    check(said.ends_with("you asked for /there\n"), said)?;
    let head = succeed(curl().args(["--head", &words]))?.to_lowercase();
    check(head.starts_with("http/1.1 200"), head)?;
    let file = cluster.scratch("text");
    fs::write(&file, "a rose is a rose, ".repeat(40_000))?;
    let file = format!("@{}", file.display());
    let echo = [format!("{words}/echo")];
    let echoed = told(
        "%{http_code} %{size_download}",
        &["--data-binary", &file],
        &echo,
    )?;
    check(echoed == format!("200 {}", 18 * 40_000), echoed)
}

/// wrk, of this machine or unpacked by `cargo xtask packages`.
fn wrk() -> Result<Option<Command>, Failed> {
    let tools = target().join("packages/tools");
    let fetched = tools.join("wrk");
    if fetched.exists() {
        let mut wrk = Command::new(fetched);
        wrk.env("LD_LIBRARY_PATH", tools);
        return Ok(Some(wrk));
    }
    Ok(has("wrk", "load by wrk")?.then(|| Command::new("wrk")))
}

/// After [`crate::outside::functions`], whose Service it asks.
pub(crate) fn load(cluster: &Cluster) -> Outcome {
    cluster.apply(
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: load}, spec: {rules: [{host: load.example, http: {paths: [
          {path: /, pathType: Prefix, backend: {service: {name: hello, port: {name: http}}}}]}}]}}",
    )?;
    let mut port = 0;
    until("the status says where", Duration::from_secs(10), || {
        let ingress = cluster.get("ingresses/load")?["status"]["loadBalancer"]["ingress"].clone();
        port = ingress[0]["ports"][0]["port"].as_u64().unwrap_or(0) as u16;
        Ok(ingress.as_array().is_some_and(|all| all.len() == 3))
    })?;
    for (way, port) in [("a node's port", 30_081), ("an Ingress", port)] {
        let Some(mut wrk) = wrk()? else {
            break;
        };
        wrk.args(["-t1", "-c32", "-d2s", "-H", "Host: load.example"]);
        let said = succeed(wrk.arg(url(cluster, 1, port)? + "/"))?;
        let requests = said.lines().find(|line| line.contains(" requests in "));
        let requests = requests.unwrap_or_default().trim();
        println!("wrk by {way}: {requests}");
        check(
            !requests.is_empty() && !requests.starts_with("0 "),
            format!("by {way}: {said}"),
        )?;
        // Lines that wrk prints only where there were any.
        check(
            !said.contains("Socket errors") && !said.contains("Non-2xx"),
            format!("by {way}: {said}"),
        )?;
    }
    cluster.carob("delete ingress/load").map(drop)
}

/// kube-rs, built once in a directory of its own.
fn kube_rs_program() -> Result<PathBuf, Failed> {
    let target = root().join("target/kube-rs-client");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--locked", "--manifest-path"]);
    build.arg(root().join("tests/clients/kube-rs/Cargo.toml"));
    build.arg("--target-dir").arg(&target);
    succeed(&mut build)?;
    Ok(target.join("debug/kube-rs"))
}

pub(crate) fn kube_rs(cluster: &Cluster) -> Outcome {
    let pod = format!("web-{}", nodes(cluster)?[1].0);
    let mut client = Command::new(kube_rs_program()?);
    client.arg(cluster.kubeconfig());
    let said = succeed(client.args([&pod, "8080", "9"]))?;
    let lines: Vec<&str> = said.lines().collect();
    let [first, closed, second, again, absent] = lines.as_slice() else {
        return Err(said.into());
    };
    check(
        first.starts_with(&format!("{pod} on")) && first == second,
        &said,
    )?;
    check(
        closed.starts_with("9: ") && closed.contains("refused") && closed == again,
        &said,
    )?;
    check(
        absent.contains("404") || absent.contains("not found"),
        &said,
    )
}
