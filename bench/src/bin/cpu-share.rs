//! What guests get of the CPU: one with a limit beside some that have none, and such with different requests beside each
//! other.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use carob_bench::metrics::Used;
use carob_bench::{Cluster, Conditions, SPINNING, figure, pod, pods, push};
use clap::Parser;
use client::Client;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

const MODULE: &str = "spinning";
const WINDOW: Duration = Duration::from_secs(1);
/// What is not measured: whoever was idle may use what it saved up.
const WARMING: Duration = Duration::from_secs(3);
/// The limit, in cores.
const LIMIT: f64 = 0.25;
/// Requests of two kinds of pods, in millicores.
const REQUESTS: [u32; 2] = [100, 300];

#[derive(Parser)]
struct Arguments {
    /// How many windows of a second
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How many pods without a limit compute beside the one that has one; twice the cores if it is not said
    #[arg(long)]
    spinners: Option<usize>,
    /// How many pods of each request compute; twice the cores if it is not said, for who has a core of its own needs no share
    #[arg(long)]
    pairs: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    carob_bench::main(async move { measure(&arguments).await })
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let twice = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let spinners = arguments.spinners.unwrap_or(twice);
    let pairs = arguments.pairs.unwrap_or(twice).max(1);
    Conditions {
        nodes: 1,
        runs: 1,
        more: format!(
            "{} windows of a second; a pod limited to 250m beside {spinners} without limits; then {pairs} pods that \
             request 100m beside {pairs} that request 300m; all compute without end",
            arguments.seconds
        ),
    }
    .print();
    let (cluster, _) = Cluster::start(1)?;
    let client = cluster.client()?;
    push(&cluster, &client, MODULE, SPINNING).await?;
    let node = cluster.leader()?.node;
    let limited = json!({"limits": {"cpu": "250m"}});
    let mut all = vec![("limited".to_owned(), limited)];
    all.extend((0..spinners).map(|number| (format!("free-{number}"), json!({}))));
    let samples = compute(&client, &node, arguments.seconds, &all).await?;
    print_limited(&samples)?;

    let mut all = Vec::new();
    for request in REQUESTS {
        let resources = json!({"requests": {"cpu": format!("{request}m")}});
        all.extend((0..pairs).map(|number| (weighted(request, number), resources.clone())));
    }
    let samples = compute(&client, &node, arguments.seconds, &all).await?;
    print_weights(&samples, pairs)
}

fn weighted(request: u32, number: usize) -> String {
    format!("requests-{request}-{number}")
}

/// Has pods compute beside each other, with these names and resources; what they had used at each second.
async fn compute(
    client: &Client,
    node: &str,
    seconds: u32,
    all: &[(String, Value)],
) -> Result<Vec<Used>> {
    let mut watch = pods::watch(client, "default").await?;
    for (name, resources) in all {
        let mut pod = pod(name, MODULE)?;
        let spec = pod.spec.as_mut();
        let container = spec.and_then(|spec| spec.containers.first_mut());
        container.context("a pod without a container")?.resources =
            Some(serde_json::from_value(resources.clone())?);
        client.of::<Pod>().create(&pod).await?;
        pods::started(&mut watch, name).await?;
    }
    tokio::time::sleep(WARMING).await;
    let mut pace = tokio::time::interval(WINDOW);
    let mut samples = Vec::new();
    for _ in 0..=seconds {
        pace.tick().await;
        samples.push(Used::read(client, node).await?);
    }
    for (name, _) in all {
        pods::remove(client, name).await?;
    }
    Ok(samples)
}

/// What a pod used between two looks, in cores.
fn share(name: &str, from: &Used, to: &Used) -> Result<f64> {
    Ok((to.of(name)? - from.of(name)?) / (to.at - from.at))
}

fn ends(samples: &[Used]) -> Result<(&Used, &Used)> {
    samples.first().zip(samples.last()).context("no samples")
}

fn print_limited(samples: &[Used]) -> Result<()> {
    let (first, last) = ends(samples)?;
    let mean = share("limited", first, last)?;
    let mut windows = Vec::new();
    for pair in samples.windows(2) {
        windows.push(share("limited", &pair[0], &pair[1])?);
    }
    let off = |share: &f64| (share - LIMIT).abs();
    let worst = windows.iter().max_by(|a, b| off(a).total_cmp(&off(b)));
    let worst = worst.copied().context("no windows")?;
    let beside_limit = |share: f64| format!("cores ({:.3} × its limit, {LIMIT})", share / LIMIT);
    figure("cpu-share", format!("{mean:.4}"), &beside_limit(mean));
    figure(
        "cpu-share-worst-second",
        format!("{worst:.4}"),
        &beside_limit(worst),
    );
    // What the agent says its guests used, beside what the system says it used itself.
    let mut guests = 0.0;
    for name in first.pods.keys() {
        guests += share(name, first, last)?;
    }
    let process = (last.process - first.process) / (last.at - first.at);
    figure(
        "cpu-share-all-guests",
        format!("{guests:.3}"),
        &format!(
            "cores ({:.3} × what the system counts for the agent's process, {process:.3})",
            guests / process
        ),
    );
    Ok(())
}

fn print_weights(samples: &[Used], pairs: usize) -> Result<()> {
    let (first, last) = ends(samples)?;
    let of = |request: u32| -> Result<Vec<f64>> {
        let names = (0..pairs).map(|number| weighted(request, number));
        names.map(|name| share(&name, first, last)).collect()
    };
    let [small, large] = REQUESTS;
    let wanted = f64::from(large) / f64::from(small);
    let (small, large) = (of(small)?, of(large)?);
    let sum = |shares: &[f64]| shares.iter().sum::<f64>();
    let least = |shares: &[f64]| shares.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |shares: &[f64]| shares.iter().copied().fold(0.0, f64::max);
    let print = |name: &str, ratio: f64| {
        figure(
            name,
            format!("{ratio:.3}"),
            &format!(
                "times as much ({:.3} × their requests', {wanted})",
                ratio / wanted
            ),
        );
    };
    print("cpu-weights", sum(&large) / sum(&small));
    print("cpu-weights-least", least(&large) / most(&small));
    print("cpu-weights-most", most(&large) / least(&small));
    Ok(())
}
