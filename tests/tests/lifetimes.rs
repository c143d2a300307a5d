//! What pods leave behind when they go, and what an agent's death costs those that stay.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use carob_tests::{Case, Cluster, Outcome, check, until};
use client::kubeconfig::Sources;
use client::{Client, DeleteOptions, Event, ListOptions, Watch};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use libtest_mimic::Failed;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

const CASES: &[Case] = &[
    ("hundreds_of_pods_leave_nothing_behind", nothing_is_left),
    (
        "a_killed_agents_pods_run_again_and_no_others_do",
        agent_killed,
    ),
];

fn main() {
    carob_tests::run(CASES);
}

/// A p1 module that sleeps for an hour.
const SLEEPS: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 3_600_000_000_000))
        (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

/// A p1 module that ends at once.
const ENDS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

const NODES: usize = 3;
/// How often pods come and go, and how many at a time.
const ROUNDS: usize = 5;
const AT_ONCE: usize = 90;
/// How many descriptors a process may have more than before: connections come and go. One for each pod would be more.
const SLACK: usize = 20;

/// A client, and what its requests run on.
struct Asking<'a> {
    cluster: &'a Cluster,
    client: Client,
    runtime: Runtime,
}

impl<'a> Asking<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self, Failed> {
        let context = Sources::from_environment(Some(cluster.kubeconfig())).load(None)?;
        let asking = Self {
            cluster,
            client: context.client("tests")?,
            runtime: Builder::new_current_thread().enable_all().build()?,
        };
        for (name, text) in [("sleeps", SLEEPS), ("ends", ENDS)] {
            let file = carob_tests::guest(cluster, name, text)?;
            let mut push = cluster.carob_command(&["push"]);
            carob_tests::succeed(push.arg(file).arg(name))?;
        }
        Ok(asking)
    }

    fn node(&self, index: usize) -> String {
        format!("{}-{}", self.cluster.name, index + 1)
    }

    /// Creates a pod of one container that runs this image, on a certain node.
    fn create(&self, name: &str, node: usize, image: &str) -> Outcome {
        let policy = match image {
            "ends" => "Never",
            _ => "Always",
        };
        let pod = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": self.node(node), "restartPolicy": policy, "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "c", "image": image}],
            },
        });
        let pod: Pod = serde_json::from_value(pod)?;
        self.runtime
            .block_on(self.client.of::<Pod>().create(&pod))?;
        Ok(())
    }

    fn delete(&self, name: &str, grace: i64) -> Outcome {
        let options = DeleteOptions::default().grace_period_seconds(grace);
        let pods = self.client.of::<Pod>();
        self.runtime
            .block_on(pods.delete("default", name, &options))?;
        Ok(())
    }

    /// All pods, by name, and the revision that shows them.
    fn pods(&self) -> Result<(BTreeMap<String, Pod>, u64), Failed> {
        let pods = self.client.of::<Pod>();
        let options = ListOptions::namespace("default");
        let list = self.runtime.block_on(pods.list(&options))?;
        let named = |pod: Pod| Some((pod.metadata.name.clone()?, pod));
        Ok((
            list.items.into_iter().filter_map(named).collect(),
            list.revision,
        ))
    }

    /// Waits until this holds of all pods.
    fn until_all(&self, what: &str, holds: impl Fn(&Pod) -> bool) -> Outcome {
        let waited = until(what, Duration::from_secs(60), || {
            Ok(self.pods()?.0.values().all(&holds))
        });
        if waited.is_err() {
            let (pods, _) = self.pods()?;
            let other = pods.values().find(|pod| !holds(pod));
            eprintln!("not {what}: {other:#?}");
        }
        waited
    }

    /// A metric of a node's agent.
    fn metric(&self, node: usize, name: &str) -> Result<u64, Failed> {
        let path = format!("/api/v1/nodes/{}/proxy/metrics", self.node(node));
        let request = http::Request::get(path).body(bytes::Bytes::new())?;
        let page = self.runtime.block_on(async {
            let answer = self.client.raw(request).await?;
            client::collect(answer.into_body(), 1 << 20).await
        })?;
        let page = String::from_utf8(page.to_vec())?;
        let mut samples = page.lines().filter_map(|line| line.split_once(' '));
        let value = samples.find_map(|(series, value)| (series == name).then_some(value));
        Ok(value.ok_or_else(|| format!("no {name}"))?.trim().parse()?)
    }

    /// How many entries the directory of a node's pods has.
    fn directories(&self, node: usize) -> Result<usize, Failed> {
        let dir = self.cluster.path().join(self.node(node));
        Ok(fs::read_dir(dir.join("agent/pods"))?.count())
    }

    /// The process of each server and of each node's agent.
    fn processes(&self) -> Result<BTreeMap<(&'static str, usize), i64>, Failed> {
        let status = self.cluster.status()?;
        let mut all = BTreeMap::new();
        for part in ["servers", "nodes"] {
            for index in 0..NODES {
                let pid = status[part][index]["pid"].as_i64();
                let pid = pid.ok_or_else(|| format!("{part} {index} does not live"))?;
                all.insert((part, index), pid);
            }
        }
        Ok(all)
    }

    /// How many descriptors each of them has open.
    fn descriptors(&self) -> Result<BTreeMap<(&'static str, usize), usize>, Failed> {
        let mut all = BTreeMap::new();
        for (process, pid) in self.processes()? {
            all.insert(process, fs::read_dir(format!("/proc/{pid}/fd"))?.count());
        }
        Ok(all)
    }
}

fn phase(pod: &Pod) -> &str {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

fn main_status(pod: &Pod) -> Option<&ContainerStatus> {
    let status = pod.status.as_ref()?;
    status.container_statuses.as_ref()?.first()
}

fn is_ready(pod: &Pod) -> bool {
    main_status(pod).is_some_and(|main| main.ready)
}

/// Pods that come, live and go, however they end: told to, by force, or by themselves.
fn round(asking: &Asking<'_>, number: usize, addresses: &[u64]) -> Outcome {
    let all = (0..AT_ONCE).map(|n| (format!("p-{number}-{n}"), n / 3 % NODES, n % 3));
    let all: Vec<_> = all.collect();
    for (name, node, kind) in &all {
        let image = if *kind == 2 { "ends" } else { "sleeps" };
        asking.create(name, *node, image)?;
    }
    asking.until_all("run or have run", |pod| {
        matches!(phase(pod), "Running" | "Succeeded")
            && (is_ready(pod) || phase(pod) == "Succeeded")
    })?;
    for (name, _, kind) in &all {
        asking.delete(name, if *kind == 1 { 0 } else { 1 })?;
    }
    until("no pod is left", Duration::from_secs(60), || {
        Ok(asking.pods()?.0.is_empty())
    })?;
    for (node, had) in addresses.iter().enumerate() {
        let name = asking.node(node);
        until(
            &format!("{name} holds nothing"),
            Duration::from_secs(30),
            || {
                let pods = asking.metric(node, "kubelet_desired_pods")?;
                let guests = asking.metric(node, "kubelet_running_containers")?;
                let held = asking.metric(node, "carob_pod_addresses")?;
                let is_empty = asking.directories(node)? == 0;
                Ok((pods, guests, held) == (0, 0, *had) && is_empty)
            },
        )?;
    }
    Ok(())
}

fn nothing_is_left(cluster: &Cluster) -> Outcome {
    let asking = Asking::new(cluster)?;
    let mut addresses = Vec::new();
    for node in 0..NODES {
        addresses.push(asking.metric(node, "carob_pod_addresses")?);
    }
    // The first brings what stays: modules, connections.
    round(&asking, 0, &addresses)?;
    let before = asking.descriptors()?;
    for number in 1..ROUNDS {
        round(&asking, number, &addresses)?;
    }
    let mut after = BTreeMap::new();
    let waited = until("descriptors are closed", Duration::from_secs(30), || {
        after = asking.descriptors()?;
        let mut both = before.iter().zip(&after);
        Ok(both.all(|((_, before), (_, after))| *after <= before + SLACK))
    });
    println!(
        "{} pods: descriptors were {before:?} and are {after:?}",
        ROUNDS * AT_ONCE
    );
    waited
}

/// How many pods are on the node whose agent dies, and on each other one.
const THERE: usize = 20;
const ELSEWHERE: usize = 5;
const VICTIM: usize = 1;

fn agent_killed(cluster: &Cluster) -> Outcome {
    let asking = Asking::new(cluster)?;
    for node in 0..NODES {
        let count = if node == VICTIM { THERE } else { ELSEWHERE };
        for n in 0..count {
            asking.create(&format!("on-{node}-{n}"), node, "sleeps")?;
        }
    }
    asking.until_all("ready", is_ready)?;
    let processes = asking.processes()?;
    let (before, revision) = asking.pods()?;
    check(before.len() == THERE + 2 * ELSEWHERE, before.len())?;
    let pods = asking.client.of::<Pod>();
    let options = ListOptions::namespace("default");
    let mut watch = asking.runtime.block_on(pods.watch(&options, revision))?;

    cluster.kill("nodes", VICTIM)?;
    let killed = Instant::now();
    let node = asking.node(VICTIM);
    let again = restarts(&mut watch, &node, &before);
    // What is measured is a matter of a second or two, and that it happens at all is what is tested.
    let again = async { tokio::time::timeout(Duration::from_secs(60), again).await };
    asking.runtime.block_on(again)??;
    let took = killed.elapsed();
    let now = asking.processes()?;
    let since_start = age(now[&("nodes", VICTIM)])?.saturating_sub(killed.elapsed() - took);
    println!(
        "{THERE} pods ran again {since_start:?} after their agent's start, {took:?} after its end"
    );

    for (process, pid) in &processes {
        let is_same = now[process] == *pid;
        check(
            is_same != (*process == ("nodes", VICTIM)),
            format!("{process:?}"),
        )?;
    }
    let (after, _) = asking.pods()?;
    check(after.len() == before.len(), after.len())?;
    for (name, before) in &before {
        let after = after.get(name).ok_or_else(|| format!("{name} is gone"))?;
        check(
            after.metadata.uid == before.metadata.uid,
            format!("{name} is another pod"),
        )?;
        let address = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        check(
            address(after) == address(before),
            format!("{name} has another address"),
        )?;
        let (was, is) = (main_status(before), main_status(after));
        if node_of(before) == Some(&node) {
            let count = |main: Option<&ContainerStatus>| main.map(|main| main.restart_count);
            check(
                count(is) == count(was).map(|count| count + 1),
                format!("{name} was not started once more: {is:?}"),
            )?;
            let instance = |main: Option<&ContainerStatus>| main?.container_id.clone();
            check(
                instance(is).is_some() && instance(is) != instance(was),
                format!("{name} is said to run as what has ended: {is:?}"),
            )?;
        } else {
            check(is == was, format!("{name} of another node was touched"))?;
        }
    }
    for name in before.keys() {
        asking.delete(name, 0)?;
    }
    Ok(())
}

/// Reads the watch until all pods of the node have been started again, each once, and fails if anything else happens to
/// them or anything at all to another node's containers.
async fn restarts(watch: &mut Watch<Pod>, node: &str, before: &BTreeMap<String, Pod>) -> Outcome {
    let mut waiting: Vec<&String> = before
        .iter()
        .filter_map(|(name, pod)| (node_of(pod) == Some(node)).then_some(name))
        .collect();
    while !waiting.is_empty() {
        let pod = match watch.next().await.ok_or("the watch ended")?? {
            Event::Modified(pod) => pod,
            Event::Bookmark(_) => continue,
            Event::Added(pod) | Event::Deleted(pod) => {
                return Err(format!("a pod has come or gone: {pod:#?}").into());
            }
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        let was = before.get(&name).ok_or("a pod without a name")?;
        if node_of(&pod) != Some(node) {
            let is_same = main_status(&pod) == main_status(was);
            check(
                is_same,
                format!("{name} of another node was touched: {pod:#?}"),
            )?;
            continue;
        }
        let main = main_status(&pod).ok_or("a pod without a container")?;
        check(
            !matches!(phase(&pod), "Succeeded" | "Failed"),
            format!("{name} is {}", phase(&pod)),
        )?;
        check(
            main.restart_count <= 1,
            format!("{name} was started twice: {main:?}"),
        )?;
        let state = main.state.as_ref();
        let runs = state.is_some_and(|state| state.running.is_some());
        if runs && main.restart_count == 1 {
            let last = main
                .last_state
                .as_ref()
                .and_then(|last| last.terminated.as_ref());
            let told = last.map(|last| (last.exit_code, last.reason.as_deref()));
            check(
                told == Some((255, Some("Unknown"))),
                format!("{name} ended as {told:?}"),
            )?;
            waiting.retain(|waiting| **waiting != name);
        }
    }
    Ok(())
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// How long ago a process was started.
fn age(pid: i64) -> Result<Duration, Failed> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name, in parentheses, may hold anything; the 22nd field is the time after the system's start.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
    let started = fields.split_whitespace().nth(19).ok_or("no time")?;
    let started = started.parse::<f64>()? / rustix::param::clock_ticks_per_second() as f64;
    let uptime = fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime
        .split_whitespace()
        .next()
        .ok_or("no uptime")?
        .parse()?;
    Ok(Duration::from_secs_f64((uptime - started).max(0.0)))
}
