//! How long `carob up` takes for a fresh cluster of three nodes, until every node is Ready.

use std::process::ExitCode;

use anyhow::Result;
use carob_bench::{Cluster, Conditions, Samples, figure};

const RUNS: usize = 7;

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 3,
        runs: RUNS,
        more: "fresh directories".to_owned(),
    }
    .print();
    let mut samples = Samples::default();
    for _ in 0..RUNS {
        let (_cluster, took) = Cluster::start(3)?;
        samples.push(took);
    }
    let median = samples.quantile(0.5).as_secs_f64();
    figure("cluster-start", format!("{median:.2}"), "s");
    Ok(())
}
