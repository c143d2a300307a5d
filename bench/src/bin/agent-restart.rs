//! How soon a node's pods run again after its agent was killed with `kill -9`: by what a watcher of the API sees, since the
//! kill and since the new agent's start.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carob_bench::{
    Cluster, Conditions, Part, Process, SLEEPING, Samples, age, figure, pod, pods, push,
};
use clap::Parser;
use client::{Changes, Informer, ListOptions};
use k8s_openapi::api::core::v1::Pod;

const MODULE: &str = "sleeping";
/// Where nothing has happened for so long nothing more will.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Arguments {
    /// How many pods the node has
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// How often the agent is killed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(i32).range(1..))]
    times: i32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    carob_bench::main(async move { measure(&arguments).await })
}

async fn measure(arguments: &Arguments) -> Result<()> {
    Conditions {
        nodes: 1,
        runs: usize::try_from(arguments.times)?,
        more: format!(
            "{} pods of one container that sleeps; the first restart of a container waits for nothing, a later one for the \
             back-off that the first ones left, so each time the pods are new",
            arguments.pods
        ),
    }
    .print();
    let (cluster, _) = Cluster::start(1)?;
    let client = cluster.client()?;
    push(&cluster, &client, MODULE, SLEEPING).await?;
    let informer = Informer::start(client.of::<Pod>(), ListOptions::namespace("default"));
    informer.synced().await;
    let mut changes = informer.subscribe();
    let (mut since_kill, mut since_start) = (Samples::default(), Samples::default());
    for time in 0..arguments.times {
        let name = |number| format!("p-{time}-{number}");
        for number in 0..arguments.pods {
            let pod = restarted(&name(number))?;
            client.of::<Pod>().create(&pod).await?;
        }
        all_run(&informer, &mut changes, arguments.pods, 0).await?;
        let before = agent(&cluster)?;
        let killed = Instant::now();
        before.kill()?;
        all_run(&informer, &mut changes, arguments.pods, 1).await?;
        let took = killed.elapsed();
        let now = agent(&cluster)?;
        if now.pid == before.pid {
            bail!("the agent did not end");
        }
        // What has passed since they ran is not theirs.
        let later = killed.elapsed().saturating_sub(took);
        since_kill.push(took);
        since_start.push(age(&now)?.saturating_sub(later));
        for number in 0..arguments.pods {
            pods::remove(&client, &name(number)).await?;
        }
    }
    let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
    for (name, samples) in [
        ("agent-restart", &since_start),
        ("agent-restart-since-kill", &since_kill),
    ] {
        figure(name, seconds(samples.quantile(0.5)), "s, median");
        figure(
            &format!("{name}-longest"),
            seconds(samples.longest()),
            "s, longest",
        );
    }
    Ok(())
}

/// A pod that is started again, whatever ended it.
fn restarted(name: &str) -> Result<Pod> {
    let mut pod = pod(name, MODULE)?;
    if let Some(spec) = &mut pod.spec {
        spec.restart_policy = Some("Always".to_owned());
    }
    Ok(pod)
}

fn agent(cluster: &Cluster) -> Result<Process> {
    let mut processes = cluster.all_processes()?.into_iter();
    let agent = processes.find(|process| process.part == Part::Agent);
    agent.context("there is no agent")
}

/// Waits until so many pods run that were restarted so often.
async fn all_run(
    informer: &Informer<Pod>,
    changes: &mut Changes,
    wanted: usize,
    restarts: i32,
) -> Result<()> {
    loop {
        let pods = informer.view();
        let run = pods.values().filter(|pod| runs(pod, restarts)).count();
        if run == wanted {
            return Ok(());
        }
        drop(pods);
        let changed = tokio::time::timeout(STALLED, changes.next()).await;
        changed.with_context(|| format!("{run} of {wanted} pods run, and nothing happens"))?;
    }
}

fn runs(pod: &Pod, restarts: i32) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers.into_iter().flatten().any(|container| {
        let state = container.state.as_ref();
        container.restart_count == restarts && state.is_some_and(|state| state.running.is_some())
    })
}
