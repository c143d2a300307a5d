//! What happens when processes die.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use carob_tests::{Case, Cluster, Outcome, check, until};

const CASES: &[Case] = &[
    (
        "a_killed_leader_costs_at_most_two_seconds_and_no_write",
        leader_killed,
    ),
    (
        "a_dead_agent_makes_its_node_not_ready_and_comes_back",
        agent_killed,
    ),
    (
        "pods_outlive_their_server_and_are_adopted",
        server_killed_under_pods,
    ),
    ("all_servers_killed_at_once_lose_nothing", all_killed),
];

fn main() {
    carob_tests::run(CASES);
}

/// Creates ConfigMaps one after the other through the shared address until told to stop.
///
/// Each is created by a request of its own, whose connection may break at any moment; a request
/// that was not answered is not repeated, so that a name which is there twice could only come from
/// the store.
struct Writer<'a> {
    cluster: &'a Cluster,
    prefix: &'static str,
    stop: AtomicBool,
}

/// What a [`Writer`] saw.
struct Written {
    acknowledged: Vec<String>,
    longest_gap: Duration,
}

impl Writer<'_> {
    fn run(&self) -> Written {
        let mut written = Written {
            acknowledged: Vec::new(),
            longest_gap: Duration::ZERO,
        };
        let mut last = Instant::now();
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let name = format!("{}-{number}", self.prefix);
            number += 1;
            if self.create(&name).unwrap_or(false) {
                written.longest_gap = written.longest_gap.max(last.elapsed());
                last = Instant::now();
                written.acknowledged.push(name);
            }
        }
        written
    }

    /// One `create` by curl-like means: the command line's own client, in a process of its own,
    /// would measure its start; this goes through one `openssl`-free pipe to `carob apply`.
    fn create(&self, name: &str) -> std::io::Result<bool> {
        let manifest = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}, data: {{n: x}}}}"
        );
        let mut child = self
            .cluster
            .carob_command(&["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(manifest.as_bytes())?;
        }
        let mut answer = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut answer)?;
        }
        Ok(child.wait()?.success() && answer.contains("created"))
    }
}

/// Runs `disturb` while a writer writes, and checks that nothing acknowledged is lost.
fn while_writing(
    cluster: &Cluster,
    prefix: &'static str,
    disturb: impl FnOnce() -> Outcome,
) -> Result<Written, libtest_mimic::Failed> {
    let writer = Writer {
        cluster,
        prefix,
        stop: AtomicBool::new(false),
    };
    let written = std::thread::scope(|scope| {
        let running = scope.spawn(|| writer.run());
        let disturbed = disturb();
        writer.stop.store(true, Ordering::Relaxed);
        let written = running.join().map_err(|_| "the writer panicked")?;
        disturbed.map(|()| written)
    })?;
    let there = cluster.carob("get configmaps -o name")?;
    let there: Vec<&str> = there
        .lines()
        .filter_map(|line| line.strip_prefix("configmap/"))
        .collect();
    for name in &written.acknowledged {
        let count = there.iter().filter(|t| *t == name).count();
        check(
            count == 1,
            format!("{name} was acknowledged and is there {count} times"),
        )?;
    }
    check(
        written.acknowledged.len() > 10,
        "too little was written to tell anything",
    )?;
    Ok(written)
}

fn leader_killed(cluster: &Cluster) -> Outcome {
    let written = while_writing(cluster, "leader", || {
        let leader = cluster.leader()?;
        std::thread::sleep(Duration::from_millis(500));
        cluster.kill("servers", leader)?;
        until("another leader", Duration::from_secs(10), || {
            let status = cluster.status()?;
            let servers = status["servers"].as_array().cloned().unwrap_or_default();
            Ok(servers
                .iter()
                .enumerate()
                .any(|(i, s)| i != leader && s["leader"] == true))
        })?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    })?;
    println!("writes paused for {:?}", written.longest_gap);
    cluster.up_again()?;
    let status = cluster.status()?;
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    check(
        servers.iter().all(|s| s["pid"].is_i64()),
        format!("a server is missing: {status}"),
    )
}

fn agent_killed(cluster: &Cluster) -> Outcome {
    // With its server dead too nobody starts the agent again.
    let victim = (cluster.leader()? + 1) % 3;
    cluster.kill("servers", victim)?;
    cluster.kill("nodes", victim)?;
    let node = format!("nodes/t-{}", victim + 1);
    let killed = Instant::now();
    until("NotReady", Duration::from_secs(15), || {
        let node = cluster.get(&node)?;
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "Unknown"))
    })?;
    println!("NotReady after {:?}", killed.elapsed());
    cluster.up_again()?;
    let status = cluster.status()?;
    check(
        status["nodes"][victim]["ready"] == true,
        format!("not ready again: {status}"),
    )
}

fn server_killed_under_pods(cluster: &Cluster) -> Outcome {
    let bundle = carob_tests::root().join("examples/demo");
    let mut deploy = cluster.carob_command(&["deploy", "--wait"]);
    carob_tests::succeed(deploy.arg(bundle))?;
    let before = cluster.get("pods/notes")?;
    let node = before["spec"]["nodeName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let index: usize = node.trim_start_matches("t-").parse::<usize>()? - 1;
    let agent = cluster.status()?["nodes"][index]["pid"].clone();
    cluster.kill("servers", index)?;
    cluster.up_again()?;
    let after = cluster.get("pods/notes")?;
    check(
        cluster.status()?["nodes"][index]["pid"] == agent,
        "the agent is another process",
    )?;
    let started = |pod: &serde_json::Value| {
        pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].clone()
    };
    check(
        started(&before) == started(&after) && !started(&after).is_null(),
        format!("the pod was started again: {after:#}"),
    )
}

fn all_killed(cluster: &Cluster) -> Outcome {
    let written = while_writing(cluster, "all", || {
        std::thread::sleep(Duration::from_secs(1));
        let status = cluster.status()?;
        let servers = status["servers"].as_array().cloned().unwrap_or_default();
        let pids: Vec<String> = servers
            .iter()
            .filter_map(|s| s["pid"].as_i64())
            .map(|p| p.to_string())
            .collect();
        carob_tests::succeed(Command::new("kill").arg("-9").args(&pids))?;
        cluster.up_again()?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    })?;
    println!(
        "{} writes were acknowledged around the fall",
        written.acknowledged.len()
    );
    Ok(())
}
