//! From the request that creates a pod to a watcher's sight of it Running.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use carob_bench::{Cluster, Conditions, SLEEPING, Samples, figure, pod, pods, push};
use k8s_openapi::api::core::v1::Pod;

const RUNS: usize = 300;
/// Starts that are not counted: connections and caches fill.
const WARMING: usize = 20;

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 3,
        runs: RUNS,
        more: "one after the other on a warm connection, module cached".to_owned(),
    }
    .print();
    let (cluster, _) = Cluster::start(3)?;
    let client = cluster.client()?;
    push(&cluster, &client, "sleeping", SLEEPING).await?;
    let access = client.of::<Pod>();
    let mut watch = pods::watch(&client, "default").await?;
    let (mut created, mut started) = (Samples::default(), Samples::default());
    for run in 0..WARMING + RUNS {
        let name = format!("p-{run}");
        let pod = pod(&name, "sleeping")?;
        let began = Instant::now();
        access.create(&pod).await?;
        let answered = Instant::now();
        let seen = pods::started(&mut watch, &name).await?;
        if run >= WARMING {
            created.push(answered - began);
            started.push(seen - began);
        }
        pods::remove(&client, &name).await?;
    }
    let p99 = started.quantile(0.99).as_secs_f64() * 1e3;
    figure("pod-start-p50", format!("{:.1}", started.median_ms()), "ms");
    figure("pod-start-p99", format!("{p99:.1}"), "ms");
    figure(
        "pod-start-create-p50",
        format!("{:.1}", created.median_ms()),
        "ms",
    );
    Ok(())
}
