//! How many pods one node has Running, and what that takes: of each runtime class in a cluster of its own, many pods of
//! one small module that sleeps.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carob_bench::{
    Cluster, Conditions, Memory, Part, Process, SLEEPING, cpu_seconds, figure, holdings, memory,
    pod, pods, push,
};
use clap::Parser;
use client::{Changes, Informer, Key, ListOptions};
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;

/// Where nothing more has started for so long nothing more will.
const STALLED: Duration = Duration::from_secs(180);
/// How long the node rests before it is measured.
const QUIET: Duration = Duration::from_secs(20);
const MODULE: &str = "sleeping";

#[derive(Parser)]
struct Arguments {
    /// How many pods
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// How many clients create them
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// The runtime classes, one after the other
    #[arg(long = "class", default_values = ["carob", "dense"])]
    classes: Vec<String>,
    /// For how many seconds what the node takes then is measured
    #[arg(long, default_value_t = 30)]
    idle: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    carob_bench::main(async move { measure(&arguments).await })
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    Conditions {
        nodes: 1,
        runs: arguments.classes.len(),
        more: format!(
            "{} pods of one container that sleeps, each with its token mounted, placed by the scheduler, created by {} \
             clients; vm.max_map_count {}",
            arguments.pods,
            arguments.clients,
            mappings.trim()
        ),
    }
    .print();
    println!(
        "what others say of themselves, not measured here: Kubernetes 110 pods a node, SpinKube about 250"
    );
    for class in &arguments.classes {
        report(arguments, class)
            .await
            .with_context(|| format!("the runtime class {class}"))?;
    }
    Ok(())
}

/// Both processes of the only node.
struct Node {
    agent: [Process; 1],
    server: [Process; 1],
}

impl Node {
    fn of(cluster: &Cluster) -> Result<Self> {
        let (agents, servers): (Vec<_>, Vec<_>) = cluster
            .all_processes()?
            .into_iter()
            .partition(|process| process.part == Part::Agent);
        let one = |all: Vec<Process>| <[Process; 1]>::try_from(all).ok();
        Ok(Self {
            agent: one(agents).context("not one agent")?,
            server: one(servers).context("not one server")?,
        })
    }

    fn memory(&self) -> Result<[Memory; 2]> {
        Ok([memory(&self.agent)?, memory(&self.server)?])
    }

    fn cpu(&self) -> Result<[f64; 2]> {
        Ok([cpu_seconds(&self.agent)?, cpu_seconds(&self.server)?])
    }
}

/// Fills a fresh cluster's only node with pods of this class.
async fn report(arguments: &Arguments, class: &str) -> Result<()> {
    let (cluster, _) = Cluster::start(1)?;
    let client = cluster.client()?;
    push(&cluster, &client, MODULE, SLEEPING).await?;
    // Of this class, too: it has an engine of its own.
    pods::run_to_start(&client, &classed("warm", class)?).await?;
    let informer = Informer::start(client.of::<Pod>(), ListOptions::namespace("default"));
    informer.synced().await;
    let mut changes = informer.subscribe();
    let node = Node::of(&cluster)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = node.memory()?;

    let began = Instant::now();
    let creating = create(&cluster, arguments, class)?;
    let running = all_running(&informer, &mut changes, arguments.pods, creating).await?;
    let took = began.elapsed().as_secs_f64();
    let name = |what: &str| format!("density-{class}{what}");
    figure(&name(""), running, "pods Running");
    figure(&name("-all-running"), format!("{took:.1}"), "s");
    figure(
        &name("-rate"),
        format!("{:.0}", running as f64 / took),
        "pods/s",
    );

    drop((changes, informer));
    tokio::time::sleep(QUIET).await;
    let after = node.memory()?;
    for (part, before, after) in [
        ("agent", before[0], after[0]),
        ("server", before[1], after[1]),
    ] {
        print_memory(&name(&format!("-{part}")), before, after, running);
    }
    let held = holdings(&node.agent[0])?;
    figure(&name("-agent-descriptors"), held.descriptors, "open");
    figure(&name("-agent-threads"), held.threads, "threads");

    let (since, spent) = (Instant::now(), node.cpu()?);
    tokio::time::sleep(Duration::from_secs(arguments.idle)).await;
    let (rested, now) = (since.elapsed().as_secs_f64(), node.cpu()?);
    let share = |part: usize| format!("{:.2}", 100.0 * (now[part] - spent[part]) / rested);
    figure(&name("-idle-agent"), share(0), "% of a core");
    figure(&name("-idle-server"), share(1), "% of a core");
    Ok(())
}

fn print_memory(name: &str, before: Memory, after: Memory, pods: usize) {
    let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
    let each = (after.pss as f64 - before.pss as f64) / 1e3 / pods.max(1) as f64;
    figure(&format!("{name}-rss"), megabytes(after.rss), "MB");
    figure(
        &format!("{name}-pss"),
        megabytes(after.pss),
        &format!("MB, {} without pods", megabytes(before.pss)),
    );
    figure(
        &format!("{name}-pss-each"),
        format!("{each:.1}"),
        "kB a pod",
    );
}

fn classed(name: &str, class: &str) -> Result<Pod> {
    let mut pod = pod(name, MODULE)?;
    if let Some(spec) = &mut pod.spec {
        spec.runtime_class_name = Some(class.to_owned());
    }
    Ok(pod)
}

/// Has the clients create the pods side by side.
fn create(cluster: &Cluster, arguments: &Arguments, class: &str) -> Result<JoinSet<Result<()>>> {
    let mut creating = JoinSet::new();
    let clients = arguments.clients.max(1);
    for first in 0..clients {
        let (client, class, all) = (cluster.client()?, class.to_owned(), arguments.pods);
        creating.spawn(async move {
            for number in (first..all).step_by(clients) {
                let pod = classed(&format!("p-{number}"), &class)?;
                client.of::<Pod>().create(&pod).await?;
            }
            Ok(())
        });
    }
    Ok(creating)
}

/// Waits until so many run; how many do.
async fn all_running(
    informer: &Informer<Pod>,
    changes: &mut Changes,
    wanted: usize,
    mut creating: JoinSet<Result<()>>,
) -> Result<usize> {
    let mut running: BTreeSet<Key> = BTreeSet::new();
    while running.len() < wanted {
        let changed = tokio::select! {
            changed = tokio::time::timeout(STALLED, changes.next()) => changed,
            Some(created) = creating.join_next() => {
                created.context("a client broke off")??;
                continue;
            }
        };
        let Ok(keys) = changed else {
            bail!(
                "{} of {wanted} run, and nothing happens: {}",
                running.len(),
                waiting(informer)
            );
        };
        for key in keys {
            match informer.get(&key).as_deref().and_then(pods::phase) {
                Some("Running") => running.insert(key),
                Some("Failed") => bail!("{key:?} failed: {:?}", informer.get(&key)),
                _ => running.remove(&key),
            };
        }
    }
    Ok(running.len())
}

/// What is said of one that does not run.
fn waiting(informer: &Informer<Pod>) -> String {
    let pods = informer.view();
    let mut waiting = pods
        .values()
        .filter(|pod| pods::phase(pod) != Some("Running"));
    let status = waiting.next().map(|pod| &pod.status);
    format!("{status:?}")
}
