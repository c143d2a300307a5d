//! How long a whole `carob run` of a cached module takes, from the process's start to its end.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use carob_bench::{Cluster, Conditions, NOTHING, Samples, figure, push};

const RUNS: usize = 60;
/// Runs that are not counted.
const WARMING: usize = 5;

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 3,
        runs: RUNS,
        more: "one after the other, module cached, whole process".to_owned(),
    }
    .print();
    let (cluster, _) = Cluster::start(3)?;
    let client = cluster.client()?;
    push(&cluster, &client, "nothing", NOTHING).await?;
    let mut samples = Samples::default();
    for run in 0..WARMING + RUNS {
        let began = Instant::now();
        cluster.run(&["run", "nothing"])?;
        if run >= WARMING {
            samples.push(began.elapsed());
        }
    }
    let p99 = samples.quantile(0.99).as_secs_f64() * 1e3;
    figure("run-p50", format!("{:.1}", samples.median_ms()), "ms");
    figure("run-p99", format!("{p99:.1}"), "ms");
    Ok(())
}
