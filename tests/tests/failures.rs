//! What happens when processes die.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use carob_tests::{Case, Cluster, Outcome, check, until};
use client::kubeconfig::Sources;
use client::{Client, ListOptions};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use libtest_mimic::Failed;

const CASES: &[Case] = &[
    ("a_killed_leader_costs_a_moment_and_no_write", leader_killed),
    (
        "a_dead_agent_makes_its_node_not_ready_and_comes_back",
        agent_killed,
    ),
    (
        "a_dead_leaders_node_becomes_not_ready_too",
        leaders_node_killed,
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
/// The server chooses their names. What is not acknowledged is not repeated here, so that a mark
/// that is there twice could only come from a server that carried a write out twice.
struct Writer {
    client: Client,
    prefix: &'static str,
    stop: AtomicBool,
}

/// What a [`Writer`] saw.
struct Written {
    acknowledged: Vec<String>,
    longest_gap: Duration,
}

/// The label by which a write is known again.
const MARK: &str = "written-as";
/// An answer that is not there by then may never come: its server is dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

impl Writer {
    fn new(cluster: &Cluster, prefix: &'static str) -> Result<Self, Failed> {
        let context = Sources::from_environment(Some(cluster.kubeconfig())).load(None)?;
        Ok(Self {
            client: context.client("tests")?.with_timeout(ANSWER_WITHIN),
            prefix,
            stop: AtomicBool::new(false),
        })
    }

    async fn run(&self) -> Written {
        let mut written = Written {
            acknowledged: Vec::new(),
            longest_gap: Duration::ZERO,
        };
        let mut last = Instant::now();
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let mark = format!("{}-{number}", self.prefix);
            number += 1;
            let map = ConfigMap {
                metadata: ObjectMeta {
                    generate_name: Some(format!("{}-", self.prefix)),
                    namespace: Some("default".to_owned()),
                    labels: Some([(MARK.to_owned(), mark.clone())].into()),
                    ..ObjectMeta::default()
                },
                ..ConfigMap::default()
            };
            if self.client.of::<ConfigMap>().create(&map).await.is_ok() {
                written.longest_gap = written.longest_gap.max(last.elapsed());
                last = Instant::now();
                written.acknowledged.push(mark);
            }
        }
        written
    }

    /// How often each mark is there.
    async fn found(&self) -> Result<BTreeMap<String, usize>, client::Error> {
        let all = ListOptions::namespace("default").labels(MARK);
        let mut found = BTreeMap::new();
        for map in self.client.of::<ConfigMap>().list(&all).await?.items {
            let labels = map.metadata.labels.clone().unwrap_or_default();
            if let Some(mark) = labels.get(MARK) {
                *found.entry(mark.clone()).or_default() += 1;
            }
        }
        Ok(found)
    }
}

/// Runs `disturb` while a writer writes, and checks that nothing acknowledged is lost and nothing
/// is there twice.
fn while_writing(
    cluster: &Cluster,
    prefix: &'static str,
    disturb: impl FnOnce() -> Outcome,
) -> Result<Written, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let writer = Writer::new(cluster, prefix)?;
    let written = std::thread::scope(|scope| {
        let running = scope.spawn(|| runtime.block_on(writer.run()));
        let disturbed = disturb();
        writer.stop.store(true, Ordering::Relaxed);
        let written = running.join().map_err(|_| "the writer panicked")?;
        disturbed.map(|()| written)
    })?;
    let found = runtime.block_on(writer.found())?;
    for mark in &written.acknowledged {
        check(
            found.contains_key(mark),
            format!("{mark} was acknowledged and is lost"),
        )?;
    }
    for (mark, count) in found {
        check(count == 1, format!("{mark} is there {count} times"))?;
    }
    check(
        written.acknowledged.len() > 100,
        format!("only {} writes", written.acknowledged.len()),
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
    // Usually little more than a second; what it costs exactly is for the benchmark to say.
    check(
        written.longest_gap < Duration::from_secs(5),
        format!("writes paused for {:?}", written.longest_gap),
    )?;
    cluster.up_again()?;
    let status = cluster.status()?;
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    check(
        servers.iter().all(|s| s["pid"].is_i64()),
        format!("a server is missing: {status}"),
    )
}

fn agent_killed(cluster: &Cluster) -> Outcome {
    node_killed(cluster, (cluster.leader()? + 1) % 3)
}

fn leaders_node_killed(cluster: &Cluster) -> Outcome {
    node_killed(cluster, cluster.leader()?)
}

/// Kills a whole node: with its server dead too nobody starts the agent again.
fn node_killed(cluster: &Cluster, victim: usize) -> Outcome {
    cluster.kill("servers", victim)?;
    cluster.kill("nodes", victim)?;
    let node = format!("nodes/t-{}", victim + 1);
    let killed = Instant::now();
    until("NotReady", Duration::from_secs(10), || {
        // While a leader is elected nobody answers.
        let Ok(node) = cluster.get(&node) else {
            return Ok(false);
        };
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
    )?;
    // An agent whose server is not its parent ends its pods as any other does.
    carob_tests::succeed(
        cluster
            .carob_command(&["down", "--name", "t", "--data-dir"])
            .arg(cluster.path()),
    )?;
    cluster.up_again()?;
    let again = cluster.get("pods/notes")?;
    let last = &again["status"]["containerStatuses"][0]["lastState"]["terminated"];
    check(last["exitCode"] == 143, format!("{again:#}"))
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
